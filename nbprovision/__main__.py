"""The program: first the witnesses, then, only if something may have changed, everything else."""

from __future__ import annotations

import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def leave(argv: list[str]) -> NoReturn:
    """Run the command line and end the process with its status, at once.

    There is nothing to tear down, and CPython's tearing down takes a tenth of the time that a start with nothing to do
    takes.
    """
    try:
        status = main(argv)
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        status = 0
    os._exit(status)


def main(argv: list[str]) -> int:
    """Run the command line.

    Args:
        argv: The words after the program's name.

    Returns:
        The exit status; docs/reference.md lists them.

    """
    started = time.perf_counter()
    from nbprovision.state.witness import try_witnesses

    try:
        status = try_witnesses(argv, started)
        if status is None:
            from nbprovision.cli import main as command_line

            status = command_line(argv)
    except BrokenPipeError:  # whoever read our output has gone, which is no fault of the run
        sys.stderr.close()
        return 0
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
