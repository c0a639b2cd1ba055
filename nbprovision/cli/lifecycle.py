"""``nbprovision lifecycle render``: a lifecycle script on standard output."""

from __future__ import annotations

import argparse
import sys

from nbprovision.lifecycle.render import DEFAULT_SECONDS, PLATFORMS, Wanted, render
from nbprovision.model.errors import UsageError
from nbprovision.system.reading import read_bytes

# Handed on to the run that the script starts.
_RUN_OPTIONS = (
    (("-e", "--extra-vars"), "KEY=VALUE"),
    (("-t", "--tags"), "A,B"),
    (("--skip-tags",), "A,B"),
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add ``render`` and its options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    purpose = "print a lifecycle script that brings a notebook to the state of a playbook, in time"
    command = actions.add_parser("render", help=purpose, description=purpose[0].upper() + purpose[1:] + ".")
    add = command.add_argument
    add("playbook", metavar="PLAYBOOK", help="an absolute path on the notebook's volume, or s3://BUCKET/KEY")
    add("--inline", action="store_true", help="PLAYBOOK is a file here, whose content goes into the script")
    add(
        "--tool",
        metavar="SOURCE",
        help="where nbprovision comes from: a requirement for pip's index (default: this version), the path of a "
        "folder of wheels on the volume, or s3://BUCKET/PREFIX that wheels lie under",
    )
    add("--index-url", metavar="URL", help="the package index, instead of pypi.org")
    add("--on-create", action="store_true", help="a script for the instance's creation instead of every start")
    add("--strict", action="store_true", help="a failure keeps the notebook from starting")
    add(
        "--deadline",
        type=int,
        default=DEFAULT_SECONDS,
        metavar="SECONDS",
        help="time that all of it may take (default: %(default)s; the platform's limit is 300)",
    )
    add("--platform", choices=tuple(PLATFORMS), default="notebook-instance", help="default: %(default)s")
    add("--home", metavar="DIR", help="the tool's home folder there, if not the usual one")
    add(
        "--env",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an environment variable for the tool, such as a proxy; nothing secret, the script can be read",
    )
    for names, metavar in _RUN_OPTIONS:
        add(*names, action="append", default=[], metavar=metavar, help=f"as for `nbprovision run {names[-1]}`")


def execute(options: argparse.Namespace) -> int:
    """Print the script.

    Returns:
        0.

    Raises:
        UsageError: an option that makes no sense, or a script that the platform would refuse.

    """
    environment = {}
    for setting in options.env:
        name, equals, value = setting.partition("=")
        if not equals:
            raise UsageError(f"--env {setting}: takes NAME=VALUE")
        environment[name] = value
    script = render(
        Wanted(
            playbook=_content(options.playbook) if options.inline else options.playbook,
            inline=options.inline,
            tool=options.tool,
            index_url=options.index_url,
            on_create=options.on_create,
            strict=options.strict,
            seconds=options.deadline,
            platform=options.platform,
            home=options.home,
            environment=environment,
            options=[
                word
                for names, _ in _RUN_OPTIONS
                for value in getattr(options, names[-1].lstrip("-").replace("-", "_"))
                for word in (names[-1], value)
            ],
        )
    )
    sys.stdout.write(script)
    return 0


def _content(path: str) -> str:
    try:
        return read_bytes(path).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the playbook {path}", cause=str(error)) from error
