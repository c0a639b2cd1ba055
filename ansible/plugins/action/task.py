# Copyright: Contributors to nbprovision
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt) or Apache License 2.0
# SPDX-License-Identifier: GPL-3.0-or-later OR Apache-2.0
"""The action of the modules that are tasks, and of `task`: hands arguments to ``nbprovision task`` on the target."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible_collections.nbprovision.notebook.plugins.plugin_utils.tool_action import ToolAction, encoded

SCRIPT = 'start task "$@"'
PLANNED = "nbprovision_planned"  # the fact with what earlier tasks would make, in check mode
_NAMES = ("name", "prefix", "path")  # how a task names an environment that it makes
_USES = ("env", "envs", "prefix", "clone", "python")  # how a task names one that exists


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
        words = [kind, "--absolute-paths"]
        words += ["--check"] * bool(self._task.check_mode) + ["--no-log"] * bool(self._task.no_log)
        document = self.document(self.start_tool(SCRIPT, words, own, encoded(arguments)))
        planned = list((task_vars or {}).get("ansible_facts", {}).get(PLANNED, []))
        if self._task.check_mode:
            awaited = _awaited(arguments, document, planned)
            if awaited is not None:
                return {
                    **result,
                    "changed": True,
                    "status": "changed",
                    "changes": [],
                    "msg": f"will change after {awaited}",
                }
            if document["status"] == "changed":
                made = [[kind, arguments[name]] for name in _NAMES if arguments.get(name)]
                result["ansible_facts"] = {PLANNED: [*planned, *made]}
        return {**result, **self._result(document)}

    def _result(self, document: dict[str, Any]) -> dict[str, Any]:
        status, changes, error = document["status"], document["changes"], document["error"]
        result = {
            "status": status,
            "changes": changes,
            "changed": status == "changed",
            "failed": status == "failed",
            "warnings": document["warnings"],
        }
        if status == "skipped":
            result |= {"skipped": True, "skip_reason": "; ".join(document["warnings"])}
        if error is not None:
            result["msg"] = error["message"]
        if self._task.diff:
            result["diff"] = self.diff(changes)
        return result


def _named(arguments: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the kind and the parameters that the module `task` was given."""
    unknown = sorted(arguments.keys() - {"kind", "parameters"})
    if unknown:
        raise AnsibleActionFail(f"unknown parameter {unknown[0]}; there are: kind, parameters")
    if not arguments.get("kind"):
        raise AnsibleActionFail("kind is required: a task of nbprovision, such as ensure_file")
    return str(arguments["kind"]), arguments.get("parameters") or {}


def _awaited(arguments: dict[str, Any], document: dict[str, Any], planned: list[list[str]]) -> str | None:
    """Return what a task waits for: an environment that an earlier task would make."""
    if not document["error"] or document["error"].get("rule") != "unknown-environment":
        return None
    used = [arguments.get(name) for name in _USES]
    names = [name for value in used if value for name in (value if isinstance(value, list) else [value])]
    return next((f"{kind} {name}" for kind, name in planned if name in names), None)
