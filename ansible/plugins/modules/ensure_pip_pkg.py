#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright: Contributors to nbprovision
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt) or Apache License 2.0
# SPDX-License-Identifier: GPL-3.0-or-later OR Apache-2.0
# Generated from nbprovision's definition of the task by `python -m tests.ansible.test_generated`.

from __future__ import annotations

DOCUMENTATION = r"""
module: ensure_pip_pkg
short_description: Install, upgrade and uninstall Python packages in a conda or virtual environment
version_added: 0.1.0
description:
  - Install, upgrade and uninstall Python packages in a conda or virtual environment.
  - Packages come from an index, a file, a folder or a repository. Installed packages that satisfy the requirements do not
    change; missing dependencies are installed too. Both engines use the indexes of pip's configuration. If this task needs
    another version of a conda package, it replaces the package, and the conda task of the same playbook then leaves it
    alone. In an environment that the platform provides, the packages of its image do not change without V(allow_platform_changes).
    Nor does a lock file replace a conda package without it.
  - At least one of V(packages) and V(requirements).
  - Exactly one of V(env), V(envs), V(python) and V(system).
  - 'With V(state: absent), no V(constraints).'
  - At most one of V(target) and V(envs).
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
      - 'Requirements: V(requests), ''requests[socks]>=2.31,<3'', ''name @ URL'', V(./a.whl), V(-e /a/folder), ''git+https://...'';
        each may be followed by ''; marker''.'
      - Takes a string or a list of strings.
    type: raw
  requirements:
    description:
      - Requirements files, with everything that pip allows in them, and lock files named V(pylock.toml) or V(pylock.NAME.toml)
        (PEP 751), whose packages are installed exactly as locked.
      - Takes a string or a list of strings.
    type: raw
  constraints:
    description:
      - 'Constraints files: the allowed versions of packages, if they are installed.'
      - Takes a string or a list of strings.
    type: raw
  python:
    description:
      - 'Path of an interpreter, instead of V(env): V(.venv/bin/python).'
    type: str
  system:
    description:
      - The Python that V(pip install) uses if no environment is active, instead of V(env).
    type: bool
    default: false
  target:
    description:
      - A folder to install into, as with pip's V(--target), for the Python of V(env), V(python) or V(system).
    type: str
  state:
    description:
      - V(latest) keeps the named packages at the newest version that fits, looked up once a day or as set by V(refresh_every).
        V(absent) uninstalls; with a version after the name, only that version.
    type: str
    choices:
      - present
      - latest
      - absent
    default: present
  engine:
    description:
      - 'The installer: uv, pip, or V(auto): uv if it supports all options, else pip.'
    type: str
    choices:
      - auto
      - uv
      - pip
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
- name: Packages in an environment
  nbprovision.notebook.ensure_pip_pkg:
    env: fraud
    packages:
      - humanize
      - tabulate>=0.9; python_version >= "3.9"

- name: Packages from files
  nbprovision.notebook.ensure_pip_pkg:
    env: fraud
    requirements: /home/ec2-user/SageMaker/requirements.txt
    constraints: /home/ec2-user/SageMaker/constraints.txt

- name: The newest version in several environments
  nbprovision.notebook.ensure_pip_pkg:
    envs:
      - fraud
      - ris*
    packages: idna
    state: latest

- name: A folder of packages that survives a restart
  nbprovision.notebook.ensure_pip_pkg:
    env: fraud
    packages:
      - humanize
    target: /home/ec2-user/SageMaker/packages

- name: A package to remove
  nbprovision.notebook.ensure_pip_pkg:
    env: fraud
    packages:
      - tabulate
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
    - 'install: a distribution.'
    - 'upgrade: to a newer version.'
    - 'downgrade: to an older version.'
    - 'change: to the requested version, if the versions cannot be compared.'
    - 'reinstall: a damaged distribution, or one from another source.'
    - 'remove: a distribution, or the remains of an interrupted removal.'
  returned: always
  type: list
  elements: dict
  sample:
    - action: install
      target: '...'
      before: null
      after: '...'
"""
