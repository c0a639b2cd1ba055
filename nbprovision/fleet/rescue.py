"""Brings an instance back whose lifecycle script keeps it from starting.

Two ways, as AWS does not document whether a failed instance can be updated:

- ``disassociate``: take the script from the instance, and start it.
- ``no-op-script``: put a script without effect into the configuration in its place, start the instance, and put the
  script back. Every instance with this configuration that starts meanwhile runs nothing.
"""

from __future__ import annotations

import base64
import contextlib
import re
import time
from collections.abc import Callable, Iterator
from typing import Literal

import msgspec

from nbprovision.fleet.cloud import Cloud, Refused
from nbprovision.fleet.instances import Instance, listed
from nbprovision.model.errors import TaskFailed, UsageError

Way = Literal["disassociate", "no-op-script"]

WAIT = 1200  # seconds; a start takes up to ten minutes
# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ListNotebookInstances.html
_NAME = re.compile(r"[a-zA-Z0-9-]{1,63}")
_EVERY = 10  # seconds between two lists
_NO_OP = "#!/bin/sh\n# nbprovision fleet rescue put this here for one start.\nexit 0\n"


class _Hook(msgspec.Struct, frozen=True):
    Content: str


class _Described(msgspec.Struct, frozen=True):
    OnCreate: list[_Hook] = []
    OnStart: list[_Hook] = []


class Rescue:
    """The rescue of an instance.

    Args:
        cloud: The clients.
        name: The name of the instance.
        wait: The seconds to wait for each state.
        say: Prints what is done.
    """

    def __init__(self, cloud: Cloud, name: str, wait: float, say: Callable[[str], None]) -> None:
        self._cloud = cloud
        self._name = name
        self._wait = wait
        self._say = say

    def look(self) -> Instance:
        """Return the instance as SageMaker lists it.

        Raises:
            UsageError: it does not exist.
        """
        # SageMaker refuses to look for any other name.
        every = listed(self._cloud, NameContains=self._name) if _NAME.fullmatch(self._name) else ()
        instance = next((each for each in every if each.name == self._name), None)
        if instance is None:
            raise UsageError(
                f"the instance {self._name} does not exist in this account and region",
                cure="correct its name, the credentials (AWS_PROFILE), or `region` in the fleet file",
            )
        return instance

    def check(self, instance: Instance, way: Way) -> None:
        """Require that the instance needs a rescue.

        Raises:
            UsageError: it runs, is on its way, or has no script.
        """
        if instance.status not in ("Failed", "Stopped"):
            raise UsageError(
                f"{self._name} is {instance.status}",
                cause="a rescue is for an instance that cannot start",
                cure="wait for it, or see `nbprovision fleet status`",
            )
        if way == "no-op-script" and not instance.configuration:
            raise UsageError(
                f"{self._name} has no lifecycle configuration",
                cause="so no script keeps it from starting",
                cure=f"start it: aws sagemaker start-notebook-instance --notebook-instance-name {self._name}",
            )

    def run(self, instance: Instance, way: Way) -> None:
        """Bring the instance into service.

        Raises:
            TaskFailed: AWS refuses a step, or the instance does not reach its state.
        """
        if way == "disassociate":
            self._disassociate()
            self._start()
        else:
            with self._without_script(instance.configuration):
                self._start()

    def _disassociate(self) -> None:
        before = self.look()
        self._say(f"take the script from {self._name}")
        try:
            self._cloud.call(
                "sagemaker",
                "update_notebook_instance",
                NotebookInstanceName=self._name,
                DisassociateLifecycleConfig=True,
            )
        except Refused as error:
            if error.code == "ValidationException":
                error.cure = f"try the other way: nbprovision fleet rescue {self._name} --way no-op-script"
            raise
        self._reach(("Stopped", "Failed"), before)

    def _start(self) -> None:
        before = self.look()
        self._say(f"start {self._name}")
        self._cloud.call("sagemaker", "start_notebook_instance", NotebookInstanceName=self._name)
        self._reach(("InService",), before)

    @contextlib.contextmanager
    def _without_script(self, configuration: str) -> Iterator[None]:
        """Put a script without effect into the place of both hooks, for the body."""
        name = configuration
        described = msgspec.convert(
            self._cloud.call(
                "sagemaker", "describe_notebook_instance_lifecycle_config", NotebookInstanceLifecycleConfigName=name
            ),
            _Described,
        )
        before = {
            "OnCreate": [{"Content": hook.Content} for hook in described.OnCreate],
            "OnStart": [{"Content": hook.Content} for hook in described.OnStart],
        }
        no_op = [{"Content": base64.b64encode(_NO_OP.encode()).decode("ascii")}]
        self._say(f"put a script without effect into {name}")
        self._update(name, {hook: no_op for hook, scripts in before.items() if scripts})
        try:
            yield
        finally:  # also after an interrupt: other instances wait for their script
            self._say(f"put its own script into {name} again")
            self._update(name, {hook: scripts for hook, scripts in before.items() if scripts})

    def _update(self, name: str, hooks: dict[str, list[dict[str, str]]]) -> None:
        try:
            self._cloud.call(
                "sagemaker",
                "update_notebook_instance_lifecycle_config",
                NotebookInstanceLifecycleConfigName=name,
                **hooks,
            )
        except Refused as error:
            error.cure = (
                "this takes an administrator: no policy of `nbprovision fleet policy` allows it, because a script runs "
                "as root on every instance that has it"
            )
            raise

    def _reach(self, states: tuple[str, ...], before: Instance) -> None:
        """Wait for a state that is newer than that of ``before``, by listing.

        Raises:
            TaskFailed: the instance has failed, or the time is over.
        """
        end = time.monotonic() + self._wait
        shown = ""
        while True:
            instance = self.look()
            if instance.status != shown:
                shown = instance.status
                self._say(f"  {shown}")
            is_new = instance.modified != before.modified or instance.status != before.status
            if is_new and instance.status in states:
                return
            if is_new and instance.status == "Failed":
                raise TaskFailed(
                    f"{self._name} failed again",
                    cause="the reason is in `aws sagemaker describe-notebook-instance`, and in its log",
                    cure="if its script is gone, the platform itself keeps it from starting: ask AWS's support",
                )
            if time.monotonic() > end:
                raise TaskFailed(
                    f"{self._name} is still {instance.status} after {self._wait:g} s",
                    cause="the platform takes up to ten minutes for a change of state",
                    cure="see `nbprovision fleet status` later, or give it more time: --wait SECONDS",
                )
            time.sleep(min(_EVERY, self._wait / 20))


def plan(instance: Instance, way: Way) -> list[str]:
    """Return what a rescue does, in lines."""
    if way == "disassociate":
        return [f"take {instance.configuration or 'no script'} from {instance.name}, and start it"]
    return [
        f"put a script without effect into {instance.configuration}, start {instance.name}, and put the script back",
        f"every instance with {instance.configuration} that starts meanwhile runs nothing",
    ]


def how_to_return(instance: Instance, way: Way) -> list[str]:
    """Return how a rescued instance gets a script again, in lines."""
    name, configuration = instance.name, instance.configuration or "CONFIGURATION"
    update = f"update-notebook-instance --notebook-instance-name {name} --lifecycle-config-name {configuration}"
    if way == "no-op-script":
        return [
            f"{name} is in service, and still has {configuration}:",
            "  mend the cause before it is stopped, or give it another script while it is stopped",
        ]
    return [
        f"{name} is in service without a script; when the cause is mended, give it one again:",
        f"  aws sagemaker stop-notebook-instance --notebook-instance-name {name}",
        f"  aws sagemaker {update}",
        f"  aws sagemaker start-notebook-instance --notebook-instance-name {name}",
    ]
