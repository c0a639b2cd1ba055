"""A playbook of the smallest tasks that can be run again and again, and what is told of each run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from nbprovision.engine.session import Request, Session
from nbprovision.engine.step import Step
from nbprovision.machine.machine import Machine
from nbprovision.model.result import Result
from nbprovision.report.document import Silent
from nbprovision.state.witness import read_lines, still_stands
from tests.support.flow_tasks import CATALOGUE


class Told(Silent):
    """Hears what comes of each step, in the order in which it comes."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def finished(self, step: Step, result: Result) -> None:
        self.lines.append(f"{result.name}:{result.forgiven or result.status}")


class Playbook:
    """A playbook that can be run again and again, each time by a new session."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.folder = folder
        self.path = folder / "play.yml"
        self.env = env
        self.content: dict[str, Any] = {}

    def run(self, text: str | None = None, *, in_a_row: bool = False, **options: Any) -> list[str]:
        """Run it, and tell what came of each step; ``in_a_row`` as with ``--step``."""
        if text is not None and (not self.path.exists() or self.path.read_text() != text):
            self.path.write_text(text)
            time.sleep(0.03)  # what changes in the tick in which it is read is looked at again by the next run
        machine = Machine(self.env, root=self.folder)
        machine.home.mkdir(parents=True, exist_ok=True)
        session = Session(Request(playbook=self.path, **options), machine, CATALOGUE)
        told = Told()
        self.results, self.content = session.perform(told, lambda text: None, (lambda step: True) if in_a_row else None)
        self.state = Path(session._state_path())
        return told.lines

    @property
    def stands(self) -> bool:
        """Whether the start-up path would end the next run at once."""
        return still_stands(read_lines(str(self.state)))

    def log(self, name: str = "log") -> list[str]:
        """The lines of a file that deeds have written."""
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def playbook(tmp_path: Path, env: dict[str, str]) -> Playbook:
    folder = tmp_path / "work"
    folder.mkdir()
    return Playbook(folder, env)


def play(tasks: str, more: str = "") -> str:
    lines = "\n".join(f"    {line}" for line in tasks.strip("\n").splitlines())
    return f"- name: p\n{more}  tasks:\n{lines}\n"


HANDLERS = """\
  handlers:
    - {name: one, ensure_deed: {log: log}, notify: three, environment: {SEEN: one}}
    - {name: two, listen: all, ensure_deed: {log: log}, environment: {SEEN: two}}
    - {name: three, listen: all, ensure_deed: {log: log}, environment: {SEEN: three}}
"""
