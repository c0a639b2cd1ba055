"""Python interpreters as install targets: their environments, their versions, and whether installs are allowed.

Files describe an interpreter in a conda or virtual environment completely. Any other interpreter is started once,
because only it knows where its distributions lie (Debian has dist-packages, another prefix may be patched in). Its
answer is kept until its file changes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from nbprovision.machine import distributions
from nbprovision.machine.distributions import Distribution
from nbprovision.machine.environments import is_environment, is_virtual
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import TaskFailed
from nbprovision.system import commands, inputs
from nbprovision.system.files import make_folder, write_atomically
from nbprovision.system.reading import read_json

# sysconfig has pip's install scheme; the other folders are on the path of every program as well.
_PROBE = """\
import json, site, sys, sysconfig
paths = sysconfig.get_paths()
folders = [paths["purelib"], paths["platlib"], *site.getsitepackages()]
print(json.dumps({"executable": sys.executable, "prefix": sys.prefix, "base": sys.base_prefix,
    "version": "%d.%d.%d" % sys.version_info[:3], "stdlib": paths["stdlib"],
    "folders": list(dict.fromkeys(folders))}))
"""
_TIMEOUT = 60.0  # seconds; an interpreter may start from a cold disk
_NUMBERS = re.compile(r"3(\.\d+){0,2}")


class Interpreter(msgspec.Struct, frozen=True, kw_only=True):
    """An interpreter's description of itself.

    Attributes:
        executable: Its own file; a wrapper may have another.
        prefix: ``sys.prefix``.
        base: ``sys.base_prefix``.
        version: The full version.
        stdlib: The folder of its standard library.
        folders: The folders of distributions; pip installs into the first.

    """

    executable: str
    prefix: str
    base: str
    version: str
    stdlib: str
    folders: list[str]


class _Kept(msgspec.Struct, frozen=True):
    identity: str
    interpreter: Interpreter


class Target(msgspec.Struct, frozen=True):
    """A target of installs.

    Attributes:
        prefix: The environment.
        python: Its interpreter.
        name: Its name in messages.
        probed: The interpreter's description, if it is not in an environment.
        location: The folder that receives the distributions instead of the environment (pip's ``--target``).

    """

    prefix: Path
    python: Path
    name: str
    probed: Interpreter | None = None
    location: Path | None = None

    @property
    def place(self) -> Path:
        """The folder that an install changes, and marks meanwhile."""
        if self.location is not None:
            return self.location
        return self.prefix if self.probed is None else Path(self.probed.folders[0])

    @property
    def version(self) -> str | None:
        """The version of its Python; None without one."""
        return distributions.python_version(self.prefix) if self.probed is None else self.probed.version

    @property
    def folder(self) -> Path | None:
        """The folder of its distributions; None without a Python."""
        if self.location is not None or self.probed is not None:
            return self.place
        return distributions.site_packages(self.prefix)

    @property
    def runs(self) -> bool:
        """Whether it has a Python to install for."""
        if self.version is None or not os.access(self.python, os.X_OK):
            return False
        return self.probed is not None or distributions.site_packages(self.prefix) is not None

    def installed(self, names: set[str] | None = None) -> dict[str, list[Distribution]]:
        """The installed distributions; see `distributions.in_folder`."""
        if self.folder is None:
            return {}
        installed = distributions.in_folder(self.folder, names)
        if self.probed is not None and self.location is None:
            for other in self.probed.folders[1:]:
                installed = {**distributions.in_folder(Path(other), names), **installed}
        return installed


def target_of(machine: Machine, python: Path, name: str) -> Target:
    """The target of an interpreter: its environment, else the folders that it reports."""
    for prefix in (python.parent.parent, Path(os.path.realpath(python)).parent.parent):
        if _is_environment(prefix):
            return Target(prefix, python, name)
    probed = probe(machine, python)
    return Target(prefix if probed is None else Path(probed.prefix), python, name, probed)


def system_python(machine: Machine) -> Path | None:
    """The Python that ``pip install`` means if no environment is active; None without one.

    If the platform provides a conda, this is the Python of its base, to which the PATH leads. Elsewhere it is
    ``python3`` on the PATH, without the folders of an active environment.
    """
    provided = machine.platform.provided
    if provided is not None and os.access(provided / "bin/python", os.X_OK):
        return provided / "bin/python"
    return next((python for python in _on_path(machine) if os.access(python, os.X_OK)), None)


def system_witnesses(machine: Machine) -> Iterator[Path]:
    """The system's Python, and the missing files before it on the PATH that would replace it."""
    for python in _on_path(machine):
        yield python
        if os.access(python, os.X_OK):
            return


def _on_path(machine: Machine) -> Iterator[Path]:
    env = machine.env
    active = {os.path.realpath(env[name]) for name in ("VIRTUAL_ENV", "CONDA_PREFIX") if env.get(name)}
    active -= {os.path.realpath(base) for base in machine.conda.installations}
    for folder in env.get("PATH", "").split(os.pathsep):
        if os.path.isabs(folder) and os.path.realpath(Path(folder).parent) not in active:
            yield Path(folder, "python3")


def probe(machine: Machine, python: Path) -> Interpreter | None:
    """An interpreter's description of itself, kept until its file changes; None if it does not run.

    A wrapper (such as pyenv's) may start another Python tomorrow, so it is started in every run.
    """
    key = ("interpreter", python, _identity(python))
    if key not in machine.notes:
        machine.notes[key] = _read_kept(machine, python) or _start(machine, python)
    interpreter: Interpreter | None = machine.notes[key]
    return interpreter


def is_managed(target: Target) -> bool:
    """Whether an environment's Python is marked as externally managed (PEP 668).

    Raises:
        TaskFailed: it is a system's own Python.

    """
    library = Path(target.probed.stdlib) if target.probed else target.prefix / f"lib/python{minor(target.version)}"
    mark = library / "EXTERNALLY-MANAGED"
    if not mark.exists():
        return False
    if not _is_environment(target.prefix):
        raise TaskFailed(
            f"{target.python} is managed by the system, and nbprovision does not change it",
            cause=f"{mark} exists",
            cure=f"create an environment from it ({target.python} -m venv FOLDER, or ensure_conda_env) and name that",
        )
    return not is_virtual(target.prefix)  # a venv belongs to its owner, whoever manages its base


def no_python(target: Target) -> TaskFailed:
    """The error for an environment without a working Python."""
    if not target.prefix.is_dir():
        return TaskFailed(
            f"there is no environment at {target.prefix}",
            cause="the folder does not exist",
            cure="create it first: ensure_conda_env or ensure_venv",
        )
    if os.path.islink(target.python) and not target.python.exists():
        return TaskFailed(
            f"the Python of {target.prefix} is missing",
            cause=f"{target.python} leads to {os.readlink(target.python)}, which does not exist",
            cure="create the environment again",
        )
    return TaskFailed(
        f"{target.prefix} has no Python to install for",
        cause=f"{target.python} does not exist, or it has no site-packages",
        cure="add python to the packages of its ensure_conda_env",
    )


def is_version_request(text: str) -> bool:
    """Whether ``text`` is a constraint on Python's version: ``3.12``, ``3.12.4``, ``>=3.10,<3.13``."""
    if _NUMBERS.fullmatch(text):
        return True
    from packaging.specifiers import InvalidSpecifier, SpecifierSet  # not needed by a run with nothing to do

    try:
        return bool(text.strip() and SpecifierSet(text))
    except InvalidSpecifier:
        return False


def satisfies(version: str, request: str) -> bool:
    """Whether a version of Python meets a constraint; ``3.12`` means every 3.12."""
    if _NUMBERS.fullmatch(request):
        return version.split(".")[: request.count(".") + 1] == request.split(".")
    from packaging.specifiers import SpecifierSet
    from packaging.version import InvalidVersion, Version

    try:
        return Version(version) in SpecifierSet(request)
    except InvalidVersion:
        return False


def minor(version: str | None) -> str:
    """``3.12`` of ``3.12.4``; packages are installed for one of these."""
    return ".".join((version or "").split(".")[:2])


def _is_environment(prefix: Path) -> bool:
    """Whether ``prefix`` is an environment of its own, so that nothing else depends on it."""
    return is_virtual(prefix) or is_environment(prefix)


def _read_kept(machine: Machine, python: Path) -> Interpreter | None:
    try:
        with inputs.unrecorded():
            kept = read_json(_cache(machine, python), _Kept)
    except (OSError, msgspec.DecodeError):
        return None
    return kept.interpreter if kept.identity == _identity(python) else None


def _start(machine: Machine, python: Path) -> Interpreter | None:
    identity = _identity(python)
    if not identity or not os.access(python, os.X_OK):
        return None
    env = {name: text for name, text in machine.env.items() if not name.startswith("PYTHON")}
    try:
        output = commands.run([python, "-I", "-B", "-c", _PROBE], env=env, timeout=_TIMEOUT).output
        interpreter = msgspec.json.decode(output, type=Interpreter)
    except (TaskFailed, msgspec.DecodeError):
        return None
    if os.path.realpath(interpreter.executable) == os.path.realpath(python):
        with contextlib.suppress(OSError, TaskFailed):
            path = _cache(machine, python)
            make_folder(path.parent)
            write_atomically(path, msgspec.json.encode(_Kept(identity, interpreter)), durable=False)
    return interpreter


def _identity(python: Path) -> str:
    try:
        status = os.stat(python)
    except OSError:
        return ""
    return f"{os.path.realpath(python)} {status.st_ino} {status.st_size} {status.st_mtime_ns}"


def _cache(machine: Machine, python: Path) -> Path:
    name = hashlib.sha256(os.fsencode(python)).hexdigest()[:24]
    return machine.cache / "interpreters" / f"{name}.json"
