#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright: Contributors to nbprovision
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt) or Apache License 2.0
# SPDX-License-Identifier: GPL-3.0-or-later OR Apache-2.0
# Generated from nbprovision's definition of the task by `python -m tests.ansible.test_generated`.

from __future__ import annotations

DOCUMENTATION = r"""
module: ensure_conda_env
short_description: Create and maintain a conda environment, and leave its other packages unchanged
version_added: 0.1.0
description:
  - Create and maintain a conda environment, and leave its other packages unchanged.
  - Each package comes from the first channel that has it, by conda's own rules. An installed package changes only if a
    spec requires it.
  - At most one of V(name) and V(prefix).
  - At least one of V(name), V(prefix) and V(file).
  - 'With V(state: absent), no V(packages), V(file), V(clone), V(exact) and no V(update).'
options:
  name:
    description:
      - 'The environment by name: the one that conda knows by it, else a new one in the platform''s folder.'
    type: str
  prefix:
    description:
      - The environment by path, instead of a name.
    type: str
  packages:
    description:
      - 'Match specs as conda writes them: V(python=3.12), ''numpy>=2,<3'', V(conda-forge::gdal).'
      - Takes a string or a list of strings.
    type: raw
  channels:
    description:
      - 'Channels by name, URL or path, the preferred one first. Default: those of V(.condarc), else conda-forge.'
      - Takes a string or a list of strings.
    type: raw
  file:
    description:
      - 'An V(environment.yml) with further packages, channels and variables, and a pip section. Or a file with exact packages,
        which are installed without solving: a V(pixi.lock) (the environment of the same name, else V(default)), or the
        output of V(conda list --explicit --md5).'
    type: str
  clone:
    description:
      - An environment, by name or path, that a new one begins as a copy of, including pip's packages. No channel or index
        is needed. An existing environment is not replaced.
    type: str
  state:
    description:
      - Whether the environment exists.
    type: str
    choices:
      - present
      - absent
    default: present
  exact:
    description:
      - 'Remove packages that no task of the playbook requests and no requested package needs. With a file of exact packages:
        remove those that it does not name.'
    type: bool
    default: false
  update:
    description:
      - V(latest) keeps the requested packages at their newest versions, looked up once a day or as V(refresh_every) says.
    type: str
    choices:
      - none
      - latest
    default: none
  cuda:
    description:
      - 'Version of CUDA to solve for, such as V(12.4), or V(none). Default: the machine''s. If it has changed, packages
        with builds for both versions get the other build of the same version.'
    type: str
  allow_platform_changes:
    description:
      - Change packages of the platform's image in an environment that the platform provides, at the risk of an unstable
        notebook.
    type: bool
    default: false
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
- name: An environment by name
  nbprovision.notebook.ensure_conda_env:
    name: fraud
    channels:
      - conda-forge
    packages:
      - python=3.12
      - pip
      - ipykernel

- name: The newest versions, and no other packages
  nbprovision.notebook.ensure_conda_env:
    name: risk
    channels:
      - conda-forge
    packages:
      - python
      - pip
    update: latest
    exact: true

- name: The environment of a file, by path
  nbprovision.notebook.ensure_conda_env:
    prefix: /home/ec2-user/SageMaker/envs/report
    file: /home/ec2-user/SageMaker/environment.yml

- name: Exactly the packages of a lock file
  nbprovision.notebook.ensure_conda_env:
    name: risk-locked
    file: /home/ec2-user/SageMaker/pixi.lock
    exact: true

- name: A copy of another environment, without a channel
  nbprovision.notebook.ensure_conda_env:
    name: fraud-copy
    clone: fraud

- name: An environment to remove
  nbprovision.notebook.ensure_conda_env:
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
    - 'install: a package.'
    - 'upgrade: to a newer version.'
    - 'downgrade: to an older version.'
    - 'change: to another build of the same version.'
    - 'repair: a damaged package, here or in an environment that shares its files.'
    - 'remove: a package.'
    - 'solve for: another version of CUDA than before.'
    - 'set: a variable of the environment''s file.'
    - 'record: installed packages that the environment''s history lacked.'
    - 'register: the environment in conda''s list of environments.'
    - 'unregister: the environment, which leaves that list.'
    - 'clean: leftovers of a killed run.'
  returned: always
  type: list
  elements: dict
  sample:
    - action: create
      target: '...'
      before: null
      after: '...'
"""
