"""A CPython of this machine as a conda package for any prefix."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec

from nbprovision.channel.package import PLACEHOLDER, Package
from nbprovision.model.errors import TaskFailed
from nbprovision.system import commands
from nbprovision.system.files import temporary_folder

# Folders that no environment needs, or that belong to the installation and not to Python.
_SKIPPED_FOLDERS = {
    "site-packages", "dist-packages", "__pycache__", "test", "tests", "idlelib", "idle_test", "turtledemo", "tkinter",
    "lib2to3",
}  # fmt: skip
_SKIPPED_FILES = {"EXTERNALLY-MANAGED", "sitecustomize.py", "usercustomize.py"}
_ORIGIN = b"$ORIGIN/../lib"

# Debian's Python looks for packages in dist-packages, which no other tool uses, and installs below local/ (its patch
# distutils-install-layout). Its copy gets upstream's rules again. Those of Lib/site.py come by a sitecustomize, because
# the program contains site itself from 3.11 on; those of Lib/sysconfig are put into the file.
_SITE_RULE = '''"""Packages are in site-packages, as in every Python that is not Debian's."""

import os
import site
import sys


def getsitepackages(prefixes=None):
    """The site-packages folder of each prefix."""
    minor = "python%d.%d" % sys.version_info[:2]
    wanted = dict.fromkeys(site.PREFIXES if prefixes is None else prefixes)
    return [os.path.join(prefix, "lib", minor, "site-packages") for prefix in wanted if prefix]


site.getsitepackages = getsitepackages
for folder in getsitepackages():
    site.addsitedir(folder)
'''
_SCHEMES_USE = b"def get_preferred_scheme("
_SCHEMES_RULE = b"""\
def _get_preferred_schemes():
    return {"prefix": "posix_prefix", "home": "posix_home", "user": "posix_user"}


"""


class Interpreter(msgspec.Struct, frozen=True):
    """A Python installation.

    Attributes:
        executable: Its program.
        version: Such as ``3.11.7``.
        base: Its prefix.
        stdlib: The folder of its standard library.
        library: The shared libpython, None if the program contains it.
        implementation: Such as ``cpython``.
    """

    executable: str
    version: Annotated[str, msgspec.Meta(pattern=r"^\d+\.\d+\.\d+$")]
    base: str
    stdlib: str
    library: str | None
    implementation: str = "cpython"

    @property
    def minor(self) -> str:
        """Such as ``3.11``."""
        return ".".join(self.version.split(".")[:2])

    @property
    def distribution_patched(self) -> bool:
        """Whether it is Debian's, which looks for packages in other folders than upstream."""
        return '"dist-packages"' in Path(self.stdlib, "site.py").read_text(encoding="utf-8")


_DESCRIBE = """
import json, os, sys, sysconfig
get = sysconfig.get_config_var
base = os.path.realpath(sys.base_prefix)
library = os.path.join(get("LIBDIR") or "", get("INSTSONAME") or "") if get("Py_ENABLE_SHARED") else ""
libraries = [library, os.path.join(base, "lib", os.path.basename(library))] if library else []
print(json.dumps({
    "implementation": sys.implementation.name,
    "version": "%d.%d.%d" % sys.version_info[:3],
    "base": base,
    "executable": os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable),
    "stdlib": os.path.dirname(os.path.realpath(os.__file__)),
    "library": next((path for path in libraries if os.path.isfile(path)), None),
}))
"""


def describe(executable: str) -> Interpreter:
    """The description that an interpreter gives of itself.

    Raises:
        TaskFailed: it does not start, or is not a CPython of 3.10 or newer.
    """
    cure = "name a CPython 3.10 or newer by `interpreter`: its path, or a version such as '3.12'"
    try:
        answer = commands.run([executable, "-I", "-S", "-c", _DESCRIBE], env=os.environ, timeout=60)
        described = msgspec.json.decode(answer.output, type=Interpreter)
    except (TaskFailed, msgspec.DecodeError) as error:
        complaint = error.cause if isinstance(error, TaskFailed) else str(error)
        raise TaskFailed(
            f"the interpreter {executable} does not start as a Python does", cause=complaint.strip(), cure=cure
        ) from None
    if described.implementation != "cpython" or tuple(map(int, described.minor.split("."))) < (3, 10):
        raise TaskFailed(
            f"{executable} is not a CPython 3.10 or newer",
            cause=f"it is {described.implementation} {described.version}",
            cure=cure,
        )
    return described


def find(wanted: str | None) -> Interpreter:
    """The interpreter to package.

    Args:
        wanted: A path, a version such as ``3.12`` or ``3.12.1``, or None for nbprovision's own interpreter.

    Raises:
        TaskFailed: it does not exist; the cause lists the existing ones.
    """
    if wanted is None:
        return describe(sys.executable)
    if "/" in wanted:
        return describe(wanted)
    minor = ".".join(wanted.split(".")[:2])
    versions = {}
    for candidate in dict.fromkeys(os.path.realpath(path) for path in (sys.executable, *_candidates(minor))):
        try:
            candidate_python = describe(candidate)
        except TaskFailed:
            continue
        if wanted in (candidate_python.version, candidate_python.minor):
            return candidate_python
        versions[candidate_python.version] = candidate
    listed = ", ".join(f"{version} ({path})" for version, path in sorted(versions.items()))
    raise TaskFailed(
        f"this machine has no CPython {wanted}",
        cause=f"found: {listed}" if listed else "",
        cure="name another version or the path of an interpreter, or install one",
    )


def _candidates(minor: str) -> Iterator[str]:
    name = f"python{minor}"
    home = Path.home()
    folders = [*os.environ.get("PATH", "").split(os.pathsep), "/usr/local/bin", "/usr/bin", "/opt/conda/bin"]
    folders += [str(home / "anaconda3/bin"), "/home/ec2-user/anaconda3/bin"]
    for folder in folders:
        path = Path(folder, name)
        if folder and path.is_file() and os.access(path, os.X_OK) and not _is_script(path):
            yield str(path)
    for versions in (home / ".pyenv/versions", home / ".local/share/uv/python", Path("/opt/python")):
        for path in sorted(versions.glob(f"*{minor}*/bin/{name}"), key=_numbers, reverse=True):
            yield str(path)


def _numbers(path: Path) -> list[int]:
    """The numbers in the name of a version's folder, which sort 3.12.10 after 3.12.9."""
    return [int(number) for number in re.findall(r"\d+", path.parents[1].name)]


def _is_script(path: Path) -> bool:
    # pyenv's shims are shell scripts that start the interpreter of the folder's settings.
    with path.open("rb") as stream:
        return stream.read(2) == b"#!"


def package(interpreter: Interpreter) -> Package:
    """Make the package ``python`` of an interpreter.

    Programs and libraries find libpython by a run path relative to themselves. In text files the placeholder replaces
    the base prefix. The package uses the system's shared libraries (OpenSSL, libffi, ...), so it fits similar machines.
    """
    minor = interpreter.minor
    made = Package(
        "python",
        interpreter.version,
        "0_cpython",
        license="PSF-2.0",
        python_site_packages_path=f"lib/python{minor}/site-packages",
    )
    _add(made, interpreter, Path(interpreter.executable), f"bin/python{minor}")
    for alias in ("python", "python3"):
        made.link(f"bin/{alias}", f"python{minor}")
    if interpreter.library is not None:
        library = Path(interpreter.library)
        _add(made, interpreter, library, f"lib/{library.name}")
        if library.name != f"libpython{minor}.so":
            made.link(f"lib/libpython{minor}.so", library.name)
    stdlib = Path(interpreter.stdlib)
    for path in _standard_library(stdlib):
        _add(made, interpreter, path, f"lib/python{minor}/{path.relative_to(stdlib)}")
    if interpreter.distribution_patched:
        made.add(f"lib/python{minor}/sitecustomize.py", _SITE_RULE.encode())
    made.add(f"lib/python{minor}/site-packages/README.txt", b"Third-party packages are installed here.\n")
    made.about = {
        "summary": f"CPython {interpreter.version}, packaged on this machine",
        "home": "https://www.python.org/",
    }
    return made


def _standard_library(stdlib: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(stdlib):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED_FOLDERS and not name.startswith("config-"))
        for name in sorted(files):
            path = Path(folder, name)
            built = path.suffix in (".a", ".o", ".pyc") or (path.suffix == ".so" and "_test" in name)
            if not built and name not in _SKIPPED_FILES and not name.startswith("_tkinter") and path.is_file():
                yield path


def _add(made: Package, interpreter: Interpreter, path: Path, target: str) -> None:
    content = path.read_bytes()
    executable = bool(path.stat().st_mode & 0o111)
    base = interpreter.base.encode()
    if content.startswith(b"\x7fELF"):
        made.add(target, _stripped(_relocatable(content, base)), executable=executable)
        return
    if path.name in ("sysconfig.py", "__init__.py") and b"'posix_local': {" in content:
        # Immediately before its first use: later functions have its result as a default argument.
        content = content.replace(_SCHEMES_USE, _SCHEMES_RULE + _SCHEMES_USE)
    # Files contain a base as short as /usr for other reasons than the prefix.
    named = len(base) > len(b"/usr/local") and base in content
    if named:
        content = content.replace(base, PLACEHOLDER.encode())
    made.add(target, content, executable=executable, placeholder=named)


def _relocatable(content: bytes, base: bytes) -> bytes:
    """Point a run path of ``BASE/lib`` at the folder beside the file's own, in place."""
    run_path = base + b"/lib\0"
    if len(run_path) <= len(_ORIGIN):
        return content
    return content.replace(run_path, _ORIGIN + b"\0" * (len(run_path) - len(_ORIGIN)))


def _stripped(content: bytes) -> bytes:
    """Without debug symbols, if binutils' strip exists: libpython shrinks from 23 MB to 6 MB."""
    with temporary_folder(Path(tempfile.gettempdir(), "nbprovision-strip")) as folder:
        copy = folder / "copy"
        copy.write_bytes(content)
        try:
            commands.run(["strip", "--strip-debug", copy], env=os.environ)
        except TaskFailed:
            return content
        return copy.read_bytes()
