"""``restart_jupyter``: a handler that restarts the Jupyter server."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import msgspec

from nbprovision.machine import platform
from nbprovision.machine.machine import NOTIFIED, Machine
from nbprovision.machine.platform import PHASE
from nbprovision.model.errors import ParameterError, TaskFailed
from nbprovision.model.result import Change, Plan
from nbprovision.model.task import Task, parameter
from nbprovision.system import commands

_SECONDS = 60
_DOUBT = 1.0  # seconds by which two clocks may disagree
_PROPERTIES = "LoadState,ActiveState,ActiveEnterTimestampMonotonic"
_SUPERVISOR = "var/run/supervisord/supervisor.sock"
_SERVERS = (b"jupyter-lab", b"jupyter-server", b"jupyter-notebook", b"jupyter-labhub")


class JupyterState(msgspec.Struct, frozen=True, kw_only=True):
    """The means to restart Jupyter, and whether that is still to be done.

    Attributes:
        command: The command that restarts the service; empty if there is none.
        obstacle: Why there is none.
        phase: The running lifecycle script, or an empty string.
        root: Whether this run may restart the service.
        notified: When the handler was last notified; 0 if unknown. All times are seconds since the epoch.
        started: When the server started; None if unknown.
        absent: Why no server needs a restart; empty if one may.

    """

    command: tuple[str, ...]
    obstacle: str = ""
    phase: str
    root: bool
    notified: float = 0.0
    started: float | None = None
    absent: str = ""


class RestartJupyter(Task[JupyterState], frozen=True, kw_only=True):
    """Restart the Jupyter server after a change; open notebooks reconnect, and running kernels stop.

    It is a handler only: `notify: restart_jupyter` on a task calls it, even if `handlers` does not list it. It does
    nothing while a lifecycle script runs: Jupyter starts after the script, and a restart by a script has been seen to
    break the notebook's own login. It has nothing to do if the server has started since the change: after a restart by
    hand, or of the machine.

    Only root can restart the service of a notebook instance; for any other user the handler fails and prints the
    command to run by hand. It remains to be done, and the run after that restart succeeds. In a JupyterLab space of
    Studio the user may restart the server: the handler starts the image's own `restart-jupyter-server`, which also
    closes the terminals. A Code Editor space has no Jupyter server.
    """

    handler_only: ClassVar[bool] = True
    actions: ClassVar[dict[str, str]] = {"restart": "Jupyter's service or server, if it runs"}
    examples: ClassVar[str] = """
- name: The user's own Jupyter, which needs no root
  restart_jupyter:
    scope: user
    unit: jupyter-lab.service
"""
    habits: ClassVar[dict[str, str]] = {
        "name": "write unit:",
        "state": "remove it; the handler only restarts the service",
        "enabled": "remove it; the handler only restarts the service",
        "daemon_reload": "remove it; only root can change units",
    }

    unit: Annotated[str, parameter("Name of the service's unit.")] = "jupyter-server.service"
    scope: Annotated[
        Literal["system", "user"],
        parameter("Whether it is a service of the machine, which needs root, or of the user."),
    ] = "system"
    at_boot: Annotated[bool, parameter("Restart it even while a lifecycle script runs.")] = False

    def check(self) -> None:
        """Check the parameters without looking at the machine."""
        if not re.fullmatch(r"[A-Za-z0-9:_.@\\][A-Za-z0-9:_.@\\-]*", self.unit):
            raise ParameterError("unit", f"{self.unit[:60]!r} is not a valid name of a unit", cure="write NAME.service")

    def barrier(self, machine: Machine) -> bool:
        """Jupyter must start after all changes that it has to see."""
        return True

    def proves(self, machine: Machine) -> bool:
        """A running service does not show why it was started."""
        return False

    def witnesses(self, machine: Machine) -> Iterable[Path]:
        """None."""
        return ()

    def read(self, machine: Machine) -> JupyterState:
        """Look for the server, and for what can restart it."""
        phase, notified = machine.env.get(PHASE, ""), float(machine.notes.get(NOTIFIED, 0.0))
        if machine.platform.kind == "studio" and self.scope == "system":
            editor = platform.instance(machine.root)["app_type"] == "CodeEditor"
            program, obstacle = _in_studio(machine)
            return JupyterState(
                command=program,
                obstacle=obstacle,
                phase=phase,
                root=True,
                notified=notified,
                started=_started_process(),
                absent="a Code Editor space has no Jupyter server" if editor else "",
            )
        path = machine.env.get("PATH", os.defpath)
        systemctl, initctl = (shutil.which(program, path=path) for program in ("systemctl", "initctl"))
        command: tuple[str, ...] = ()
        if systemctl is not None:
            # --no-block: the server stops the terminal or the notebook that this run may have been started in.
            own = ("--user",) if self.scope == "user" else ()
            command = (systemctl, *own, "--no-block", "try-restart", self.unit)
        elif initctl is not None and self.scope == "system":  # Amazon Linux 1
            command = (initctl, "restart", self.unit.removesuffix(".service"), "--no-wait")
        started, absent = (_started_process(), "") if systemctl is None else self._started_service(systemctl, machine)
        return JupyterState(
            command=command,
            obstacle="" if command else "there is no systemctl on the PATH",
            phase=phase,
            root=os.geteuid() == 0 or self.scope == "user",
            notified=notified,
            started=started,
            absent=absent,
        )

    def plan(self, state: JupyterState) -> Plan:
        """Restart Jupyter, unless a lifecycle script runs.

        Raises:
            TaskFailed: there is no service manager, or the restart needs root.

        """
        if state.phase and not self.at_boot:
            note = f"Jupyter is not restarted by the {state.phase} script, because it starts after the script"
            return Plan(warnings=(note,), beside=True)
        if state.absent:
            return Plan(warnings=(f"nothing is restarted: {state.absent}",), beside=True)
        if state.started is not None and 0 < state.notified < state.started - _DOUBT:
            return Plan(warnings=("Jupyter has started since the change, so it is not restarted again",), beside=True)
        if not state.command:
            raise TaskFailed(
                "Jupyter cannot be restarted from here",
                cause=state.obstacle,
                cure="restart it the way it was started (in Studio: stop and run the space), and run again; or remove "
                "the handler",
            )
        if not state.root:
            raise TaskFailed(
                f"restarting {self.unit} needs root",
                cause="it is a service of the whole machine, and the playbook runs as the notebook's user",
                cure=f"restart it by hand: sudo systemctl restart {self.unit}, and run again; or, for a service of the "
                "user's own, write scope: user",
            )
        return Plan(changes=(Change("restart", self.unit),), beside=True)

    def apply(self, plan: Plan, machine: Machine) -> Sequence[Change] | None:
        """Ask the service manager for a restart; a stopped service stays stopped.

        Raises:
            TaskFailed: the service manager refuses.

        """
        # In Studio the image's command looks for supervisorctl; elsewhere root would obey a PATH of the user's.
        image = machine.platform.provided if machine.platform.kind == "studio" else None
        folders = [machine.env.get("PATH", os.defpath), *([] if image is None else [f"{image}/bin"])]
        commands.run(
            self.read(machine).command,
            env={**machine.env, "PATH": os.pathsep.join(folders)},
            timeout=_SECONDS,
            failure=f"{self.unit} could not be restarted",
        )
        return None

    def _started_service(self, systemctl: str, machine: Machine) -> tuple[float | None, str]:
        """When systemd last started the unit (None if unknown), and why there is nothing to restart."""
        own = ("--user",) if self.scope == "user" else ()
        words = (systemctl, *own, "show", "--property", _PROPERTIES, self.unit)
        try:
            answer = commands.run(words, env=machine.env, timeout=_SECONDS, accept=range(256)).output
        except TaskFailed:
            return None, ""
        values = dict(line.split("=", 1) for line in answer.splitlines() if "=" in line)
        if values.get("LoadState") != "loaded":  # somebody else started the server
            return _started_process(), ""
        if values.get("ActiveState") in ("inactive", "failed"):
            return None, f"{self.unit} does not run, and reads everything when it starts"
        entered = values.get("ActiveEnterTimestampMonotonic", "")
        if values.get("ActiveState") != "active" or not entered.isdigit():
            return None, ""
        return time.time() - time.monotonic() + int(entered) / 1e6, ""


def _in_studio(machine: Machine) -> tuple[tuple[str, ...], str]:
    """The image's own command to restart the server, or why it cannot work.

    https://github.com/aws/sagemaker-distribution: `restart-jupyter-server` asks supervisord in the background, and
    succeeds even if that is missing.
    """
    name = "restart-jupyter-server"
    if machine.env.get("SERVICE_NAME") == "SageMakerUnifiedStudio":
        name = "restart-sagemaker-ui-jupyter-server"
    program = machine.root / "usr/local/bin" / name
    folders = [machine.env.get("PATH", os.defpath)]
    folders += [str(machine.platform.provided / "bin")] if machine.platform.provided is not None else []
    if not program.exists():
        return (), f"this image has no {name}"
    if shutil.which("supervisorctl", path=os.pathsep.join(folders)) is None:
        return (), "supervisorctl is not on the PATH"
    if not (machine.root / _SUPERVISOR).exists():
        return (), "no supervisord manages the server"
    return (str(program),), ""


def _started_process() -> float | None:
    """When the oldest Jupyter server of this user started; None if none runs."""
    return min(filter(None, map(_start_of, Path("/proc").glob("[0-9]*"))), default=None)


def _start_of(process: Path) -> float | None:
    """When a process started, if it is a Jupyter server of this user (proc_pid_stat(5), proc_uptime(5))."""
    try:
        if os.stat(process).st_uid != os.geteuid():
            return None
        words = (process / "cmdline").read_bytes().split(b"\0")[:4]
        if not any(os.path.basename(word) in _SERVERS for word in words):
            return None
        ticks = int((process / "stat").read_bytes().rpartition(b")")[2].split()[19])
        uptime = float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):  # it has just ended, or is hidden
        return None
    return time.time() - uptime + ticks / os.sysconf("SC_CLK_TCK")
