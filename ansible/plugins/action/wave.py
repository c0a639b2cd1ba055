# Copyright: Contributors to nbprovision
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt) or Apache License 2.0
# SPDX-License-Identifier: GPL-3.0-or-later OR Apache-2.0
"""The action of the module wave: restarts a batch of notebook instances with a lifecycle config, on the controller."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import yaml
from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.nbprovision.notebook.plugins.modules.wave import DOCUMENTATION
from ansible_collections.nbprovision.notebook.plugins.plugin_utils.notebook_instances import (
    DeniedError,
    NotebookInstances,
    StateChangedError,
)

_CHECKED = ("type", "elements", "required", "choices", "default")
_BAD = ("failed", "unfinished")
# The status that an instance comes to by itself, and after an action.
_LEADS_TO = {"Pending": "InService", "Stopping": "Stopped", "Updating": "Stopped"}
_AFTER = {"stop": "Stopped", "update": "Stopped", "start": "InService"}


@dataclass
class Member:
    """One instance of the batch.

    Attributes:
        name: Its name.
        target: The lifecycle config that it shall have: its own one again after AWS refused the other.
        status: Its status in the last list.
        config: Its lifecycle config in the last list.
        before: Both in the first list.
        after: Both in the end, in check mode.
        runs: Whether it shall run in the end; None until its status is known.
        actions: What was done.
        reason: Why it is bad, or was left out.
        result: Empty while there is something to do.

    """

    name: str
    target: str
    status: str = ""
    config: str = ""
    before: tuple[str, str] = ("", "")
    after: tuple[str, str] | None = None
    runs: bool | None = None
    actions: list[str] = field(default_factory=list)
    reason: str = ""
    result: str = ""

    def next_action(self) -> str | None:
        """Decide by its status."""
        if self.status == "InService":
            return None if self.config == self.target else "stop"
        if self.config != self.target:
            return "update"
        return "start" if self.runs else None

    def end(self, result: str, reason: str = "") -> None:
        """Take it out of the batch."""
        self.result, self.reason = result, reason or self.reason

    def shown(self) -> dict[str, Any]:
        """Its part of the module's result."""
        return {
            "name": self.name,
            "result": self.result,
            "status": self.status,
            "lifecycle_config": self.config,
            "actions": self.actions,
            "reason": self.reason,
        }


class ActionModule(ActionBase):
    """Restarts a batch of instances."""

    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Restart the instances.

        Returns:
            Ansible's result, with a result for each instance.

        """
        result: dict[str, Any] = super().run(tmp, task_vars)
        options = yaml.safe_load(DOCUMENTATION)["options"]
        spec = {name: {key: option[key] for key in _CHECKED if key in option} for name, option in options.items()}
        arguments = self.validate_argument_spec(spec)[1]
        try:
            members = self._restarted(arguments)
        except AnsibleActionFail:
            raise
        except AnsibleError as error:
            raise AnsibleActionFail(str(error)) from error
        counts = Counter(member.result for member in members)
        result |= {
            "instances": [member.shown() for member in members],
            "changed": any(member.actions for member in members),
            "failed": any(counts[bad] for bad in _BAD),
            "msg": _message(members, counts),
        }
        if self._task.diff:
            result["diff"] = [_diff(member) for member in members if member.actions]
        return result

    def _restarted(self, arguments: dict[str, Any]) -> list[Member]:
        config = arguments["lifecycle_config"]
        members = [Member(name, config) for name in dict.fromkeys(arguments["instances"])]
        service = NotebookInstances(arguments["region"], arguments["profile"])
        deadline = time.monotonic() + arguments["timeout"]
        self._look(service, members)
        for member in members:
            member.before = (member.config, member.status)
            if member.result:
                continue
            runs = _LEADS_TO.get(member.status, member.status) == "InService"
            member.runs = runs or arguments["start"]
            if runs and member.config != config and arguments["restart"] == "stopped":
                member.end("skipped", "it runs; `restart: all` restarts it")
        if any(not member.result and member.config != config for member in members):
            try:
                service.require_config(config)
            except (
                DeniedError
            ) as error:  # AWS refuses a missing config later, and each instance runs again with its own
                self._display.warning(f"the lifecycle config {config} cannot be looked at: {error}")
        if self._task.check_mode:
            _foresee(members)
        else:
            self._drive(service, members, deadline, arguments["interval"])
        return members

    def _drive(self, service: NotebookInstances, members: list[Member], deadline: float, interval: float) -> None:
        """Act and look again until each member has a result."""
        while True:
            for member in _open(members):
                if member.status not in _LEADS_TO:
                    _act(service, member)
            if not any(_open(members)):
                return
            if time.monotonic() > deadline:
                problem = "the time is over"
                break
            counts = Counter(member.status for member in members)
            self._display.v("wave: " + ", ".join(f"{number} {status}" for status, number in counts.items()))
            time.sleep(interval)
            try:
                self._look(service, _open(members))
            except AnsibleError as error:
                problem = str(error)
                break
        for member in _open(members):
            halfway = member.runs and member.actions[-1:] in (["stop"], ["update"])
            cure = "; it is to run again: `start: true` starts it" if halfway else ""
            member.end("unfinished", f"{problem}{cure}")

    def _look(self, service: NotebookInstances, members: Iterable[Member]) -> None:
        """Read the state of the members by a list, and the reason of those that are Failed."""
        listed = {instance["NotebookInstanceName"]: instance for instance in service.listed()}
        for member in members:
            if member.name not in listed:
                member.end("failed", f"it does not exist in {service.region}")
                continue
            member.status = listed[member.name]["NotebookInstanceStatus"]
            member.config = listed[member.name].get("NotebookInstanceLifecycleConfigName") or ""
            if member.status == "Failed":
                member.end("failed", service.failure_reason(member.name) or "AWS gives no reason")
            elif member.status == "Deleting":
                member.end("failed", "it is being deleted")


def _open(members: Iterable[Member]) -> list[Member]:
    return [member for member in members if not member.result]


def _act(service: NotebookInstances, member: Member) -> None:
    """Take the next action; a member without one is complete."""
    action = member.next_action()
    if action is None:
        member.end("failed" if member.reason else "changed" if member.actions else "ok")
        return
    try:
        if action == "update":
            service.update(member.name, member.target)
        else:
            getattr(service, action)(member.name)
    except StateChangedError:
        return  # the list was older than the last action, or a person was faster: look again
    except AnsibleError as error:
        member.reason = str(error)
        if action == "update":
            member.target = member.config  # it runs again as before
        else:
            member.end("failed")
        return
    if member.actions[-1:] != [action]:
        member.actions.append(action)


def _foresee(members: list[Member]) -> None:
    """Give each member the actions that it would get."""
    for member in _open(members):
        status, config = member.status, member.config
        member.status = _LEADS_TO.get(status, status)
        while (action := member.next_action()) is not None:
            member.actions.append(action)
            member.status = _AFTER[action]
            member.config = member.target if action == "update" else member.config
        member.end("changed" if member.actions else "ok")
        member.after = (member.config, member.status)
        member.status, member.config = status, config


def _message(members: list[Member], counts: Counter[str]) -> str:
    summary = ", ".join(
        f"{counts[result]} {result}" for result in ("ok", "changed", "skipped", *_BAD) if counts[result]
    )
    return "\n".join([summary, *(f"{each.name}: {each.reason}" for each in members if each.result in _BAD)])


def _diff(member: Member) -> dict[str, str]:
    before, after = (
        f"lifecycle_config: {config}\nstatus: {status}\n"
        for config, status in (member.before, member.after or (member.config, member.status))
    )
    return {"before_header": member.name, "after_header": member.name, "before": before, "after": after}
