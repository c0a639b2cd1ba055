#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright: Contributors to nbprovision
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt) or Apache License 2.0
# SPDX-License-Identifier: GPL-3.0-or-later OR Apache-2.0
# Generated from nbprovision's definition of the task by `python -m tests.ansible.test_generated`.

from __future__ import annotations

DOCUMENTATION = r"""
module: ensure_git_repo
short_description: Clone a git repository, and keep the clone without ever touching local work in it
version_added: 0.1.0
description:
  - Clone a git repository, and keep the clone without ever touching local work in it.
  - 'The clone is made beside V(path) and renamed when it is complete. A folder that is not a clone of V(url) is refused
    and kept; https and ssh URLs of the same repository count as the same. With V(update: none) an existing clone needs
    no network. Another V(ref) is checked out only if the clone stands as this task left it: with changed files, with local
    commits, or with another branch checked out it stays, and the task warns. Hooks are not run.'
options:
  url:
    description:
      - 'The repository: a URL of https or ssh, of CodeCommit, or a V(file://) URL.'
    type: str
    required: true
  path:
    description:
      - The folder of the clone.
    type: str
    required: true
  ref:
    description:
      - 'A branch, a tag or a commit. Default: the repository''s default branch.'
    type: str
  depth:
    description:
      - Clone only this many commits of the history, and no other branch.
    type: int
  submodules:
    description:
      - Fetch the submodules as well, at any depth.
    type: bool
    default: false
  update:
    description:
      - 'V(none): an existing clone is not updated. V(ff): once a day (see V(refresh_every)) the branch is moved forward
        to the newest commit of the remote branch, unless there is local work.'
    type: str
    choices:
      - none
      - ff
    default: none
  credential_helper:
    description:
      - A credential helper of git for the server of V(url), used for the clone and written into its configuration.
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
- name: The team's notebooks, updated once a day
  nbprovision.notebook.ensure_git_repo:
    url: https://github.com/acme/models.git
    path: /home/ec2-user/SageMaker/project/models
    update: ff

- name: One version of a library, without its history
  nbprovision.notebook.ensure_git_repo:
    url: https://github.com/acme/models.git
    path: /home/ec2-user/SageMaker/project/models-1.0
    ref: v1.0
    depth: 1

- name: A repository of AWS CodeCommit
  nbprovision.notebook.ensure_git_repo:
    url: https://git-codecommit.eu-west-1.amazonaws.com/v1/repos/fraud
    path: /home/ec2-user/SageMaker/project/fraud
    credential_helper: '!aws codecommit credential-helper $@'
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
    - 'clone: a new clone.'
    - 'configure: the credential helper of the clone.'
    - 'checkout: another branch, tag or commit.'
    - 'update: the branch, to the newest commit of the remote one.'
    - 'fetch submodules: missing submodules.'
    - 'repair: a clone whose update was killed.'
  returned: always
  type: list
  elements: dict
  sample:
    - action: clone
      target: '...'
      before: null
      after: '...'
"""
