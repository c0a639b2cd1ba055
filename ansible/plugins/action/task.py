# Copyright: Contributors to nbprovision
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt) or Apache License 2.0
# SPDX-License-Identifier: GPL-3.0-or-later OR Apache-2.0
"""The action of the modules that are tasks, and of `task`: hands arguments to ``nbprovision task`` on the target."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible_collections.nbprovision.notebook.plugins.module_utils.outcome import PLANNED
from ansible_collections.nbprovision.notebook.plugins.plugin_utils.tool_action import ToolAction, encoded

SCRIPT = 'start task "$@"'
PRESENT = "start --version"


class ActionModule(ToolAction):
    """Runs one task."""

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the task that is named as the module is, or by the module `task`.

        Returns:
            Ansible's result, with ``status`` and ``changes`` as in nbprovision's JSON document.

        """
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments, own = self.arguments()
        kind = self._task.action.rpartition(".")[2]
        if kind == "task":
            kind, arguments = _named(arguments)
        words = [kind, "--absolute-paths", *self.timeout_words(own)]
        words += ["--check"] * bool(self._task.check_mode) + ["--no-log"] * bool(self._task.no_log)
        planned = list((task_vars or {}).get("ansible_facts", {}).get(PLANNED, []))
        context = self.context(check=bool(self._task.check_mode), kind=kind, arguments=arguments, planned=planned)
        if self._task.async_val:
            self.start_tool(PRESENT, [], own, b"")
            return {**result, **self.start_job(SCRIPT, words, own, encoded(arguments), context)}
        return {**result, **self.outcome(self.start_tool(SCRIPT, words, own, encoded(arguments)), context)}


def _named(arguments: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the kind and the parameters that the module `task` was given."""
    unknown = sorted(arguments.keys() - {"kind", "parameters"})
    if unknown:
        raise AnsibleActionFail(f"unknown parameter {unknown[0]}; there are: kind, parameters")
    if not arguments.get("kind"):
        raise AnsibleActionFail("kind is required: a task of nbprovision, such as ensure_file")
    return str(arguments["kind"]), arguments.get("parameters") or {}
