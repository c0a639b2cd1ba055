# Copyright: Contributors to nbprovision
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt) or Apache License 2.0
# SPDX-License-Identifier: GPL-3.0-or-later OR Apache-2.0
"""An action that starts nbprovision on the target, with its input on standard input."""

from __future__ import annotations

import io
import json
import secrets
import shlex
import tarfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleActionSkip
from ansible.plugins.action import ActionBase
from ansible_collections.nbprovision.notebook.plugins.module_utils import outcome

PREFIX = "nbprovision_"
OPTIONS = {"command", "home", "lock_timeout", "source"}
MISSING = 127  # the status of a shell that cannot find a command (POSIX)

# Sets `home` to the folder of nbprovision/system/places.py.
HOME = """\
home=${NBPROVISION_HOME-} volume=/home/ec2-user/SageMaker
if [ -z "$home" ]; then
    if [ -e /etc/opt/ml/sagemaker-notebook-instance-config.json ] ||
        { [ -d $volume ] && [ -e /opt/ml/metadata/resource-metadata.json ]; }; then
        home=$volume/.nbprovision
    else
        case ${XDG_STATE_HOME-} in
        /*) home=$XDG_STATE_HOME/nbprovision ;;
        *) home=$HOME/.local/state/nbprovision ;;
        esac
    fi
fi
"""
# Starts the command that bootstrap.sh installed there, or else that on the PATH.
START = """\
start() {
    for tool in "$home/venv/bin/nbprovision" "$(command -v nbprovision)"; do
        [ ! -x "$tool" ] || exec "$tool" "$@"
    done
    exit 127
}
"""
NAMED = 'start() { exec "$NBPROVISION_COMMAND" "$@"; }\n'
# Runs a program of Python's, for `async`.
PYTHON = f"""\
for python in "$home/venv/bin/python" python3; do
    ! command -v "$python" >/dev/null || exec "$python" -I -c "$1"
done
exit {MISSING}
"""
# Installs it as a person does: bootstrap.sh creates its environment, then lists the tasks of a playbook that has none.
INSTALL = """\
umask 077
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT && tar -xf - -C "$folder" || exit
sh "$folder/bootstrap.sh" "$folder/nothing.yml" --tool "${1:-$folder/$2}" --list-tasks </dev/null
"""


class ToolAction(ActionBase):
    """The base of the actions."""

    _supports_check_mode = True
    _supports_async = True

    def arguments(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the arguments of the module, and those for nbprovision itself without their prefix."""
        own = {name[len(PREFIX) :]: value for name, value in self._task.args.items() if name.startswith(PREFIX)}
        unknown = sorted(own.keys() - OPTIONS)
        if unknown:
            raise AnsibleActionFail(f"unknown option {PREFIX}{unknown[0]}")
        return {name: value for name, value in self._task.args.items() if not name.startswith(PREFIX)}, own

    def timeout_words(self, own: dict[str, Any]) -> list[str]:
        """Return the words of nbprovision for the option `nbprovision_lock_timeout`."""
        limit = own.get("lock_timeout")
        return [] if limit is None else ["--lock-timeout", str(limit)]

    def start_tool(self, script: str, words: list[str], own: dict[str, Any], data: bytes) -> dict[str, Any]:
        """Start nbprovision on the target by a script, in which `start` does that and `$home` is its folder.

        Args:
            script: The script.
            words: The arguments of the script.
            own: The arguments for nbprovision itself.
            data: Its standard input.

        Returns:
            ``rc``, ``stdout`` and ``stderr``.

        Raises:
            AnsibleActionFail: standard input cannot reach it, or it cannot be installed.
            AnsibleActionSkip: it is missing, and check mode installs nothing.

        """
        script = _starting(script, own)
        answer = self.shell(script, words, own, data)
        if answer["rc"] != MISSING:
            return answer
        if own.get("command"):
            raise AnsibleActionFail(f"nbprovision is missing on the target: {PREFIX}command names {own['command']}")
        if self._task.check_mode:
            raise AnsibleActionSkip("nbprovision is missing on the target, and check mode installs nothing")
        self._install(own)
        return self.shell(script, words, own, data)

    def start_job(
        self, script: str, words: list[str], own: dict[str, Any], data: bytes, context: dict[str, Any]
    ) -> dict[str, Any]:
        """Start nbprovision on the target as `start_tool` does, and leave it running there.

        Args:
            script: The script; nbprovision must be on the target.
            words: The arguments of the script.
            own: The arguments for nbprovision itself.
            data: Its standard input.
            context: What `outcome` needs, on the target.

        Returns:
            Ansible's result of a job that was started.

        Raises:
            AnsibleActionFail: standard input cannot reach it, or Python is missing.

        """
        folder = self.get_shell_option("async_dir", default="~/.ansible_async")
        job = {
            "id": f"nbprovision.{secrets.token_hex(8)}",
            "folder": self._remote_expand_user(folder),  # as async_status does: it may be another one than $HOME
            "argv": ["sh", "-c", _starting(script, own), "nbprovision", *words],
            "input": data.decode(),
            "limit": self._task.async_val,
            "context": context,
        }
        program = Path(outcome.__file__).read_text(encoding="utf-8") + "\nstart_job()\n"
        answer = self.shell(HOME + PYTHON, [program], own, encoded(job))
        if answer["rc"]:
            raise AnsibleActionFail(f"async needs python3 on the target: {answer['stderr'].strip()}")
        begun: dict[str, Any] = json.loads(answer["stdout"])
        return begun

    def context(self, **more: Any) -> dict[str, Any]:
        """Return what `outcome` needs."""
        return {"diff": bool(self._task.diff), "no_log": bool(self._task.no_log), **more}

    def shell(self, script: str, words: list[str], own: dict[str, Any], data: bytes) -> dict[str, Any]:
        """Run a script on the target with the task's `environment`.

        Returns:
            ``rc``, ``stdout`` and ``stderr``.

        Raises:
            AnsibleActionFail: standard input cannot reach it.

        """
        self._refuse_without_input()
        environment = self._compute_environment_string()
        if environment:  # ahead of the data, since Ansible prints commands with -vvv and others see them in `ps`
            variables = f"export {environment}\n".encode()
            script = f'eval "$(dd bs=1 count={len(variables)} 2>/dev/null)"\n{script}'
            data = variables + data
        command = " ".join(map(shlex.quote, ["sh", "-c", script, "nbprovision", *words]))
        for name in ("home", "command"):
            if own.get(name):
                command = f"NBPROVISION_{name.upper()}={shlex.quote(str(own[name]))} {command}"
        answer: dict[str, Any] = self._low_level_execute_command(command, in_data=data)
        return answer

    def _install(self, own: dict[str, Any]) -> None:
        wheel, content, bootstrap = _own_wheel()
        files = {"bootstrap.sh": bootstrap, "nothing.yml": b"- tasks: []\n", wheel: content}
        answer = self.shell(INSTALL, [str(own.get("source") or ""), wheel], own, archive(files))
        if answer["rc"]:
            raise AnsibleActionFail(f"nbprovision cannot be installed on the target: {answer['stderr'].strip()}")

    def outcome(self, answer: dict[str, Any], context: dict[str, Any]) -> dict[str, Any]:
        """Return Ansible's result of an answer of nbprovision.

        Raises:
            AnsibleActionFail: it printed no document, as for an invalid playbook.

        """
        try:
            result: dict[str, Any] = outcome.outcome(answer, context)
        except outcome.NoDocumentError as error:
            raise AnsibleActionFail(str(error)) from error
        return result

    def _refuse_without_input(self) -> None:
        become = self._connection.become
        if not self._connection.has_pipelining:
            connection = f"The connection {self._connection.transport}"
        elif become is not None and become.name == "su":
            connection = "become_method su"
        else:
            return
        raise AnsibleActionFail(f"{connection} cannot pass standard input. Use ssh, with sudo for another user.")


def _starting(script: str, own: dict[str, Any]) -> str:
    """Return a script with what it needs to start nbprovision."""
    return HOME + (NAMED if own.get("command") else START) + script


def archive(files: Mapping[str, bytes], executable: Collection[str] = ()) -> bytes:
    """Return files as a tar archive; equal files give equal archives."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archived:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.mode = 0o755 if name in executable else 0o644
            archived.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def _own_wheel() -> tuple[str, bytes, bytes]:
    """Return the name and content of the controller's nbprovision as a wheel, and bootstrap.sh."""
    try:
        from nbprovision.bundle.tool import own_wheel
        from nbprovision.lifecycle.render import bootstrap
        from nbprovision.model.errors import ProvisionError
    except ImportError as error:
        raise AnsibleActionFail(
            f"nbprovision is missing on the target, and on the controller ({error}). Install it in either place: "
            f"sh bootstrap.sh PLAYBOOK on the target, or into the environment of Ansible; or name it: {PREFIX}command"
        ) from error
    try:
        return (*own_wheel(), bootstrap())
    except ProvisionError as error:
        raise AnsibleActionFail(str(error)) from error


def encoded(arguments: dict[str, Any]) -> bytes:
    """Return arguments as JSON, each value as Ansible read it.

    Raises:
        AnsibleActionFail: YAML read a value as one that JSON lacks, as a date.

    """
    return json.dumps(arguments, default=_plain).encode()


def _plain(value: Any) -> str:
    if getattr(value, "__ENCRYPTED__", False):  # a value of the vault, up to ansible-core 2.18
        return str(value)
    raise AnsibleActionFail(f"Ansible reads {value} as another type than text; write it in quotes")
