"""Runs the command line and kills its own process group at the n-th operation on the file system.

    python faults.py FOLDER N before|in -- run PLAYBOOK ...      or finish ..., of nbprovision.lifecycle.own_environment

Counted is what CPython's audit events tell of (https://docs.python.org/3/library/audit_events.html): every file opened
for writing, renamed, removed, linked, every folder made or removed, every mode changed, by whichever code of the
process; and every program started. ``before`` dies with the operation not done, which is also the state after the one
before it. ``in`` waits for the n-th moment at which a file has its content, and dies with half of it written.
With N = 0 it only counts, and writes the two numbers to FOLDER/operations.
"""

from __future__ import annotations

import fcntl
import os
import shutil  # noqa: F401 - looks at os when it is imported, so that has to be unchanged
import signal
import sys
from pathlib import Path
from typing import Any

EVENTS = frozenset(
    "os.rename os.remove os.rmdir os.mkdir os.symlink os.link os.chmod os.truncate os.utime os.fork subprocess.Popen".split()  # noqa: SIM905
)
# The removal of a folder with thousands of files is that of any of them.
EVERY = 400


class Faults:
    """Counts, and dies when it is time."""

    def __init__(self, folder: str, number: int, mode: str) -> None:
        self.folder = folder
        self.number = number
        self.mode = mode
        self.seen = {"before": 0, "in": 0}
        self.inside = 0

    def heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        """An audit event."""
        if event == "open":
            path, _, flags = arguments
            if not isinstance(flags, int) or not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC):
                return
        elif event in EVENTS:
            path = arguments[0] if arguments else None
        else:
            return
        if event == "os.chmod" and isinstance(path, int):
            if fcntl.fcntl(path, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY:  # a file that has got its content
                self.counts("in", path)
        elif isinstance(path, (str, bytes, os.PathLike)) and event != "subprocess.Popen":
            name = os.fsdecode(path)
            if os.path.isabs(name) and not name.startswith(self.folder):
                return
            if not os.path.isabs(name):  # inside a folder that is being removed
                self.inside += 1
                if self.inside % EVERY != 1:
                    return
        self.counts("before")

    def counts(self, what: str, handle: int | None = None) -> None:
        """One more; the last one, where it is the n-th."""
        self.seen[what] += 1
        if what == self.mode and self.seen[what] == self.number:
            if handle is not None:
                os.ftruncate(handle, os.fstat(handle).st_size // 2)
            os.killpg(0, signal.SIGKILL)
            signal.pause()

    def write(self, handle: int, data: bytes) -> int:
        """`os.write`, which no audit event tells of."""
        self.seen["in"] += 1
        if self.mode == "in" and self.seen["in"] == self.number:
            WRITE(handle, data[: len(data) // 2])
            os.killpg(0, signal.SIGKILL)
            signal.pause()
        return WRITE(handle, data)


WRITE = os.write


def main(folder: str, number: str, mode: str, *argv: str) -> None:
    """Run with faults."""
    if argv[0] == "finish":  # the last step of bootstrap.sh
        from nbprovision.lifecycle.own_environment import main as command_line
    else:
        from nbprovision.__main__ import main as command_line

    faults = Faults(folder, int(number), mode)
    os.write = faults.write  # type: ignore[assignment]
    sys.addaudithook(faults.heard)
    status = command_line(list(argv))
    if faults.number == 0:
        Path(folder, "operations").write_text(f"{faults.seen['before']} {faults.seen['in']}")
    os._exit(status)


if __name__ == "__main__":
    main(*sys.argv[1:4], *sys.argv[5:])
