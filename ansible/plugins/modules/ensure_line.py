#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright: Contributors to nbprovision
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt) or Apache License 2.0
# SPDX-License-Identifier: GPL-3.0-or-later OR Apache-2.0
# Generated from nbprovision's definition of the task by `python -m tests.ansible.test_generated`.

from __future__ import annotations

DOCUMENTATION = r"""
module: ensure_line
short_description: Create and maintain a line in a text file; all other lines stay
version_added: 0.1.0
description:
  - Create and maintain a line in a text file; all other lines stay.
  - 'V(line) replaces the last line that matches V(regexp). If no line matches and the line is missing, it is added. V(state:
    absent) removes every matching line.'
  - At most one of V(insertafter) and V(insertbefore).
  - V(backrefs) only with V(regexp).
options:
  path:
    description:
      - The file.
    type: str
    required: true
  insertafter:
    description:
      - 'Place of new lines: after the last line that matches this regular expression, or V(EOF), the end of the file, which
        is the default. If no line matches, they go to the end, with a warning.'
    type: str
  insertbefore:
    description:
      - 'Place of new lines: before the last line that matches this regular expression, or at the end if no line matches;
        V(BOF) is the beginning of the file.'
    type: str
  state:
    description:
      - Whether the file contains it.
    type: str
    choices:
      - present
      - absent
    default: present
  create:
    description:
      - Create a missing file; otherwise a missing file is an error.
    type: bool
    default: false
  mode:
    description:
      - 'Permissions of the file, in quotes: ''"0644"''. Default: unchanged.'
    type: str
  backup:
    description:
      - Keep a copy of the old file beside it; the result's V(backup_file) is its path.
    type: bool
    default: false
  follow:
    description:
      - If the file is a link that leads out of its folder, change the file that it names.
    type: bool
    default: false
  line:
    description:
      - The line, without its end.
    type: str
  regexp:
    description:
      - Python regular expression, searched in each line, of the line to replace or remove.
    type: str
  backrefs:
    description:
      - '''\1'' or ''\g<name>'' in V(line) stands for a group of V(regexp); without a match nothing changes.'
    type: bool
    default: false
  firstmatch:
    description:
      - Use the first matching line, not the last, also for V(insertafter) and V(insertbefore).
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
- name: More history in every shell
  nbprovision.notebook.ensure_line:
    path: ~/.bashrc
    regexp: ^export HISTSIZE=
    line: export HISTSIZE=100000
    create: true

- name: The same alias nowhere twice
  nbprovision.notebook.ensure_line:
    path: ~/.bashrc
    line: alias ll='ls -l'
    insertafter: ^export HISTSIZE=

- name: No other prompt
  nbprovision.notebook.ensure_line:
    path: ~/.bashrc
    regexp: ^PS1=
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
