#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright: Contributors to nbprovision
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt) or Apache License 2.0
# SPDX-License-Identifier: GPL-3.0-or-later OR Apache-2.0
# Generated from nbprovision's definition of the task by `python -m tests.ansible.test_generated`.

from __future__ import annotations

DOCUMENTATION = r"""
module: ensure_r_pkg
short_description: Install and remove R packages, from CRAN or another repository
version_added: 0.1.0
description:
  - Install and remove R packages, from CRAN or another repository.
  - 'R itself installs them with everything that they need, and only packages that can be loaded are put in place. With
    V(env) they go into the library of the environment, without it into the user''s library of the R on the PATH. Packages
    that conda or the platform''s image brought never change. A package that was built for another R (4.2 and 4.3 differ)
    is built again. V(deep: true) loads each package to see whether it still works.'
  - At least one of V(packages).
options:
  packages:
    description:
      - 'Names as CRAN has them, perhaps with V(>=VERSION) or V(==VERSION); with V(state: absent) names.'
      - Takes a string or a list of strings.
    type: raw
    required: true
  env:
    description:
      - 'The environment with the R (r-base), by name or path. Default: the R on the PATH.'
    type: str
  repos:
    description:
      - 'Repositories: URLs, or folders with V(src/contrib/PACKAGES). Default: https://cloud.r-project.org.'
      - Takes a string or a list of strings.
    type: raw
  state:
    description:
      - V(latest) keeps the packages at the newest version, looked up once a day or as V(refresh_every) says. V(absent)
        removes them.
    type: str
    choices:
      - present
      - latest
      - absent
    default: present
  deep:
    description:
      - Compare the files themselves (sizes and hashes), not only names and versions.
    type: bool
    default: false
  refresh_every:
    description:
      - 'Look again after this long, whatever the witnesses say: V(90s), V(30m), V(12h), V(7d). Default: the task''s own'
    type: str
extends_documentation_fragment:
  - nbprovision.notebook.tool
author:
  - Contributors to nbprovision (@nbprovision)
"""

EXAMPLES = r"""
- name: Packages for the R on the PATH, as CRAN had them on that day
  nbprovision.notebook.ensure_r_pkg:
    packages:
      - fixest
      - data.table>=1.14
    repos: https://packagemanager.posit.co/cran/2024-01-31

- name: The newest version
  nbprovision.notebook.ensure_r_pkg:
    packages: fixest
    repos: https://packagemanager.posit.co/cran/2024-01-31
    state: latest

- name: A package to remove
  nbprovision.notebook.ensure_r_pkg:
    packages: fixest
    state: absent
"""

RETURN = r"""
status:
  description:
    - V(ok), V(changed), V(skipped) or V(failed).
  returned: always
  type: str
  sample: changed
changes:
  description:
    - What was changed, or would be in check mode; action says how.
    - 'install: a package, or a package that another one needs.'
    - 'upgrade: to a newer version.'
    - 'downgrade: to an older version.'
    - 'rebuild: a package that was built for another R, or that cannot be loaded.'
    - 'remove: a package.'
  returned: always
  type: list
  elements: dict
  sample:
    - action: install
      target: '...'
      before: null
      after: '...'
"""
