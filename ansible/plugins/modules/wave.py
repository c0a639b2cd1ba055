#!/usr/bin/python
# Copyright: Contributors to nbprovision
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt) or Apache License 2.0
# SPDX-License-Identifier: GPL-3.0-or-later OR Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: wave
short_description: Give notebook instances of SageMaker a lifecycle config, and restart them
version_added: 0.1.0
description:
  - Brings the instances of a batch to a lifecycle config, all at the same time. An instance that runs is stopped, changed,
    and started again, and the module waits until it is in service.
  - If AWS refuses the config for an instance, the instance runs again with its own.
  - If an instance fails to start, the module fails, with AWS's reason and the results of all instances.
    With C(serial) and C(max_fail_percentage) the play then ends before the next batch.
  - An instance that has the config already is left as it is.
  - A restart ends all kernels and terminals of the instance.
  - It runs on the controller, whatever the connection of the hosts is.
  - These actions must be allowed - C(sagemaker:ListNotebookInstances), C(sagemaker:DescribeNotebookInstance),
    C(sagemaker:UpdateNotebookInstance), C(sagemaker:StopNotebookInstance) and C(sagemaker:StartNotebookInstance).
  - With C(sagemaker:DescribeNotebookInstanceLifecycleConfig), a lifecycle config that does not exist is refused before an
    instance is stopped.
options:
  instances:
    description:
      - The names of the instances.
    type: list
    elements: str
    required: true
  lifecycle_config:
    description:
      - The name of the lifecycle config.
    type: str
    required: true
  restart:
    description:
      - V(stopped) changes the instances that do not run, and leaves out the others.
      - V(all) also restarts the instances that run.
    type: str
    choices:
      - stopped
      - all
    default: stopped
  start:
    description:
      - Also start the instances that did not run.
    type: bool
    default: false
  timeout:
    description:
      - Seconds that all instances together may take.
    type: int
    default: 1800
  interval:
    description:
      - Seconds between two lists of instances.
    type: float
    default: 10
  region:
    description:
      - The region. By default that of the profile or the environment.
    type: str
  profile:
    description:
      - The profile of AWS's settings.
    type: str
attributes:
  check_mode:
    description: Reports what would change, and changes nothing.
    support: full
  diff_mode:
    description: Returns the lifecycle config and the status before and after.
    support: full
requirements:
  - boto3 on the controller, in the environment of Ansible
author:
  - Contributors to nbprovision (@nbprovision)
"""

EXAMPLES = r"""
- name: Move a fleet by batches, and end at the first instance that fails
  hosts: notebook_instances
  gather_facts: false
  serial: [3, 97, 300]
  max_fail_percentage: 0
  tasks:
    - name: The new lifecycle config
      nbprovision.notebook.wave:
        instances: "{{ ansible_play_batch }}"
        lifecycle_config: fraud-stable-r4
        restart: all
      run_once: true

- name: Prepare the instances that do not run, for their next start
  hosts: notebook_instances
  gather_facts: false
  tasks:
    - name: The new lifecycle config
      nbprovision.notebook.wave:
        instances: "{{ ansible_play_hosts }}"
        lifecycle_config: fraud-stable-r4
        region: eu-west-1
      run_once: true
"""

RETURN = r"""
instances:
  description: The result of each instance.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Its name.
      type: str
    result:
      description:
        - V(ok), V(changed), V(skipped), V(failed), or V(unfinished) after the timeout.
      type: str
    status:
      description: Its status in the last list.
      type: str
    lifecycle_config:
      description: Its lifecycle config in the last list.
      type: str
    actions:
      description: What was done, or would be in check mode.
      type: list
      elements: str
    reason:
      description: Why it is skipped, failed or unfinished.
      type: str
  sample:
    - name: fraud-1
      result: changed
      status: InService
      lifecycle_config: fraud-stable-r4
      actions: [stop, update, start]
      reason: ""
"""
