#!/usr/bin/python
# Copyright: Contributors to nbprovision
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt) or Apache License 2.0
# SPDX-License-Identifier: GPL-3.0-or-later OR Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: playbook
short_description: Run a playbook of nbprovision on a notebook machine
version_added: 0.1.0
description:
  - Packs a playbook with all the files that it names, takes it to the target unless the same files are there already, and runs it.
  - A run with nothing to do is one call of a program on the target, however many tasks the playbook has.
  - Check mode describes the whole playbook, also tasks that build on what earlier ones would make.
options:
  path:
    description:
      - The playbook on the controller, searched as by M(ansible.builtin.copy).
    type: str
    required: true
  vars:
    description:
      - Variables of the playbook, which override its own. They reach the target on standard input.
    type: dict
  tags:
    description:
      - Only tasks with one of these tags.
    type: list
    elements: str
  skip_tags:
    description:
      - Leave out tasks with one of these tags.
    type: list
    elements: str
  deep:
    description:
      - Compare the files of every package, not only names and versions.
    type: bool
    default: false
  locked:
    description:
      - V(true) installs exactly the packages of the playbook's lock, the folder such as C(team.lock) beside it, which is sent
        with it. C(nbprovision lock) writes it. A lock that does not fit the playbook is refused.
      - V(frozen) uses the lock even then.
    type: raw
    default: false
requirements:
  - nbprovision on the controller, in the environment of Ansible
extends_documentation_fragment:
  - nbprovision.notebook.tool
author:
  - Contributors to nbprovision (@nbprovision)
"""

EXAMPLES = r"""
- name: The state of the team's notebooks
  nbprovision.notebook.playbook:
    path: team.yml

- name: The same with a secret, which no output shows
  nbprovision.notebook.playbook:
    path: team.yml
    vars:
      token: "{{ vault_token }}"
  no_log: true

- name: Exactly the packages of team.lock
  nbprovision.notebook.playbook:
    path: team.yml
    locked: true
"""

RETURN = r"""
status:
  description: V(ok), V(changed) or V(failed).
  returned: always
  type: str
  sample: changed
counts:
  description: The number of tasks by status.
  returned: always
  type: dict
  sample: {ok: 3, changed: 1, skipped: 0, failed: 0, deferred: 0}
seconds:
  description: The duration of the run.
  returned: always
  type: float
  sample: 0.02
tasks:
  description: The results of the tasks as in nbprovision's JSON document; with C(no_log) the list is empty.
  returned: always
  type: list
  elements: dict
ansible_facts:
  description: The status, the counts and the seconds, as the fact C(nbprovision).
  returned: always
  type: dict
"""
