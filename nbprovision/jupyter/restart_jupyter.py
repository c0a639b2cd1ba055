"""``restart_jupyter``: a handler that restarts the Jupyter server."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import msgspec

from nbprovision.machine.machine import Machine
from nbprovision.machine.platform import PHASE
from nbprovision.model.errors import ParameterError, TaskFailed
from nbprovision.model.result import Change, Plan
from nbprovision.model.task import Task, parameter
from nbprovision.system import commands

_SECONDS = 60


class JupyterState(msgspec.Struct, frozen=True, kw_only=True):
    """The means to restart Jupyter.

    Attributes:
        command: The command that restarts the service; empty if the machine has no service manager.
        phase: The running lifecycle script, or an empty string.
        root: Whether this run is root's.

    """

    command: tuple[str, ...]
    phase: str
    root: bool


class RestartJupyter(Task[JupyterState], frozen=True, kw_only=True):
    """Restart the Jupyter server after a change; open notebooks reconnect, and running kernels stop.

    It is a handler only: `notify: restart_jupyter` on a task calls it, even if `handlers` does not list it. It does
    nothing while a lifecycle script runs: Jupyter starts after the script, and a restart by a script has been seen to
    break the notebook's own login. Only root can restart the service of the whole machine; for any other user the
    handler fails and prints the command to run by hand.
    """

    handler_only: ClassVar[bool] = True
    actions: ClassVar[dict[str, str]] = {"restart": "Jupyter's service, if it runs"}
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
        """Look for the service manager."""
        path = machine.env.get("PATH", os.defpath)
        systemctl, initctl = (shutil.which(program, path=path) for program in ("systemctl", "initctl"))
        command: tuple[str, ...] = ()
        if systemctl is not None:
            # --no-block: the server stops the terminal or the notebook that this run may have been started in.
            own = ("--user",) if self.scope == "user" else ()
            command = (systemctl, *own, "--no-block", "try-restart", self.unit)
        elif initctl is not None and self.scope == "system":  # Amazon Linux 1
            command = (initctl, "restart", self.unit.removesuffix(".service"), "--no-wait")
        return JupyterState(command=command, phase=machine.env.get(PHASE, ""), root=os.geteuid() == 0)

    def plan(self, state: JupyterState) -> Plan:
        """Restart Jupyter, unless a lifecycle script runs.

        Raises:
            TaskFailed: there is no service manager, or the restart needs root.

        """
        if state.phase and not self.at_boot:
            note = f"Jupyter is not restarted by the {state.phase} script, because it starts after the script"
            return Plan(warnings=(note,), beside=True)
        if not state.command:
            raise TaskFailed(
                "Jupyter cannot be restarted from here",
                cause="there is no systemctl on the PATH",
                cure="restart it the way it was started (in Studio: stop and run the space), or remove the handler",
            )
        if self.scope == "system" and not state.root:
            raise TaskFailed(
                f"restarting {self.unit} needs root",
                cause="it is a service of the whole machine, and the playbook runs as the notebook's user",
                cure=f"restart it by hand: sudo systemctl restart {self.unit}; or, for a service of the user's own, "
                "write scope: user",
            )
        return Plan(changes=(Change("restart", self.unit),), beside=True)

    def apply(self, plan: Plan, machine: Machine) -> Sequence[Change] | None:
        """Ask the service manager for a restart; a stopped service stays stopped.

        Raises:
            TaskFailed: the service manager refuses.

        """
        commands.run(
            self.read(machine).command,
            env=machine.env,
            timeout=_SECONDS,
            failure=f"{self.unit} could not be restarted",
        )
        return None
