#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright: Contributors to nbprovision
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt) or Apache License 2.0
# SPDX-License-Identifier: GPL-3.0-or-later OR Apache-2.0
# Generated from nbprovision's definition of the task by `python -m tests.ansible.test_generated`.

from __future__ import annotations

DOCUMENTATION = r"""
module: ensure_pip_index
short_description: Set the package indexes of pip and uv
version_added: 0.1.0
description:
  - Set the package indexes of pip and uv.
  - 'Merges into pip.conf, and for V(scope: user) and V(scope: system) into uv.toml. Other settings and comments stay. uv
    has no configuration file for an environment, so nbprovision gives pip''s settings to uv there; a uv that you start
    by hand uses the user''s. The previous content is kept beside each file (V(pip.conf.nbprovision-before), 0600), and
    V(state: absent) restores it.'
  - A file with a password becomes 0600. It is never written to the volume that survives restarts, into an environment (which
    is cloned, packed and shared), or for the whole machine (whose users could not read it). A link is replaced by a file
    with the content of its target, which does not change.
  - With V(codeartifact) the machine's V(aws) command gives the token. Each run after half its lifetime renews it, which
    does not count as a change. If AWS does not answer, a valid token is kept, and a note says so.
  - At most one of V(url) and V(codeartifact).
  - 'V(state: present) only with V(url) or V(codeartifact).'
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
  url:
    description:
      - 'The index (PEP 503): an http, https or file URL, mostly ending in /simple. Required for V(present).'
    type: str
  codeartifact:
    description:
      - 'A repository of AWS CodeArtifact instead of V(url): V(domain), V(repository); V(owner) and V(region) if not this
        instance''s; V(duration) of a token (V(15m) to V(12h), the default); V(endpoint) of a VPC, the URL before V(/pypi/).'
    type: dict
  extra_urls:
    description:
      - Further indexes. uv searches them before V(url); pip takes the best version of all.
      - Takes a string or a list of strings.
    type: raw
  trusted_hosts:
    description:
      - V(host) or V(host:port) whose certificate is not checked.
      - Takes a string or a list of strings.
    type: raw
  cert:
    description:
      - File with the certificate authorities to trust.
    type: str
  find_links:
    description:
      - Folders or pages with wheels and source distributions beside the indexes.
      - Takes a string or a list of strings.
    type: raw
  index_strategy:
    description:
      - With several indexes, uv takes the first that has a name (V(first-index), uv's default) or, like pip, the best version
        of all (V(best-match)).
    type: str
    choices:
      - first-index
      - best-match
  state:
    description:
      - V(absent) restores the previous content.
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
- name: Your own index, which uv searches before pypi.org
  nbprovision.notebook.ensure_pip_index:
    url: https://pypi.org/simple
    extra_urls: https://pypi.example.com/simple

- name: An index for one environment, with its own certificate authority
  nbprovision.notebook.ensure_pip_index:
    scope: env
    env: fraud
    url: https://pypi.example.com/simple
    cert: /etc/ssl/certs/ca-certificates.crt

- name: A repository of AWS CodeArtifact
  nbprovision.notebook.ensure_pip_index:
    codeartifact:
      domain: team
      repository: python
      owner: '111122223333'
      region: eu-west-1

- name: Restore the previous configuration
  nbprovision.notebook.ensure_pip_index:
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
    - 'create: pip.conf or uv.toml.'
    - 'change: its settings.'
    - 'change password: the password of an index, which is never shown.'
    - 'change mode: its permissions.'
    - 'replace link: a link by a file.'
    - 'remove: a file without any settings, or the record of its previous content.'
  returned: always
  type: list
  elements: dict
  sample:
    - action: create
      target: '...'
      before: null
      after: '...'
"""
