"""Facts of the machine for templates, as ``nb.NAME``; each is computed at its first use."""

from __future__ import annotations

import functools
import os
import platform
import pwd
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from nbprovision import __version__
from nbprovision.machine import platform as platform_facts
from nbprovision.machine.environments import META, names_in
from nbprovision.machine.selectors import ALL, select, sources
from nbprovision.model import subjects

if TYPE_CHECKING:
    from nbprovision.machine.machine import Machine

_PARENTHESES = str.maketrans("()", "[]")
_OS_RELEASE = ("etc/os-release", "usr/lib/os-release")


class Fact(NamedTuple):
    """A fact: the function that computes it, the files that it comes from, and its description."""

    value: Callable[[Machine], Any]
    sources: Callable[[Machine], Iterable[Path]]
    description: str


class UnknownTags(dict[str, str]):
    """The tags where nobody may ask for them: each exists, and its value is a placeholder, as for a secret."""

    def __missing__(self, name: str) -> str:
        """Return the placeholder."""
        return f"(tag {name.translate(_PARENTHESES)})"

    def __contains__(self, name: object) -> bool:
        """Each tag may exist."""
        return True

    def get(self, name: str, default: Any = None) -> Any:
        """Return the placeholder."""
        return self[name]


class Variables(Mapping[str, Any]):
    """The facts by name. Each value is computed once and stays the same, as in Ansible.

    Args:
        machine: The machine.
        looked_at: Receives every path that a value comes from, and whether it existed.
        asked: Functions that ask others for the values of some facts. Their answers age.

    Attributes:
        aged: The facts that were asked for.
        unknown: The facts for which nobody was asked, so that a placeholder stands for them.

    """

    def __init__(
        self, machine: Machine, looked_at: dict[Path, bool], asked: Mapping[str, Callable[[], Any]] | None = None
    ) -> None:
        self._machine = machine
        self._looked_at = looked_at
        self._asked = asked or {}
        self.aged: set[str] = set()
        self.unknown: set[str] = set()
        self._values: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._values:
            fact = FACTS.get(name) or facts_of_subjects()[name]
            for path in fact.sources(self._machine):
                self._looked_at.setdefault(path, os.path.lexists(path))
            value = fact.value(self._machine)
            if isinstance(value, UnknownTags) and name in self._asked:
                value = self._asked[name]()
                self.aged.add(name)
            elif isinstance(value, UnknownTags):
                self.unknown.add(name)
            self._values[name] = value
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(all_facts())

    def __len__(self) -> int:
        return len(all_facts())


def _marks(machine: Machine) -> Iterable[Path]:
    return platform_facts.marks(machine.root)


def _nothing(_machine: Machine) -> Iterable[Path]:
    return ()


def _user(machine: Machine) -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a user of a container that has no name
        return machine.env.get("USER") or str(os.getuid())


def _selected(machine: Machine) -> list[tuple[str, Path]]:
    return select(machine, [ALL], allow_empty=True, declared={})


def _selection(machine: Machine) -> Iterable[Path]:
    yield from _marks(machine)
    yield from sources(machine, [ALL])


def _kernel_dirs(machine: Machine) -> list[Path]:
    from nbprovision.machine import kernels

    return kernels.kernel_dirs(machine.env, machine.user_home, prefix=machine.conda.server, root=machine.root)


def _kernels(machine: Machine) -> list[str]:
    from nbprovision.machine import kernels

    return sorted(kernels.installed(_kernel_dirs(machine)))


def _kernel_files(machine: Machine) -> Iterable[Path]:
    from nbprovision.machine import kernels

    yield from _marks(machine)
    for folder in _kernel_dirs(machine):
        yield folder
        yield from (folder / name / kernels.SPEC for name in names_in(folder))


def _os_release(machine: Machine, key: str) -> str:
    """A line of os-release (https://www.freedesktop.org/software/systemd/man/latest/os-release.html)."""
    for place in _OS_RELEASE:
        try:
            text = (machine.root / place).read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        lines = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
        return lines.get(key, "").strip("\"'")
    return ""


def _os_files(machine: Machine) -> Iterable[Path]:
    return (machine.root / place for place in _OS_RELEASE)


def _platform(machine: Machine) -> str:
    return machine.platform.kind


def _volume(machine: Machine) -> str | None:
    volume = machine.platform.volume
    return None if volume is None else str(volume)


def _conda_places(machine: Machine) -> Iterable[Path]:
    return (place / META for place in machine.conda.places)


def _conda_base(machine: Machine) -> str | None:
    base = machine.conda.base
    return None if base is None else str(base)


FACTS: dict[str, Fact] = {
    "platform": Fact(_platform, _marks, "`notebook-instance`, `studio`, `studio-lab` or `other`"),
    "instance": Fact(
        lambda machine: platform_facts.instance(machine.root),
        _marks,
        "this machine as AWS knows it: a mapping of `name`, `arn`, `region`, `account`, and in Studio `domain`, "
        "`space`, `user_profile` and `app_type`; texts, empty where the platform does not say it",
    ),
    "tags": Fact(
        lambda machine: UnknownTags() if platform_facts.instance(machine.root)["arn"] else {},
        _marks,
        "the tags that this instance has at AWS: a mapping; empty if AWS does not know the machine",
    ),
    "volume": Fact(_volume, _marks, "the folder that survives a restart; none if everything does"),
    "home": Fact(lambda machine: str(machine.home), _nothing, "the tool's home folder"),
    "user": Fact(_user, _nothing, "the name of the user who runs it"),
    "user_home": Fact(lambda machine: str(machine.user_home), _nothing, "the user's home folder"),
    "envs": Fact(
        lambda machine: [name for name, _ in _selected(machine)],
        _selection,
        "names of the environments that existed at the start, as for `envs: all`: a list",
    ),
    "prefixes": Fact(
        lambda machine: {name: str(prefix) for name, prefix in _selected(machine)},
        _selection,
        "the folder of each of them: a mapping",
    ),
    "kernels": Fact(_kernels, _kernel_files, "names of the kernels that Jupyter listed at the start: a list"),
    "conda": Fact(
        _conda_base,
        _conda_places,
        "the conda installation in use; none without one",
    ),
    "gpu": Fact(
        lambda machine: any(mark.exists() for mark in platform_facts.gpu_marks(machine.root)),
        lambda machine: platform_facts.gpu_marks(machine.root),
        "whether the driver of an NVIDIA GPU is loaded",
    ),
    "cpus": Fact(lambda machine: os.cpu_count() or 1, _nothing, "the number of processors"),
    "architecture": Fact(lambda machine: platform.machine(), _nothing, "`x86_64`, `aarch64`"),
    "distribution": Fact(
        lambda machine: _os_release(machine, "ID"), _os_files, "the system by its own name: `amzn`, `debian`"
    ),
    "distribution_version": Fact(
        lambda machine: _os_release(machine, "VERSION_ID"), _os_files, "its version as text: `2023`"
    ),
    "python": Fact(
        lambda machine: platform.python_version(), _nothing, "version of the Python that nbprovision runs on"
    ),
    "version": Fact(lambda machine: __version__, _nothing, "version of nbprovision"),
}


@functools.cache
def facts_of_subjects() -> dict[str, Fact]:
    """The facts of the folders of subjects, each in a module ``NAME_facts``."""
    return {name: fact for module in subjects.imported("_facts") for name, fact in module.FACTS.items()}


def all_facts() -> dict[str, Fact]:
    """Every fact by its name."""
    return {**FACTS, **facts_of_subjects()}
