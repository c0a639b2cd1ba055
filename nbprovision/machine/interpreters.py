"""Interpreters to install for: which environment one belongs to, and whether it may be installed into.

Of an interpreter in a conda or virtual environment everything is told by files. Any other is asked once, as only it
knows where its distributions lie (Debian's are in dist-packages, another prefix may be patched in), and the answer is
kept for as long as its file stays the one that it was.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from nbprovision.machine import distributions
from nbprovision.machine.distributions import Distribution
from nbprovision.machine.environments import is_environment
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import TaskFailed
from nbprovision.system import commands, inputs
from nbprovision.system.files import make_folder, write_atomically
from nbprovision.system.reading import read_json

# sysconfig knows the scheme that pip installs by; the other folders are on the path of every program as well.
_PROBE = """\
import json, site, sys, sysconfig
paths = sysconfig.get_paths()
folders = [paths["purelib"], paths["platlib"], *site.getsitepackages()]
print(json.dumps({"executable": sys.executable, "prefix": sys.prefix, "base": sys.base_prefix,
    "version": "%d.%d.%d" % sys.version_info[:3], "stdlib": paths["stdlib"],
    "folders": list(dict.fromkeys(folders))}))
"""
_PATIENCE = 60.0  # seconds for an interpreter to start, from a cold disk


class Interpreter(msgspec.Struct, frozen=True, kw_only=True):
    """What an interpreter says of itself.

    Attributes:
        executable: Itself; another file where it was started by a wrapper.
        prefix: ``sys.prefix``.
        base: ``sys.base_prefix``.
        version: In full.
        stdlib: The folder of its standard library.
        folders: Where distributions are, that in which pip installs first.
    """

    executable: str
    prefix: str
    base: str
    version: str
    stdlib: str
    folders: list[str]


class _Known(msgspec.Struct, frozen=True):
    identity: str
    interpreter: Interpreter


class Target(msgspec.Struct, frozen=True):
    """Somewhere to install.

    Attributes:
        prefix: The environment.
        python: Its interpreter.
        name: What to call it where there are several.
        probed: What the interpreter says, where it is in no environment.
        location: The folder that gets the distributions in place of the environment (pip's ``--target``).
    """

    prefix: Path
    python: Path
    name: str
    probed: Interpreter | None = None
    location: Path | None = None

    @property
    def place(self) -> Path:
        """The folder that changes, and is marked while it does."""
        if self.location is not None:
            return self.location
        return self.prefix if self.probed is None else Path(self.probed.folders[0])

    @property
    def version(self) -> str | None:
        """Of its Python; None without one."""
        return distributions.python_version(self.prefix) if self.probed is None else self.probed.version

    @property
    def folder(self) -> Path | None:
        """Where distributions are installed; None where there is no Python."""
        if self.location is not None or self.probed is not None:
            return self.place
        return distributions.site_packages(self.prefix)

    @property
    def runs(self) -> bool:
        """Whether there is a Python to install for."""
        if self.version is None or not os.access(self.python, os.X_OK):
            return False
        return self.probed is not None or distributions.site_packages(self.prefix) is not None

    def found(self, names: set[str] | None = None) -> dict[str, list[Distribution]]:
        """The distributions that are there; see `distributions.in_folder`."""
        if self.folder is None:
            return {}
        found = distributions.in_folder(self.folder, names)
        if self.probed is not None and self.location is None:
            for other in self.probed.folders[1:]:
                for name, several in distributions.in_folder(Path(other), names).items():
                    found.setdefault(name, several)
        return found


def of_python(machine: Machine, python: Path, name: str) -> Target:
    """The target that an interpreter stands for: its environment, else what it says itself."""
    prefix = python.parent.parent
    if _is_environment(prefix):
        return Target(prefix, python, name)
    prefix = Path(os.path.realpath(python)).parent.parent
    if _is_environment(prefix):
        return Target(prefix, python, name)
    probed = probe(machine, python)
    return Target(prefix if probed is None else Path(probed.prefix), python, name, probed)


def system_python(machine: Machine) -> Path | None:
    """The Python that ``pip install`` means where no environment is active; None where there is none.

    On a platform that provides a conda that is its base, to which the PATH leads; elsewhere ``python3`` on the PATH,
    without the folders of the environment that happens to be active.
    """
    provided = machine.platform.provided
    if provided is not None and os.access(provided / "bin/python", os.X_OK):
        return provided / "bin/python"
    return next((python for python in _on_path(machine) if os.access(python, os.X_OK)), None)


def system_witnesses(machine: Machine) -> Iterator[Path]:
    """What would be the system's Python before the one that is, if it were there."""
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
    """What an interpreter says of itself, asked once for as long as its file is the same; None where it does not run.

    One that is a wrapper (of pyenv, for one) may lead elsewhere tomorrow, and is asked in every run.
    """
    key = ("interpreter", python, _identity(python))
    if key not in machine.notes:
        machine.notes[key] = _kept(machine, python) or _asked(machine, python)
    found: Interpreter | None = machine.notes[key]
    return found


def is_managed(target: Target) -> bool:
    """Whether the Python says that somebody else manages it (PEP 668); refused where that is not an environment.

    Raises:
        TaskFailed: it is a system's own Python.
    """
    minor = ".".join((target.version or "").split(".")[:2])
    library = Path(target.probed.stdlib) if target.probed else target.prefix / "lib" / f"python{minor}"
    mark = library / "EXTERNALLY-MANAGED"
    if not mark.exists():
        return False
    if not _is_environment(target.prefix):
        raise TaskFailed(
            f"{target.python} is managed by the system, which nbprovision leaves alone",
            cause=f"{mark} says so",
            cure=f"make an environment from it ({target.python} -m venv FOLDER, or ensure_conda_env) and name that",
        )
    return not (target.prefix / "pyvenv.cfg").is_file()  # a venv is its owner's, whoever manages its base


def no_python(target: Target) -> TaskFailed:
    """The error for an environment without a Python that runs: why, and what helps."""
    if not target.prefix.is_dir():
        return TaskFailed(
            f"there is no environment at {target.prefix}",
            cause="there is no such folder",
            cure="make it first: ensure_conda_env or ensure_venv",
        )
    if os.path.islink(target.python) and not target.python.exists():
        return TaskFailed(
            f"the Python of {target.prefix} is gone",
            cause=f"{target.python} leads to {os.readlink(target.python)}, which is not there",
            cure="make the environment anew",
        )
    return TaskFailed(
        f"{target.prefix} has no Python to install for",
        cause=f"there is no {target.python}, or it has no site-packages",
        cure="add python to the packages of its ensure_conda_env",
    )


def _is_environment(prefix: Path) -> bool:
    """Whether ``prefix`` is an environment of its own, so that nothing else depends on it."""
    return (prefix / "pyvenv.cfg").is_file() or is_environment(prefix)


def _kept(machine: Machine, python: Path) -> Interpreter | None:
    try:
        with inputs.unrecorded():
            known = read_json(_cache(machine, python), _Known)
    except (OSError, msgspec.DecodeError):
        return None
    return known.interpreter if known.identity == _identity(python) else None


def _asked(machine: Machine, python: Path) -> Interpreter | None:
    identity = _identity(python)
    if not identity or not os.access(python, os.X_OK):
        return None
    env = {name: text for name, text in machine.env.items() if not name.startswith("PYTHON")}
    try:
        done = commands.run([python, "-I", "-B", "-c", _PROBE], env=env, timeout=_PATIENCE)
        found = msgspec.json.decode(done.output, type=Interpreter)
    except (TaskFailed, msgspec.DecodeError):
        return None
    if os.path.realpath(found.executable) == os.path.realpath(python):
        with contextlib.suppress(OSError, TaskFailed):
            path = _cache(machine, python)
            make_folder(path.parent)
            write_atomically(path, msgspec.json.encode(_Known(identity, found)), durable=False)
    return found


def _identity(python: Path) -> str:
    try:
        status = os.stat(python)
    except OSError:
        return ""
    return f"{os.path.realpath(python)} {status.st_ino} {status.st_size} {status.st_mtime_ns}"


def _cache(machine: Machine, python: Path) -> Path:
    name = hashlib.sha256(os.fsencode(python)).hexdigest()[:24]
    return machine.cache / "interpreters" / f"{name}.json"
