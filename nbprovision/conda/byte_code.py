"""The byte code of Python's standard library: compiled once for each package of Python, and linked into environments.

uv and pip start an environment's Python before they install, and uv does not let it write byte code. A Python whose
package has none, such as those of ``ensure_conda_channel``, would compile the same modules at each of these starts,
which takes longer than the rest of uv's work.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from pathlib import Path

from nbprovision.model.errors import ProvisionError
from nbprovision.system.context import current
from nbprovision.system.files import make_folder, move_into_place, remove, temporary_folder
from nbprovision.system.process import DEVNULL, dying_with_parent, start

_KEPT = "info/byte-code"  # in the unpacked package: an engine links what the package's own list names
_LIMIT = 60.0  # seconds
# What uv's question to an interpreter and pip's start import, and what these import in turn. A full disk can truncate
# compiled files (python/cpython issue 126606), so they are read again.
_PROGRAM = """
import argparse, importlib.util, json, marshal, os, platform, struct, subprocess, sys, sysconfig, typing
for module in list(sys.modules.values()):
    path = getattr(getattr(module, "__spec__", None), "cached", None)
    if path and os.path.exists(path):
        with open(path, "rb") as stream:
            marshal.loads(stream.read()[16:])
"""


class _Tried:
    """The packages whose byte code was compiled, or could not be; environments are made side by side."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.packages: set[Path] = set()


def share(prefix: Path, package: Path) -> None:
    """Link the byte code of a newly linked Python into its environment; the first environment compiles it.

    It saves time and is not a part of the environment, so a failure is not reported.

    Args:
        prefix: The environment.
        package: The unpacked package of Python in the cache.

    """
    library = next(package.glob("lib/python3*/encodings"), None)
    if library is None or (library / "__pycache__").exists():
        return
    kept = package / _KEPT
    with contextlib.suppress(OSError, ProvisionError):
        tried = current(_Tried)
        with tried.lock:
            if not kept.is_dir() and package not in tried.packages:
                tried.packages.add(package)
                _compile(prefix, package, kept)
        for folder, _, names in os.walk(kept):
            place = os.path.relpath(folder, kept)
            if names and _has_same_source(prefix, package, place, names[0]):
                make_folder(prefix / place / "__pycache__")
                for name in names:
                    with contextlib.suppress(FileExistsError):
                        os.link(os.path.join(folder, name), prefix / place / "__pycache__" / name)


def _compile(prefix: Path, package: Path, kept: Path) -> None:
    """Let the environment's Python compile into ``kept``; completely or not at all."""
    real = os.path.realpath(prefix)
    with temporary_folder(kept) as folder:
        words = [f"{real}/bin/python", "-I", "-S", "-X", f"pycache_prefix={folder}", "-c", _PROGRAM]
        process = start(
            words,
            env={"PATH": os.defpath, "LANG": "C.UTF-8"},
            stdin=DEVNULL,
            stdout=DEVNULL,
            stderr=DEVNULL,
            preexec_fn=dying_with_parent(),
        )
        try:
            status = process.wait(_LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
        if status != 0:
            return
        # Below ``pycache_prefix`` are the folders of the sources: https://docs.python.org/3/library/sys.html
        compiled = Path(f"{folder}{real}")
        make_folder(compiled)
        for place, _, names in os.walk(compiled):
            for name in names:
                if not _has_same_source(prefix, package, os.path.relpath(place, compiled), name):
                    remove(Path(place, name))
        move_into_place(compiled, kept)


def _has_same_source(prefix: Path, package: Path, folder: str, compiled: str) -> bool:
    """Whether the source is a hard link to the package's: then its time and size, by which Python compares, stay.

    A source with the prefix in it differs in each environment.
    """
    source = f"{folder}/{compiled.partition('.')[0]}.py"
    try:
        return os.path.samefile(prefix / source, package / source)
    except OSError:
        return False
