#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright: Contributors to nbprovision
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt) or Apache License 2.0
# SPDX-License-Identifier: GPL-3.0-or-later OR Apache-2.0
# Generated from nbprovision's definition of the task by `python -m tests.ansible.test_generated`.

from __future__ import annotations

DOCUMENTATION = r"""
module: ensure_file
short_description: Create, maintain or remove a file, a folder or a link
version_added: 0.1.0
description:
  - Create, maintain or remove a file, a folder or a link.
  - A file gets its content from V(content), V(src) or V(template). If none is given, an existing file keeps its content
    and a missing file is created empty. Missing folders above it are created. A file or folder of another kind is not replaced.
    A link at the path of a file is replaced by the file; its target stays unchanged.
  - At most one of V(content) and V(src).
  - 'V(state: link) only with V(src).'
options:
  path:
    description:
      - The file, folder or link.
    type: str
    required: true
  content:
    description:
      - The whole content of the file.
    type: str
  src:
    description:
      - 'A file to copy, or a folder whose files are copied into the folder V(path); with V(state: link) the target of the
        link, relative to the link''s own folder.'
    type: str
  template:
    description:
      - A text file with templates, rendered with the playbook's variables.
    type: str
  mode:
    description:
      - 'Permissions, in quotes: ''"0644"'', or ''u=rw,go=r''. Default: unchanged; 0644 for a new file (0755 for a copy
        of a program), 0755 for a new folder.'
    type: str
  state:
    description:
      - 'A file (or a copied folder), a folder, a link, or nothing: a folder is removed with its content.'
    type: str
    choices:
      - present
      - directory
      - link
      - absent
    default: present
  force:
    description:
      - V(false) keeps the content of an existing file.
    type: bool
    default: true
  follow:
    description:
      - If the path is a link, change the file that it names.
    type: bool
    default: false
  backup:
    description:
      - Keep a copy of the old file beside it; the result's V(backup_file) is its path.
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
- name: Settings of JupyterLab
  nbprovision.notebook.ensure_file:
    path: ~/.jupyter/lab/user-settings/@jupyterlab/apputils-extension/themes.jupyterlab-settings
    content: |
      {"theme": "JupyterLab Dark"}

- name: A file that only its owner reads
  nbprovision.notebook.ensure_file:
    path: ~/.netrc
    mode: '0600'

- name: A folder for results
  nbprovision.notebook.ensure_file:
    path: ~/results
    state: directory

- name: A link to it
  nbprovision.notebook.ensure_file:
    path: ~/latest
    src: results
    state: link

- name: Nothing is left of an earlier set-up
  nbprovision.notebook.ensure_file:
    path: ~/old-setup.sh
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
    - 'remove: a file, folder or link.'
    - 'make folder: a new folder.'
    - 'link: a new link, or the target of a link.'
  returned: always
  type: list
  elements: dict
  sample:
    - action: create
      target: '...'
      before: null
      after: '...'
"""
