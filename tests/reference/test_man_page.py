"""The man page is made from the parser of the command line, by argparse-manpage, and the tools of man can show it.

``python -m tests.reference.test_man_page`` writes it again.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
import tomlkit
from argparse_manpage.manpage import Manpage

from nbprovision import cli

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "scripts/nbprovision.1"
WRITTEN_BY = (3, 11)  # argparse of other versions prints usage in other words


def generated() -> str:
    """The page as it should be: without a date, so that the same commands give the same bytes."""
    project = tomlkit.parse((ROOT / "pyproject.toml").read_text()).unwrap()["project"]
    parser = cli.command_parser(cli.COMMANDS)
    with mock.patch.dict(os.environ, COLUMNS="80"):
        page = Manpage(parser, {"description": "provision a notebook machine", "manual_title": "User Commands"})
        page.date = ""
        page._data |= {"project_name": "nbprovision", "url": project["urls"]["Repository"]}
        text = str(page)
    # The end of the help is a list of examples, a line each.
    return re.sub(r"\.SH COMMENTS\n(.*?)\n\n", r".SH EXAMPLES\n.nf\n\1\n.fi\n\n", text, flags=re.DOTALL)


@pytest.mark.skipif(sys.version_info[:2] != WRITTEN_BY, reason="argparse of another Python prints other usage lines")
def test_the_page_is_that_of_the_parser() -> None:
    assert PAGE.read_text() == generated(), "python -m tests.reference.test_man_page writes it again"


def test_it_has_every_command_and_option() -> None:
    text = PAGE.read_text().replace(r"\-", "-")
    for name in cli.COMMANDS:
        assert f"'nbprovision {name}'" in text
    for option in ("--check", "--mask-vars", "--on-create", "--upgrade-package"):
        assert option in text
    assert "==SUPPRESS==" not in text


@pytest.mark.parametrize(
    "argv",
    [["groff", "-man", "-Tutf8", "-ww"], ["mandoc", "-T", "lint", "-W", "error"]],  # man uses groff
    ids=lambda argv: argv[0],
)
def test_it_is_shown_without_a_warning(argv: list[str]) -> None:
    if shutil.which(argv[0]) is None:
        pytest.skip(f"NOT SHOWN BY {argv[0]}: it is not installed")
    done = subprocess.run([*argv, str(PAGE)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert argv[0] == "mandoc" or "bring this machine to the state that a playbook describes" in done.stdout


if __name__ == "__main__":
    PAGE.write_text(generated())
