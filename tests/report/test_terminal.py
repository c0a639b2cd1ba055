"""What a person at a terminal sees of a run: lines, bars below them, and neither of them in the other's way."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from nbprovision.model.result import Change, Result
from nbprovision.report.terminal import Terminal, summarised


class Screen(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class Step:
    name, kind, play, diff = "Packages", "ensure_pip_pkg", (0, ""), None


DONE = Result(name=Step.name, task=Step.kind, status="ok")
BAR = "━"


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    """Of a width of its own: rich asks these variables before the real terminal."""
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Screen()


def since(screen: Screen, place: int) -> str:
    return screen.getvalue()[place:]


def test_a_terminal_has_a_bar_while_there_is_long_work(screen: Screen) -> None:
    terminal = Terminal(screen, env={"TERM": "xterm"})
    terminal.started(Step)
    terminal.progressed(Step, "downloading [bold]a", 1, 4)
    terminal.progressed(Step, "downloading [bold]a", 2, 4)
    terminal.recap([DONE], 0.25)
    text = screen.getvalue()
    assert "Packages: downloading [bold]a" in text  # a name in brackets is no markup of rich's
    assert BAR in text
    assert text.endswith("PLAY RECAP\nlocalhost : ok=1 changed=0 skipped=0 failed=0 deferred=0 (0.250 s)\n")
    assert "\033[?25h" in text  # the cursor is there again


@pytest.mark.sampled(4)
@pytest.mark.parametrize("character", ["\u202e", "\u2066", "\u200b", "\ufeff", "\u2028", "\u200f", "\x9b", "\x7f"])
def test_what_nobody_sees_is_written_out(character: str, screen: Screen, env: dict[str, str], tmp_path: Path) -> None:
    """In lines, bars, lists of tasks, errors and documents; a document stays the same document."""
    escape = character.encode("unicode_escape").decode()
    terminal = Terminal(screen, env={"TERM": "xterm"})
    terminal.progressed(Step, f"downloading num{character}py", 1, 4)
    terminal.finished(Step, Result(name=f"num{character}py", task=Step.kind, status="ok"))
    terminal.close()
    assert character not in screen.getvalue()
    assert f"num{escape}py" in screen.getvalue()
    playbook = tmp_path / f"play{character}.yml"
    playbook.write_text(
        f'- tasks: [{{name: "num\\u{ord(character):04x}py", ensure_file: {{path: ~/x, content: x}}}}]\n'
    )

    def said(*words: str | Path) -> str:
        argv = [sys.executable, "-m", "nbprovision", *words]
        done = subprocess.run(argv, env={**env, "PYTHONUTF8": "1"}, capture_output=True, encoding="utf-8", check=False)
        assert character not in done.stdout + done.stderr, words
        return done.stdout + done.stderr

    for words in (["--list-tasks"], [], [], ["--start-at-task", "none"]):
        said("run", playbook, *words)
    assert json.loads(said("run", playbook, "--format", "json"))["tasks"][0]["name"] == f"num{character}py"
    assert json.loads(said("status", "--format", "json"))["record"]["playbook"] == str(playbook)


def test_a_line_goes_above_the_bars_and_keeps_its_colour(screen: Screen) -> None:
    terminal = Terminal(screen, env={"TERM": "xterm"})
    terminal.progressed(Step, "downloading", 1, 4)
    place = len(screen.getvalue())
    terminal.finished(Step, Result(name="x" * 150, task=Step.kind, status="ok"))
    told = since(screen, place)
    assert "\033[32mok:" in told
    assert "x" * 150 in told  # not cut where the window ends
    terminal.close()


def test_a_terminal_without_long_work_has_no_bars(screen: Screen) -> None:
    terminal = Terminal(screen, env={"TERM": "xterm"})
    terminal.finished(Step, DONE)
    terminal.recap([DONE], 0.25)
    assert screen.getvalue().startswith("\033[32mok:      \033[0m ensure_pip_pkg: Packages\nPLAY RECAP\n")
    assert BAR not in screen.getvalue()


def test_a_dumb_terminal_gets_plain_lines(screen: Screen) -> None:
    terminal = Terminal(screen, verbosity=3, env={"TERM": "dumb"})
    terminal.progressed(Step, "downloading", 1, 4)
    assert screen.getvalue() == "  ...     Packages: downloading 25%\n"


def test_each_of_two_steps_has_its_bar_until_it_is_done(screen: Screen) -> None:
    class Other(Step):
        name = "Kernel"

    terminal = Terminal(screen, env={"TERM": "xterm"})
    terminal.progressed(Step, "downloading", 1, 4)
    terminal.progressed(Other, "linking", 0, 0)
    terminal.finished(Step, DONE)
    terminal.finished(Step, DONE)  # its bar is gone by now
    place = len(screen.getvalue())
    terminal.close()
    assert "Kernel: linking" in since(screen, place)
    assert "downloading" not in since(screen, place)


def test_why_a_failure_is_none_is_told() -> None:
    out = io.StringIO()
    Terminal(out, env={}).finished(Step, Result(name="Packages", task=Step.kind, status="failed", forgiven="ignored"))
    assert out.getvalue() == "failed:   ensure_pip_pkg: Packages\n    ...ignored\n"


def test_many_changes_are_summed_up() -> None:
    others = [Change("write", f"/x/{number}", None, "a", kind="file") for number in range(4)]
    package = Change("install", "numpy", None, "2.0", kind="package")
    assert summarised([package, *others]) == "+1 package, write /x/0, write /x/1, and 2 more"
    assert summarised(others[:2]) == "write /x/0, write /x/1"


def test_a_check_says_first_and_last_that_nothing_was_changed() -> None:
    out = io.StringIO()
    terminal = Terminal(out, env={}, check=True)
    terminal.finished(Step(), Result(name=Step.name, task=Step.kind, status="changed"))
    terminal.recap([Result(name=Step.name, task=Step.kind, status="changed")], 0.25)
    lines = out.getvalue().splitlines()
    assert lines[0] == "CHECK: nothing is changed; this is what a run would do"
    assert lines[1] == "would change: ensure_pip_pkg: Packages"
    assert lines[-2].startswith("localhost : ok=0 changed=1 ")
    assert lines[-1] == "nothing was changed: this was a check"
