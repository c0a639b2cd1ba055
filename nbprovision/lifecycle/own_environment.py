"""The tool's own virtual environment, as bootstrap.sh makes and checks it; runs inside that environment.

``venv`` in the home folder is a link to one of two slots, ``venv.1`` and ``venv.2``. A new environment is made in the
slot that is not in use. What is in a slot counts only once its marker ``.complete`` is there, which is written last:

    what was installed (a requirement, or the digest of a wheel or of a source tree)
    version of nbprovision
    size and time of the interpreter
    the slot's path
    kind of interpreter
    names of the installed distributions
"""

from __future__ import annotations

import csv
import fcntl
import os
import shutil
import sys
from pathlib import Path

from nbprovision.system.bytecode import remove_cut

MARKER = ".complete"
SLOTS = ("venv.1", "venv.2")


def check(venv: Path) -> None:
    """Take a closer look at an environment in which something has changed, and mark it anew if it is sound.

    Raises:
        OSError: a file is missing.
        ValueError: a file is not as long as it was recorded, or the interpreter is another one.
    """
    installed, version, _, _, kind, names, *_ = (venv / MARKER).read_text().split("\n")
    if kind != interpreter_kind():
        raise ValueError(f"made by {kind}, which is now {interpreter_kind()}")
    site = site_packages(venv)
    for name in names.split():
        with (site / name / "RECORD").open(newline="") as record:
            for path, _, size in csv.reader(record):
                if size and (site / path).stat().st_size != int(size):
                    raise ValueError(f"{path} is not as it was installed")
    mark(venv, installed, version)


def finish(venv: Path, home: Path, installed: str) -> None:
    """Mark a new environment complete and turn the link to it; the one before it goes.

    Args:
        venv: The slot that was just filled.
        home: The tool's home folder.
        installed: What tells the thing that was installed from any other.
    """
    remove_cut(site_packages(venv))
    import rattler  # noqa: F401  # the largest wheel; one that does not fit this machine shows here

    (venv / ".lock").unlink(missing_ok=True)  # uv's, and writable for everybody
    own = next(site_packages(venv).glob("nbprovision-*.dist-info"))
    mark(venv, installed, own.name.split("-")[1].removesuffix(".dist"))
    link = home / "venv"
    if link.is_dir() and not link.is_symlink() and (link / "pyvenv.cfg").is_file():
        shutil.rmtree(link)
    temporary = home / "venv.new"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(venv.name)
    temporary.replace(link)
    for slot in SLOTS:
        if slot != venv.name:
            _remove_unless_running(home / slot, home)


def tidy(home: Path) -> None:
    """Remove the slot that is not in use: an install that was killed before or after it turned the link.

    To be called by a run, with its lock held: no other run can be at work from there. One that is being filled stays.
    """
    if not (home / "venv").is_symlink() or not all((home / slot).is_dir() for slot in SLOTS):
        return
    with (home / "bootstrap.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        (home / "venv.new").unlink(missing_ok=True)
        in_use = {os.path.realpath(home / "venv"), os.path.realpath(sys.prefix)}
        for slot in SLOTS:
            if os.path.realpath(home / slot) not in in_use:
                shutil.rmtree(home / slot, ignore_errors=True)


def mark(venv: Path, installed: str, version: str) -> None:
    """Write the marker, whole or not at all."""
    interpreter = (venv / "bin/python").stat()
    lines = [
        installed,
        version,
        f"{interpreter.st_size} {int(interpreter.st_mtime)}",
        str(venv),
        interpreter_kind(),
        " ".join(sorted(path.name for path in site_packages(venv).glob("*.dist-info"))),
    ]
    temporary = venv / (MARKER + ".new")
    with temporary.open("w") as stream:
        stream.write("\n".join(lines) + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(venv / MARKER)
    # The rename has touched the folder after the marker was written, and "changed since" is told by comparing the two.
    os.utime(venv / MARKER)


def interpreter_kind() -> str:
    """What compiled packages depend on: ``cpython-312 x86_64``."""
    return f"{sys.implementation.cache_tag} {os.uname().machine}"


def site_packages(venv: Path) -> Path:
    """Where this interpreter looks for the packages of ``venv``."""
    return venv / f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"


def _remove_unless_running(slot: Path, home: Path) -> None:
    # A run that goes on in the background holds the lock and may still import from there; the next install removes it.
    with (home / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        shutil.rmtree(slot, ignore_errors=True)


def main(argv: list[str]) -> int:
    """``check VENV`` or ``finish VENV HOME INSTALLED``; 0 if all is well."""
    action, venv, *rest = argv
    try:
        if action == "check":
            check(Path(venv))
        else:
            finish(Path(venv), Path(rest[0]), rest[1])
    except (OSError, ValueError, ImportError, StopIteration) as error:
        sys.stderr.write(f"  {type(error).__name__}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
