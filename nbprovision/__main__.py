"""The program: first the witnesses, then, only if something may have changed, everything else."""

from __future__ import annotations

import gc
import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, NoReturn, TextIO


class Output:
    """A stream to which writing never fails, since a run goes on without its reader and on a full disk.

    Attributes:
        failure: Why the rest of the output is lost, if it is.

    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.failure: OSError | None = None

    def write(self, text: str) -> int:
        """Write a text."""
        if self.failure is None:
            try:
                return self._stream.write(text)
            except OSError as error:
                self.failure = error
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Write what is kept back."""
        if self.failure is None:
            try:
                self._stream.flush()
            except OSError as error:
                self.failure = error

    def __getattr__(self, name: str) -> Any:
        """All else is the stream's."""
        return getattr(self._stream, name)


def leave(argv: list[str]) -> NoReturn:
    """Run the command line and end the process with its status, at once.

    There is nothing to tear down, and CPython's tearing down takes a tenth of the time that a start with nothing to do
    takes.
    """
    # The process is ours: by default the garbage collector runs at each 700 new objects, a twentieth of a short run.
    gc.set_threshold(200_000, 20, 100)
    _open_missing()
    output, errors = Output(sys.stdout), Output(sys.stderr)
    sys.stdout, sys.stderr = output, errors
    status = main(argv)
    output.flush()
    lost = output.failure
    if lost is not None and not isinstance(lost, BrokenPipeError):  # a reader that has gone wanted no more
        errors.write(f"warning: the output is incomplete: {lost.strerror}\n")
        status = status or (0 if argv[:1] == ["run"] else 2)  # the work of a run is done
    errors.flush()
    os._exit(status)


def _open_missing() -> None:
    """Give a closed standard stream the null device: the next file to be opened would get its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = open(os.devnull, mode)  # noqa: SIM115 - for the rest of the process
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)


def main(argv: list[str]) -> int:
    """Run the command line.

    Args:
        argv: The words after the program's name.

    Returns:
        The exit status; docs/reference.md lists them.

    """
    started = time.perf_counter()
    if os.name != "posix":
        sys.stderr.write(
            f"error: nbprovision does not run on this system ({sys.platform})\n"
            "  why: it brings Linux machines to the state of a playbook, by means that only POSIX systems have\n"
            "  fix: run it on the notebook machine itself, or here in a container or in WSL\n"
        )
        return 5
    try:
        from nbprovision.state.witness import to_put_back, try_witnesses

        status = try_witnesses(argv, started)
        invocation = to_put_back(argv) if status is None else None
        if invocation is not None:
            from nbprovision.engine.after_restart import put_back

            status = put_back(invocation, started)
        if status is None:
            from nbprovision.conda import early_engine

            early = early_engine.start(argv)
            from nbprovision.cli import main as command_line

            try:
                status = command_line(argv)
            finally:
                if early is not None:
                    early.close()
    except BrokenPipeError:  # the reader of the output has gone
        return 0
    except EOFError:
        _begin_anew()
        raise
    return status


def _begin_anew() -> None:
    """Run the program again without a compiled file of the tool that a full disk has cut short; else return."""
    from pathlib import Path

    from nbprovision.system.bytecode import remove_truncated

    if remove_truncated(Path(__file__).parents[1]):
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"  # the disk may still be full
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606 - this very program


if __name__ == "__main__":
    leave(sys.argv[1:])
