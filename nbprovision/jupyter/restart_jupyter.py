"""``restart_jupyter``: a handler that restarts the Jupyter server, for what it reads only when it starts."""

from __future__ import annotations

import os
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
    """Who restarts Jupyter here, and whether that may be now.

    Attributes:
        command: What is run; empty where nothing manages a service.
        phase: The lifecycle script that is at work, empty where none is.
        root: Whether this is root.

    """

    command: tuple[str, ...]
    phase: str
    root: bool


class RestartJupyter(Task[JupyterState], frozen=True, kw_only=True):
    """Restart the Jupyter server after a change; open notebooks reconnect, and kernels that run are ended.

    A handler only: `notify: restart_jupyter` on a task calls it, whether or not it stands under `handlers`. While a
    lifecycle script is at work nothing is restarted: Jupyter starts after it, with all that it has made, and a restart
    of it by a script has been seen to break the notebook's own login. The service of the whole machine is root's to
    restart: run by its user, the handler fails and says what to do by hand.
    """

    handler_only: ClassVar[bool] = True
    actions: ClassVar[dict[str, str]] = {"restart": "the service of Jupyter, where it runs"}
    examples: ClassVar[str] = """
- name: The user's own Jupyter, which needs no root
  restart_jupyter:
    scope: user
    unit: jupyter-lab.service
"""
    habits: ClassVar[dict[str, str]] = {
        "name": "write unit:",
        "state": "remove it; the handler does nothing but restart",
        "enabled": "remove it; the handler does nothing but restart",
        "daemon_reload": "remove it; units are root's to change",
    }

    unit: Annotated[str, parameter("The service, by the name of its unit.")] = "jupyter-server.service"
    scope: Annotated[
        Literal["system", "user"], parameter("Whose service: the machine's, which takes root, or the user's own.")
    ] = "system"
    at_boot: Annotated[bool, parameter("Restart it even while a lifecycle script is at work.")] = False

    def check(self) -> None:
        """Check what can be known without looking at the machine."""
        allowed = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:_.@-\\")
        if not self.unit or self.unit.startswith("-") or not set(self.unit) <= allowed:
            raise ParameterError("unit", f"{self.unit[:60]!r} is no name of a unit", cure="write NAME.service")

    def barrier(self, machine: Machine) -> bool:
        """Everything that Jupyter is to see is there before it starts."""
        return True

    def proves(self, machine: Machine) -> bool:
        """A service that runs does not tell when it was started for what."""
        return False

    def witnesses(self, machine: Machine) -> Iterable[Path]:
        """None."""
        return ()

    def read(self, machine: Machine) -> JupyterState:
        """Which program would do it."""
        path = machine.env.get("PATH", os.defpath)
        systemctl, initctl = (shutil.which(program, path=path) for program in ("systemctl", "initctl"))
        command: tuple[str, ...] = ()
        if systemctl is not None:
            # Not waited for: the server ends the terminal or the notebook that this may run in.
            own = ("--user",) if self.scope == "user" else ()
            command = (systemctl, *own, "--no-block", "try-restart", self.unit)
        elif initctl is not None and self.scope == "system":  # Amazon Linux 1
            command = (initctl, "restart", self.unit.removesuffix(".service"), "--no-wait")
        return JupyterState(command=command, phase=machine.env.get(PHASE, ""), root=os.geteuid() == 0)

    def plan(self, state: JupyterState) -> Plan:
        """Restart it, unless a lifecycle script is at work.

        Raises:
            TaskFailed: nothing here restarts a service, or this user may not.

        """
        if state.phase and not self.at_boot:
            note = f"Jupyter is not restarted by the {state.phase} script: it starts after it, with what has been made"
            return Plan(warnings=(note,), beside=True)
        if not state.command:
            raise TaskFailed(
                "Jupyter cannot be restarted from here",
                cause="there is no systemctl on the PATH, so no service of it is known",
                cure="restart it the way it was started (in Studio: stop and run the space), or drop the handler",
            )
        if self.scope == "system" and not state.root:
            raise TaskFailed(
                f"restarting {self.unit} needs root",
                cause="it is a service of the whole machine, and a playbook runs as the notebook's user",
                cure=f"restart it by hand: sudo systemctl restart {self.unit}; or, for a service of the user's own, "
                "write scope: user",
            )
        return Plan(changes=(Change("restart", self.unit),), beside=True)

    def apply(self, plan: Plan, machine: Machine) -> Sequence[Change] | None:
        """Ask for it; a service that does not run is left to start by itself.

        Raises:
            TaskFailed: the service's manager refuses.

        """
        commands.run(
            self.read(machine).command,
            env=machine.env,
            timeout=_SECONDS,
            failure=f"{self.unit} could not be restarted",
        )
        return None
