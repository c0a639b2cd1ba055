#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright: Contributors to nbprovision
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt) or Apache License 2.0
# SPDX-License-Identifier: GPL-3.0-or-later OR Apache-2.0
# Generated from nbprovision's definition of the task by `python -m tests.ansible.test_generated`.

from __future__ import annotations

DOCUMENTATION = r"""
module: ensure_git_config
short_description: Set or remove a variable in git's configuration of the user (V(~/.gitconfig)) or of a repository
version_added: 0.1.0
description:
  - Set or remove a variable in git's configuration of the user (V(~/.gitconfig)) or of a repository.
  - For a variable with several values, V(value) is the list of all of them. git itself reads and edits the file, so it
    must be installed and on V(PATH).
options:
  name:
    description:
      - The variable, such as V(user.email) or V(remote.origin.url).
    type: str
    required: true
  value:
    description:
      - Its value, or a list of all its values.
      - Takes a string or a list of strings or true or false or a whole number.
    type: raw
  repo:
    description:
      - 'Work tree of the repository. Default: the user''s own configuration.'
    type: str
  state:
    description:
      - Whether the variable is set.
    type: str
    choices:
      - present
      - absent
    default: present
  follow:
    description:
      - If the file is a link that leads out of its folder, change the file that it names.
    type: bool
    default: false
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
- name: The author of commits
  nbprovision.notebook.ensure_git_config:
    name: user.email
    value: ada@example.org

- name: Notebooks are compared without their output
  nbprovision.notebook.ensure_git_config:
    name: diff.ipynb.textconv
    value: jupyter nbconvert --to script --stdout

- name: Repositories of other users are trusted
  nbprovision.notebook.ensure_git_config:
    name: safe.directory
    value:
      - /home/ec2-user/SageMaker/team
      - /home/ec2-user/SageMaker/shared

- name: The default editor
  nbprovision.notebook.ensure_git_config:
    name: core.editor
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
    - 'create: a new file.'
    - 'write: the content of a file.'
    - 'set mode: the permissions.'
  returned: always
  type: list
  elements: dict
  sample:
    - action: create
      target: '...'
      before: null
      after: '...'
"""
