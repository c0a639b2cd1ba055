"""The start-up path: what it imports, what it starts, and when it refuses to answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from nbprovision.engine.guard import run_lock
from nbprovision.report import ring
from nbprovision.report.instance_report import InstanceReport
from nbprovision.state import store
from nbprovision.state.witness import parse, read_lines, state_path, still_stands

ROOT = Path(__file__).parents[2]
ALLOWED = {
    "gc",  # built into the interpreter
    "nbprovision", "nbprovision.__main__", "nbprovision.state", "nbprovision.state.witness", "nbprovision.system",
    "nbprovision.system.places", "fcntl", "_blake2", "time", "posix", "__future__",
}  # fmt: skip
REPORT = '{"name":"é","task":"ensure_kernel","status":"ok","proof":"witness","seconds":0.0,"changes":[],"warnings":[],"error":null}'
SKIPPED = REPORT.replace('"ok"', '"skipped"')


class Recorded:
    """A home in which everything was proven, without any task having run."""

    def __init__(self, env: dict[str, str], folder: Path) -> None:
        self.env = {name: value for name, value in env.items() if not name.startswith("COVERAGE_")}
        self.env["PYTHONPATH"] = str(ROOT)
        self.home = Path(env["NBPROVISION_HOME"])
        (self.home / "log").mkdir(parents=True)
        (self.home / "lock").touch()
        self.playbook = folder / "play book.yml"
        self.playbook.write_text("[]")
        self.witness = folder / "witness"
        self.witness.write_text("x")
        self.until: float | None = None
        self.since = time.time()
        self.variables: dict[str, str | None] = {}
        self.write()

    def state(self, *selection: str) -> Path:
        # The key has the variables of the process that asks; the child has these.
        return Path(state_path(str(self.home), str(self.playbook), list(selection), self.env))

    def write(self, *selection: str, complete: bool = True) -> None:
        inputs = store.look([self.playbook, self.witness, self.playbook.with_name("absent")])
        assert inputs
        proofs = [store.Proof("1", self.until, inputs[1:2], REPORT, self.since), store.Proof("2", None, (), SKIPPED)]
        store.Store(self.state(*selection)).write(inputs, self.variables, proofs, complete=complete)

    def start(self, *more: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *options, "-m", "nbprovision", "run", str(self.playbook), *more],
            env=self.env, capture_output=True, text=True, check=False, cwd="/",
        )  # fmt: skip

    def witnessed(self, *more: str) -> bool:
        return "witnessed" in self.start(*more).stdout


@pytest.fixture
def recorded(env: dict[str, str], tmp_path: Path) -> Recorded:
    return Recorded(env, tmp_path)


def test_it_ends_there_and_says_so(recorded: Recorded) -> None:
    done = recorded.start()
    assert done.returncode == 0, done.stderr
    assert "witnessed" in done.stdout
    assert "ok=1 changed=0 skipped=1" in done.stdout
    log = json.loads((recorded.home / "log" / "nbprovision.log").read_text())
    assert log["event"] == "run"
    assert log["proof"] == "witness"


def test_its_json_is_the_document(recorded: Recorded) -> None:
    content = json.loads(recorded.start("--format", "json").stdout)
    assert content["playbook"] == str(recorded.playbook)
    assert content["status"] == "ok"
    assert content["counts"] == {"ok": 1, "changed": 0, "skipped": 1, "failed": 0, "deferred": 0}
    assert [(task["name"], task["proof"]) for task in content["tasks"]] == [("é", "witness")] * 2


def test_it_imports_next_to_nothing(recorded: Recorded) -> None:
    bare = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "pass"], env=recorded.env, capture_output=True, text=True, check=True
    ).stderr

    def modules(text: str) -> set[str]:
        return {line.rpartition("|")[2].strip() for line in text.splitlines() if line.startswith("import time:")}

    script = subprocess.run(
        [sys.executable, "-X", "importtime", "-c",
         f"import sys; sys.argv[1:] = ['run', {str(recorded.playbook)!r}]; from nbprovision.__main__ import main; main(sys.argv[1:])"],
        env=recorded.env, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "witnessed" in script.stdout
    assert modules(script.stderr) - modules(bare) <= ALLOWED


class TestRing:
    """A start in a ring that ends at its witnesses renews the report."""

    VARIABLES = {
        "NBPROVISION_RING": "s3://team/fraud/rings/stable",
        "NBPROVISION_INSTANCE": "mine",
        "NBPROVISION_WANTED": "a" * 64,
        "NBPROVISION_RELEASE": "a" * 64,
        "NBPROVISION_WHY": "",
    }

    @pytest.fixture
    def released(self, recorded: Recorded) -> Recorded:
        folder = recorded.home / "lifecycle/release"
        folder.mkdir(parents=True)
        recorded.playbook = recorded.playbook.rename(folder / "team.yml")
        recorded.write()
        return recorded

    def report(self, recorded: Recorded, **variables: str) -> InstanceReport | None:
        recorded.env.update({**self.VARIABLES, **variables})
        assert recorded.witnessed(), "the ring's variables are no part of the state"
        return ring.read(recorded.home)

    def test_it_is_the_report_of_a_run(self, released: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
        before = time.time()
        renewed = self.report(released)
        assert renewed is not None
        assert before - 1 <= renewed.time <= time.time() + 1
        for name, value in self.VARIABLES.items():
            monkeypatch.setenv(name, value)
        content = {"counts": {"ok": 1, "skipped": 1}, "seconds": renewed.seconds}
        ring.RingReport(released.home, released.playbook).end(0, content)
        run = ring.read(released.home)
        assert run is not None
        assert msgspec.structs.replace(run, time=0.0) == msgspec.structs.replace(renewed, time=0.0)

    def test_a_fallback_is_in_it(self, released: Recorded) -> None:
        why = 'the pointer "x"\\ is\tnot valid, and é'
        content = self.report(released, NBPROVISION_WANTED="", NBPROVISION_WHY=why)
        assert content is not None
        assert (content.wanted, content.release, content.status) == (None, "a" * 64, 4)
        assert content.fallback == why

    def test_it_imports_no_more(self, released: Recorded) -> None:
        released.env.update(self.VARIABLES)
        released.env["PYTHONPROFILEIMPORTTIME"] = "1"
        done = released.start()
        assert "witnessed" in done.stdout
        assert ring.read(released.home) is not None
        loaded = {
            line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")
        }
        assert {name for name in loaded if name.startswith("nbprovision")} <= ALLOWED
        assert "msgspec" not in loaded

    @pytest.mark.parametrize("words", [["--check"], []], ids=["a check", "another playbook"])
    def test_others_write_none(self, recorded: Recorded, words: list[str]) -> None:
        if words:
            folder = recorded.home / "lifecycle/release"
            folder.mkdir(parents=True)
            recorded.playbook = recorded.playbook.rename(folder / "team.yml")
            recorded.write()
        recorded.env.update(self.VARIABLES)
        assert recorded.witnessed(*words)
        assert ring.read(recorded.home) is None

    def test_a_full_disk_does_not_end_it(self, released: Recorded) -> None:
        (released.home / "instance-report.json.new").mkdir()
        assert self.report(released) is None


def test_it_starts_no_process_and_touches_no_more_than_it_must(recorded: Recorded) -> None:
    code = (
        "import sys\nseen = []\n"
        "sys.addaudithook(lambda name, args: seen.append(name) if name.startswith(('subprocess', 'os.fork', 'os.posix_spawn', 'os.exec', 'socket')) else None)\n"
        f"from nbprovision.__main__ import main; main(['run', {str(recorded.playbook)!r}]); assert seen == [], seen"
    )
    done = subprocess.run([sys.executable, "-c", code], env=recorded.env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "witnessed" in done.stdout


def test_a_change_of_any_witness_ends_it(recorded: Recorded) -> None:
    assert recorded.witnessed()
    recorded.witness.chmod(0o777)
    assert not recorded.witnessed()


def test_what_was_absent_must_stay_so(recorded: Recorded) -> None:
    recorded.playbook.with_name("absent").touch()
    assert not recorded.witnessed()


def test_a_result_that_ages_is_not_trusted_past_its_time(recorded: Recorded) -> None:
    recorded.until = time.time() + 60
    recorded.write()
    assert recorded.witnessed()
    recorded.until = time.time() - 1
    recorded.write()
    assert not recorded.witnessed()


def test_a_result_that_ages_is_not_trusted_by_a_clock_that_was_set_back(recorded: Recorded) -> None:
    recorded.until = time.time() + 7200
    recorded.since = time.time() + 3600
    recorded.write()
    assert not recorded.witnessed()
    assert store.Store(recorded.state()).proof_of("1") is None
    recorded.since = time.time()
    recorded.write()
    assert recorded.witnessed()
    assert store.Store(recorded.state()).proof_of("1") is not None


def test_an_incomplete_record_is_not_enough(recorded: Recorded) -> None:
    recorded.write(complete=False)
    assert not recorded.witnessed()


def test_a_variable_that_was_read_counts(recorded: Recorded) -> None:
    recorded.env["TEAM"] = "a"
    recorded.variables = {"TEAM": "a", "OTHER": None}
    recorded.write()
    assert recorded.witnessed()
    recorded.env["TEAM"] = "b"
    assert not recorded.witnessed()
    recorded.env["TEAM"] = "a"
    recorded.env["OTHER"] = ""
    assert not recorded.witnessed()


def test_a_variable_that_facts_are_read_from_counts(recorded: Recorded) -> None:
    recorded.env["PIP_INDEX_URL"] = "https://elsewhere.example/simple"
    assert not recorded.witnessed()


@pytest.mark.parametrize(
    "options", [["--no-witness"], ["-v"], ["--deep"], ["--list-tasks"], ["--tags", "a"], ["-e", "x=1"]]
)
def test_options_that_ask_for_more_take_the_full_path(recorded: Recorded, options: list[str]) -> None:
    assert not recorded.witnessed(*options)


@pytest.mark.parametrize(
    "options",
    [["--check"], ["-C", "-D"], ["--check", "--exit-code"], ["--diff"], ["--deadline", "60"], ["--format=text"]],
)
def test_options_that_ask_for_nothing_else_do_not(recorded: Recorded, options: list[str]) -> None:
    assert recorded.witnessed(*options)


def test_selecting_options_have_states_of_their_own(recorded: Recorded) -> None:
    recorded.write("--tags", "a")
    assert recorded.witnessed("--tags=a")
    assert recorded.witnessed("--tags", "a")
    assert not recorded.witnessed("--tags", "b")


def test_while_another_run_works_it_does_not_answer(recorded: Recorded) -> None:
    with run_lock(recorded.home, "a run", None, print, tidy=False):
        done = recorded.start("--lock-timeout", "0")
    assert "witnessed" not in done.stdout


@pytest.mark.parametrize("damage", ["cut", "other version", "empty", "bytes"])
def test_damage_never_makes_an_answer(recorded: Recorded, damage: str) -> None:
    path = recorded.state()
    whole = path.read_bytes()
    new = {
        "cut": whole[:-4],
        "other version": whole.replace(b"state 5", b"state 3"),
        "empty": b"",
        "bytes": b"\xff\0" * 99,
    }
    path.write_bytes(new[damage])
    done = recorded.start()
    assert "witnessed" not in done.stdout
    assert "Traceback" not in done.stderr


def test_every_truncation_and_every_changed_byte_is_refused(recorded: Recorded, tmp_path: Path) -> None:
    whole = recorded.state().read_bytes()
    assert still_stands(read_lines(str(recorded.state())))
    copy = tmp_path / "copy"
    for index in range(len(whole)):
        for damaged in (whole[:index], whole[:index] + bytes([whole[index] ^ 1]) + whole[index + 1 :]):
            copy.write_bytes(damaged)
            with pytest.raises(OSError, match=r"damaged|another version"):
                read_lines(str(copy))


def test_command_lines_that_are_not_plain_runs_are_left_alone() -> None:
    for argv in (
        [],
        ["status"],
        ["run"],
        ["run", "a", "b"],
        ["run", "a", "--unknown"],
        ["run", "a", "--format", "xml"],
    ):
        assert parse(argv) is None
    plain = parse(["run", "a.yml", "--home", "/h", "-e", "x=1"])
    assert plain is not None
    assert (plain.playbook, plain.home, plain.selection) == (os.path.abspath("a.yml"), "/h", ["-e", "x=1"])


def test_the_program_collects_garbage_seldom() -> None:
    """As the program only: who calls `main` keeps the settings of their process."""
    code = (
        "import gc, nbprovision.__main__ as program\n"
        "before = gc.get_threshold()\n"
        "program.main(['--version'])\n"
        "print(gc.get_threshold() == before)\n"
        "program.main = lambda argv: print(gc.get_threshold()[0] > 10_000) or 0\n"
        "program.leave([])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-2:] == ["True", "True"]
