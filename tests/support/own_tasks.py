"""A task of a playbook author's own, in a folder beside the playbook or in an installed package."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

MOTD = '''\
"""A message of the day: a file with one line in it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from nbprovision.tasks import Change, Machine, ParameterError, Plan, Task, parameter, read_text, write_atomically


class EnsureMotd(Task[str | None], frozen=True, kw_only=True):
    """Greet every user who opens a terminal."""

    actions = {"write": "the file"}
    examples = """
    - ensure_motd: {path: ./motd, text: Good morning}
    """

    path: Annotated[str, parameter("The file.", extra={"path": True})]
    text: Annotated[str, parameter("The message.")] = "Good morning"

    def check(self) -> None:
        if not self.text:
            raise ParameterError("text", "it is empty", cure="write a text")

    def read(self, machine: Machine) -> str | None:
        machine.report(seen=machine.env.get("SEEN", ""))
        return read_text(machine.path(self.path))

    def plan(self, state: str | None) -> Plan:
        wanted = self.text + "\\n"
        return Plan() if state == wanted else Plan(changes=(Change("write", self.path, state, wanted, kind="file"),))

    def apply(self, plan: Plan, machine: Machine) -> None:
        print("written")
        write_atomically(machine.path(self.path), self.text + "\\n")

    def witnesses(self, machine: Machine) -> Iterable[Path]:
        yield machine.path(self.path)
'''
# Root refuses task_folders. Where the tests are root's, this process of theirs takes itself for a user's.
USERS = "import os, sys; os.geteuid = lambda: os.getuid() or 1000; from nbprovision.__main__ import main; "
AS_USER = [sys.executable, "-c", f"{USERS}sys.exit(main(sys.argv[1:]))"]


@pytest.fixture
def as_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have this process take itself for one of a user who is not root."""
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() or 1000)


def write_task(folder: Path, text: str = MOTD, kind: str = "ensure_motd") -> Path:
    """Write the file of a task into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{kind}.py"
    path.write_text(text)
    return path


def install(folder: Path, name: str, version: str, entries: dict[str, str], **modules: str) -> Path:
    """Install a package as pip does: its modules, and beside them the record of it; return the record's folder."""
    record = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    record.mkdir(parents=True)
    lines = "".join(f"{kind} = {value}\n" for kind, value in entries.items())
    (record / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (record / "entry_points.txt").write_text(f"[nbprovision.tasks]\n{lines}")
    for module, text in modules.items():
        (folder / f"{module}.py").write_text(text)
    files = [*(f"{module}.py" for module in modules), *(f"{record.name}/{path.name}" for path in record.iterdir())]
    (record / "RECORD").write_text("".join(f"{file},,\n" for file in files))
    return record
