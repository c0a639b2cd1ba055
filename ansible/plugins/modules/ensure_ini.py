#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright: Contributors to nbprovision
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt) or Apache License 2.0
# SPDX-License-Identifier: GPL-3.0-or-later OR Apache-2.0
# Generated from nbprovision's definition of the task by `python -m tests.ansible.test_generated`.

from __future__ import annotations

DOCUMENTATION = r"""
module: ensure_ini
short_description: Set and remove keys in the sections of an INI file, such as V(~/.aws/config), V(openssl.cnf) or V(setup.cfg)
version_added: 0.1.0
description:
  - Set and remove keys in the sections of an INI file, such as V(~/.aws/config), V(openssl.cnf) or V(setup.cfg).
  - 'A section is never written twice: keys are merged into the existing one, and a missing section comes at the end of
    the file. All other lines stay unchanged to the last byte, including comments, blank lines and their order. A new key
    has the indentation and the spaces around V(=) of its neighbours. A value is written as given: quotes and escapes are
    those of the program that reads the file.'
  - A repeated section counts as one. A key that is repeated in it keeps one line, unless V(values) has a list. A new file
    has the mode 0644, and a file for which V(values) contains a secret gets the mode 0600.
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
      - Values by section and key; the section '""' stands for keys above the first section. A truth value is written as
        V(true) or V(false). A list repeats the key, for programs that read it several times; a mapping has lines of its
        own within the value, as V(s3) in V(~/.aws/config); a text of several lines is indented.
      - Takes a mapping of strings to mappings.
    type: raw
  remove:
    description:
      - 'What must be missing: a section, or a list of section and key: ''[old, [pypi, repository]]''.'
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
- name: A profile of AWS, and more requests at once to S3
  nbprovision.notebook.ensure_ini:
    path: ~/.aws/config
    values:
      profile team:
        region: eu-central-1
        s3:
          max_concurrent_requests: 20

- name: openssl uses a provider, which is named above the first section
  nbprovision.notebook.ensure_ini:
    path: ~/openssl.cnf
    values:
      ? ''
      : openssl_conf: openssl_init
      openssl_init:
        providers: provider_sect
      provider_sect:
        default: default_sect
      default_sect:
        activate: 1

- name: A key and a section that are gone
  nbprovision.notebook.ensure_ini:
    path: ~/.pypirc
    remove:
      - old-index
      - - pypi
        - repository
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
