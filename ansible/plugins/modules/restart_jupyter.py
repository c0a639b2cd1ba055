#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright: Contributors to nbprovision
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt) or Apache License 2.0
# SPDX-License-Identifier: GPL-3.0-or-later OR Apache-2.0
# Generated from nbprovision's definition of the task by `python -m tests.ansible.test_generated`.

from __future__ import annotations

DOCUMENTATION = r"""
module: restart_jupyter
short_description: Restart the Jupyter server after a change; open notebooks reconnect, and running kernels stop
version_added: 0.1.0
description:
  - Restart the Jupyter server after a change; open notebooks reconnect, and running kernels stop.
  - 'It is a handler only: V(notify: restart_jupyter) on a task calls it, even if V(handlers) does not list it. It does
    nothing while a lifecycle script runs: Jupyter starts after the script, and a restart by a script has been seen to break
    the notebook''s own login. It has nothing to do if the server has started since the change: after a restart by hand,
    or of the machine.'
  - 'Only root can restart the service of a notebook instance; for any other user the handler fails and prints the command
    to run by hand. It remains to be done, and the run after that restart succeeds. In a JupyterLab space of Studio the
    user may restart the server: the handler starts the image''s own V(restart-jupyter-server), which also closes the terminals.
    A Code Editor space has no Jupyter server.'
  - Use it under V(handlers). It runs after a task that notifies it has changed something.
options:
  unit:
    description:
      - Name of the service's unit.
    type: str
    default: jupyter-server.service
  scope:
    description:
      - Whether it is a service of the machine, which needs root, or of the user.
    type: str
    choices:
      - system
      - user
    default: system
  at_boot:
    description:
      - Restart it even while a lifecycle script runs.
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
- name: The user's own Jupyter, which needs no root
  nbprovision.notebook.restart_jupyter:
    scope: user
    unit: jupyter-lab.service
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
    - 'restart: Jupyter''s service or server, if it runs.'
  returned: always
  type: list
  elements: dict
  sample:
    - action: restart
      target: '...'
      before: null
      after: '...'
"""
