#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright: Contributors to nbprovision
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt) or Apache License 2.0
# SPDX-License-Identifier: GPL-3.0-or-later OR Apache-2.0
# Generated from nbprovision's definition of the task by `python -m tests.ansible.test_generated`.

from __future__ import annotations

DOCUMENTATION = r"""
module: ensure_conda_pkg
short_description: Install and remove conda packages in existing environments, and leave their other packages unchanged
version_added: 0.1.0
description:
  - Install and remove conda packages in existing environments, and leave their other packages unchanged.
  - In an environment that the platform provides, no package of its image changes. The requested packages are solved around
    them. If that is impossible, the task reports which packages would have to change and an alternative request.
  - At least one of V(packages).
  - Exactly one of V(env) and V(envs).
  - V(except) only with V(envs).
  - V(allow_empty) only with V(envs).
options:
  env:
    description:
      - The environment, by name or path.
    type: str
  envs:
    description:
      - 'Several environments: names, globs (V(pytorch*), V(/path/envs/*)), paths, V(all) (never the Jupyter server''s own).
        V(all) and globs leave out environments without a Python if one is needed.'
      - Takes a string or a list of strings.
    type: raw
  except:
    description:
      - 'Exceptions from V(envs): names, globs, paths.'
      - Takes a string or a list of strings.
    type: raw
  allow_empty:
    description:
      - Whether V(envs) may match no environment.
    type: bool
    default: false
  allow_platform_changes:
    description:
      - Change packages that the platform's image brought, at the risk of an unstable notebook.
    type: bool
    default: false
  jupyter_server:
    description:
      - Change even the environment that the platform's Jupyter server runs in, if it is named.
    type: bool
    default: false
  packages:
    description:
      - 'Match specs as conda writes them; with V(state: absent) names.'
      - Takes a string or a list of strings.
    type: raw
    required: true
  channels:
    description:
      - 'Channels by name, URL or path, the preferred one first. Default: those of V(.condarc), else conda-forge.'
      - Takes a string or a list of strings.
    type: raw
  state:
    description:
      - V(latest) keeps the packages at their newest compatible versions, looked up once a day or as V(refresh_every) says.
        V(absent) removes them, and the packages that need them.
    type: str
    choices:
      - present
      - latest
      - absent
    default: present
  engine:
    description:
      - The engine that solves and installs. V(rattler) is built in, V(conda) is the machine's own. V(auto) is the built-in
        engine, or the machine's own if the built-in one cannot run.
    type: str
    choices:
      - auto
      - rattler
      - conda
    default: auto
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
- name: Packages into one environment
  nbprovision.notebook.ensure_conda_pkg:
    env: fraud
    packages:
      - packaging
      - idna>=3.7
    channels:
      - conda-forge

- name: The newest version in all environments but one
  nbprovision.notebook.ensure_conda_pkg:
    envs: all
    except: fraud
    packages: six
    channels:
      - conda-forge
    state: latest

- name: Packages to remove
  nbprovision.notebook.ensure_conda_pkg:
    envs:
      - fraud
      - ris*
    packages:
      - idna
    channels:
      - conda-forge
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
    - 'install: a package.'
    - 'upgrade: to a newer version.'
    - 'downgrade: to an older version.'
    - 'change: to another build of the same version.'
    - 'repair: a damaged package, here or in an environment that shares its files.'
    - 'remove: a package.'
    - 'solve for: another version of CUDA than before.'
  returned: always
  type: list
  elements: dict
  sample:
    - action: install
      target: '...'
      before: null
      after: '...'
"""
