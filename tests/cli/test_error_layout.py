"""One layout of errors, whichever command meets them: ``error: PLACE: message``, then ``why:`` and ``fix:``."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nbprovision import api, cli
from nbprovision.__main__ import main
from nbprovision.model.errors import Position, ProvisionError, explained

# The words of a command, and its exit status. WRONG.yml has two faults; BAD.yml a task that fails; RULE.yml is for lint.
BAD = {
    "": 5,
    "rnu": 5,
    "--quick": 5,
    "run": 5,
    "keep-awake 3x": 5,
    "run NOPE.yml": 4,
    "run .": 4,
    "run WRONG.yml": 4,
    "run environment.yml": 4,
    "run BAD.yml": 2,
    "run BAD.yml --check": 0,
    "run BAD.yml --bogus": 5,
    "run BAD.yml --format xml": 5,
    "run BAD.yml --deadline soon": 5,
    "run BAD.yml --tags": 5,
    "run BAD.yml -e x": 5,
    "run BAD.yml -e @NOPE": 5,
    "run BAD.yml --start-at-task other": 5,
    "run BAD.yml more.yml": 5,
    "run BAD.yml --home BAD.yml": 5,
    "lock": 5,
    "lock NOPE.yml": 4,
    "lock WRONG.yml": 4,
    "lock BAD.yml --check --upgrade": 5,
    "lock BAD.yml --platform osx-64": 5,
    "lock BAD.yml --upgrade-package six": 4,
    "run --bundle NOPE.tar": 4,
    "run --bundle BAD.yml": 4,
    "run BAD.yml --bundle BAD.tar": 5,
    "bundle": 5,
    "bundle BAD.yml": 5,
    "bundle BAD.yml -o x": 5,
    "bundle NOPE.yml -o x.tar": 4,
    "bundle WRONG.yml -o x.tar": 4,
    "bundle BAD.yml -o x.tar --platform osx-64": 5,
    "lint": 5,
    "lint NOPE.yml": 4,
    "lint WRONG.yml": 4,
    "lint RULE.yml": 4,
    "lint RULE.yml --platform moon": 5,
    "doc ensure_nothing": 5,
    "doc a b": 5,
    "doc ensure_motd --playbook NOPE.yml": 4,
    "new-task": 5,
    "new-task Bad-Name": 5,
    "new-task ensure_file": 5,
    "export": 5,
    "export nowhere": 4,
    "diff": 5,
    "diff BAD.yml": 5,
    "diff BAD.yml nowhere": 4,
    "diff BAD.yml BAD.yml": 4,
    "diff environment.yml BAD.yml": 4,
    "diff BAD.yml BAD.yml --format xml": 5,
    "clean --bogus": 5,
    "facts --bogus": 5,
    "facts --format xml": 5,
    "schema x": 5,
    "completion fish": 5,
    "task": 5,
    "task ensure_kernl": 5,
    "task ensure_kernel --lock-timeout soon": 5,
    "task ensure_kernel --lock-timeout nan": 5,
    "status x": 5,
    "report 20200101-000000": 5,
    "report --open": 5,
    "report --bogus": 5,
    "lifecycle": 5,
    "lifecycle rendr": 5,
    "lifecycle render": 5,
    "lifecycle render BAD.yml": 5,
    "lifecycle render WRONG.yml --inline": 4,
    "fleet": 5,
    "fleet publsh": 5,
    "fleet publish": 4,
    "fleet status -f BAD.yml": 4,
    "fleet promote -f FLEET.yml earli": 5,
    "fleet publish -f FLEET.yml": 4,
}
# A fault begins a line (within a run below the task's line); every further line is indented below it.
_HEAD = re.compile(r"( *)(error|warning): (?:[^ :]+:\d+:\d+: )?(?P<message>\S.*)")
_BODY = re.compile(r"  (why|fix): \S.*")
_AROUND = re.compile(r"(PLAY|CHECK|localhost|lint|nothing was changed|ok: |failed: |usage: |would )")


@pytest.fixture
def folder(tmp_path: Path, env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "WRONG.yml").write_text("- tasks:\n    - ensure_file: {paht: x}\n    - ensure_venv: {}\n")
    (tmp_path / "BAD.yml").write_text("- tasks:\n    - ensure_command: {argv: [/bin/false]}\n")
    (tmp_path / "RULE.yml").write_text("- tasks:\n    - ensure_kernel: {env: nowhere}\n")
    (tmp_path / "FLEET.yml").write_text("fleet: a\nbucket: s3://abc\nplaybook: WRONG.yml\nrings: [{name: early}]\n")
    (tmp_path / "environment.yml").write_text("name: x\ndependencies: [python]\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("line", BAD)
@pytest.mark.usefixtures("folder")
def test_every_command_shows_a_fault_in_one_way(capsys: pytest.CaptureFixture[str], line: str) -> None:
    assert main(line.split()) == BAD[line]
    told = "".join(capsys.readouterr())
    assert "Traceback" not in told
    if line in ("", "run BAD.yml --check"):  # the help, and a check in which nothing fails
        assert "error:" not in told
        return
    faults = faults_in(told)
    assert faults, told
    for message, words in faults:
        assert not message.endswith("."), message
        assert not re.match(r"argument |the following arguments|Error|error", message), message
        assert words in ([], ["why"], ["fix"], ["why", "fix"]), told
        assert "fix" in words or line.startswith(
            ("run WRONG", "lock WRONG", "bundle WRONG", "lint WRONG", "lifecycle render WRONG", "fleet publish")
        ), told


def faults_in(told: str) -> list[tuple[str, list[str]]]:
    """Each fault in an output: its message, and the words of the lines below it."""
    faults: list[tuple[str, list[str]]] = []
    indent = ""
    for text in told.splitlines():
        head = _HEAD.fullmatch(text)
        if head is not None:
            indent = head[1]
            faults.append((head["message"], []))
        elif (body := _BODY.fullmatch(text.removeprefix(indent))) is not None and faults:
            faults[-1][1].append(body[1])
        else:
            assert _AROUND.match(text) or (faults and text.startswith(f"{indent}    ")), told
    return faults


def test_every_command_has_a_line() -> None:
    assert {line.split()[0] for line in BAD if line} >= set(cli.COMMANDS)


@pytest.mark.usefixtures("folder")
def test_what_the_api_raises_reads_the_same(tmp_path: Path) -> None:
    with pytest.raises(ProvisionError) as caught:
        api.ensure_conda_env(name="a", prefix=str(tmp_path))
    assert str(caught.value) == ("`name` and `prefix` cannot be given together\n  fix: give one of them"), str(
        caught.value
    )


def test_lines_of_a_cause_and_of_a_cure_stand_below_it() -> None:
    assert explained("it fails", "because\nof this", "write:\n- a:\n    b: 1", Position("p.yml", 2, 3)) == (
        "p.yml:2:3: it fails\n  why: because\n    of this\n  fix: write:\n    - a:\n        b: 1"
    )
    assert explained("it fails") == "it fails"
