#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright: Contributors to nbprovision
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt) or Apache License 2.0
# SPDX-License-Identifier: GPL-3.0-or-later OR Apache-2.0
# Generated from nbprovision's definition of the task by `python -m tests.ansible.test_generated`.

from __future__ import annotations

DOCUMENTATION = r"""
module: ensure_env_var
short_description: Set environment variables in the user's kernels and in the shells of terminals, or in the Jupyter server
version_added: 0.1.0
description:
  - Set environment variables in the user's kernels and in the shells of terminals, or in the Jupyter server.
  - 'Values are literal: no shell and no kernel evaluates them. In a shell''s file each variable has a block of its own.
    In a kernel it is an entry of V(env) in kernel.json, which V(ensure_kernel) keeps. Running kernels and terminals see
    the variables after their next start. The task changes the kernels that exist when its turn comes, so write it after
    the tasks that create them.'
  - 'The kernels of the image have no kernel.json of the user. They get a variable by V(where: server): it is then in V(jupyter_config.py)
    in the user''s Jupyter folder, and every kernel and terminal inherits it from the server, whichever environment it is
    of. The server reads the file when it starts; a lifecycle script runs before that, at any other time notify V(restart_jupyter).
    A variable of kernel.json precedes one of the server. V(everywhere) does not include the server, because a variable
    such as PYTHONPATH can keep its own programs from starting.'
  - At least one of V(name) and V(vars).
  - V(value) only with V(name).
  - 'With V(where: shells), no V(kernels).'
  - 'With V(where: server), no V(kernels).'
options:
  name:
    description:
      - Name of the variable.
    type: str
  value:
    description:
      - Its value.
      - Takes a string or a whole number.
    type: raw
  vars:
    description:
      - Several variables, as a mapping of names to values.
      - Takes a mapping of strings to strings or whole numbers.
    type: raw
  where:
    description:
      - In the user's kernels, in shells (V(~/.bashrc) and the file of login shells), in both (V(everywhere)), or in the
        Jupyter server and with it in every kernel.
    type: str
    choices:
      - everywhere
      - kernels
      - shells
      - server
    default: everywhere
  kernels:
    description:
      - 'The kernels: names, globs, or V(all) of the user''s.'
      - Takes a string or a list of strings.
    type: raw
    default: all
  state:
    description:
      - Whether the variables are set.
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
- name: The folder of the models
  nbprovision.notebook.ensure_env_var:
    name: MODEL_HOME
    value: /home/ec2-user/SageMaker/models

- name: Variables of the terminals only
  nbprovision.notebook.ensure_env_var:
    where: shells
    vars:
      EDITOR: nano
      PAGER: less -R

- name: A proxy for every kernel, the image's own included
  nbprovision.notebook.ensure_env_var:
    where: server
    vars:
      https_proxy: http://proxy.example:3128
      no_proxy: localhost,127.0.0.1,169.254.169.254

- name: An old variable is removed
  nbprovision.notebook.ensure_env_var:
    name: OLD_SETTING
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
