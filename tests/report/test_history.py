"""The runs that are kept for `nbprovision report`."""

from __future__ import annotations

from pathlib import Path

import pytest

import nbprovision
from nbprovision.model.errors import UsageError
from nbprovision.model.result import Change
from nbprovision.report import history
from nbprovision.report.history import KeptRun, KeptTask
from nbprovision.system.context import separate_run
from nbprovision.system.secrets import remember


def run(*tasks: KeptTask, started: float = 1_800_000_000, digest: str = "a", check: bool = False) -> KeptRun:
    return KeptRun(
        playbook="/team.yml",
        digest=digest,
        started=started,
        seconds=1.0,
        status="ok",
        check=check,
        counts={},
        tasks=tasks,
    )


def task(status: str, name: str = "x", *, lasting: bool = True) -> KeptTask:
    return KeptTask(name=name, task="ensure_file", status=status, seconds=0.1, lasting=lasting)  # type: ignore[arg-type]


def test_a_run_is_kept_by_the_time_of_its_start(tmp_path: Path) -> None:
    kept = history.keep(tmp_path, run(task("ok")))
    assert kept.id == "20270115-080000"
    assert history.run_of(tmp_path, None) == history.run_of(tmp_path, kept.id) == kept
    assert (tmp_path / "runs" / f"{kept.id}.json").stat().st_mode & 0o777 == 0o600


def test_runs_of_one_second_differ_and_are_in_order(tmp_path: Path) -> None:
    names = [history.keep(tmp_path, run()).id for _ in range(11)]
    assert names == ["20270115-080000", *(f"20270115-080000-{number}" for number in range(2, 12))]
    assert [kept.id for kept in history.runs(tmp_path)] == names[::-1]


def test_the_runs_before_another_one(tmp_path: Path) -> None:
    kept = [history.keep(tmp_path, run()) for _ in range(11)]
    newest_first = history.runs(tmp_path)
    assert list(history.before(kept[9], newest_first)) == kept[8::-1]
    assert history.before(kept[0], newest_first) == []
    assert history.before(run(), newest_first) == ()


def test_the_last_20_are_kept(tmp_path: Path) -> None:
    for number in range(25):
        history.keep(tmp_path, run(started=1_800_000_000 + 60 * number))
    assert [kept.started for kept in history.runs(tmp_path)] == [1_800_000_000 + 60 * n for n in range(24, 4, -1)]
    assert len(list((tmp_path / "runs").iterdir())) == history.KEPT


def test_secrets_are_masked(tmp_path: Path) -> None:
    with separate_run():
        remember("hunter2-hunter2")
        change = Change("write", "/x", before="hunter2-hunter2", after="b", kind="file")
        history.keep(tmp_path, run(KeptTask(name="x", task="y", status="changed", seconds=0, changes=(change,))))
    assert "hunter2" not in next((tmp_path / "runs").iterdir()).read_text()


def test_long_contents_are_cut(tmp_path: Path) -> None:
    path = tmp_path / "long"
    playbook = tmp_path / "p.yml"
    playbook.write_text(f"- tasks:\n    - ensure_file: {{path: '{path}', content: \"{{{{ 'x' * 500000 }}}}\"}}\n")
    nbprovision.run_playbook(playbook, home=tmp_path / "home")
    after = history.run_of(tmp_path / "home", None).tasks[0].changes[0].after
    assert after is not None
    assert len(after) < 30_000
    assert after.endswith("(480,000 characters more)\n")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"id": 1}', b"\xff", b"x" * 100])
def test_a_damaged_record_is_left_out(content: bytes, tmp_path: Path) -> None:
    kept = history.keep(tmp_path, run())
    (tmp_path / "runs/20280101-000000.json").write_bytes(content)
    (tmp_path / "runs/other.txt").write_bytes(content)
    assert history.runs(tmp_path) == [kept]
    assert history.run_of(tmp_path, None) == kept


def test_another_run_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no run is kept yet"):
        history.run_of(tmp_path, None)
    kept = history.keep(tmp_path, run())
    for name in ("20200101-000000", "../x", "x"):
        with pytest.raises(UsageError) as refused:
            history.run_of(tmp_path, name)
        assert kept.id in refused.value.cure


class TestDrift:
    def test_a_task_that_held_and_is_done_again(self) -> None:
        assert history.drift(run(task("changed")), [run(task("ok"))]) == [task("changed")]

    @pytest.mark.parametrize(
        ("now", "earlier"),
        {
            "the first run": (run(task("changed")), []),
            "another playbook": (run(task("changed")), [run(task("ok"), digest="b")]),
            "a playbook that was not read": (run(task("changed"), digest=""), [run(task("ok"), digest="")]),
            "only a check before": (run(task("changed")), [run(task("ok"), check=True)]),
            "it had failed": (run(task("changed")), [run(task("failed"))]),
            "another task": (run(task("changed", "y")), [run(task("ok"))]),
            "what each stop takes": (run(task("changed", lasting=False)), [run(task("ok"))]),
            "nothing to do": (run(task("ok")), [run(task("ok"))]),
        }.values(),
    )
    def test_other_changes_are_none(self, now: KeptRun, earlier: list[KeptRun]) -> None:
        assert history.drift(now, earlier) == []

    def test_real_runs(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        playbook = tmp_path / "p.yml"
        playbook.write_text(f"- tasks:\n    - ensure_file: {{path: '{path}', content: x}}\n")
        home = tmp_path / "home"
        nbprovision.run_playbook(playbook, home=home)
        path.write_text("somebody's")
        nbprovision.run_playbook(playbook, home=home)
        newest, *earlier = history.runs(home)
        assert [entry.task for entry in history.drift(newest, earlier)] == ["ensure_file"]
