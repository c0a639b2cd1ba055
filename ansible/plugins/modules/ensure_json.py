#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright: Contributors to nbprovision
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt) or Apache License 2.0
# SPDX-License-Identifier: GPL-3.0-or-later OR Apache-2.0
# Generated from nbprovision's definition of the task by `python -m tests.ansible.test_generated`.

from __future__ import annotations

DOCUMENTATION = r"""
module: ensure_json
short_description: Set and remove keys in a JSON file, such as the settings of JupyterLab or VS Code
version_added: 0.1.0
description:
  - Set and remove keys in a JSON file, such as the settings of JupyterLab or VS Code.
  - Objects are merged key by key; lists and all other values are replaced as a whole. All other keys stay unchanged to
    the last byte, including comments (V(//), V(/* */)), their order and the notation of numbers. New keys have the indentation
    of the file. A file that is not valid JSON, apart from comments and trailing commas, is not changed.
  - A new file has the mode 0644, and a file for which V(values) contains a secret gets the mode 0600.
  - At least one of V(values) and V(remove).
options:
  path:
    description:
      - The file. A missing one is created.
    type: str
    required: true
  validate:
    description:
      - 'A command that must succeed before the file is replaced: text, or a list of words; no shell reads it. ''%s'' stands
        for a temporary file with the new content. With V(--check) it does not run.'
      - Takes a string or a list of strings.
    type: raw
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
  scope:
    description:
      - 'V(system), under V(root_tasks): a file of root''s, such as V(/etc/docker/daemon.json), whose owner and permissions
        stay. Root''s part of the lifecycle script edits it, follows no link, and runs no V(validate).'
    type: str
    choices:
      - user
      - system
    default: user
  values:
    description:
      - Keys with their values; a mapping within it stands for keys of an object within the file.
      - Takes a mapping of strings to values.
    type: raw
  remove:
    description:
      - 'Keys that must be missing. A list of keys leads to a key within objects: ''[theme, [editor, font]]'' removes V(theme),
        and V(font) in V(editor).'
      - Takes a list of strings or values.
    type: raw
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
- name: JupyterLab starts no kernel when a notebook is opened
  nbprovision.notebook.ensure_json:
    path: ~/.jupyter/labconfig/page_config.json
    values:
      notebookStartsKernel: false

- name: Settings of the code editor
  nbprovision.notebook.ensure_json:
    path: ~/.local/share/code-server/User/settings.json
    values:
      editor.fontSize: 14
      '[python]':
        editor.rulers:
          - 120
    remove:
      - editor.tabSize
      - - '[python]'
        - editor.wordWrap

- name: A setting of Docker, judged before the file is replaced
  nbprovision.notebook.ensure_json:
    path: ~/.config/docker/daemon.json
    values:
      data-root: /tmp/docker
    validate: python3 -m json.tool %s
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
