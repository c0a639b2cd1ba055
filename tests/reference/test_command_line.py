"""The page of the command line is made from the parsers. ``python -m tests.reference.test_command_line`` writes it again."""

from __future__ import annotations

import argparse
from pathlib import Path

from nbprovision import cli
from nbprovision.cli.parser import Parser
from nbprovision.reference.command_line import page

PAGE = Path(__file__).parents[2] / "docs/command-line.md"
BEGIN = "<!-- commands, made by: python -m tests.reference.test_command_line -->\n"


def parsers() -> dict[str, argparse.ArgumentParser]:
    commands: dict[str, argparse.ArgumentParser] = {}
    for name, purpose in cli.COMMANDS.items():
        commands[name] = Parser(prog=f"nbprovision {name}", description=purpose[0].upper() + purpose[1:] + ".")
        cli._module_of(name).configure(commands[name])
    return commands


def made_again() -> str:
    return f"{PAGE.read_text().partition(BEGIN)[0]}{BEGIN}\n{page(parsers())}"


def test_the_page_is_the_parsers_own() -> None:
    assert PAGE.read_text() == made_again(), "python -m tests.reference.test_command_line writes it again"


def test_every_part_of_a_parser_is_on_the_page_and_nothing_hidden() -> None:
    parser = argparse.ArgumentParser(prog="x", description="Do it <now>.", epilog="examples:\n  x a|b", add_help=True)
    parser.add_argument("files", nargs="+", metavar="FILE", help="with --far or `a --b` from https://HOST/a_b")
    parser.add_argument("-n", "--number", type=int, default=3, help="how many_times; default: %(default)s")
    parser.add_argument("--kind", choices=["a", "b"], required=True, help="the kind")
    parser.add_argument("--name", action="append", help="a name")
    parser.add_argument("--secret", help=argparse.SUPPRESS)
    actions = parser.add_subparsers(metavar="ACTION")
    actions.add_parser("go", description="Go.").add_argument("--far", action="store_true", help="far away")
    assert page({"x": parser}).splitlines() == [
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
