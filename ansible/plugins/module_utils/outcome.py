# Copyright: Contributors to nbprovision
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt) or Apache License 2.0
# SPDX-License-Identifier: GPL-3.0-or-later OR Apache-2.0
"""Ansible's result of a run of nbprovision, on the controller and, for `async`, on the target.

With `async`, the text of this file is a program of the target. It reads a job from standard input, so that no argument
reaches a file or a command line, starts it in a session of its own, and writes the result where `async_status` looks.
async_wrapper, which Ansible has for modules, needs the module with its arguments as a file.

Source: https://docs.ansible.com/ansible/latest/playbook_guide/playbooks_async.html
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import Any

GRACE = 10  # seconds for a run to end after SIGTERM
_NAMES = ("name", "prefix", "path")  # how a task names an environment that it makes
_USES = ("env", "envs", "prefix", "clone", "python")  # how a task names one that exists
PLANNED = "nbprovision_planned"  # the fact with what earlier tasks would make, in check mode


class NoDocumentError(Exception):
    """nbprovision printed no document, as for an invalid playbook; the text is the reason."""


def outcome(answer: dict[str, Any], context: dict[str, Any]) -> dict[str, Any]:
    """Turn an answer of nbprovision into a result of Ansible's.

    Args:
        answer: ``rc``, ``stdout`` and ``stderr``.
        context: ``diff`` and ``no_log`` of the task; for one task also ``check``, ``kind``, ``arguments`` and the
            ``planned`` environments.

    Raises:
        NoDocumentError: nbprovision printed no document.

    """
    try:
        document = json.loads(answer["stdout"])
    except ValueError:
        document = None
    if not isinstance(document, dict):
        text = (answer["stderr"] or answer["stdout"]).strip()
        raise NoDocumentError(text or f"it ended with {answer['rc']}")
    return _of_task(document, context) if "kind" in context else _of_playbook(document, context)


def _of_playbook(document: dict[str, Any], context: dict[str, Any]) -> dict[str, Any]:
    if context["no_log"]:
        document["tasks"] = []
    changes = [change for task in document["tasks"] for change in task["changes"]]
    failed = [f"{task['name']}: {task['error']['message']}" for task in document["tasks"] if _has_failed(task)]
    summary = {name: document[name] for name in ("status", "counts", "seconds")}
    result = {
        **summary,
        "tasks": document["tasks"],
        "changed": document["counts"]["changed"] > 0,
        "failed": document["status"] == "failed",
        "warnings": [warning for task in document["tasks"] for warning in task["warnings"]],
        "ansible_facts": {"nbprovision": summary},
    }
    if failed:
        result["msg"] = "\n".join(failed)
    if context["diff"]:
        result["diff"] = _diff(changes)
    return result


def _has_failed(task: dict[str, Any]) -> bool:
    return task["status"] == "failed" and not {"ignored", "rescued"} & task.keys()


def _of_task(document: dict[str, Any], context: dict[str, Any]) -> dict[str, Any]:
    status, changes, error = document["status"], document["changes"], document["error"]
    facts = {}
    if context["check"]:
        awaited = _awaited(document, context)
        if awaited is not None:
            return {"changed": True, "status": "changed", "changes": [], "msg": f"will change after {awaited}"}
        if status == "changed":
            arguments = context["arguments"]
            made = [[context["kind"], arguments[name]] for name in _NAMES if arguments.get(name)]
            facts = {"ansible_facts": {PLANNED: [*context["planned"], *made]}}
    result = {
        **facts,
        "status": status,
        "changes": changes,
        "changed": status == "changed",
        "failed": status == "failed",
        "warnings": document["warnings"],
    }
    if status == "skipped":
        result.update(skipped=True, skip_reason="; ".join(document["warnings"]))
    if error is not None:
        result["msg"] = error["message"]
    if context["diff"]:
        result["diff"] = _diff(changes)
    return result


def _awaited(document: dict[str, Any], context: dict[str, Any]) -> str | None:
    """Return what a task waits for: an environment that an earlier task would make."""
    if not document["error"] or document["error"].get("rule") != "unknown-environment":
        return None
    used = [context["arguments"].get(name) for name in _USES]
    names = [name for value in used if value for name in (value if isinstance(value, list) else [value])]
    return next((f"{kind} {name}" for kind, name in context["planned"] if name in names), None)


def _diff(changes: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Return changes in the form that `--diff` prints."""
    return [
        {
            "before_header": change["target"],
            "after_header": f"{change['target']} ({change['action']})",
            "before": _lines(change["before"]),
            "after": _lines(change["after"]),
        }
        for change in changes
    ]


def _lines(text: str | None) -> str:
    return "" if not text else text if text.endswith("\n") else text + "\n"


def start_job() -> None:
    """Start the job on standard input, and print what Ansible needs to look for its result."""
    job = json.load(sys.stdin)
    os.makedirs(job["folder"], mode=0o700, exist_ok=True)
    path = os.path.join(job["folder"], job["id"])
    begun = {"started": 1, "finished": 0, "ansible_job_id": job["id"]}
    _write(path, begun)
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            nowhere = os.open(os.devnull, os.O_RDWR)
            for stream in range(3):
                os.dup2(nowhere, stream)
            try:
                _write(path, _job_result(job))
            except BaseException as error:  # noqa: BLE001 (nobody but the result's reader hears of it)
                _write(path, {"failed": True, "msg": f"the job ended with {type(error).__name__}"})
        os._exit(0)
    os.wait()
    json.dump({**begun, "results_file": path, "changed": True}, sys.stdout)


def _job_result(job: dict[str, Any]) -> dict[str, Any]:
    process = subprocess.Popen(  # noqa: S603 (the controller's own script)
        job["argv"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        encoding="utf-8",
    )
    try:
        stdout, stderr = process.communicate(job["input"], timeout=job["limit"])
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.communicate(timeout=GRACE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        return {"failed": True, "msg": f"ended after {job['limit']} seconds: the limit of async"}
    try:
        result = outcome({"rc": process.returncode, "stdout": stdout, "stderr": stderr}, job["context"])
    except NoDocumentError as error:
        result = {"failed": True, "msg": str(error)}
    if job["context"]["no_log"]:  # the result lies in a file until somebody asks for it
        hidden = {"msg", "changes", "diff", "warnings", "skip_reason"}
        result = {name: value for name, value in result.items() if name not in hidden}
    return result


def _write(path: str, result: dict[str, Any]) -> None:
    with os.fdopen(os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(result, file)
    os.replace(f"{path}.new", path)
