#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright: Contributors to nbprovision
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt) or Apache License 2.0
# SPDX-License-Identifier: GPL-3.0-or-later OR Apache-2.0
# Generated from nbprovision's definition of the task by `python -m tests.ansible.test_generated`.

from __future__ import annotations

DOCUMENTATION = r"""
module: ensure_kernel
short_description: Create and maintain a Jupyter kernel for an environment (V(env) or V(prefix)) or any program (V(argv))
version_added: 0.1.0
description:
  - Create and maintain a Jupyter kernel for an environment (V(env) or V(prefix)) or any program (V(argv)).
  - The kernel of an environment starts as after V(conda activate), or after a virtual environment's V(activate). It runs
    the environment's Python; with V(argv) it runs a program of another language, such as R, that is installed there. V(envs)
    creates a kernel for each of several environments. '{env}' in V(name) and V(display_name) stands for the environment's
    name.
  - At most one of V(env), V(prefix) and V(envs).
  - At most one of V(argv) and V(envs).
  - V(except) only with V(envs).
  - V(allow_empty) only with V(envs).
  - 'V(scope: env) only with V(env) or V(prefix).'
options:
  env:
    description:
      - The environment, by name or path.
    type: str
  envs:
    description:
      - 'Several environments: names, globs (V(pytorch*), V(/path/envs/*)), paths, V(all) (never the Jupyter server''s own).
        V(all) and globs leave out environments without a Python if one is needed.'
      - Takes a string or a list of strings.
    type: raw
  except:
    description:
      - 'Exceptions from V(envs): names, globs, paths.'
      - Takes a string or a list of strings.
    type: raw
  allow_empty:
    description:
      - Whether V(envs) may match no environment.
    type: bool
    default: false
  prefix:
    description:
      - Path of the environment that the kernel runs in.
    type: str
  argv:
    description:
      - Command of a kernel other than the environment's Python; one word contains '{connection_file}'. With V(env) or V(prefix)
        it runs in that environment.
    type: list
    elements: str
  name:
    description:
      - 'Jupyter''s name of the kernel: letters (Jupyter lowers them), digits and V(.), V(_), V(-). Default: the environment''s
        name in that form.'
    type: str
  display_name:
    description:
      - 'Name that Jupyter shows. Default: ''Python (ENVIRONMENT)'' (with V(argv), its language); outside any environment
        the kernel''s name.'
    type: str
  language:
    description:
      - 'Language of the kernel''s notebooks. Default: V(python); for another program the kernel''s name.'
    type: str
  environment:
    description:
      - Environment variables of the kernel. Jupyter replaces '${NAME}' in a value by the server's variable and '$$' by
        a dollar sign. A value without '${...}' overrides what activation sets.
      - Takes a mapping of strings to strings or whole numbers or numbers.
    type: raw
  activate:
    description:
      - 'Start the kernel in its activated environment: PATH, CONDA_PREFIX, activate.d and the rest.'
    type: bool
    default: true
  user_site:
    description:
      - Let the kernel see packages of V(pip install --user), which hide those of the environment.
    type: bool
    default: false
  scope:
    description:
      - 'Visibility of the kernel: V(user) (the user''s Jupyter), V(system) (every user''s; needs write access), V(env)
        (the Jupyter that runs from the environment itself).'
    type: str
    choices:
      - user
      - system
      - env
    default: user
  state:
    description:
      - Whether the kernel exists.
    type: str
    choices:
      - present
      - absent
    default: present
  install_ipykernel:
    description:
      - Install ipykernel into the environment if it is missing; V(false) makes that an error.
    type: bool
    default: true
  validate:
    description:
      - Start the kernel before it is offered, and ask it for V(sys.prefix).
    type: bool
    default: false
  interrupt_mode:
    description:
      - How Jupyter interrupts the kernel; its default is V(signal).
    type: str
    choices:
      - signal
      - message
  logo:
    description:
      - 'Logo (PNG or SVG) that Jupyter shows for the kernel. Default: ipykernel''s, unless the kernel''s folder contains
        another one.'
    type: str
  metadata:
    description:
      - Additional V(metadata) of the kernelspec, for Jupyter's extensions.
      - Takes a mapping of strings to values.
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
- name: A kernel of an environment, tried before it is offered
  nbprovision.notebook.ensure_kernel:
    env: fraud
    display_name: Fraud (Python)
    validate: true
    environment:
      STAGE: test
      PATH: ${HOME}/bin:${PATH}

- name: A kernel for each of several environments
  nbprovision.notebook.ensure_kernel:
    envs:
      - fraud
      - ris*
    name: team-{env}
    display_name: Team ({env})

- name: A program that speaks Jupyter's protocol
  nbprovision.notebook.ensure_kernel:
    name: plain
    argv:
      - /usr/bin/python3
      - -m
      - ipykernel_launcher
      - -f
      - '{connection_file}'
    display_name: The machine's Python

- name: A kernel that is no longer offered
  nbprovision.notebook.ensure_kernel:
    name: old
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
    - 'install: ipykernel into the environment.'
    - 'write: a file of the kernel''s folder.'
    - 'set mode: who may read it.'
    - 'remove: the kernel, or a file of it that is no longer needed.'
  returned: always
  type: list
  elements: dict
  sample:
    - action: install
      target: '...'
      before: null
      after: '...'
"""
