"""Runs with tasks of the playbook author's own: as any other task, and their mistakes with the line of their file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nbprovision.catalogue import Catalogue
from nbprovision.engine.session import Request, Session
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ProvisionError
from nbprovision.model.result import Result
from nbprovision.report.document import Silent
from tests.support.own_tasks import MOTD, as_user, write_task

__all__ = ["as_user"]

Run = Callable[..., list[Result]]
PLAY = "- task_folders: [tasks]\n  tasks:\n    - ensure_motd: {path: motd}\n"


@pytest.fixture
def run(tmp_path: Path, env: dict[str, str], as_user: None) -> Run:
    """Runs a playbook in ``tmp_path``."""

    def of(text: str = PLAY, **options: Any) -> list[Result]:
        path = tmp_path / "play.yml"
        path.write_text(text)
        machine = Machine(env, root=tmp_path / "root")
        machine.home.mkdir(parents=True, exist_ok=True)
        session = Session(Request(playbook=path, **options), machine, Catalogue())
        results, _ = session.perform(Silent(), lambda text: None)
        return results

    return of


def told(results: list[Result]) -> list[str]:
    return [f"{result.task} {result.status} {result.proof}" for result in results]


def test_check_run_and_run_again(run: Run, tmp_path: Path) -> None:
    write_task(tmp_path / "tasks")
    (checked,) = run(check=True)
    assert (checked.status, checked.changes[0].as_json()) == (
        "changed", {"action": "write", "target": str(tmp_path / "motd"), "before": None, "after": "Good morning\n"},
    )  # fmt: skip
    assert not (tmp_path / "motd").exists()
    assert told(run()) == ["ensure_motd changed check"]
    assert (tmp_path / "motd").read_text() == "Good morning\n"
    assert told(run()) == ["ensure_motd ok witness"]
    (tmp_path / "motd").write_text("edited\n")
    assert told(run()) == ["ensure_motd changed check"]


def test_changed_code_is_looked_at_again(run: Run, tmp_path: Path) -> None:
    write_task(tmp_path / "tasks")
    run()
    write_task(tmp_path / "tasks", MOTD + "# a comment\n")
    assert told(run()) == ["ensure_motd ok check"], "the proof is of the code before"
    assert told(run()) == ["ensure_motd ok witness"]


def test_a_fallback_proves_nothing_for_the_newer_code(run: Run, tmp_path: Path) -> None:
    """A run with the kept files says nothing about those on the disk."""
    path = write_task(tmp_path / "tasks")
    run()
    kept = {tmp_path / "play.yml": PLAY.encode(), path: path.read_bytes()}
    write_task(tmp_path / "tasks", MOTD.replace('self.text + "\\n"', 'self.text + "!\\n"'))
    assert told(run(kept=kept)) == ["ensure_motd ok witness"]
    assert told(run()) == ["ensure_motd changed check"]
    assert (tmp_path / "motd").read_text() == "Good morning!\n"


def test_keywords_work_as_for_any_task(run: Run, tmp_path: Path) -> None:
    write_task(tmp_path / "tasks")
    results = run(
        "- task_folders: tasks\n"
        "  vars: {text: Hi}\n"
        "  tasks:\n"
        "    - ensure_motd: {path: '{{ item }}', text: '{{ text }}'}\n"
        "      loop: [a, b]\n"
        "      environment: {SEEN: '1'}\n"
        "      register: motds\n"
        "      notify: again\n"
        "    - {ensure_file: {path: c, content: '{{ motds.results | map(attribute=\"seen\") | join }}'}, when: motds.changed}\n"
        "    - {ensure_motd: {path: d}, when: false}\n"
        "    - {ensure_motd: {path: e, text: secret}, no_log: true}\n"
        "    - {ensure_motd: {path: f}, changed_when: false}\n"
        "    - block: [{ensure_motd: {path: /proc/no/where}}]\n"
        "      rescue: [{ensure_motd: {path: g}}]\n"
        "  handlers: [{name: again, ensure_motd: {path: h}}]\n"
    )
    assert [result.status for result in results if not result.forgiven] == [
        "changed", "changed", "changed", "skipped", "changed", "ok", "changed", "changed",
    ]  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir() if len(path.name) == 1) == [*"abcefgh"]
    assert ((tmp_path / "a").read_text(), (tmp_path / "c").read_text()) == ("Hi\n", "11")
    assert "secret" not in str(results[5].as_json())


def test_it_keeps_its_place_in_the_playbook(run: Run, tmp_path: Path) -> None:
    """Nothing says what it builds on, and a small file would otherwise come first."""
    write_task(tmp_path / "tasks", MOTD.replace('print("written")', 'assert not Path(self.path + "2").exists()'))
    results = run(f"{PLAY}    - ensure_file: {{path: motd2, content: x}}\n")
    assert [result.status for result in results] == ["changed", "changed"]


HOOK = "    def plan(self, state: str | None) -> Plan:\n"
READ = "        return read_text(machine.path(self.path))"
APPLY = '        write_atomically(machine.path(self.path), self.text + "\\n")'
PLAN = 'Plan(changes=(Change("write", self.path, state, wanted, kind="file"),))'
MISTAKES = {
    "read raises": (READ, '        return {}["a"]', "read() raised KeyError: 'a'", 29),
    "read exits": (READ, "        raise SystemExit(0)", "read() raised SystemExit: 0", 29),
    "apply raises": (APPLY, "        assert False", "apply() raised AssertionError", 37),
    "no plan": (f"return Plan() if state == wanted else {PLAN}", "pass", "plan() returned nothing, not a Plan", 31),
    "no comma": (PLAN, PLAN.replace("),))", ")))"), "plan() returned a Change where changes belong", 31),
    "no text": (PLAN, PLAN.replace("self.path", "Path(self.path)"), "plan() returned a Change whose target is a PosixPath", 31),
    "a number": (PLAN, PLAN.replace("state,", "1,"), "plan() returned a Change whose before is a int", 31),
    "no target": (PLAN, PLAN.replace('"write", self.path', '"write", None'), "a Change whose target is nothing", 31),
    "no witnesses": ("yield machine", "machine", "witnesses() returned nothing, not a list of paths", 39),
    "a path": ("yield machine.path(self.path)", "return self.path", "witnesses() returned a str, not a list of paths", 39),
    "late": ("yield machine.path(self.path)", "yield machine.nope", "witnesses() raised AttributeError: 'Machine' object", 40),
    "signature": (HOOK, HOOK.replace("state:", "state, machine:"), "plan() raised TypeError: EnsureMotd.plan() missing 1", 31),
    "apply gives": (APPLY, "        return 5", "apply() returned a int where changes belong", 35),
    "never done": (APPLY, "        pass", "after the changes the machine still differs from the description", 3),
    "os": (READ, "        return open('/no/such/file').read()", "the machine refuses to use /no/such/file", 3),
    "its own": (READ, "        from nbprovision.tasks import TaskFailed\n        raise TaskFailed('no')", "no", 3),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_a_failure_with_its_line(run: Run, tmp_path: Path, name: str) -> None:
    before, after, message, line = MISTAKES[name]
    assert before in MOTD
    write_task(tmp_path / "tasks", MOTD.replace(before, after))
    (result,) = run()
    assert result.status == "failed"
    assert result.error is not None
    assert message in result.error.message
    assert result.error.position is not None
    assert (Path(result.error.position.file).name, result.error.position.line) == (
        "play.yml" if line == 3 else "ensure_motd.py", line,
    )  # fmt: skip
    assert "Traceback" not in str(result.error)


PROVIDES = "    def provides(self, machine: Machine) -> object:\n        "


@pytest.mark.parametrize(
    ("body", "message", "line"),
    [
        ("return 1 / 0", "provides() raised ZeroDivisionError", 43),
        ("return ['file']", "provides() returned a list, not a set of resources", 42),
        ("return None", "provides() returned nothing, not a set of resources", 42),
    ],
)
def test_a_mistake_before_the_run_refuses_the_playbook(
    run: Run, tmp_path: Path, body: str, message: str, line: int
) -> None:
    write_task(tmp_path / "tasks", f"{MOTD}\n{PROVIDES}{body}\n")
    with pytest.raises(ProvisionError) as caught:
        run()
    assert (caught.value.exit_status, caught.value.position and caught.value.position.line) == (4, line)
    assert message in caught.value.message


def test_resources_order_it(run: Run, tmp_path: Path) -> None:
    """A list of resources serves as well as a frozen set."""
    body = "from nbprovision.tasks import Resource\n        return [Resource('file', self.path)]"
    write_task(tmp_path / "tasks", f"{MOTD}\n{PROVIDES}{body}\n")
    twice = f"{PLAY}    - ensure_line: {{path: motd, line: more}}\n"
    assert [result.status for result in run(twice)] == ["changed", "changed"]
    assert (tmp_path / "motd").read_text() == "Good morning\nmore\n"
