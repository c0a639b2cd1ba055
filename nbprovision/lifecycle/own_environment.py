"""Marks and checks the tool's own virtual environment for bootstrap.sh; runs inside that environment.

``venv`` in the home folder is a link to one of two slots, ``venv.1`` and ``venv.2``. ``venv.good`` is a link to the
slot that last ended a run with 0, which is the fallback if a newer one does not work. A slot is valid only with its
marker ``.complete``, which is written last, after everything else is on the disk:

    the installed source (a requirement, or the digest of a wheel or of a source tree)
    version of nbprovision
    size and time of the interpreter
    the slot's path
    kind of interpreter
    names of the installed distributions
    digest of their RECORDs and of pyvenv.cfg, which is in no RECORD

This file imports nbprovision as late as possible, and can be run by its path (``python -I FILE check VENV``). So it
works if other files of the tool are damaged, and with another Python.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
from pathlib import Path

MARKER = ".complete"
_LINES = 7  # of a marker
SLOTS = ("venv.1", "venv.2")


class OtherInterpreter(ValueError):
    """Another kind of Python made the environment, which is usable again with that Python."""


def check(venv: Path, *, deep: bool = False) -> None:
    """Check an environment closely, and mark it again if it is intact.

    Args:
        venv: The slot.
        deep: Compare every file with its hash (PyPA, "Recording installed projects"): a power cut leaves files of zeros
            with their old size and time. Compiled files have no hashes and are removed: Python makes them again.

    Raises:
        OSError: a file is missing.
        ValueError: a file differs from its record.
        OtherInterpreter: another Python made the environment.
    """
    lines = (venv / MARKER).read_text(errors="replace").split("\n")
    if len(lines) != _LINES + 1:
        raise ValueError(f"{venv / MARKER} is incomplete")
    installed, version, _, _, kind, names, recorded, _ = lines
    if kind != interpreter_kind():
        raise OtherInterpreter(f"made by {kind}, this is {interpreter_kind()}")
    if deep:
        _remove_compiled(site_packages(venv))
    if _digest_of_records(venv, names.split()) != recorded:
        raise ValueError(f"pyvenv.cfg or a RECORD of {venv} is not as it was installed")
    for name in names.split():
        _compare(site_packages(venv), name, deep=deep)
    mark(venv, installed, version)


def finish(venv: Path, home: Path, installed: str) -> None:
    """Mark a new environment complete and turn the link to it. The other slot stays as a fallback.

    Args:
        venv: The slot that was just filled.
        home: The tool's home folder.
        installed: Identifies the installed source.

    Raises:
        OSError: a file could not be written to the disk.
        ImportError: a package does not fit this machine.
        StopIteration: the tool itself is missing.
    """
    from nbprovision.system.bytecode import remove_truncated

    remove_truncated(site_packages(venv))
    import rattler  # noqa: F401  # the largest wheel; one that does not fit this machine shows here

    (venv / ".lock").unlink(missing_ok=True)  # uv makes it writable for everybody
    own = next(site_packages(venv).glob("nbprovision-*.dist-info"))
    _write_to_disk(venv)
    mark(venv, installed, own.name.split("-")[1].removesuffix(".dist"))
    link = home / "venv"
    if link.is_dir() and not link.is_symlink() and (link / "pyvenv.cfg").is_file():
        shutil.rmtree(link)
    _turn(link, venv.name)


def good(home: Path, slot: str | None = None) -> None:
    """Make ``venv.good`` a link to a slot that has ended a run with 0. Write nothing if it already is.

    In a shell: ``slot=$(readlink "$home/venv"); [ "$(readlink "$home/venv.good")" = "$slot" ] || {
    ln -sfn "$slot" "$home/venv.good.new" && mv -fT "$home/venv.good.new" "$home/venv.good"; }``

    Args:
        home: The tool's home folder.
        slot: The name of the slot; default the slot in use.

    Raises:
        OSError: ``venv`` is not a link, or the folder cannot be written.
        ValueError: the link does not name a slot.
    """
    slot = slot or os.readlink(home / "venv")
    if slot not in SLOTS:
        raise ValueError(f"{home / 'venv'} leads to {slot}, which is not a slot")
    try:
        if os.readlink(home / "venv.good") == slot:
            return
    except OSError:
        pass
    _turn(home / "venv.good", slot)


def own_slot(home: Path) -> str | None:
    """Return the name of the slot that this process runs from; None if it runs from elsewhere."""
    prefix = os.path.realpath(sys.prefix)
    return next((slot for slot in SLOTS if prefix == os.path.realpath(home / slot)), None)


def spare(home: Path) -> Path:
    """Return the slot for the next install: not the good one if that is complete, else not the one in use.

    Raises:
        BlockingIOError: it is the slot in use, from which an active run may still import.
    """
    kept = next((link for link in (home / "venv.good", home / "venv") if (link / MARKER).is_file()), home / "venv")
    slot = next(home / name for name in SLOTS if os.path.realpath(home / name) != os.path.realpath(kept))
    if os.path.realpath(slot) == os.path.realpath(home / "venv") and (home / "lock").exists():
        with (home / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    return slot


def tidy(home: Path) -> None:
    """Remove the leftovers of a killed install: slots without a marker, and temporary links.

    A run calls this with its lock held, so that no other run uses these slots. A slot that is being filled stays.
    """
    if not (home / "venv").is_symlink() or not _leftovers(home):
        return
    with (home / "bootstrap.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        for path in _leftovers(home):
            if path.is_symlink():
                path.unlink()
            else:
                shutil.rmtree(path, ignore_errors=True)


def _leftovers(home: Path) -> list[Path]:
    in_use = {os.path.realpath(home / "venv"), os.path.realpath(sys.prefix)}
    slots = [home / slot for slot in SLOTS if (home / slot).is_dir() and not (home / slot / MARKER).exists()]
    links = [home / name for name in ("venv.new", "venv.good.new") if (home / name).is_symlink()]
    return links + [slot for slot in slots if os.path.realpath(slot) not in in_use]


def mark(venv: Path, installed: str, version: str) -> None:
    """Write the marker atomically."""
    interpreter = (venv / "bin/python").stat()
    names = sorted(path.name for path in site_packages(venv).glob("*.dist-info"))
    lines = [
        installed,
        version,
        f"{interpreter.st_size} {int(interpreter.st_mtime)}",
        str(venv),
        interpreter_kind(),
        " ".join(names),
        _digest_of_records(venv, names),
    ]
    temporary = venv / (MARKER + ".new")
    with temporary.open("w") as stream:
        stream.write("\n".join(lines) + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(venv / MARKER)
    # The rename changed the folder after the marker was written, and checks compare the times of the two.
    os.utime(venv / MARKER)


def interpreter_kind() -> str:
    """Return what compiled packages depend on: ``cpython-312 x86_64``."""
    return f"{sys.implementation.cache_tag} {os.uname().machine}"


def site_packages(venv: Path) -> Path:
    """Return the folder of ``venv`` for packages of this interpreter."""
    return venv / f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"


def _compare(site: Path, name: str, *, deep: bool) -> None:
    """Compare the files of a distribution with its RECORD: path, ``sha256=`` base64 without ``=``, size."""
    import csv

    with (site / name / "RECORD").open(newline="") as record:
        for path, recorded, size in csv.reader(record):
            if path.endswith(".pyc"):
                continue
            if size and (site / path).stat().st_size != int(size):
                raise ValueError(f"{site / path} has another size than the installed file")
            if deep and recorded and _hash_of(site / path, recorded.partition("=")[0]) != recorded:
                raise ValueError(f"{site / path} has other content than the installed file")


def _hash_of(path: Path, algorithm: str) -> str:
    import base64

    digest = hashlib.new(algorithm, path.read_bytes()).digest()
    return f"{algorithm}={base64.urlsafe_b64encode(digest).decode().rstrip('=')}"


def _digest_of_records(venv: Path, names: list[str]) -> str:
    """Digest the files that describe all others; no other check notices that one is truncated or empty."""
    digest = hashlib.sha256((venv / "pyvenv.cfg").read_bytes())
    for name in names:
        digest.update((site_packages(venv) / name / "RECORD").read_bytes())
    return digest.hexdigest()


def _remove_compiled(folder: Path) -> None:
    for place, folders, _ in os.walk(folder):
        if "__pycache__" in folders:
            folders.remove("__pycache__")
            shutil.rmtree(os.path.join(place, "__pycache__"))


def _write_to_disk(folder: Path) -> None:
    """Write all changes of the file system of ``folder`` to the disk.

    One call for the file system: syncing some two thousand files one by one takes many times as long, and os.sync waits
    for other disks too.

    Raises:
        OSError: a write failed (reported by Linux 5.8 and newer).
    """
    import ctypes

    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(handle):
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error), str(folder))
    finally:
        os.close(handle)


def _turn(link: Path, slot: str) -> None:
    temporary = link.with_name(link.name + ".new")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(slot)
    temporary.replace(link)


def main(argv: list[str]) -> int:
    """Run a command for bootstrap.sh.

    The commands are ``check [--deep] VENV``, ``finish SLOT HOME INSTALLED``, ``good HOME`` and ``spare HOME`` (prints
    the slot). ``check --deep`` prints ``sound``, because an emptied file of this name would end with 0 too.

    Returns:
        0 for success; else 1, or 3 for an environment of another Python, with the reason on standard error.
    """
    try:
        match argv:
            case ["check", "--deep", venv]:
                check(Path(venv), deep=True)
                print("sound")
            case ["check", venv]:
                check(Path(venv))
            case ["finish", slot, home, installed]:
                finish(Path(slot), Path(home), installed)
            case ["good", home]:
                good(Path(home))
            case ["spare", home]:
                print(spare(Path(home)))
            case _:
                sys.stderr.write(f"  not a command: {' '.join(argv)}\n")
                return 1
    except BlockingIOError:
        sys.stderr.write(f"  an active run uses {os.path.realpath(Path(argv[1]) / 'venv')}, the slot to fill\n")
        return 1
    except OtherInterpreter as error:
        sys.stderr.write(f"  {error}\n")
        return 3
    except Exception as error:  # noqa: BLE001 - any damage is reported in one line
        sys.stderr.write("  " + " ".join(f"{type(error).__name__}: {error}".split()) + "\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
