#!/usr/bin/python
# Copyright: Contributors to nbprovision
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt) or Apache License 2.0
# SPDX-License-Identifier: GPL-3.0-or-later OR Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: task
short_description: Run any task of nbprovision by its name
version_added: 0.1.0
description:
  - Runs a task as the module of its name does, also one that the target's nbprovision has and this collection lacks.
options:
  kind:
    description:
      - The name of the task.
    type: str
    required: true
  parameters:
    description:
      - The parameters of the task.
    type: dict
extends_documentation_fragment:
  - nbprovision.notebook.tool
author:
  - Contributors to nbprovision (@nbprovision)
"""

EXAMPLES = r"""
- name: A greeting
  nbprovision.notebook.task:
    kind: ensure_file
    parameters:
      path: ~/motd
      content: Good morning
"""

RETURN = r"""
status:
  description: V(ok), V(changed), V(skipped) or V(failed).
  returned: always
  type: str
  sample: changed
changes:
  description: What was changed, or would be in check mode; action says how.
  returned: always
  type: list
  elements: dict
  sample: [{action: create, target: /home/ec2-user/motd, before: null, after: Good morning}]
"""
