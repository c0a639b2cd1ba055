"""``ensure_idle_stop``: a notebook machine that nobody uses is stopped."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from nbprovision import root
from nbprovision.files import command_keeper
from nbprovision.files.command_record import Files, Record
from nbprovision.machine import aws
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ParameterError
from nbprovision.model.result import Change, Plan
from nbprovision.model.task import Duration, parameter, seconds
from nbprovision.root import idle_stop
from nbprovision.services import idle
from nbprovision.services.root_task import REPORT, RootTask, State
from nbprovision.state.witness import digest
from nbprovision.system import inputs
from nbprovision.system.files import make_folder, write_atomically
from nbprovision.system.places import METADATA
from nbprovision.system.reading import read_bytes

_WATCHER = Path(root.__file__).with_name("idle_watch.py")
_USER = "ec2-user"
# Where the servers listen: HTTPS with a certificate of its own on notebook instances, in Studio below a path.
_SERVERS = ((True, 8443, "/"), (False, 8888, "/"))
_SERVERS_OF_STUDIO = ((False, 8888, "/jupyterlab/default/"), (False, 8888, "/"))
_AWS = ("/usr/bin/aws", "/usr/local/bin/aws")
# What AWS's sample script looks at, and the state of the workspaces:
# https://github.com/aws-samples/sagemaker-studio-apps-lifecycle-config-examples/tree/main/code-editor/auto-stop-idle
_EDITOR = "/opt/amazon/sagemaker/sagemaker-code-editor-server-data/data/User"
_EDITOR_FILES = (f"{_EDITOR}/History", f"{_EDITOR}/Backups", f"{_EDITOR}/workspaceStorage")
_LEAST_EVERY, _LEAST_AFTER, _MOST = 10, 60, 30 * 86400

Percent = Annotated[int, msgspec.Meta(ge=0, le=100_000)]


class EnsureIdleStop(RootTask[State], frozen=True, kw_only=True):
    """Stop the machine when nobody has used it for some time.

    In use means: a kernel or a program in a terminal is at work, the user's processes take processor time, or a
    notebook is open in a browser. An idle kernel counts from its last activity. A kernel that stays `starting` is no
    work. An answer that cannot be read is unknown, and keeps the machine unless `unknown` says otherwise.

    On a notebook instance root's part of the lifecycle script installs the watcher: a timer of systemd and a service
    with a user of its own, which neither the notebook's user nor what he writes can end. It stops the instance by the
    `aws` command of the system, for which the role needs `sagemaker:StopNotebookInstance`.

    In Studio the user is root as well, so that the run starts the watcher as a process of the user's, which he can
    end, and which deletes the app (`sagemaker:DeleteApp`).

    `nbprovision status` shows the last decision with its reasons. `nbprovision keep-awake 3h` holds the machine, up to
    `keep_awake`.
    """

    module: ClassVar[str] = "idle_stop"
    examples: ClassVar[str] = """
- name: Stop after two hours without use
  ensure_idle_stop:
    after: 2h
- name: Only say what would be done, and do not count open tabs
  ensure_idle_stop:
    after: 1h
    connections: false
    dry_run: true
"""
    actions: ClassVar[dict[str, str]] = {"start": "The watcher was started (Studio)."}
    habits: ClassVar[dict[str, str]] = {
        "time": "write `after`: 2h",
        "idle_time": "write `after`: 2h",
        "timeout": "write `after`: 2h",
        "ignore_connections": "write `connections: false`",
    }

    after: Annotated[Duration, parameter("The time without use after which the machine is stopped: `2h`.")]
    every: Annotated[Duration, parameter("The time between two looks.")] = "5m"
    connections: Annotated[bool, parameter("Whether a notebook that is open in a browser counts as used.")] = True
    terminals: Annotated[bool, parameter("Whether the activity of terminals counts, and programs that run in one.")] = (
        True
    )
    busy_cpu: Annotated[
        Percent,
        parameter(
            "The share of one processor, in percent, above which the user's processes count as work; 0 for never. "
            "Containers of Docker are not among them."
        ),
    ] = 25
    signal: Annotated[
        Literal["jupyter", "files"],
        parameter("What shows use: Jupyter's answers, or for Code Editor in Studio the changes of its files."),
    ] = "jupyter"
    grace: Annotated[Duration, parameter("The time after the start of the machine in which it is not stopped.")] = "15m"
    unknown: Annotated[
        Literal["keep", "stop"],
        parameter("What an answer means that cannot be read: `stop` lets the time without use go on."),
    ] = "keep"
    keep_awake: Annotated[
        Duration, parameter("The longest time for which `nbprovision keep-awake` holds the machine; `0h` for never.")
    ] = "12h"
    dry_run: Annotated[bool, parameter("Say what would be done, and stop nothing.")] = False

    def check(self) -> None:
        """Check the lengths of time."""
        for key, least in (("after", _LEAST_AFTER), ("every", _LEAST_EVERY), ("grace", 0), ("keep_awake", 0)):
            length = getattr(self, key)
            if not least <= seconds(length) <= _MOST:
                raise ParameterError(key, f"{length} is not between {idle.span(least)} and 30d")
        if seconds(self.every) > seconds(self.after):
            raise ParameterError("every", f"{self.every} is longer than `after`, {self.after}")

    @property
    def subject(self) -> str:
        """What it is about, in a message."""
        return "the idle stop"

    def wanted(self) -> Mapping[str, Any]:
        """What root's program gets; see `nbprovision.root.idle_stop`."""
        settings = self._settings(
            platform="notebook-instance",
            user=_USER,
            servers=_SERVERS,
            runtime="",
            held=idle_stop.HOLD,
            memory="",
            report="",
            loop=False,
            aws=_AWS,
            metadata=METADATA,
        )
        return {"settings": settings, "watcher": _text(), "user": _USER}

    def _settings(self, **of_platform: Any) -> dict[str, Any]:
        settings = {
            "after": seconds(self.after),
            "every": seconds(self.every),
            "connections": self.connections,
            "terminals": self.terminals,
            "busy_cpu": self.busy_cpu,
            "signal": self.signal,
            "files": [*_EDITOR_FILES],
            "grace": seconds(self.grace),
            "unknown": self.unknown,
            "limit": seconds(self.keep_awake),
            "dry_run": self.dry_run,
            "program": digest(_text()),
            **of_platform,
        }
        plain: dict[str, Any] = json.loads(json.dumps(settings))
        return plain

    # ------------------------------------------------------------------------------------------------------ in Studio

    def of_users(self, machine: Machine) -> bool:
        """In Studio the user is root, and the run starts the watcher."""
        return machine.platform.kind == "studio"

    def read(self, machine: Machine) -> State:
        """Compare; in Studio: the settings, and whether the watcher is alive."""
        if self.left_to_root(machine):
            return State(self.compared(machine))
        inputs.start_of_machine()
        differs = []
        if self._written(machine) != self._of_studio(machine):
            differs.append("write the settings")
        if not self._files(machine).running:
            differs.append("start")
        return State(tuple(differs))

    def plan(self, state: State) -> Plan:
        """The differences."""
        if "start" in state.differences or "write the settings" in state.differences:
            return Plan(changes=(Change(action="start", target=self.subject, after=f"stops after {self.after}"),))
        return super().plan(state)

    def apply(self, plan: Any, machine: Machine) -> None:
        """Write the settings, which the watcher reads at each look, and start it unless it runs.

        Raises:
            TaskFailed: it cannot be started.

        """
        folder = machine.home / idle.FOLDER
        make_folder(folder, mode=0o700)
        settings = self._of_studio(machine)
        write_atomically(folder / "settings.json", json.dumps(settings, sort_keys=True) + "\n", mode=0o600)
        command_keeper.launch(
            machine.home,
            self._key,
            Record(command=idle.COMMAND),
            [sys.executable, "-I", "-S", str(_WATCHER), str(folder / "settings.json"), settings["program"]],
            env=machine.env,
            cwd=Path("/"),
            stdin="",
            timeout=None,
        )

    def _of_studio(self, machine: Machine) -> dict[str, Any]:
        folder = machine.home / idle.FOLDER
        data = machine.env.get("XDG_DATA_HOME") or f"{machine.user_home}/.local/share"
        data = machine.env.get("JUPYTER_DATA_DIR") or f"{data}/jupyter"
        failure = "the idle stop cannot delete the app"
        return self._settings(
            platform="studio",
            user="",
            servers=_SERVERS_OF_STUDIO,
            runtime=machine.env.get("JUPYTER_RUNTIME_DIR") or f"{data}/runtime",
            held=str(folder / "until"),
            memory=str(folder / "memory.json"),
            report=str(folder / "report.json"),
            loop=True,
            aws=[aws.find_command(machine, failure)] if not self.dry_run else [],
            metadata=str(machine.root / METADATA[1:]),
        )

    def _written(self, machine: Machine) -> Any:
        try:
            return msgspec.json.decode(read_bytes(machine.home / idle.FOLDER / "settings.json", follow=False))
        except (OSError, msgspec.DecodeError):
            return None

    @property
    def _key(self) -> str:
        """Of the keeper's record: another version of the watcher is another command, and the old one ends itself."""
        return digest(f"ensure_idle_stop {_text()}")

    def _files(self, machine: Machine) -> Files:
        return Files.of(machine.home, self._key)

    def witnesses(self, machine: Machine) -> Iterable[Path]:
        """Root's report of this start, and the files that root writes; in Studio the settings and the record."""
        if not self.left_to_root(machine):
            return [machine.home / idle.FOLDER / "settings.json", self._files(machine).record]
        return [machine.root / path[1:] for path in (str(REPORT), *idle_stop.FILES, os.path.dirname(idle_stop.HOLD))]

    def ages(self, machine: Machine) -> float | None:
        """Five minutes: no file shows that somebody has ended it."""
        return 300.0


def _text() -> str:
    """The watcher's program."""
    return read_bytes(_WATCHER).decode()
