#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright: Contributors to nbprovision
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt) or Apache License 2.0
# SPDX-License-Identifier: GPL-3.0-or-later OR Apache-2.0
# Generated from nbprovision's definition of the task by `python -m tests.ansible.test_generated`.

from __future__ import annotations

DOCUMENTATION = r"""
module: ensure_s3_sync
short_description: 'Restore a folder from S3 with V(direction: down), or send a folder to S3 with V(direction: up)'
version_added: 0.1.0
description:
  - 'Restore a folder from S3 with V(direction: down), or send a folder to S3 with V(direction: up).'
  - 'The machine''s V(aws) command transfers the files that differ, with the notebook''s role. V(once_per) says how often:
    a record in the tool''s home shows that a transfer is done, and then no process is started. A killed transfer goes on
    at the next run. No link is followed or replaced, nothing outside of V(path) is sent, and only V(delete: true) removes
    files on the receiving side. With V(direction: down) a file that was changed after its object was stored stays.'
  - 'V(aws s3 sync) knows no permissions, links and empty folders. With V(archive: true) the folder becomes one object that
    has them. It is restored at once and as a whole, into a folder that is missing or empty.'
options:
  source:
    description:
      - 'The place in S3: V(s3://BUCKET/PREFIX), with V(archive) the object V(s3://BUCKET/NAME.tar.gz) (or V(.tar), V(.tgz)).'
    type: str
    required: true
  path:
    description:
      - The folder on this machine.
    type: str
    required: true
  direction:
    description:
      - V(down) copies from S3 into the folder, V(up) sends the folder to S3.
    type: str
    choices:
      - down
      - up
    default: down
  once_per:
    description:
      - 'How often it may transfer: once for this home (V(ever)), once per start of the machine (V(boot)), or in each run
        (V(run)). Default: V(ever) with V(direction: down), as a restore must not change later work, and V(boot) with V(direction:
        up).'
    type: str
    choices:
      - boot
      - run
      - ever
  exclude:
    description:
      - 'Patterns of paths in the folder that are neither transferred nor removed: V(*.ckpt), V(data/*). V(*) matches slashes
        too.'
      - Takes a string or a list of strings.
    type: raw
  expected_owner:
    description:
      - 'The account, 12 digits, that the bucket must belong to: otherwise nothing is transferred. A name that its owner
        has given up may belong to anybody.'
    type: str
  archive:
    description:
      - Transfer one tar archive, which keeps permissions, times, links and empty folders.
    type: bool
    default: false
  delete:
    description:
      - 'Remove files on the receiving side that the other one lacks; with V(archive) and V(direction: down) the archive
        replaces a folder that has files. An empty source removes nothing, and is an error.'
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
- name: What the old instance had, once
  nbprovision.notebook.ensure_s3_sync:
    source: s3://acme-notebooks/ada/work
    path: /home/ec2-user/SageMaker/work
    expected_owner: '123456789012'

- name: At each start the work of the last one is sent
  nbprovision.notebook.ensure_s3_sync:
    source: s3://acme-notebooks/ada/work
    path: /home/ec2-user/SageMaker/work
    direction: up
    expected_owner: '123456789012'
    exclude:
      - '*.ckpt'
      - data/*

- name: Scripts and programs, with their modes and links
  nbprovision.notebook.ensure_s3_sync:
    source: s3://acme-notebooks/ada/tools.tar.gz
    path: /home/ec2-user/SageMaker/tools
    archive: true
    direction: up
    once_per: run
    expected_owner: '123456789012'
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
    - 'download: files of the folder, or all of it from an archive.'
    - 'upload: files of the folder, or all of it as an archive.'
    - 'remove: with V(delete), files on the receiving side that the other one lacks.'
  returned: always
  type: list
  elements: dict
  sample:
    - action: download
      target: '...'
      before: null
      after: '...'
"""
