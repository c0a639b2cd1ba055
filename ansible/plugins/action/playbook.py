# Copyright: Contributors to nbprovision
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt) or Apache License 2.0
# SPDX-License-Identifier: GPL-3.0-or-later OR Apache-2.0
"""The action of the module playbook: takes a playbook of nbprovision to the target, once, and runs it there."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleActionFail
from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.nbprovision.notebook.plugins.plugin_utils.tool_action import HOME, ToolAction, archive, encoded

if TYPE_CHECKING:
    from nbprovision.lifecycle.payload import Payload
UNAVAILABLE: ImportError | None = None
try:
    # Ansible loads this file before it forks a worker for each host. Loaded there, nbprovision with all its tasks and
    # rules would take longer for a host than all the rest.
    from nbprovision.catalogue import Catalogue
    from nbprovision.lifecycle.payload import Container
    from nbprovision.lifecycle.playbook import examine
    from nbprovision.lint import playbook_rules
    from nbprovision.lock import folder as lock_folder
    from nbprovision.machine.machine import Machine
    from nbprovision.model import subjects
    from nbprovision.model.errors import ProvisionError
    from nbprovision.playbook import sandbox

    _LOADED = [playbook_rules, sandbox, *Catalogue().values(), *subjects.imported("_rules")]
except ImportError as error:
    UNAVAILABLE = error

ABSENT = 66  # EX_NOINPUT of sysexits.h
_KEPT = 20  # playbooks on a target; older ones are removed when a new one comes
RUN = f"""\
[ -f "$home/ansible/$1/$2" ] || exit {ABSENT}
playbook=$home/ansible/$1/$2
shift 2
start run "$playbook" "$@"
"""
PRESENT = f"""\
[ -f "$home/ansible/$1/$2" ] || exit {ABSENT}
start --version
"""
UNPACK = f"""\
umask 077
folder=$home/ansible/$1
mkdir -p "$home/ansible" && new=$(mktemp -d "$folder.XXXXXX") && tar -xf - -C "$new" || exit
mv -T "$new" "$folder" 2>/dev/null || rm -rf "$new"
ls -1dt "$home"/ansible/* | tail -n +{_KEPT + 1} | while read -r old; do rm -rf "$old"; done
[ -d "$folder" ]
"""
_PARAMETERS = {"path", "vars", "tags", "skip_tags", "deep", "locked"}


class ActionModule(ToolAction):
    """Runs one playbook."""

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the playbook, and take it to the target if its digest is not there yet.

        Returns:
            Ansible's result, with nbprovision's JSON document of the run.

        """
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments, own = self.arguments()
        unknown = sorted(arguments.keys() - _PARAMETERS)
        if unknown:
            raise AnsibleActionFail(f"unknown parameter {unknown[0]}; there are: {', '.join(sorted(_PARAMETERS))}")
        if not arguments.get("path"):
            raise AnsibleActionFail("path is required: the playbook on the controller")
        tags, skip_tags = (_names(arguments.get(name)) for name in ("tags", "skip_tags"))
        variables = encoded(arguments.get("vars") or {})
        path, lock_words = Path(self._find_needle("files", arguments["path"])), _lock_words(arguments.get("locked"))
        payload = _packed(path, json.loads(variables), tags, skip_tags)
        if lock_words:
            payload = _with_lock(payload, path)
        place = [_digest(payload), next(iter(payload.files))]
        words = [*place, "--format", "json", *lock_words, *self.timeout_words(own)]
        words += ["--check"] * bool(self._task.check_mode) + ["--deep"] * boolean(arguments.get("deep", False))
        words += [word for tag in tags for word in ("--tags", tag)]
        words += [word for tag in skip_tags for word in ("--skip-tags", tag)]
        if arguments.get("vars"):
            words += ["-e", "@-"] + ["--mask-vars"] * bool(self._task.no_log)
        first = (PRESENT, place, own, b"") if self._task.async_val else (RUN, words, own, variables)
        answer = self.start_tool(*first)
        if answer["rc"] == ABSENT:
            self._send(payload, own)
            answer = self.start_tool(*first)
        if self._task.async_val:
            return {**result, **self.start_job(RUN, words, own, variables, self.context())}
        return {**result, **self.outcome(answer, self.context())}

    def _send(self, payload: Payload, own: dict[str, Any]) -> None:
        answer = self.shell(HOME + UNPACK, [_digest(payload)], own, archive(payload.files, payload.executable))
        if answer["rc"]:
            raise AnsibleActionFail(f"the playbook cannot be unpacked on the target: {answer['stderr'].strip()}")


def _names(value: Any) -> list[str]:
    """Return tags, given as a list or as text with commas."""
    names = value.split(",") if isinstance(value, str) else value or []
    return [str(name).strip() for name in names]


def _lock_words(value: Any) -> list[str]:
    """Return the words of nbprovision for the option `locked`."""
    if value == "frozen":
        return ["--frozen"]
    try:
        return ["--locked"] * boolean(value or False)
    except TypeError as error:
        raise AnsibleActionFail(f"locked is true, false or frozen, not {value}") from error


def _with_lock(payload: Payload, path: Path) -> Payload:
    """Add the lock of a playbook to its files.

    Raises:
        AnsibleActionFail: It has none, or one that cannot be read.

    """
    folder = lock_folder.folder_of(path)
    if not lock_folder.exists(folder):
        raise AnsibleActionFail(f"the lock {folder} is missing; write it: nbprovision lock {path}")
    beside = Path(next(iter(payload.files))).with_name(folder.name)
    try:
        files = {str(beside / name): content for name, content in sorted(lock_folder.content(folder).items())}
    except OSError as error:
        raise AnsibleActionFail(f"the lock {folder} cannot be read: {error.strerror}") from error
    return type(payload)({**payload.files, **files}, payload.executable)


def _packed(path: Path, variables: dict[str, Any], tags: list[str], skip_tags: list[str]) -> Payload:
    """Check a playbook for another machine, and read all the files that it names.

    Raises:
        AnsibleActionFail: it is invalid, or nbprovision is missing on the controller.

    """
    if UNAVAILABLE is not None:
        raise AnsibleActionFail(
            f"nbprovision is missing on the controller ({UNAVAILABLE}). "
            "Install it into the environment of Ansible, or use the ensure_* modules, which do not need it."
        )
    into = Container("the playbook's archive", 100_000_000, 10_000, text=False)
    try:
        return examine(path, Machine(), Catalogue(), variables, tags=tags, skip_tags=skip_tags, into=into).payload
    except ProvisionError as error:
        raise AnsibleActionFail(str(error)) from error


def _digest(payload: Payload) -> str:
    """Return the name of the folder on the target: of other files, or of another first one, it is another."""
    return hashlib.sha256(archive(payload.files, payload.executable)).hexdigest()[:32]
