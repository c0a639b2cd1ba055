#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright: Contributors to nbprovision
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt) or Apache License 2.0
# SPDX-License-Identifier: GPL-3.0-or-later OR Apache-2.0
# Generated from nbprovision's definition of the task by `python -m tests.ansible.test_generated`.

from __future__ import annotations

DOCUMENTATION = r"""
module: ensure_command
short_description: Run a command, unless the paths in V(creates) exist, those in V(removes) are missing, or it has run before
version_added: 0.1.0
description:
  - Run a command, unless the paths in V(creates) exist, those in V(removes) are missing, or it has run before.
  - 'Each of several conditions can prevent the run. After the run, the paths in V(creates) must exist, those in V(removes)
    must be missing, and V(unless) must succeed. A command without these three and without V(once_per) runs each time (with
    V(onlyif) each time that V(onlyif) succeeds), and every run then checks all tasks of the playbook. V(unless) and V(onlyif)
    also run with V(--check): they must not change anything.'
  - 'V(once_per) decides by a record in the tool''s home, which a success of the command writes. A command that fails, is
    killed, or fails by V(failed_when) runs again at the next run. A command is known by its text (V(argv) or V(shell),
    V(executable)) and V(chdir): a command with another text has not run yet.'
  - With V(background) the run does not wait for the command, which goes on after the end of the run. It has low priority,
    and all processes that it started end with it. V(nbprovision status) shows it, its last result, its log (the output
    of its last run), and how to stop it. A run does not start it again while it is running. Tasks after it do not wait
    for it, and V(creates), V(removes) and V(unless) count at the next run.
  - 'The command keeps its place in the playbook: it runs after all tasks before it, and before all tasks after it. It runs
    as the user who runs the playbook, and must not leave a process behind, except by V(background). The result has V(rc),
    V(stdout), V(stderr), V(stdout_lines) and V(stderr_lines); with V(background) it has V(pid) and V(log).'
  - Exactly one of V(argv) and V(shell).
  - At most one of V(once_per) and V(creates).
  - At most one of V(once_per) and V(removes).
  - At most one of V(once_per) and V(unless).
  - 'V(reads) only with V(once_per: content).'
options:
  argv:
    description:
      - Program and arguments, as words that no shell reads.
    type: list
    elements: str
  shell:
    description:
      - 'Text for a shell, instead of V(argv): with pipes, ''&&'', variables. The shell also reads the values of templates:
        write them with ''| quote''.'
    type: str
  executable:
    description:
      - The shell for V(shell), V(unless) and V(onlyif).
    type: str
    default: /bin/sh
  creates:
    description:
      - 'Paths that the command creates: it does not run if all exist. Relative to V(chdir).'
      - Takes a string or a list of strings.
    type: raw
  removes:
    description:
      - 'Paths that the command removes: it does not run if all are missing. Relative to V(chdir).'
      - Takes a string or a list of strings.
    type: raw
  unless:
    description:
      - 'A command that succeeds if there is nothing to do: text for the shell, or a list of words.'
      - Takes a string or a list of strings.
    type: raw
  onlyif:
    description:
      - A command that must succeed before the command runs; written like V(unless).
      - Takes a string or a list of strings.
    type: raw
  once_per:
    description:
      - 'Run the command once per start of the machine (V(boot); in a container, of the container), again only when its
        content has changed (V(content): V(env), V(environment), V(stdin) and the files in V(reads)), or only once (V(ever)).'
    type: str
    choices:
      - boot
      - content
      - ever
  reads:
    description:
      - 'Files that the command reads, and does not change: a part of its content. Relative to V(chdir).'
      - Takes a string or a list of strings.
    type: raw
  background:
    description:
      - Start the command, and do not wait for its end.
    type: bool
    default: false
  chdir:
    description:
      - 'The folder that the command runs in. Default: the home folder.'
    type: str
    default: '~'
  env:
    description:
      - An environment, by name or path; the command runs in it as after activation.
    type: str
  environment:
    description:
      - Additional environment variables for the command.
      - Takes a mapping of strings to strings or whole numbers or numbers.
    type: raw
  stdin:
    description:
      - Text for the command's standard input.
    type: str
  timeout:
    description:
      - 'Time after which the command is killed: V(90s), V(30m). Default: no limit.'
    type: str
  any_order:
    description:
      - 'Run the command beside other tasks: it depends on no task, and no task depends on it.'
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
- name: A copy of the repository
  nbprovision.notebook.ensure_command:
    argv:
      - git
      - init
      - --quiet
      - work/fraud
    chdir: '~'
    creates: work/fraud/.git

- name: A key for Git
  nbprovision.notebook.ensure_command:
    shell: umask 077; mkdir -p ~/.ssh && echo made > ~/.ssh/key
    creates: ~/.ssh/key

- name: A setting that only its own program can show
  nbprovision.notebook.ensure_command:
    argv:
      - git
      - config
      - --global
      - init.defaultBranch
      - main
    unless: test "$(git config --global init.defaultBranch)" = main

- name: Old downloads are removed at each start of the machine
  nbprovision.notebook.ensure_command:
    shell: rm -rf downloads/*
    once_per: boot

- name: The report, again whenever its numbers change, while the notebook is in use
  nbprovision.notebook.ensure_command:
    shell: date > report.txt
    once_per: content
    reads: numbers.txt
    background: true
    timeout: 2h
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
    - 'run: the command.'
    - 'start: the command, in the background.'
  returned: always
  type: list
  elements: dict
  sample:
    - action: run
      target: '...'
      before: null
      after: '...'
"""
