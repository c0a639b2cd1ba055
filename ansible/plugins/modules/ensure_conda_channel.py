#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright: Contributors to nbprovision
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt) or Apache License 2.0
# SPDX-License-Identifier: GPL-3.0-or-later OR Apache-2.0
# Generated from nbprovision's definition of the task by `python -m tests.ansible.test_generated`.

from __future__ import annotations

DOCUMENTATION = r"""
module: ensure_conda_channel
short_description: Build a conda channel in a folder of this machine, from its own Python and from wheels
version_added: 0.1.0
description:
  - Build a conda channel in a folder of this machine, from its own Python and from wheels.
  - The packages fit machines like this one, because they use the system's shared libraries. To use the channel, name the
    folder in the V(channels) of V(ensure_conda_env).
  - The same Python and wheels give packages and indexes of the same bytes, in any folder, at any time. The variable V(SOURCE_DATE_EPOCH)
    sets the time of their files; a Python source has an earlier one, made from its content.
options:
  path:
    description:
      - The channel's folder.
    type: str
    required: true
  pypi:
    description:
      - Requirements that become conda packages, with their dependencies; paths of wheels are possible too.
      - Takes a string or a list of strings.
    type: raw
  interpreter:
    description:
      - 'The CPython that becomes the package V(python): a path, a version such as V(3.12), or several of them. Default:
        nbprovision''s own.'
      - Takes a string or a list of strings.
    type: raw
  packages_cache:
    description:
      - 'Folder that keeps the wheels. Default: in nbprovision''s cache.'
    type: str
  state:
    description:
      - Whether the channel exists.
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
- name: A channel for a machine that can only reach PyPI
  nbprovision.notebook.ensure_conda_channel:
    path: /home/ec2-user/SageMaker/channel
    pypi:
      - pip
      - humanize

- name: A channel to remove
  nbprovision.notebook.ensure_conda_channel:
    path: /home/ec2-user/SageMaker/old-channel
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
    - 'build: a package of a requirement or an interpreter.'
    - 'build again: a damaged package.'
    - 'remove: the channel.'
  returned: always
  type: list
  elements: dict
  sample:
    - action: build
      target: '...'
      before: null
      after: '...'
"""
