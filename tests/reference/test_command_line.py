"""The page of the command line is made from the parsers. ``python -m tests.reference.test_command_line`` writes it again."""

from __future__ import annotations

import argparse
from pathlib import Path

from nbprovision import cli
from nbprovision.reference.command_line import page

PAGE = Path(__file__).parents[2] / "docs/command-line.md"
BEGIN = "<!-- commands, made by: python -m tests.reference.test_command_line -->\n"


def made_again() -> str:
    return f"{PAGE.read_text().partition(BEGIN)[0]}{BEGIN}\n{page(cli.command_parser(cli.COMMANDS))}"


def test_the_page_is_the_parsers_own() -> None:
    assert PAGE.read_text() == made_again(), "python -m tests.reference.test_command_line writes it again"


def test_every_part_of_a_parser_is_on_the_page_and_nothing_hidden() -> None:
    whole = argparse.ArgumentParser(prog="nbprovision")
    parser = whole.add_subparsers().add_parser("x", description="Do it <now>.", epilog="examples:\n  x a|b")
    parser.add_argument("files", nargs="+", metavar="FILE", help="with --far or `a --b` from https://HOST/a_b")
    parser.add_argument("-n", "--number", type=int, default=3, help="how many_times; default: %(default)s")
    parser.add_argument("--kind", choices=["a", "b"], required=True, help="the kind")
    parser.add_argument("--name", action="append", help="a name")
    parser.add_argument("--secret", help=argparse.SUPPRESS)
    actions = parser.add_subparsers(metavar="ACTION")
    actions.add_parser("go", description="Go.").add_argument("--far", action="store_true", help="far away")
    assert page(whole).splitlines() == [
        "## nbprovision x", "", "Do it &lt;now>.", "",
        "```text", "nbprovision x --kind a|b [options] ACTION ... FILE...", "```", "",
        "| argument | meaning |", "|---|---|",
        "| `FILE` | with `--far` or `a --b` from `https://HOST/a_b` |",
        "| `-n`, `--number NUMBER` | how many\\_times; default: 3 |",
        "| `--kind a\\|b` | the kind |",
        "| `--name NAME` | a name; repeatable |", "",
        "```text", "examples:", "  x a|b", "```", "",
        "### nbprovision x go", "", "Go.", "",
        "```text", "nbprovision x go [options]", "```", "",
        "| argument | meaning |", "|---|---|", "| `--far` | far away |",
    ]  # fmt: skip


if __name__ == "__main__":
    PAGE.write_text(made_again())
