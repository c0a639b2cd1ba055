"""A STAND-IN for the Python of another image: it says that it is another minor version, and refuses this one's ABI.

It is no other Python. `make` writes a program that starts the real one and, before it does what its words ask for, has
it report the other version wherever installers, bootstrap.sh and own_environment look (``sys``, ``sysconfig``,
``platform``; the name of ``site-packages``), and import no extension module that was compiled for the real version: a
virtual environment made before finds nothing, and wheels of the real version do not fit. What cannot be had of it is an
extension module of the version that it claims; drill that with a real interpreter of that version.

    python = other_python.make(folder / "python3", minor=sys.version_info.minor + 1)
    subprocess.run([python, "-I", "-m", "venv", "--without-pip", folder / "venv"])

"The image's Python changed" is a link, ``image/python3``, to `real()`, from which an environment is made, and in place
of which `make` then writes the stand-in.

It understands ``-c``, ``-m``, a file, ``-`` and ``-V`` with the flags before them, isolated (``-I``, ``-E``) or not. Compiled
files go to a folder beside it, so that none of a wrong version comes into those of the real one.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

_PROGRAM = """\
#!/bin/sh
# a stand-in for Python 3.{minor}, see tests/support/other_python.py
exec '{real}' -I -S -u '{shim}' {minor} '{own}' "$0" "$@"
"""


def make(path: Path, *, minor: int, python: str = "") -> Path:
    """Write a stand-in.

    Args:
        path: Where; what is there is replaced. Beside it come its helper and, when it runs, a folder of compiled files.
        minor: Of the version that it claims to be.
        python: The one that does the work; by default the base of the one that runs this.

    Returns:
        ``path``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    shim = path.with_name(f"{path.name}-stand-in.py")
    shim.write_bytes(Path(__file__).read_bytes())
    path.write_text(_PROGRAM.format(real=python or real(), shim=shim, own=path, minor=minor))
    path.chmod(0o755)
    return path


def real() -> str:
    """The path of the Python that does the work by default."""
    return os.path.realpath(getattr(sys, "_base_executable", sys.executable))


class _VersionInfo(NamedTuple):
    """What ``sys.version_info`` has."""

    major: int
    minor: int
    micro: int
    releaselevel: str
    serial: int


def _claim(minor: int, own: str, called: str) -> None:
    """Have this process be Python 3.MINOR at ``called``, whose base is ``own``."""
    was = f"3{sys.version_info.minor}"
    stdlib = os.path.dirname(os.__file__)
    number = f"3.{minor}.0"
    info = _VersionInfo(3, minor, 0, "final", 0)
    system: Any = sys
    system.version = f"{number} (a stand-in) " + sys.version.partition(" ")[2]
    system.version_info = info
    system.hexversion = system.implementation.hexversion = (3 << 24) | (minor << 16) | 0xF0
    system.implementation.version = info
    system.implementation.cache_tag = f"cpython-3{minor}"
    system.pycache_prefix = own + "-compiled"
    system.executable, system._base_executable = called, own
    folder = os.path.dirname(os.path.dirname(called))
    if os.path.exists(os.path.join(folder, "pyvenv.cfg")):
        system.prefix = system.exec_prefix = folder

    import sysconfig  # not before: it looks at the version once

    variables = sysconfig.get_config_vars()
    for name in ("SOABI", "EXT_SUFFIX"):
        variables[name] = str(variables[name]).replace(was, f"3{minor}")
    variables.update(VERSION=f"3.{minor}", LDVERSION=f"3.{minor}")
    _refuse_extensions(stdlib, [variables["EXT_SUFFIX"], ".abi3.so", ".so"])
    if system.prefix != sys.base_prefix:
        import site

        site.addsitedir(os.path.join(folder, f"lib/python3.{minor}/site-packages"))


def _refuse_extensions(stdlib: str, suffixes: list[str]) -> None:
    """Outside of the standard library, import only extension modules with one of ``suffixes``."""
    from importlib import machinery

    loaders = (
        (machinery.ExtensionFileLoader, suffixes),
        (machinery.SourceFileLoader, machinery.SOURCE_SUFFIXES),
        (machinery.SourcelessFileLoader, machinery.BYTECODE_SUFFIXES),
    )

    def hook(path: str) -> Any:
        inside = os.path.realpath(path)
        if not os.path.isdir(path) or (inside + "/").startswith((stdlib + "/", os.path.realpath(stdlib) + "/")):
            raise ImportError(path)
        return machinery.FileFinder(path, *loaders)

    machinery.EXTENSION_SUFFIXES[:] = suffixes
    sys.path_hooks.insert(0, hook)


def _run(words: list[str]) -> None:
    """Do what a command line of Python asks for."""
    import runpy

    isolated = False
    while words and words[0].startswith("-") and words[0] not in ("-", "-c", "-m"):
        flag = words.pop(0)
        if flag in ("-V", "--version"):
            print("Python", sys.version.partition(" ")[0])
            return
        if flag in ("-X", "-W"):
            words.pop(0)
        elif not flag.startswith(("-X", "-W", "--")):
            isolated = isolated or "I" in flag or "E" in flag
            if flag[-1] in "cm":  # such as -Ic
                words.insert(0, f"-{flag[-1]}")
    kind = words[0] if words and words[0] in ("-c", "-m") else "-" if not words or words[0] == "-" else "file"
    if not isolated:
        first = os.path.dirname(os.path.abspath(words[0])) if kind == "file" else os.getcwd() if kind == "-m" else ""
        sys.path[:0] = [first, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    if kind == "-m":
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    elif kind == "file":
        sys.argv = words
        runpy.run_path(words[0], run_name="__main__")
    else:
        sys.argv = ["-c", *words[2:]] if kind == "-c" else ["-"]
        code = words[1] if kind == "-c" else sys.stdin.read()
        exec(compile(code, "<string>", "exec"), vars(sys.modules["__main__"]))


if __name__ == "__main__":
    _claim(int(sys.argv[1]), sys.argv[2], os.path.abspath(sys.argv[3]))
    _run(sys.argv[4:])
