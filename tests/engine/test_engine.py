"""The engine's promises, with the smallest task that there can be: a file with a text."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest

from nbprovision.engine.run import Run
from nbprovision.engine.step import Step
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import InvalidPlaybook, Position, TaskFailed, UnknownEnvironment
from nbprovision.model.result import Change, Plan, Result
from nbprovision.model.task import Claim, Resource, Task, parameter
from nbprovision.report.document import Silent
from nbprovision.state.store import Store
from nbprovision.system import process, unfinished


class EnsureNote(Task[str | None], frozen=True, kw_only=True):
    path: Annotated[str, parameter("Where")]
    text: Annotated[str, parameter("What")] = ""
    needs: Annotated[str | None, parameter("A path that another task makes")] = None
    prefix: Annotated[str | None, parameter("A prefix that is changed")] = None
    fails: Annotated[str | None, parameter("before, after, or wrong")] = None
    pause: Annotated[float, parameter("Seconds of work")] = 0.0
    until: Annotated[str | None, parameter("A path that another task makes meanwhile")] = None
    heavy: Annotated[int, parameter("What it is likely to take")] = 1

    def weight(self, machine: Machine) -> Any:
        return self.heavy

    def provides(self, machine: Machine) -> frozenset[Resource]:
        return frozenset({Resource("file", self.path)})

    def requires(self, machine: Machine) -> frozenset[Resource]:
        if self.needs == "unknown":
            raise UnknownEnvironment("there is no environment 'unknown'")
        return frozenset({Resource("file", self.needs)} if self.needs else ())

    def guarded(self, machine: Machine) -> Iterable[Path]:
        return [Path(self.prefix)] if self.prefix else []

    def read(self, machine: Machine) -> str | None:
        READS.append(self.path)
        if self.needs and not Path(self.needs).exists():
            raise TaskFailed(f"{self.needs} is not there")
        try:
            return Path(self.path).read_text()
        except OSError:
            return None

    def plan(self, state: str | None) -> Plan:
        if state == self.text and self.fails != "wrong":
            return Plan()
        return Plan(changes=(Change(action="write", target=self.path, before=state, after=self.text, kind="file"),))

    def apply(self, plan: Plan, machine: Machine) -> None:
        RUNNING.append((self.path, threading.current_thread().name))
        if self.prefix:
            assert unfinished.is_marked(Path(self.prefix))
        if self.fails == "before":
            raise TaskFailed("it does not work", cause="on purpose", cure="nothing to do")
        time.sleep(self.pause)
        for _ in range(6000):
            if self.until is None or Path(self.until).exists():
                break
            time.sleep(0.01)
        Path(self.path).write_text(self.text)
        if self.fails == "after":
            raise TaskFailed("half done")
        if self.fails == "defect":
            raise ZeroDivisionError

    def witnesses(self, machine: Machine) -> Iterable[Path]:
        return [Path(self.path), *([Path(self.prefix)] if self.prefix else [])]


class EnsureClaim(EnsureNote, frozen=True, kw_only=True):
    wants: str = ""
    refuses: str = ""

    def claims(self, machine: Machine) -> Iterable[Claim]:
        return [Claim(Path("/p"), self.wants)] if self.wants else []

    def objection(self, claim: Claim, machine: Machine) -> str | None:
        return f"it asks for '{self.refuses}'" if claim.requirement == self.refuses + "!" else None


READS: list[str] = []
RUNNING: list[tuple[str, str]] = []


@pytest.fixture(autouse=True)
def _clear() -> None:
    READS.clear()
    RUNNING.clear()


def step(task: Task[Any] | None, name: str = "note", line: int = 1, **more: Any) -> Step:
    return Step(name=name, kind="ensure_note", task=task, position=Position("p.yml", line, 1), **more)


def run(steps: list[Step], machine: Machine, **options: Any) -> list[Result]:
    return Run(steps, machine, Silent(), **options).execute()


def recorded(steps: list[Step], machine: Machine, path: Path) -> list[Result]:
    """Run with a store, as a session does."""
    store = Store(path)
    running = Run(steps, machine, Silent(), store=store)
    results = running.execute()
    proofs, complete = running.proofs
    store.write((), {}, proofs, complete=complete)
    return results


def test_a_task_is_changed_then_ok(machine: Machine, tmp_path: Path) -> None:
    steps = [step(EnsureNote(path=str(tmp_path / "a"), text="x"))]
    assert [result.status for result in run(steps, machine)] == ["changed"]
    assert [result.status for result in run(steps, machine)] == ["ok"]
    assert (tmp_path / "a").read_text() == "x"


def test_check_changes_nothing_and_tells_what_would(machine: Machine, tmp_path: Path) -> None:
    first = step(EnsureNote(path=str(tmp_path / "a"), text="x"), "first")
    second = step(EnsureNote(path=str(tmp_path / "b"), text="y", needs=str(tmp_path / "a")), "second")
    results = run([first, second], machine, check=True)
    assert [result.status for result in results] == ["changed", "changed"]
    assert results[1].changes == (Change(action="change", target="second", after="after 'first'"),)
    assert not (tmp_path / "a").exists()
    assert RUNNING == []


def test_a_plan_that_is_not_empty_after_the_work_is_a_failure(machine: Machine, tmp_path: Path) -> None:
    (result,) = run([step(EnsureNote(path=str(tmp_path / "a"), text="x", fails="wrong"), line=7)], machine)
    assert result.status == "failed"
    assert result.error is not None
    assert "still differs" in str(result.error)
    assert result.error.position == Position("p.yml", 7, 1)


def test_what_needs_a_failed_task_is_skipped_and_the_rest_goes_on(machine: Machine, tmp_path: Path) -> None:
    results = run(
        [
            step(EnsureNote(path=str(tmp_path / "a"), text="x", fails="before"), "broken"),
            step(EnsureNote(path=str(tmp_path / "b"), text="x", needs=str(tmp_path / "a")), "on it"),
            step(EnsureNote(path=str(tmp_path / "c"), text="x", needs=str(tmp_path / "b")), "on that"),
            step(EnsureNote(path=str(tmp_path / "d"), text="x"), "apart"),
        ],
        machine,
    )
    assert [result.status for result in results] == ["failed", "skipped", "skipped", "changed"]
    assert results[1].warnings == ("needs 'broken', which failed",)


def test_linear_stops_at_the_first_failure(machine: Machine, tmp_path: Path) -> None:
    steps = [
        step(EnsureNote(path=str(tmp_path / "a"), text="x", fails="before")),
        step(EnsureNote(path=str(tmp_path / "b"), text="x")),
    ]
    assert [result.status for result in run(steps, machine, linear=True)] == ["failed", "skipped"]


def test_independent_tasks_run_side_by_side_and_dependent_ones_in_order(machine: Machine, tmp_path: Path) -> None:
    a, b, c = (str(tmp_path / name) for name in "abc")
    steps = [
        step(EnsureNote(path=a, text="x", until=b)),
        step(EnsureNote(path=b, text="x")),
        step(EnsureNote(path=c, text="x", needs=a)),
    ]
    assert {result.status for result in run(steps, machine)} == {"changed"}
    assert RUNNING.index(next(r for r in RUNNING if r[0] == c)) == 2
    assert len({thread for path, thread in RUNNING if path != c}) == 2


def test_tasks_that_change_one_prefix_keep_their_order(machine: Machine, tmp_path: Path) -> None:
    prefix = tmp_path / "env"
    prefix.mkdir()
    steps = [step(EnsureNote(path=str(tmp_path / n), text="x", prefix=str(prefix), pause=0.02)) for n in "abcd"]
    assert {result.status for result in run(steps, machine)} == {"changed"}
    assert [Path(path).name for path, _ in RUNNING] == list("abcd")
    assert not unfinished.is_marked(prefix)


def test_more_tasks_than_threads(machine: Machine, tmp_path: Path) -> None:
    steps = [step(EnsureNote(path=str(tmp_path / str(n)), text="x")) for n in range(40)]
    assert {result.status for result in run(steps, machine)} == {"changed"}


def test_a_false_when_is_skipped(machine: Machine) -> None:
    assert [result.status for result in run([step(None)], machine)] == ["skipped"]


def test_no_log_withholds_changes_and_reasons(machine: Machine, tmp_path: Path) -> None:
    steps = [
        step(EnsureNote(path=str(tmp_path / "a"), text="secret"), no_log=True),
        step(EnsureNote(path=str(tmp_path / "b"), text="secret", fails="before"), no_log=True),
    ]
    told = msgspec.json.encode([result.as_json() for result in run(steps, machine)]).decode()
    assert "secret" not in told
    assert "on purpose" not in told


def test_an_unknown_environment_is_an_invalid_playbook_with_a_position(machine: Machine, tmp_path: Path) -> None:
    with pytest.raises(UnknownEnvironment) as caught:
        run([step(EnsureNote(path=str(tmp_path / "a"), needs="unknown"), line=3)], machine)
    assert str(caught.value).startswith("p.yml:3:1:")


def test_two_tasks_that_can_never_agree_are_named_both(machine: Machine) -> None:
    steps = [
        step(EnsureClaim(path="/a", refuses="packaging==24"), "conda", 3),
        step(EnsureClaim(path="/b", wants="packaging==24!"), "pip", 9),
    ]
    with pytest.raises(InvalidPlaybook) as caught:
        run(steps, machine)
    assert "p.yml:9:1" in str(caught.value)
    assert "p.yml:3:1" in str(caught.value)


def test_a_defect_reaches_the_caller(machine: Machine, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        run([step(EnsureNote(path=str(tmp_path / "a"), text="x", fails="defect"))], machine)


def test_a_failure_that_changed_nothing_leaves_no_mark(machine: Machine, tmp_path: Path) -> None:
    prefix = tmp_path / "env"
    prefix.mkdir()
    run([step(EnsureNote(path=str(tmp_path / "a"), text="x", prefix=str(prefix), fails="before"))], machine)
    assert not unfinished.is_marked(prefix)


def test_a_failure_half_way_leaves_the_mark_until_all_is_proven(machine: Machine, tmp_path: Path) -> None:
    prefix = tmp_path / "env"
    prefix.mkdir()
    task = EnsureNote(path=str(tmp_path / "a"), text="x", prefix=str(prefix), fails="after")
    run([step(task)], machine)
    assert unfinished.is_marked(prefix)
    whole = msgspec.structs.replace(task, fails=None)
    other = EnsureNote(path=str(tmp_path / "b"), text="x", prefix=str(prefix), fails="before")
    run([step(whole), step(other)], machine)
    assert unfinished.is_marked(prefix), "the second task has not proven its part"
    run([step(whole), step(msgspec.structs.replace(other, fails=None))], machine)
    assert not unfinished.is_marked(prefix)


def test_a_witness_spares_the_reading_until_something_changes(machine: Machine, tmp_path: Path) -> None:
    path = tmp_path / "state" / "x.state"
    steps = [step(EnsureNote(path=str(tmp_path / name), text="x")) for name in "ab"]
    recorded(steps, machine, path)
    READS.clear()
    assert [(r.status, r.proof) for r in recorded(steps, machine, path)] == [("ok", "witness")] * 2
    assert READS == []
    (tmp_path / "b").write_text("by hand")
    assert [(r.status, r.proof) for r in recorded(steps, machine, path)] == [("ok", "witness"), ("changed", "check")]


def test_a_change_of_what_a_task_needs_leaves_its_own_witnesses_their_word(machine: Machine, tmp_path: Path) -> None:
    """Only a result that ages is looked up anew: with another index, say, the newest version is another."""
    a, b, c = (str(tmp_path / name) for name in "abc")
    steps = [
        step(EnsureNote(path=a, text="x")),
        step(EnsureNote(path=b, text="x", needs=a)),
        step(EnsureNote(path=c, text="x", needs=a, refresh_every="1h")),
    ]
    state = tmp_path / "state" / "x.state"
    recorded(steps, machine, state)
    Path(a).write_text("by hand")
    assert [r.proof for r in recorded(steps, machine, state)] == ["check", "witness", "check"]


def test_other_parameters_are_another_task(machine: Machine, tmp_path: Path) -> None:
    state = tmp_path / "state" / "x.state"
    recorded([step(EnsureNote(path=str(tmp_path / "a"), text="x"))], machine, state)
    assert recorded([step(EnsureNote(path=str(tmp_path / "a"), text="y"))], machine, state)[0].status == "changed"


@pytest.mark.parametrize("seed", range(30))
def test_an_edit_in_the_same_clock_tick_is_seen(machine: Machine, tmp_path: Path, seed: int) -> None:
    """As many tries as make a tick shared for sure: write, run, write the same length again, at once."""
    state = tmp_path / "state" / "x.state"
    steps = [step(EnsureNote(path=str(tmp_path / "a"), text="x"))]
    (tmp_path / "a").write_text("x")
    recorded(steps, machine, state)
    with (tmp_path / "a").open("r+") as stream:
        stream.write("y")
    assert recorded(steps, machine, state)[0].status == "changed"


@pytest.mark.parametrize("damage", ["", "garbage", "nbprovision-state 1\nend", "cut", "binary", "numbers", "folder"])
def test_a_damaged_state_costs_a_look_and_nothing_else(machine: Machine, tmp_path: Path, damage: str) -> None:
    state = tmp_path / "state" / "x.state"
    steps = [step(EnsureNote(path=str(tmp_path / "a"), text="x"))]
    recorded(steps, machine, state)
    whole = state.read_text()
    if damage == "cut":
        state.write_text(whole[: len(whole) // 2])
    elif damage == "binary":
        state.write_bytes(bytes(range(256)))
    elif damage == "numbers":
        state.write_text(whole.replace("\t0\t", "\t99\t").replace("\t-\t", "\tnever\t"))
    elif damage == "folder":
        state.unlink()
        state.mkdir()
    else:
        state.write_text(damage)
    READS.clear()
    store = Store(state)
    (result,) = Run(steps, machine, Silent(), store=store).execute()
    assert (result.status, result.proof) == ("ok", "check")
    assert READS


def test_refresh_every_ends_the_trust(machine: Machine, tmp_path: Path) -> None:
    state = tmp_path / "state" / "x.state"
    steps = [step(EnsureNote(path=str(tmp_path / "a"), text="x", refresh_every="0s"))]
    recorded(steps, machine, state)
    assert recorded(steps, machine, state)[0].proof == "check"
    steps = [step(EnsureNote(path=str(tmp_path / "a"), text="x", refresh_every="1h"))]
    recorded(steps, machine, state)
    assert recorded(steps, machine, state)[0].proof == "witness"


def test_refresh_every_takes_a_duration() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"path": "/a", "refresh_every": "often"}, EnsureNote)


def test_what_a_later_task_touched_is_proven_again(machine: Machine, tmp_path: Path) -> None:
    shared = tmp_path / "env"
    shared.mkdir()
    state = tmp_path / "state" / "x.state"
    # Both look at the folder, and the second one changes it.
    steps = [
        step(EnsureNote(path=str(shared / "a"), text="x", prefix=str(shared))),
        step(EnsureNote(path=str(shared / "b"), text="x", prefix=str(shared))),
    ]
    recorded(steps, machine, state)
    assert [r.proof for r in recorded(steps, machine, state)] == ["witness", "witness"]


class EnsureBesideOthers(EnsureNote, frozen=True, kw_only=True):
    def read(self, machine: Machine) -> str | None:
        if READS.count(self.path) == 1:  # while the work is verified, another task writes what this one looks at
            (Path(self.path).parent / "registry").write_text("theirs")
        return super().read(machine)

    def witnesses(self, machine: Machine) -> Iterable[Path]:
        return [Path(self.path), Path(self.path).parent / "registry"]


def test_what_another_task_touched_meanwhile_is_proven_at_the_end(machine: Machine, tmp_path: Path) -> None:
    state = tmp_path / "state" / "x.state"
    steps = [step(EnsureBesideOthers(path=str(tmp_path / "a"), text="x"))]
    recorded(steps, machine, state)
    assert [r.proof for r in recorded(steps, machine, state)] == ["witness"]


def test_a_task_that_a_later_one_undoes_is_not_proven(machine: Machine, tmp_path: Path) -> None:
    state = tmp_path / "state" / "x.state"
    steps = [
        step(EnsureNote(path=str(tmp_path / "a"), text="x")),
        step(EnsureNote(path=str(tmp_path / "a"), text="y")),
    ]
    recorded(steps, machine, state)
    assert [r.status for r in recorded(steps, machine, state)] == ["changed", "changed"]


def test_what_a_run_leaves_out_still_claims(machine: Machine) -> None:
    left_out = EnsureClaim(path="/b", wants="packaging==24")
    Run([step(EnsureClaim(path="/a"))], machine, Silent(), bystanders=[left_out])
    assert machine.claims == [Claim(Path("/p"), "packaging==24")]


def test_one_child_serves_all() -> None:
    """What an engine's child has loaded once is loaded; outside of a run, and at its end, none is left behind."""
    env = dict(os.environ)
    module = "tests.support.echoing_child"
    with process.kept_children():
        first = process.hire(module, env)
        pid = first.call("pid", lambda _: None)
        assert pid == first.pid
        assert process.hire(module, env) is first
        assert process.hire(module, {**env, "MORE": "1"}) is not first, "another environment is another child"
        first.release()
        again = process.hire(module, env)
        assert again is first
        assert again.call("pid", lambda _: None) == pid
        again.release()
        os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)
        fresh = process.hire(module, env)
        assert fresh is not first, "one that has died serves nobody"
        fresh.release()
    assert not fresh.serves(module, env)
    alone = process.hire(module, env)
    alone.release()
    assert not alone.serves(module, env)


def test_a_child_answers_side_by_side() -> None:
    """Whoever asks for little does not wait for who asks for much; what is said on the way goes to who asked."""
    child = process.Child("tests.support.echoing_child", env=dict(os.environ))
    heard: list[dict[str, Any]] = []
    slow = threading.Thread(target=child.call, args=("slow", heard.append))
    slow.start()
    while not heard:
        time.sleep(0.01)
    assert child.call("pid", lambda message: pytest.fail(str(message))) == child.pid
    assert slow.is_alive()
    child.call("be quick", lambda _: None)
    slow.join()
    assert heard == [{"text": "at work"}]
    child.close()


def test_all_who_wait_hear_of_a_childs_death() -> None:
    child = process.Child("tests.support.echoing_child", env=dict(os.environ))
    failures: list[str] = []

    def ask() -> None:
        try:
            child.call("slow", lambda _: None)
        except TaskFailed as error:
            failures.append(error.cause)

    waiting = [threading.Thread(target=ask) for _ in range(3)]
    for thread in waiting:
        thread.start()
    child.call("pid", lambda _: None)
    os.kill(child.pid, signal.SIGKILL)
    for thread in waiting:
        thread.join()
    assert failures == ["killed by SIGKILL"] * 3
    with pytest.raises(TaskFailed, match="ended before its work was done"):
        child.call("pid", lambda _: None)


def test_what_is_light_goes_first(machine: Machine, tmp_path: Path) -> None:
    """However many long tasks stand before it, and whatever waits for them."""
    a, b, c = (str(tmp_path / name) for name in "abc")
    long = [step(EnsureNote(path=str(tmp_path / f"long{n}"), text="x", heavy=2, pause=0.3)) for n in range(12)]
    there = step(EnsureNote(path=a, text="x"))
    kernel = step(EnsureNote(path=b, text="x", needs=a, heavy=0))
    index = step(EnsureNote(path=c, text="x", heavy=0))
    finished: list[str] = []

    class Watching(Silent):
        def finished(self, step: Step, result: Result) -> None:
            finished.append(step.name)

    Run([*long, there, kernel, index], machine, Watching()).execute()
    assert set(finished[:3]) == {there.name, kernel.name, index.name}


def test_in_a_row_the_order_is_the_playbooks(machine: Machine, tmp_path: Path) -> None:
    finished: list[str] = []

    class Watching(Silent):
        def finished(self, step: Step, result: Result) -> None:
            finished.append(step.name)

    steps = [step(EnsureNote(path=str(tmp_path / f"{n}"), text="x", heavy=n % 3)) for n in range(6)]
    Run(steps, machine, Watching(), linear=True).execute()
    assert finished == [one.name for one in steps]


def test_what_a_task_reports_is_its_own(machine: Machine) -> None:
    """Two threads that work for two tasks do not mix what these say of themselves."""
    import threading

    said: dict[str, dict[str, object]] = {}

    def work(name: str) -> None:
        with machine.reporting() as values:
            machine.report(name=name)
            machine.report(rc=0)
            said[name] = values

    threads = [threading.Thread(target=work, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    machine.report(lost=True)
    assert said == {"a": {"name": "a", "rc": 0}, "b": {"name": "b", "rc": 0}}
