"""``nbprovision new-task``: writes a task of the user's own and its test, as an example to change."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from pathlib import Path

from nbprovision.catalogue import Catalogue
from nbprovision.model.errors import UsageError
from nbprovision.model.task import class_name
from nbprovision.playbook.own_tasks import FORM, Kinds
from nbprovision.playbook.yaml_nodes import Files
from nbprovision.report.colour import shown
from nbprovision.system.files import write_atomically

_TASK = '''\
"""KIND: keeps a line in a text file. It is an example that works: change it to what you need."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from nbprovision.tasks import Change, Machine, ParameterError, Plan, Task, parameter, read_text, write_atomically


class CLASS(Task[str | None], frozen=True, kw_only=True):
    """Keep a line in a text file; the other lines stay as they are."""

    # `nbprovision doc KIND --playbook PLAYBOOK` shows all of this.
    actions = {"add": "the line", "remove": "the line"}
    examples = """
    - name: A line in a file
      KIND: {path: ~/notes.txt, line: Hello}
    """

    # The parameters. A relative path begins at the playbook.
    path: Annotated[str, parameter("The file.", extra={"path": True})]
    line: Annotated[str, parameter("The line.")]
    state: Annotated[Literal["present", "absent"], parameter("Whether the line is in the file.")] = "present"

    def check(self) -> None:
        """Refuse wrong parameters. This does not look at the machine: `nbprovision lint` calls it too."""
        if "\\n" in self.line:
            raise ParameterError("line", "it has more than one line", cure="write a task for each of them")

    def read(self, machine: Machine) -> str | None:
        """Return the present state, here the text of the file or None. This only reads."""
        return read_text(machine.path(self.path))

    def plan(self, state: str | None) -> Plan:
        """Compare the state with what is wanted. An empty plan means that there is nothing to do."""
        before, after = state or "", self._wanted(state or "")
        if before == after:
            return Plan()
        action = "add" if self.state == "present" else "remove"
        return Plan(changes=(Change(action, self.path, before, after, kind="file"),))

    def apply(self, plan: Plan, machine: Machine) -> None:
        """Carry the plan out. Afterwards the engine reads and plans again, and the new plan must be empty."""
        path = machine.path(self.path)
        write_atomically(path, self._wanted(read_text(path) or ""))

    def witnesses(self, machine: Machine) -> Iterable[Path]:
        """Return the files and folders whose change makes the next run look again."""
        return [machine.path(self.path)]

    def _wanted(self, text: str) -> str:
        lines = text.splitlines()
        if (self.line in lines) == (self.state == "present"):
            return text
        wanted = [*lines, self.line] if self.state == "present" else [line for line in lines if line != self.line]
        return "".join(f"{line}\\n" for line in wanted)
'''

_TEST = '''\
"""Tests of KIND: a check, a first run, a second run that changes nothing, and wrong parameters."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from nbprovision import InvalidPlaybook, run_playbook

pytestmark = pytest.mark.skipif(os.geteuid() == 0, reason="root does not use task_folders")


def run(folder: Path, *, check: bool = False, **parameters: str) -> str:
    """Run a playbook with this task alone, and return its status."""
    playbook = folder / "playbook.yml"
    play = {"task_folders": [str(Path(__file__).parent)], "tasks": [{"KIND": parameters}]}
    playbook.write_text(json.dumps([play]))  # JSON is YAML
    (result,) = run_playbook(playbook, check=check, home=folder / "home")
    assert result.error is None, result.error
    return result.status


def test_it_adds_a_line_once(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("first\\n")
    assert run(tmp_path, check=True, path=str(file), line="second") == "changed"
    assert file.read_text() == "first\\n", "a check changes nothing"
    assert run(tmp_path, path=str(file), line="second") == "changed"
    assert file.read_text() == "first\\nsecond\\n"
    assert run(tmp_path, path=str(file), line="second") == "ok"


def test_it_removes_a_line(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("first\\nsecond\\n")
    assert run(tmp_path, path=str(file), line="first", state="absent") == "changed"
    assert file.read_text() == "second\\n"
    assert run(tmp_path, path=str(file), line="first", state="absent") == "ok"


def test_it_refuses_two_lines(tmp_path: Path) -> None:
    with pytest.raises(InvalidPlaybook, match="more than one line"):
        run(tmp_path, path=str(tmp_path / "notes.txt"), line="first\\nsecond")
'''


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``new-task``."""
    parser.add_argument("name", metavar="NAME", help="the key of the task in a playbook: ensure_NAME")
    parser.add_argument(
        "--folder", type=Path, default=Path("tasks"), metavar="DIR", help="where to write it (default: tasks)"
    )
    parser.epilog = """
nbprovision new-task ensure_motd && python -m pytest tasks    write a task, and run its test
"""


def execute(options: argparse.Namespace) -> int:
    """Write the two files, and print how to use them.

    Returns:
        0.

    Raises:
        UsageError: the name cannot be that of a task, another task has it, or a file exists.
        TaskFailed: the folder cannot be written.

    """
    kind, folder = options.name, options.folder
    _check_name(kind)
    files = {folder / f"{kind}.py": _TASK, folder / f"test_{kind}.py": _TEST}
    for path in files:
        if path.exists() or path.is_symlink():
            raise UsageError(f"{path} exists, and new-task overwrites nothing", cure="use another name or --folder")
    for path, text in files.items():
        write_atomically(path, text.replace("KIND", kind).replace("CLASS", class_name(kind)))
    task, test = files
    sys.stdout.write(
        shown(
            f"created {task} and {test}\n\n"
            "in a playbook of this folder:\n"
            f"- task_folders: [{folder}]\n"
            "  tasks:\n"
            f"    - {kind}: {{path: ~/notes.txt, line: Hello}}\n\n"
            f"its test, in an environment with nbprovision and pytest: python -m pytest {shlex.quote(str(test))}\n"
        )
    )
    return 0


def _check_name(name: str) -> None:
    if not FORM.fullmatch(name):
        words = re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()).strip("_")
        suggested = f"ensure_{words.removeprefix('ensure').strip('_')}"
        example = suggested if FORM.fullmatch(suggested) else "ensure_motd"
        raise UsageError(
            f"'{name[:60]}' cannot be the name of a task",
            cause="it is ensure_ and words of small letters and digits, with single underscores between them",
            cure=f"nbprovision new-task {example}",
        )
    if name in Kinds(Catalogue(), Files()):
        raise UsageError(
            f"there is a task {name} already", cure=f"`nbprovision doc {name}` describes it; use another name"
        )
