"""How lint reads a script: the commands in it, who runs each, and where."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbprovision.lint.shell import Command, ShellScript
from nbprovision.lint.subject import Script

HOMES = {"root": "/root", "user": "/home/ec2-user", "other": ""}


def commands(text: str) -> list[Command]:
    return ShellScript(text, "root", "/", HOMES).commands  # type: ignore[arg-type]


def run(text: str) -> list[tuple[str, ...]]:
    """Each program with its words."""
    return [(command.program, *command.values) for command in commands(text) if command.program]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a b; c && d || e | f & g", ["a b", "c", "d", "e", "f", "g"]),
        ("a \\\n  b # c", ["a b"]),
        ("a 'b;c' \"d|e\" f\\;g", ["a b;c d|e f;g"]),
        ("if a; then b; elif c; then d; else e; fi", ["a", "b", "c", "d", "e"]),
        ("while a; do b; done; until c; do d; done", ["a", "b", "c", "d"]),
        ("for x in a b; do c $x; done", ["c a"]),
        ("case $x in a|b) c;; *) d;; esac; e", ["c", "d", "e"]),
        ("f() { a; }; function g { b; }; f", ["a", "b", "f"]),
        ("(a; b) | c; { d; }", ["a", "b", "c", "d"]),
        ("! a; time b; exec c; command -v d", ["a", "b", "c", "command -v d"]),
        ("[[ a < b && c > d ]] && e", ["[[ a < b && c > d ]]", "e"]),
        ("(( x < 3 )) && a $(( 1 < 2 ))", ["((", "a $(( 1 < 2 ))"]),
        ("a=(b c) d=e; f", ["f"]),
        ("cat <<EOF\na; b\nEOF\nc", ["cat", "c"]),
        ("cat <<-'E' > x\n\ta\n\tE\nb", ["cat", "b"]),
        ("cat <<A <<B\na\nA\nb\nB\nc", ["cat", "c"]),
        ("a <<< 'b c' >&2 2>&1 &> d", ["a"]),
        ("A=1 B=$(c d) e", ["e", "c d"]),
        ('echo "$(a "$(b)")" `c`', ["echo $(a $(b)) `c`", "a $(b)", "b", "c"]),
        ("diff <(a) <(b)", ["diff <(a) <(b)", "a", "b"]),
        ("bash -euc 'a; b'", ["bash -euc a; b", "a", "b"]),
        ("sudo -u ec2-user -H env A=b timeout -s KILL 5 nice -n 3 a", ["a"]),
        ("X=/opt; Y=$X/a; $Y/b ~ec2-user/c ${X}", ["b /home/ec2-user/c /opt"]),
    ],
)
def test_the_commands_of_a_text(text: str, words: list[str]) -> None:
    assert [" ".join(command) if command[0][:2] != "((" else "((" for command in run(text)] == words


@pytest.mark.parametrize(
    ("text", "user"),
    [
        ("a", "root"),
        ("sudo a", "root"),
        ("sudo -u ec2-user a", "user"),
        ("sudo --user=ec2-user -n a", "user"),
        ("sudo -niu ec2-user a", "user"),
        ("sudo -u ec2-user -i <<'EOF'\na\nEOF", "user"),
        ("sudo -u ec2-user bash <<EOF\na\nEOF", "user"),
        ("sudo -u ec2-user bash -c 'sudo a'", "root"),
        ("sudo -u nobody a", "other"),
        ("su - ec2-user -c 'a'", "user"),
        ("su ec2-user <<EOF\na\nEOF", "user"),
        ("runuser -l ec2-user -c a", "user"),
        ("runuser -u ec2-user -- a", "user"),
        ("systemd-run --uid=ec2-user --on-calendar=hourly a", "user"),
        ("systemd-run --uid ec2-user a", "user"),
        ("systemd-run -p User=ec2-user -p A=b a", "user"),
        ("systemd-run --unit b a", "root"),
        ("nohup sudo -b -u ec2-user a", "user"),
    ],
)
def test_the_user_of_a_command(text: str, user: str) -> None:
    [command] = [command for command in commands(text) if command.program == "a"]
    assert command.user == user


def test_the_folder_of_a_command() -> None:
    text = "cd /x; (cd y; a 1); a 2; sudo -u ec2-user -i <<E\na 3\ncd b\na 4\nE\ncd $Z\na 5"
    folders = [command.folder for command in commands(text) if command.program == "a"]
    assert folders == ["/x/y", "/x", "/home/ec2-user", "/home/ec2-user/b", ""]


def test_errexit_is_followed() -> None:
    text = "a\nset -euo pipefail\na\nset +e\na\nset -o errexit\na\nbash <<E\na\nset -e\na\nE"
    assert [command.errexit for command in commands(text) if command.program == "a"] == [
        *(False, True, False, True),
        *(False, True),
    ]


@pytest.mark.parametrize(
    ("name", "text", "platform"),
    [
        ("start.sh", "cd /home/ec2-user", "notebook-instance"),
        ("start.sh", "cd /home/sagemaker-user", "studio"),
        ("start.sh", "/opt/conda/bin/pip install a", "studio"),
        ("start.sh", "sudo apt-get install -y a", "studio"),
        ("start.sh", "# sagemaker-user\ncd /home/ec2-user", "notebook-instance"),
        ("start.sh", "if [ -d /home/ec2-user ]; then apt-get install a; fi", "notebook-instance"),
        ("on-jupyter-server-start.sh", "git config --global a b", "studio"),
        ("start.sh", "git config --global a b", "notebook-instance"),
    ],
)
def test_a_script_shows_its_platform(name: str, text: str, platform: str) -> None:
    assert Script(Path(name), text.encode()).platform == platform


def test_the_platform_of_the_command_line_decides() -> None:
    assert Script(Path("start.sh"), b"cd /home/ec2-user", "studio").platform == "studio"


BASH = shutil.which("bash")
PIECES = st.sampled_from(
    [
        *"abcx \t\n;&|(){}<>$'\"`\\#!=~[]",
        "if ",
        "then ",
        "fi",
        "case a in ",
        "esac",
        "$(",
        "${",
        "<<E\n",
        "\nE\n",
        "sudo -u u ",
        "[[ ",
        " ]]",
    ]
)


@pytest.mark.scaled("NBPROVISION_TEST_SHELL")
@settings(max_examples=int(os.environ.get("NBPROVISION_TEST_SHELL", "200")), deadline=None, database=None)
@given(text=st.lists(PIECES, max_size=60).map("".join))
def test_every_text_has_an_answer(text: str) -> None:
    """Commands with their places in the text, whatever it holds."""
    for command in commands(text):
        assert 0 <= command.start <= command.at <= len(text)
        assert command.within < len(text)


def test_deep_texts_have_an_answer_in_time() -> None:
    for text in ("$(" * 5000, "(" * 5000, "`" * 5000, "if " * 5000, '"$(' * 5000, "bash -c '" * 5000, "a=(" * 5000):
        commands(text)


@pytest.mark.skipif(BASH is None, reason="no bash")
@pytest.mark.parametrize(
    "text",
    [
        "a 'b c' \"d $(e f)\" g",
        "if a; then b; else c; fi; d || e",
        "for x in 1 2; do a $x; done",
        "case b in a) a;; b) b c;; esac",
        "f() { a b; }; f",
        "(cd /; a) | b; c <<E\nd\nE\ne",
        "[[ a == b || c < d ]] && a; b \\\n c",
    ],
)
def test_bash_runs_no_command_that_is_not_read(text: str) -> None:
    """Each program that a real bash looks for is one of the commands."""
    prelude = 'command_not_found_handle() { echo "$1" >> /dev/stderr; return 0; }\n'
    done = subprocess.run(
        [str(BASH), "-c", prelude + text], env={"PATH": "/nowhere"}, capture_output=True, text=True, timeout=60
    )
    started = set(done.stderr.split())
    assert started
    assert started <= {command.program for command in commands(text)}
