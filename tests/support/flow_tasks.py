"""The smallest tasks with which a whole playbook can be carried out: a file with a text, a deed, a restart."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from nbprovision.machine.machine import Machine
from nbprovision.model.errors import TaskFailed
from nbprovision.model.result import Change, Plan
from nbprovision.model.task import Resource, Task, parameter


class EnsureNote(Task[str | None], frozen=True, kw_only=True):
    path: Annotated[str, parameter("Where.", extra={"path": True})]
    text: Annotated[str, parameter("What it says.")] = "x"
    fails: Annotated[str, parameter("`before` the work, `after` it, or until there are enough `tries`.")] = ""
    tries: Annotated[int, parameter("How many it takes.")] = 0

    makes: Annotated[str, parameter("An environment that it makes.")] = ""
    needs: Annotated[str, parameter("An environment that it needs.")] = ""

    def declares(self, machine: Machine) -> dict[str, Path]:
        return {self.makes: Path(self.path)} if self.makes else {}

    def provides(self, machine: Machine) -> frozenset[Resource]:
        own = {Resource("environment", self.path)} if self.makes else set()
        return frozenset({Resource("file", self.path), *own})

    def requires(self, machine: Machine) -> frozenset[Resource]:
        return frozenset({Resource("environment", str(machine.prefix_of(self.needs)))} if self.needs else ())

    def read(self, machine: Machine) -> str | None:
        machine.report(path=self.path, seen=machine.env.get("SEEN", ""))
        try:
            return Path(self.path).read_text()
        except OSError:
            return None

    def plan(self, state: str | None) -> Plan:
        if state == self.text:
            return Plan()
        return Plan(changes=(Change(action="write", target=self.path, before=state, after=self.text, kind="file"),))

    def apply(self, plan: Plan, machine: Machine) -> None:
        counter = Path(f"{self.path}.tries")
        tries = len(counter.read_text()) if counter.exists() else 0
        if tries < self.tries:
            counter.write_text("x" * (tries + 1))
            raise TaskFailed("not yet")
        if self.fails == "before":
            raise TaskFailed("it does not work", cause="on purpose", cure="nothing to do")
        Path(self.path).write_text(self.text)
        if self.fails == "after":
            raise TaskFailed("half done")

    def witnesses(self, machine: Machine) -> Iterable[Path]:
        return [Path(self.path)]


class EnsureDeed(Task[None], frozen=True, kw_only=True):
    """Done each time; says what it was told to."""

    says: Annotated[dict[str, Any], parameter("What it reports.")] = {}
    log: Annotated[str | None, parameter("A file that gets a line.", extra={"path": True})] = None
    fails: Annotated[bool, parameter("Whether it fails.")] = False

    def read(self, machine: Machine) -> None:
        return None

    def plan(self, state: None) -> Plan:
        return Plan(changes=(Change(action="do", target="it"),))

    def apply(self, plan: Plan, machine: Machine) -> None:
        machine.report(**self.says)
        if self.log is not None:
            with Path(self.log).open("a") as stream:
                stream.write(machine.env.get("SEEN", "done") + "\n")
        if self.fails:
            raise TaskFailed("the deed fails")

    def proves(self, machine: Machine) -> bool:
        return False

    def witnesses(self, machine: Machine) -> Iterable[Path]:
        return []


class RestartIt(EnsureDeed, frozen=True, kw_only=True):
    """Only a handler."""

    handler_only = True


CATALOGUE: dict[str, type[Task[Any]]] = {
    "ensure_note": EnsureNote,
    "ensure_deed": EnsureDeed,
    "restart_it": RestartIt,
}
