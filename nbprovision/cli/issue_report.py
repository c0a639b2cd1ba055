"""Reports of failed runs: files to attach to an issue, with all useful facts and without secrets."""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import shlex
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from nbprovision import __version__
from nbprovision.machine.platform import detect
from nbprovision.model.errors import ProvisionError
from nbprovision.system import log
from nbprovision.system.files import make_folder, write_atomically
from nbprovision.system.places import tool_home
from nbprovision.system.reading import read_bytes
from nbprovision.system.secrets import MASK, mask

_VERBOSE = 3  # -vvv: tracebacks are shown, and kept in a report
KEPT = 10  # reports; older ones are removed
_LOG_LINES = 60
# Options with variables, whose values may be secrets.
_VARIABLES = ("-e", "--extra-vars")
_USEFUL = ("NBPROVISION_", "PIP_", "UV_", "CONDA_", "MAMBA_", "JUPYTER_", "XDG_", "SSL_", "HTTP", "http", "NO_PROXY")


def tracebacks(errors: Iterable[BaseException]) -> str:
    """The tracebacks of errors, secrets masked."""
    return mask("\n".join("".join(traceback.format_exception(error)) for error in errors))


def show(errors: Sequence[BaseException], options: argparse.Namespace, print_line: Callable[[str], None]) -> bool:
    """With ``-vvv``: show the traceback of each error, and write a report.

    Args:
        errors: The errors of the run.
        options: The parsed part of the command line.
        print_line: Prints a line.

    Returns:
        Whether the option is set.

    """
    if getattr(options, "verbose", 0) < _VERBOSE:
        return False
    home = getattr(options, "home", None)
    print_line(tracebacks(errors))
    try:
        path = write(options.argv, errors, home.absolute() if home else None)
    except (ProvisionError, OSError) as error:
        print_line(mask(f"could not write a report: {error}"))
    else:
        print_line(f"a report to attach to an issue, with secrets masked: {path}")
    return True


def write(argv: Sequence[str], errors: Sequence[BaseException], home: Path | None = None) -> Path:
    """Write a report.

    Args:
        argv: The words of the command line.
        errors: The errors of the run.
        home: The tool's home folder; its folder ``reports`` receives the report.

    Returns:
        The report, which only its owner may read.

    Raises:
        TaskFailed: the report cannot be written.

    """
    home = home or Path(tool_home(os.environ))
    folder = home / "reports"
    make_folder(folder, mode=0o700)
    path = folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    write_atomically(path, mask(_text(argv, errors, home)), mode=0o600)
    with contextlib.suppress(OSError):
        for old in sorted(folder.glob("*.txt"))[:-KEPT]:
            old.unlink()
    return path


def _text(argv: Sequence[str], errors: Sequence[BaseException], home: Path) -> str:
    detected = detect()
    positions = [str(error.position) for error in errors if isinstance(error, ProvisionError) and error.position]
    facts = {
        "nbprovision": __version__,
        "when": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "command": shlex.join(["nbprovision", *_shown(argv)]),
        "playbook": ", ".join(dict.fromkeys(positions)) or "no position is known",
        "Python": f"{sys.version} {sys.executable}",
        "system": platform.platform(),
        "platform": f"{detected.kind} ({detected.because})",
        "user": str(os.getuid()),
        "home": str(home),
        "variables": ", ".join(sorted(name for name in os.environ if name.startswith(_USEFUL))) or "none",
    }
    messages = "\n\n".join(str(error) or type(error).__name__ for error in errors)
    return "\n".join(
        [
            *(f"{name}: {value}" for name, value in facts.items()),
            *("", "What failed", "-----------", messages),
            *("", "Where in the code", "-----------------", tracebacks(errors).rstrip()),
            *("", "The end of the log", "------------------", *_log_lines(home), ""),
        ]
    )


def _shown(argv: Iterable[str]) -> Iterable[str]:
    """The words of the command line, without the values of variables."""
    value_follows = False
    for word in argv:
        option, equals, rest = word.partition("=") if word.startswith("--") else (word[:2], "", word[2:])
        if value_follows:
            yield _without_value(word)
        elif option in _VARIABLES and rest:
            yield f"{option}{equals}{_without_value(rest)}"
        else:
            yield word
        value_follows = word in _VARIABLES


def _without_value(variable: str) -> str:
    name, equals, _ = variable.partition("=")
    return variable if variable.startswith("@") else f"{name}={MASK}" if equals and name.isidentifier() else MASK


def _log_lines(home: Path) -> list[str]:
    log.flush()
    try:
        text = read_bytes(home / "log" / "nbprovision.log").decode("utf-8", "replace")
    except OSError as error:
        return [f"none: {error.strerror}"]
    return text.splitlines()[-_LOG_LINES:]
