#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright: Contributors to nbprovision
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt) or Apache License 2.0
# SPDX-License-Identifier: GPL-3.0-or-later OR Apache-2.0
# Generated from nbprovision's definition of the task by `python -m tests.ansible.test_generated`.

from __future__ import annotations

DOCUMENTATION = r"""
module: ensure_ca_cert
short_description: Have programs trust a certificate authority, such as that of a company's proxy or package index
version_added: 0.1.0
description:
  - Have programs trust a certificate authority, such as that of a company's proxy or package index.
  - 'With V(scope: user) there is one bundle, V(~/.local/share/nbprovision/ca-bundle.pem), of the machine''s public authorities
    and the user''s own. pip, conda, git and the aws command read it by their configuration. uv, curl, Python, requests,
    boto3, node and R read it by variables of the user''s shells and of the Jupyter server, which all kernels inherit; the
    server reads them when it starts (V(restart_jupyter)). Later tasks of the same run use it too. When the public authorities
    change, the bundle is made again.'
  - 'With V(scope: system) the task stands under V(root_tasks). Root''s part of the lifecycle script puts the certificates
    where the distribution wants them, and runs V(update-ca-trust) (Amazon Linux) or V(update-ca-certificates) (Debian).'
  - 'The file is PEM, with any number of certificates, or DER. A file with anything else in it, such as a private key, is
    refused. V(state: absent) takes back the certificates, and with the last one the bundle and each setting that names
    it.'
  - At most one of V(path) and V(url).
  - V(sha256) only with V(url).
options:
  name:
    description:
      - 'The name of the certificate: letters, digits, V(-) and V(_). Default: that of the file.'
    type: str
  path:
    description:
      - The file of the certificate.
    type: str
  url:
    description:
      - 'The file in the web or in S3: V(https://HOST/PATH) or V(s3://BUCKET/KEY).'
    type: str
  sha256:
    description:
      - The SHA-256 of the file behind V(url).
    type: str
  scope:
    description:
      - 'For the programs of the user, or of the whole machine: then it belongs under V(root_tasks).'
    type: str
    choices:
      - user
      - system
    default: user
  timeout:
    description:
      - 'With V(scope: system), the time after which root''s part gives up.'
    type: str
    default: 60s
  state:
    description:
      - Whether it is trusted.
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
- name: The company's authority, from a file beside the playbook
  nbprovision.notebook.ensure_ca_cert:
    path: /home/ec2-user/SageMaker/company-ca.pem

- name: An authority that is fetched
  nbprovision.notebook.ensure_ca_cert:
    name: lab
    url: https://downloads.example.com/ca.crt
    sha256: 94f7195cfbd8547125b2ea0d226b6f5317beb242d5c270d0e030e0eab600fb59

- name: An old authority
  nbprovision.notebook.ensure_ca_cert:
    name: old-lab
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
    - 'download: the file of the certificate.'
    - 'create: a new file.'
    - 'write: the content of a file.'
    - 'set mode: the permissions.'
    - 'remove: a file, folder or link.'
    - 'change: settings of conda.'
    - 'change mode: the permissions of conda''s settings.'
  returned: always
  type: list
  elements: dict
  sample:
    - action: download
      target: '...'
      before: null
      after: '...'
"""
