#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright: Contributors to nbprovision
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt) or Apache License 2.0
# SPDX-License-Identifier: GPL-3.0-or-later OR Apache-2.0
# Generated from nbprovision's definition of the task by `python -m tests.ansible.test_generated`.

from __future__ import annotations

DOCUMENTATION = r"""
module: ensure_download
short_description: Fetch a file from the web or S3, check its SHA-256, and put it in place, unpacked if wanted
version_added: 0.1.0
description:
  - Fetch a file from the web or S3, check its SHA-256, and put it in place, unpacked if wanted.
  - 'Only a file with the right digest is put in place, at once and as a whole. If it is there already, no network is needed.
    With V(unpack) the archive (tar, tar.gz, tar.bz2, tar.xz or zip) becomes the folder V(path). Another V(sha256) replaces
    the folder, unless somebody has changed it: then the task fails and the folder stays. V(deep: true) compares the content
    of the unpacked files too.'
options:
  url:
    description:
      - 'The file: V(https://HOST/PATH) or V(s3://BUCKET/KEY).'
    type: str
    required: true
  path:
    description:
      - The path of the file, with V(unpack) that of the folder.
    type: str
    required: true
  sha256:
    description:
      - The SHA-256 of the file, 64 hexadecimal digits, as its publisher names it. For a file that you trust, 'curl -fsSL
        URL | sha256sum' prints it.
    type: str
    required: true
  unpack:
    description:
      - Unpack the archive into the folder V(path).
    type: bool
    default: false
  mode:
    description:
      - 'The mode of the file, ''''0644'''' or ''u=rw,go=r''. Default: that of an existing file, else 0644.'
    type: str
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
- name: A model
  nbprovision.notebook.ensure_download:
    url: https://downloads.example.com/model.bin
    path: /home/ec2-user/SageMaker/project/model.bin
    sha256: ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad

- name: A program
  nbprovision.notebook.ensure_download:
    url: https://downloads.example.com/tool
    path: /home/ec2-user/SageMaker/project/bin/tool
    sha256: ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad
    mode: '0755'

- name: The content of an archive
  nbprovision.notebook.ensure_download:
    url: https://downloads.example.com/data.zip
    path: /home/ec2-user/SageMaker/project/data
    sha256: 8739c76e681f900923b900c9df0ef75cf421d39cabb54650c4b9ad19b6a76d85
    unpack: true
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
    - 'download: the file.'
    - 'unpack: the folder, from the archive.'
    - 'set mode: the permissions of the file.'
    - 'repair: with V(deep), files of the folder that differ from those of the archive.'
  returned: always
  type: list
  elements: dict
  sample:
    - action: download
      target: '...'
      before: null
      after: '...'
"""
