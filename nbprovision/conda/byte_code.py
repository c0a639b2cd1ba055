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
from nbprovision.system.files import make_folder, move_into_place, temporary_folder
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

_lock = threading.Lock()  # environments are made side by side
_tried: set[Path] = set()


def share(prefix: Path, package: Path) -> None:
    """Link the byte code of a newly linked Python into its environment; the first environment compiles it.

    It is an advantage, not a part of the environment: where it cannot be had, nothing is reported.

    Args:
        prefix: The environment.
        package: The unpacked package of Python in the cache.

    """
    library = next(package.glob("lib/python3*/encodings"), None)
    if library is None or (library / "__pycache__").exists():
        return
    kept = package / _KEPT
    with contextlib.suppress(OSError, ProvisionError):
        with _lock:
            if not kept.is_dir() and package not in _tried:
                _tried.add(package)
                _compile(prefix, package, kept)
        for folder, _, names in os.walk(kept):
            place = os.path.relpath(folder, kept)
            if names and _same_source(prefix, package, place, names[0]):
                cache = prefix / place / "__pycache__"
                cache.mkdir(exist_ok=True)
                for name in names:
                    with contextlib.suppress(FileExistsError):
                        os.link(os.path.join(folder, name), cache / name)


def _compile(prefix: Path, package: Path, kept: Path) -> None:
    """Let the environment's Python compile into ``kept``; completely or not at all."""
    real = os.path.realpath(prefix)
    with temporary_folder(kept) as folder:
        written, chosen = folder / "written", folder / "chosen"
        make_folder(chosen)
        words = [f"{real}/bin/python", "-I", "-S", "-X", f"pycache_prefix={written}", "-c", _PROGRAM]
        env = {"PATH": os.defpath, "LANG": "C.UTF-8"}
        process = start(words, env=env, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL, preexec_fn=dying_with_parent())
        try:
            if process.wait(_LIMIT) != 0:
                return
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return
        # Python compiles into the same folders below ``pycache_prefix``: https://docs.python.org/3/library/sys.html
        compiled = Path(f"{written}{real}")
        for place, _, names in os.walk(compiled):
            relative = os.path.relpath(place, compiled)
            for name in names:
                if _same_source(prefix, package, relative, name):
                    make_folder(chosen / relative)
                    os.rename(os.path.join(place, name), chosen / relative / name)
        move_into_place(chosen, kept)


def _same_source(prefix: Path, package: Path, folder: str, compiled: str) -> bool:
    """Whether the source is a hard link to the package's: then its time and size, by which Python compares, stay.

    A source with the prefix in it differs in each environment.
    """
    source = f"{folder}/{compiled.partition('.')[0]}.py"
    try:
        return os.path.samefile(prefix / source, package / source)
    except OSError:
        return False
