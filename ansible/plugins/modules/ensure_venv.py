#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright: Contributors to nbprovision
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt) or Apache License 2.0
# SPDX-License-Identifier: GPL-3.0-or-later OR Apache-2.0
# Generated from nbprovision's definition of the task by `python -m tests.ansible.test_generated`.

from __future__ import annotations

DOCUMENTATION = r"""
module: ensure_venv
short_description: Create and maintain a virtual environment
version_added: 0.1.0
description:
  - Create and maintain a virtual environment.
  - 'uv creates it from a Python of this machine. Other tasks can name it (V(env)), and V(all) includes it. Other packages
    in it stay, unless it is created again: if another minor version of Python is requested, or if its Python is gone and
    no other of that version is left. ''%pip'' works in its notebooks only if V(pip) is among its packages.'
  - Exactly one of V(name) and V(path).
  - 'With V(state: absent), no V(packages), V(requirements) and no V(python).'
options:
  name:
    description:
      - The name of the environment. Its folder is in V(SageMaker/envs) on a notebook instance, elsewhere in V(envs) of
        the tool's home. No conda environment may have that name.
    type: str
  path:
    description:
      - 'The path of the environment, instead of a name: V(.venv).'
    type: str
  python:
    description:
      - 'An installed Python: a version (''"3.12"'', ''"3.12.4"'', ''">=3.10,<3.13"'') or the path of an interpreter. Nothing
        is downloaded. Default: the present one; for a new environment the Python that V(pip install) uses if no environment
        is active.'
    type: str
  packages:
    description:
      - Requirements, as in V(ensure_pip_pkg).
      - Takes a string or a list of strings.
    type: raw
  requirements:
    description:
      - Requirements files, with everything that pip allows in them, and lock files named V(pylock.toml) or V(pylock.NAME.toml)
        (PEP 751), whose packages are installed exactly as locked.
      - Takes a string or a list of strings.
    type: raw
  state:
    description:
      - Whether the environment exists.
    type: str
    choices:
      - present
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
- name: A virtual environment by name
  nbprovision.notebook.ensure_venv:
    name: plots
    packages:
      - ipykernel
      - humanize

- name: By path, with a version of Python, and the packages of a file
  nbprovision.notebook.ensure_venv:
    path: /home/ec2-user/SageMaker/.venv
    python: '>=3.10'
    requirements: /home/ec2-user/SageMaker/requirements.txt

- name: An environment that is no longer needed
  nbprovision.notebook.ensure_venv:
    name: old
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
    - 'create: the environment.'
    - 'mend: an environment whose Python is gone or changed, or whose creation was interrupted; its packages stay.'
    - 'recreate: an environment for another version of Python; packages that were installed by hand are lost.'
    - 'install: a distribution.'
    - 'upgrade: to a newer version.'
    - 'downgrade: to an older version.'
    - 'change: to the requested version, if the versions cannot be compared.'
    - 'reinstall: a damaged distribution, or one from another source.'
    - 'remove: the environment, a distribution, or the remains of an interrupted removal.'
  returned: always
  type: list
  elements: dict
  sample:
    - action: create
      target: '...'
      before: null
      after: '...'
"""
