"""The command line: what it takes, what it says to what it does not take, and how much it tells."""

from __future__ import annotations

import argparse
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbprovision import cli
from nbprovision.__main__ import main
from nbprovision.cli.asking import Asking
from nbprovision.cli.parser import Parser
from nbprovision.lint.finding import all_rules
from nbprovision.model.result import Change, Result
from nbprovision.playbook import ansible
from nbprovision.report.colour import wants_colour
from nbprovision.report.terminal import Terminal, change_lines
from nbprovision.state.witness import parse
from nbprovision.system import log, secrets

REFERENCE = Path(__file__).parents[2] / "docs/reference.md"
# What other programs and people's scripts rely on, command by command.
CONTRACT = """
run PLAYBOOK --check --exit-code --diff --tags A,B --skip-tags A,B --start-at-task NAME --list-tasks --list-tags --step
    -e KEY=VALUE -e @FILE --format json --deadline 1 --lock-timeout 1 --no-witness --deep --home DIR -v
run PLAYBOOK -C -D -t A -e a=1 -vvv --format text
status --follow --format json
facts --sizes --format text
export ENV OTHER --pinned
diff A B
lock PLAYBOOK --check --platform linux-64 --upgrade
run PLAYBOOK --locked
run PLAYBOOK --frozen
run --bundle FILE
bundle PLAYBOOK -o FILE.tar
lifecycle render PLAYBOOK --on-create --strict
doc
doc TASK
schema
""".replace("\n    ", " ")


def parser_of(command: str) -> Parser:
    import importlib

    parser = Parser(prog=f"nbprovision {command}")
    module = command.partition(" ")[0].replace("-", "_")
    importlib.import_module(f"nbprovision.cli.{module}").configure(parser)
    return parser


def options_of(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        if action.help != argparse.SUPPRESS and action.dest != "help":
            yield action


def usages() -> dict[str, str]:
    """The usage block of the reference, by command."""
    block = re.search(r"```\n(nbprovision run .*?)```", REFERENCE.read_text(), re.DOTALL)
    assert block
    lines = re.sub(r"\n +", " ", block[1]).splitlines()
    return {line.split()[1]: line.split(maxsplit=2)[2] if len(line.split()) > 2 else "" for line in lines}


@pytest.mark.parametrize("line", CONTRACT.split("\n")[1:-1])
def test_what_the_contract_names_is_accepted(line: str, tmp_path: Path) -> None:
    assert cli._parse(line.split()).command == line.split(maxsplit=1)[0]


def test_the_usage_names_every_command() -> None:
    assert set(usages()) == set(cli.COMMANDS)


@pytest.mark.parametrize("command", sorted(set(cli.COMMANDS) - {"lifecycle", "fleet"}))
def test_the_usage_is_what_the_parser_takes(command: str) -> None:
    """Every option and place of the parser, and nothing else; of an option with two names, one of them."""
    usage = usages()[command]
    named = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", usage))
    for action in options_of(parser_of(command)):
        if action.option_strings:
            used = named & set(action.option_strings)
            assert len(used) == 1, f"{action.option_strings} in: {usage}"
            named -= used
            if action.choices:  # all of them, or a word in capitals that stands for them
                named_so = re.search(rf"{used.pop()} [A-Z]+\b", usage)
                assert named_so or "|".join(map(str, action.choices)) in usage
        else:
            assert str(action.metavar) in usage
    assert named == set()


def said(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert cli.main(list(argv)) == 5
    told = capsys.readouterr()
    assert told.out == ""
    return told.err


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("run a.yml --tgas x", "no option --tgas; did you mean '--tags'?"),
        ("run a.yml --tag=x", "no option --tag; did you mean '--tags'?"),
        ("run a.yml -check", "no option -check; did you mean '--check'?"),
        ("run a.yml --zzz", "no option --zzz\n  fix: `nbprovision run --help` lists"),
        (
            "run a.yml -i hosts",
            "no option -i\n  why: a playbook runs on this machine only\n  fix: leave it out",
        ),
        ("run -l web a.yml", "no option -l\n"),
        ("run --limit=web a.yml", "no option --limit\n"),
        ("run -b a.yml", "every task runs as the user who starts it"),
        ("run -bK a.yml", "every task runs as the user who starts it"),
        ("run a.yml --ask-vault-pass", "lookup('env', 'NAME')"),
        ("run a.yml --dry-run", "write --check"),
        ("run a.yml --syntax-check", "nbprovision lint PLAYBOOK"),
        ("run a.yml b.yml", "unexpected argument 'b.yml': `nbprovision run` takes one PLAYBOOK"),
        ("run", "PLAYBOOK"),
        ("run a.yml --deadline soon", "takes a number of seconds, not 'soon'"),
        ("run a.yml --deadline -5", "takes a number of seconds, not '-5'"),
        ("run a.yml --format xml", "'text'"),
        ("run a.yml --step --deadline 9", "--step cannot be combined with --deadline"),
        ("run a.yml --exit-code", "--exit-code needs --check"),
        ("a.yml", "the command is missing\n  fix: write: nbprovision run a.yml\n"),
        ("a.yml -e token=hidden", "write: nbprovision run a.yml ...\n"),
        ("--check a.yml", "write: nbprovision run a.yml ...\n"),
        ("-v run a.yml", "write: nbprovision run -v ...\n"),
        ("rnu a.yml", "unknown command 'rnu'; did you mean 'run'?"),
        ("--verson", "unknown option '--verson'"),
        ("facts x", "takes options only"),
        ("doc ensure_kernal", "did you mean 'ensure_kernel'?"),
        ("doc wen", "did you mean 'when'?"),
        ("lifecycle render --on-creat x", "did you mean '--on-create'?"),
        ("", "COMMAND"),
    ],
)
def test_what_is_wrong_is_said_with_what_to_write(capsys: pytest.CaptureFixture[str], line: str, words: str) -> None:
    told = said(capsys, *line.split())
    assert words in told
    assert "Traceback" not in told
    assert "hidden" not in told


def test_no_habit_is_an_option_that_there_is() -> None:
    known = {name for action in options_of(parser_of("run")) for name in action.option_strings}
    assert ansible.RUN_OPTIONS.keys() & known == set()


@pytest.mark.parametrize("command", ["", *cli.COMMANDS])
def test_help_teaches(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert cli.main([*command.split(), "--help"]) == 0
    told = capsys.readouterr().out
    assert "usage: nbprovision" in told
    if command == "run":
        assert "nbprovision run team.yml --check --diff" in told
        assert re.search(r"2 +a task failed", told)


def test_doc_tells_of_tasks_and_keywords(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    told = {}
    for words in ([], ["ensure_kernel"], ["when"], ["task"], ["keywords"], ["ensure_kernel", "--format", "markdown"]):
        assert cli.main(["doc", *words]) == 0
        told[" ".join(words)] = capsys.readouterr().out
    assert "ensure_pip_pkg" in told[""]
    kernel = told["ensure_kernel"]
    for part in ("scope  (user, system or env; default: user)", "refresh_every", "set mode", "EXAMPLES", "argv: ["):
        assert part in kernel
    assert "ensure_conda_pkg" not in kernel
    assert max(map(len, kernel.splitlines())) <= 100
    assert "when" in told["when"]
    assert "no_log" not in told["when"]
    assert "no_log" in told["task"]
    assert "hosts" in told["keywords"]
    assert told["ensure_kernel --format markdown"] in REFERENCE.read_text()


TAGGED = """
- tags: all-of-them
  tasks:
    - {name: a, ensure_condarc: {channels: x}, tags: [one, two]}
    - {name: b, ensure_condarc: {channels: x}, tags: [two, never]}
"""


def test_tags_are_listed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, env: dict[str, str], tmp_path: Path
) -> None:
    """Those of tasks that the command line does not choose among them: it is for finding out what can be chosen."""
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    path = tmp_path / "tagged.yml"
    path.write_text(TAGGED)
    assert cli.main(["run", str(path), "--list-tags", "--tags", "one"]) == 0
    told = capsys.readouterr().out
    assert told == "all-of-them  (2 tasks)\nnever  (1 task)\none  (1 task)\ntwo  (2 tasks)\n"
    assert not Path(env["NBPROVISION_HOME"]).exists()


def test_a_tag_that_no_task_has_is_told_with_those_that_there_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, env: dict[str, str], tmp_path: Path
) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    path = tmp_path / "tagged.yml"
    path.write_text(TAGGED)
    assert cli.main(["run", str(path), "--check", "--tags", "oen,always"]) == 0
    told = capsys.readouterr().err
    assert told == "warning: no task has the tag 'oen'; there are: all-of-them, never, one, two\n"


@pytest.mark.parametrize(
    ("answers", "done", "asked"),
    [
        ("y\nn\ny\ny\n", [True, False, True, True], 4),
        ("c\n", [True] * 4, 1),
        ("n\nC\n", [False, True, True, True], 2),
        ("yes\nq\n", [True, False, False, False], 2),
        ("", [False] * 4, 1),
        ("\nwhat\ny\nc\n", [True] * 4, 4),
    ],
)
def test_step_asks_before_each_task(answers: str, done: list[bool], asked: int) -> None:
    out = io.StringIO()
    asking = Asking(io.StringIO(answers), out)
    assert [asking(Step()) for _ in done] == done
    assert out.getvalue().count("Carry out 'Packages' (ensure_pip_pkg)? y/n/c/q ") == asked


@pytest.mark.parametrize(
    ("env", "terminal", "coloured"),
    [
        ({}, False, False),
        ({}, True, True),
        ({"TERM": "dumb"}, True, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": ""}, True, True),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"FORCE_COLOR": ""}, False, False),
        ({"FORCE_COLOR": "0"}, True, False),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, True, False),
    ],
)
def test_colour(env: dict[str, str], terminal: bool, coloured: bool) -> None:
    stream = io.StringIO()
    stream.isatty = lambda: terminal  # type: ignore[method-assign]
    assert wants_colour(stream, env) is coloured


def test_errors_are_coloured_as_asked(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert said(capsys, "rnu").startswith("\033[31merror:\033[0m unknown command")
    monkeypatch.setenv("NO_COLOR", "1")
    assert said(capsys, "rnu").startswith("error: unknown command")


CHANGES = (
    Change("install", "numpy", None, "2.1", kind="package", channel="conda-forge"),
    Change("upgrade", "requests", "2.31", "2.32", kind="package"),
    Change("remove", "six", "1.16", None, kind="package"),
    Change(
        "change", "/etc/pip.conf", "[global]\n-- a\nold\n", "[global]\nnew\nurl = https://u:hidden@x/\n", kind="file"
    ),
    Change("set mode", "/etc/pip.conf", "0644", "0600"),
)


def test_a_diff_is_a_table_and_a_unified_diff() -> None:
    lines = list(change_lines(CHANGES, in_full=True))
    assert [line.text for line in lines] == [
        "name      from  to    channel",
        "numpy     -     2.1   conda-forge",
        "requests  2.31  2.32",
        "six       1.16  -",
        "change /etc/pip.conf",
        "--- /etc/pip.conf (is)",
        "+++ /etc/pip.conf (wanted)",
        "@@ -1,3 +1,3 @@",
        " [global]",
        "--- a",
        "-old",
        "+new",
        "+url = https://u:****@x/",
        "set mode /etc/pip.conf: 0644 -> 0600",
    ]
    colours = [line.colour for line in lines]
    assert colours == ["", "32", "33", "31", "", "1", "1", "36", "", "31", "31", "32", "32", ""]
    brief = [line.text for line in change_lines(CHANGES, in_full=False)]
    assert brief[4:] == ["change /etc/pip.conf: +2 -2 lines", "set mode /etc/pip.conf: 0644 -> 0600"]


class Step:
    name, kind, play, diff = "Packages", "ensure_pip_pkg", (0, "A play"), None


def told(verbosity: int, *, with_diff: bool = False, env: dict[str, str] | None = None) -> str:
    out = io.StringIO()
    step, terminal = Step(), Terminal(out, diff=with_diff, verbosity=verbosity, env=env or {})
    log.listen(terminal.heard)
    try:
        terminal.started(step)
        log.event("command", command="uv pip install --index https://u:hidden@x/ six", status=0, seconds=0.25)
        log.detail("output", text="Installed 1 package\nusing hidden-too")
        log.detail("doubted", task="Packages", reason="/x is not as it was")
        terminal.progressed(step, "downloading", 1, 2)
        result = Result(name=Step.name, task=Step.kind, status="changed", changes=CHANGES, seconds=0.25)
        terminal.finished(step, result)
        terminal.recap([result], 0.3)
    finally:
        log.listen(None)
    return out.getvalue()


def test_each_v_tells_more() -> None:
    secrets.remember("hidden-too")
    quiet, changes, commands, everything = map(told, range(4))
    recap = "localhost : ok=0 changed=1 skipped=0 failed=0 deferred=0 (0.300 s)\n"
    assert quiet.splitlines()[0] == "PLAY [A play]"
    assert quiet.endswith(recap)
    assert "2.31" not in quiet
    assert "requests  2.31  2.32" in changes
    assert "$ uv" not in changes
    assert "$ uv pip install --index https://u:****@x/ six  (status 0, 0.250 s)" in commands
    assert "begins  ensure_pip_pkg: Packages" in commands
    assert "Packages: is checked again, because /x is not as it was" in commands
    assert "(0.250 s, looked at)" in commands
    assert "Installed 1 package" not in commands
    assert "    | Installed 1 package\n    | using ****\n" in everything
    assert "downloading 50%" in everything
    for text in (quiet, changes, commands, everything, told(3, with_diff=True)):
        assert "hidden" not in text
        assert "\033[" not in text
    assert "\033[32m+new\033[0m" in told(0, with_diff=True, env={"FORCE_COLOR": "1"})


def test_what_no_log_withholds_is_told_by_no_v() -> None:
    heard: list[str] = []
    log.listen(lambda event, fields: heard.append(f"{event} {fields}"))
    try:
        with log.withholding(True):
            log.event("command", command="tool --with hidden", status=0, seconds=0.1)
            log.detail("output", text="hidden")
        log.detail("output", text="shown")
    finally:
        log.listen(None)
    assert "hidden" not in str(heard)
    assert "withheld by no_log" in heard[0]
    assert len(heard) == 2


@pytest.mark.parametrize(
    "word", ["-v", "-vv", "-vvv", "--verbose", "--no-witness", "--list-tasks", "--list-tags", "--step"]
)
def test_how_much_is_told_is_no_other_state(word: str) -> None:
    """After a run with -v the next one is witnessed, and the other way round."""
    plain, more = parse(["run", "a.yml", "--check"]), parse(["run", "a.yml", word, "-C"])
    assert plain is not None
    assert more is not None
    assert plain.state_path == more.state_path
    assert more.check
    assert more.again
    assert not plain.again


def test_run_takes_what_the_start_up_path_takes() -> None:
    """An option that the one understands and the other does not would be refused on some runs only."""
    from nbprovision.state import witness

    known = {name for action in options_of(parser_of("run")) for name in action.option_strings}
    words = {*witness._NEUTRAL, *witness._SELECTING, *witness._ANEW} - {"-vv", "-vvv"}
    assert words <= known


def test_the_rules_of_the_lint_are_told_as_text_and_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lint", "--list-rules"]) == 0
    text = capsys.readouterr().out
    assert main(["lint", "--list-rules", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["rule"] for one in found] == [one.name for one in all_rules()]
    for one in found:
        fixes = " (--fix)" if one["fixes"] else ""
        assert f"{one['rule']}  {one['severity']}{fixes}\n  {one['finds']}\n  {one['why']}\n" in text
