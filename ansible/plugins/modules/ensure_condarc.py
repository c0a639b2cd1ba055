#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright: Contributors to nbprovision
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt) or Apache License 2.0
# SPDX-License-Identifier: GPL-3.0-or-later OR Apache-2.0
# Generated from nbprovision's definition of the task by `python -m tests.ansible.test_generated`.

from __future__ import annotations

DOCUMENTATION = r"""
module: ensure_condarc
short_description: Set channels, mirrors and folders of environments and packages for conda, mamba and nbprovision
version_added: 0.1.0
description:
  - Set channels, mirrors and folders of environments and packages for conda, mamba and nbprovision.
  - 'The settings are merged into V(.condarc) (the user''s in the home folder, the machine''s in V(/etc/conda)). All other
    settings stay unchanged to the last byte, including comments. In lists, the entries of the task come first in the given
    order, then the user''s entries, unless V(exact). A link in the file''s place is followed within the home folder and
    the volume, and refused if it leads elsewhere. Environments that the playbook creates by name, before or after this
    task, go to the first writable folder of V(envs_dirs) (on a notebook instance: one on its volume). Packages go to the
    first writable folder of V(pkgs_dirs). On one file system environments and packages share files by hard links.'
  - A file with a channel that has a password or token gets the mode 0600. It is never written to the volume that survives
    restarts, into an environment, or for the whole machine.
  - 'V(env) only with V(scope: env).'
  - 'V(scope: env) only with V(env).'
options:
  scope:
    description:
      - 'Scope of the file: this user, the whole machine, or the environment V(env).'
    type: str
    choices:
      - user
      - system
      - env
    default: user
  env:
    description:
      - 'The environment (name or path) for V(scope: env).'
    type: str
  channels:
    description:
      - Channels by name, URL or path, the preferred one first. V(defaults) is Anaconda's main repository, to which its
        terms of service apply.
      - Takes a string or a list of strings.
    type: raw
  channel_alias:
    description:
      - 'The URL before each channel that is given by name: a mirror of anaconda.org.'
    type: str
  channel_priority:
    description:
      - How conda chooses between channels; the built-in engine is always V(strict).
    type: str
    choices:
      - strict
      - flexible
      - disabled
  default_channels:
    description:
      - 'The channels that V(defaults) stands for: a mirror of the main repository.'
      - Takes a string or a list of strings.
    type: raw
  custom_channels:
    description:
      - 'Channels on other servers: a name to the URL before it.'
      - Takes a mapping of strings to strings.
    type: raw
  custom_multichannels:
    description:
      - Names that stand for several channels.
      - Takes a mapping of strings to values.
    type: raw
  envs_dirs:
    description:
      - 'Folders of environments: absolute, or with V(~) or ''$NAME''. New ones are created in the first.'
      - Takes a string or a list of strings.
    type: raw
  pkgs_dirs:
    description:
      - Folders of packages, written like V(envs_dirs).
      - Takes a string or a list of strings.
    type: raw
  ssl_verify:
    description:
      - 'Check certificates: true, false, a file of authorities, or V(truststore).'
      - Takes true or false or a string.
    type: raw
  settings:
    description:
      - 'Other settings of conda by their names, such as ''proxy_servers: {https: http://proxy:3128}''. A mapping is merged
        into an existing one; a list replaces it.'
      - Takes a mapping of strings to values.
    type: raw
  exact:
    description:
      - Remove all other entries from the lists and mappings that the task names.
    type: bool
    default: false
  state:
    description:
      - V(absent) removes the entries and values that the task names; others stay.
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
- name: Channels, and a mirror of anaconda.org
  nbprovision.notebook.ensure_condarc:
    channels:
      - conda-forge
    channel_alias: https://conda.example.com
    channel_priority: strict

- name: Environments and packages on the volume
  nbprovision.notebook.ensure_condarc:
    envs_dirs: ~/SageMaker/envs
    pkgs_dirs: ~/SageMaker/pkgs

- name: Settings of conda without a parameter of their own
  nbprovision.notebook.ensure_condarc:
    settings:
      remote_max_retries: 5
      auto_activate_base: false

- name: A proxy, and pinned packages
  nbprovision.notebook.ensure_condarc:
    settings:
      proxy_servers:
        http: http://proxy.example.com:3128
        https: http://proxy.example.com:3128
      pinned_packages:
        - python 3.12.*

- name: A channel to remove
  nbprovision.notebook.ensure_condarc:
    channels:
      - defaults
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
    - 'create: the file.'
    - 'change: its settings.'
    - 'change password: a password or token in it, which is not shown.'
    - 'change mode: its permissions.'
    - 'remove: the file, which has no more settings.'
  returned: always
  type: list
  elements: dict
  sample:
    - action: create
      target: '...'
      before: null
      after: '...'
"""
