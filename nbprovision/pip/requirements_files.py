"""Read requirements files as pip does, with the files that they include.

Source: https://pip.pypa.io/en/stable/reference/requirements-file-format/. The libraries for it keep no positions, which
errors need.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import unquote

import msgspec

from nbprovision.model.errors import (
    FETCH_FIRST,
    URL_FOR_PATH,
    InvalidPlaybook,
    MissingInput,
    Position,
    UnsetVariable,
    nearest,
)
from nbprovision.pip import pylock
from nbprovision.pip.install_options import PIP, Option
from nbprovision.pip.install_settings import ALL, Options
from nbprovision.pip.pylock import Lock, LockedPackage
from nbprovision.pip.requirements import (
    HASH_OF_ONE,
    HASHES_OF_ALL,
    URL,
    PipRequirement,
    applies,
    incompatible,
    local_path,
    parse,
    without_file_scheme,
    wrong,
)
from nbprovision.system import secrets, trust
from nbprovision.system.reading import read_bytes

if TYPE_CHECKING:  # only a run with a lock loads it
    from nbprovision.machine.locked import LockedEnvironment

_COMMENT = re.compile(r"(^|\s+)#.*$")
_VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")
_DEEPEST = 50
_DIGEST = re.compile(r"[#&](md5|sha\d+)=")


class RequirementSet(msgspec.Struct, frozen=True, kw_only=True):
    """The requirements of a task.

    Attributes:
        wanted: The packages to install.
        constraints: The allowed versions of packages, if they are installed.
        options: The options of requirements files for the whole install.
        constraint_files: The constraints files, which the installer gets unchanged.
        locks: The lock files.
        locked: The packages of the lock files for one environment; see `selected`.
        files: All files that were read.
    """

    wanted: tuple[PipRequirement, ...] = ()
    constraints: tuple[PipRequirement, ...] = ()
    options: Options = Options()
    constraint_files: tuple[Path, ...] = ()
    locks: tuple[Lock, ...] = ()
    locked: tuple[LockedPackage, ...] = ()
    files: tuple[Path, ...] = ()

    @property
    def unconditional(self) -> list[PipRequirement]:
        """The packages that every environment gets: requirements and locked packages without a marker."""
        locked = (entry for lock in self.locks for entry in lock.packages)
        return [
            *(entry.requirement for entry in locked if entry.package.marker is None),
            *(requirement for requirement in self.wanted if not requirement.marker),
        ]

    @property
    def all(self) -> tuple[PipRequirement, ...]:
        """The packages of the lock files, then the others."""
        return (*(entry.requirement for entry in self.locked), *self.wanted)


class Section(msgspec.Struct, frozen=True):
    """Lines of a requirements file within another file, with their positions; relative paths start at ``base``."""

    base: Path
    lines: tuple[tuple[str, Position], ...]


def read(
    packages: Iterable[str],
    files: Iterable[Path],
    constraints: Iterable[Path],
    env: Mapping[str, str],
    section: Section | None = None,
) -> RequirementSet:
    """Read requirements and requirements files, with the files that they include.

    Args:
        packages: Requirements, one each.
        files: Requirements files.
        constraints: Constraints files.
        env: The variables for ``${NAME}`` in files.
        section: Lines of a requirements file within another file.

    Raises:
        InvalidPlaybook: a file cannot be read, or is not valid; with file, line and column.
    """
    reader = _Reader(env)
    reader.read_all(packages, files, constraints, section)
    reader.require_hashes()
    return RequirementSet(
        wanted=tuple(reader.wanted),
        constraints=tuple(reader.constraints),
        options=reader.options(),
        constraint_files=tuple(reader.constraint_files),
        locks=tuple(reader.locks),
        files=tuple(reader.named),
    )


def as_locked(wanted: RequirementSet, locked: LockedEnvironment | None, env: Mapping[str, str]) -> RequirementSet:
    """What a lock of the playbook has in place of requirements; the same requirements without a lock.

    Args:
        wanted: The requirements of a task.
        locked: What a lock has for the environment; None without a lock.
        env: The variables.

    """
    if locked is None or locked.pylock is None:
        return wanted
    content = read((), [locked.pylock], (), env)
    return msgspec.structs.replace(content, options=wanted.options, files=(*wanted.files, *locked.files))


def after_configuration(wanted: RequirementSet, configured: Options, env: Mapping[str, str]) -> RequirementSet:
    """The requirements, combined with the options that the configuration sets for each install.

    Args:
        wanted: The requirements of a task.
        configured: See `install_settings.configured`.
        env: The variables for ``${NAME}`` in constraints files.

    Raises:
        InvalidPlaybook: a constraints file cannot be read, or a digest is missing.
    """
    reader = _Reader(env)
    for place in configured.constraints:
        if not URL.match(place):  # only the installer reads a file of a server
            reader.constrain(Path(place))
    reader.wanted = list(wanted.wanted)
    reader.constraints = [*wanted.constraints, *reader.constraints]
    options = wanted.options.after(configured)
    reader.values = {"require_hashes": options.require_hashes, "no_require_hashes": options.no_require_hashes}
    reader.require_hashes()
    return msgspec.structs.replace(
        wanted,
        constraints=tuple(reader.constraints),
        options=msgspec.structs.replace(options, require_hashes=bool(reader.values["require_hashes"])),
        constraint_files=(*wanted.constraint_files, *reader.constraint_files),
        files=tuple(dict.fromkeys((*wanted.files, *reader.named))),
    )


def selected(wanted: RequirementSet, environment: Mapping[str, str]) -> RequirementSet:
    """The requirements, with the packages that the lock files have for an environment.

    Loose requirements and constraints beside a lock are allowed as long as they agree with it: what the lock has comes
    from the lock, and the rest is resolved around it.

    Args:
        wanted: The requirements with the configuration.
        environment: The values of markers in the target, see `requirements.marker_environment`.

    Raises:
        TaskFailed: a lock is not for this Python or platform.
        InvalidPlaybook: a lock contradicts another lock, a requirement or a constraint.
    """
    locked: dict[str, LockedPackage] = {}
    for lock in wanted.locks:
        for entry in lock.select(environment):
            other = locked.setdefault(entry.name, entry)
            if other is not entry and (other.requirement.line, other.hashes) != (entry.requirement.line, entry.hashes):
                _contradicts(entry, other.requirement.shown, other.position)
    for requirement in (*wanted.wanted, *wanted.constraints) if locked else ():
        mine = locked.get(requirement.name or "")
        if mine is not None and applies(requirement, environment) and incompatible(requirement, mine.requirement):
            _contradicts(mine, requirement.shown, requirement.position)
    return msgspec.structs.replace(wanted, locked=tuple(locked.values()))


def _contradicts(entry: LockedPackage, shown: str, position: Position | None) -> NoReturn:
    wrong(
        position or entry.position,
        f"'{shown}' contradicts the lock, which has {entry.requirement.shown}",
        cause=f"the lock is {entry.position.file}, line {entry.position.line}",
        cure="drop one of the two, or make the lock again with that requirement",
    )


def named(
    packages: Iterable[str], files: Iterable[Path], constraints: Iterable[Path], section: Section | None = None
) -> dict[Path, Position | None]:
    """Each file and folder that requirements name, existing or not, with the position where a file names it.

    Args:
        packages: Requirements, one each.
        files: Requirements files.
        constraints: Constraints files.
        section: Lines of a requirements file within another file.

    Raises:
        InvalidPlaybook: a file is not valid. Unset environment variables are ignored.
    """
    reader = _Reader(AnyVariable(), missing_ok=True)
    reader.read_all(packages, files, constraints, section)
    places = dict(reader.named)
    for requirement in (*reader.wanted, *reader.constraints):
        path = local_path(requirement)
        if path is not None:
            places.setdefault(path, requirement.position)
    for lock in reader.locks:
        for path, position in pylock.local_files(lock):
            places.setdefault(path, position)
    for text in reader.lists.get("find_links", ()):
        if not URL.match(text):
            places.setdefault(Path(text), None)
    return places


class AnyVariable(dict[str, str]):
    """Environment variables, each of which is set."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> str:
        return "variable"


class _Line(msgspec.Struct, frozen=True):
    """A logical line: with continuations joined, without comment, with variables replaced."""

    text: str
    position: Position | None


class _Reader:
    """Reads files and those that they include, as pip does, and collects their requirements and options."""

    def __init__(self, env: Mapping[str, str], *, missing_ok: bool = False) -> None:
        self._env = env
        self._missing_ok = missing_ok
        self._within: list[Path] = []
        self.named: dict[Path, Position | None] = {}
        self.wanted: list[PipRequirement] = []
        self.constraints: list[PipRequirement] = []
        self.constraint_files: list[Path] = []
        self.locks: list[Lock] = []
        self.values: dict[str, str | bool] = {}
        self.lists: dict[str, list[str]] = {}
        self.uses: dict[str, list[tuple[str, str]]] = {"formats": [], "releases": []}

    def read_all(
        self, packages: Iterable[str], files: Iterable[Path], constraints: Iterable[Path], section: Section | None
    ) -> None:
        """Read the parameters of a task; see the function `read`."""
        if section is not None:
            for text, position in section.lines:
                for line in _joined(text.splitlines(), self._env, lambda *_, place=position: place):
                    self._line(line, section.base, constrains=False)
        self.wanted += map(parse, packages)
        for path in files:
            self.read(path)
        for path in constraints:
            self.constrain(path)

    def options(self) -> Options:
        """The options of the whole install."""
        only_pip = [f"config-settings ({requirement.shown})" for requirement in self.wanted if requirement.settings]
        return msgspec.convert({**self.values, **self.lists, **self.uses, "only_pip": only_pip}, Options)

    def require_hashes(self) -> None:
        """Make hashes mandatory if one requirement has one. pip does so; uv would check existing hashes only.

        https://pip.pypa.io/en/stable/topics/secure-installs/#hash-checking-mode
        """
        first = next((requirement for requirement in self.wanted if requirement.hashes), None)
        if self.values.get("no_require_hashes") or not (first or self.values.get("require_hashes")):
            return
        self.values["require_hashes"] = True
        hashed = {constraint.name for constraint in self.constraints if constraint.hashes}
        for requirement in self.wanted:
            has_hash = requirement.hashes or requirement.name in hashed or _DIGEST.search(requirement.url or "")
            if not has_hash and not requirement.marker:
                because = f"{first.shown} has one" if first else "require-hashes is set"
                wrong(
                    requirement.position,
                    f"'{requirement.shown}' has no --hash",
                    cause=f"{because}, and then every requirement must have one",
                    cure=f"add one: {HASH_OF_ONE}; {HASHES_OF_ALL}",
                )

    def read(self, path: Path, position: Position | None = None, *, constrains: bool = False) -> None:
        """Read a requirements or constraints file that is named at ``position``."""
        path = Path(os.path.abspath(path))
        if path in self._within:
            chain = " > ".join(str(file) for file in (*self._within[self._within.index(path) :], path))
            wrong(position, f"{path} includes itself", cause=chain, cure="remove one of these includes")
        if len(self._within) > _DEEPEST:
            wrong(position, f"{path} is included more than {_DEEPEST} files deep")
        self.named.setdefault(path, position)
        if pylock.is_lock(path) and constrains:
            wrong(
                position,
                f"the lock {path} cannot be a constraints file",
                cause="pip and uv take no lock as constraints",
                cure="give it to `requirements`",
            )
        if self._missing_ok and not os.path.isfile(path):
            return
        if pylock.is_lock(path):
            self.locks.append(pylock.read(path, _text(path, position)))
            return
        self._within.append(path)
        for line in _logical_lines(path, self._env, position):
            self._line(line, path.parent, constrains=constrains)
        self._within.pop()

    def _line(self, line: _Line, base: Path, *, constrains: bool) -> None:
        if "\0" in line.text:
            wrong(line.position, "the line contains a NUL", cure="remove it")
        if line.text.startswith("-") and not re.match(r"(-e|--editable)\b", line.text):
            self._option(line, base, constrains)
        else:
            wanted = parse(line.text, base=base, position=line.position)
            if constrains and wanted.name is None:
                wrong(line.position, "a constraint needs a name", cure="write `name==1.2` or `name @ URL`")
            (self.constraints if constrains else self.wanted).append(wanted)

    def constrain(self, path: Path, position: Position | None = None) -> None:
        """Read a constraints file, which the installer gets unchanged."""
        self.read(path, position, constrains=True)
        self.constraint_files.append(Path(os.path.abspath(path)))

    def _option(self, line: _Line, base: Path, constrains: bool) -> None:
        try:
            words = shlex.split(line.text)
        except ValueError as error:
            wrong(
                line.position, "the line cannot be split into words", cause=str(error), cure="close the quotation mark"
            )
        if any(word.startswith(";") for word in words):
            wrong(
                line.position,
                f"an option cannot have a condition: '{line.text.partition(';')[2].strip()[:60]}'",
                cause="pip uses the option in any case",
                cure="add the condition to each requirement: `name; python_version < '3.12'`",
            )
        while words:
            word = words.pop(0)
            name, equals, value = word.partition("=") if word.startswith("--") else (word[:2], word[2:], word[2:])
            option = _OPTIONS.get(name)
            if option is None:
                wrong(
                    line.position,
                    f"unknown option '{name}'{nearest(name, _OPTIONS)}",
                    cure="remove it, or use the task's parameter for it",
                )
            if option.kind != "flag" and not equals:
                if not words:
                    wrong(line.position, f"the option {name} needs a value")
                value = words.pop(0)
            self._take(option, value, base, line.position, constrains=constrains)

    def _take(self, option: Option, value: str, base: Path, position: Position | None, *, constrains: bool) -> None:
        secrets.remember_url(value)
        name = option.names[0]
        field = name.replace("-", "_")
        if name == "requirement":
            self.read(_named_file("-r", value, base, position), position, constrains=constrains)
        elif name == "constraint":
            path = _named_file("-c", value, base, position)
            if constrains:
                self.read(path, position, constrains=True)
            else:
                self.constrain(path, position)
        elif name in ("no-binary", "only-binary"):
            self.uses["formats"].append((field, value or ALL))
        elif name in ("all-releases", "only-final", "pre"):
            self.uses["releases"].append(("all_releases" if name == "pre" else field, value or ALL))
        elif name in _LISTS:
            if name == "find-links" and not URL.match(value):
                value = os.path.abspath(base / os.path.expanduser(value))
            self.lists.setdefault(_LISTS[name], []).append(value)
        elif name != "use-feature":
            self.values[field] = option.kind == "flag" or value


# The options that a requirements file may have, without `--editable`, which is a requirement.
_OPTIONS = {f"--{name}": option for option in PIP if option.file for name in option.names if name != "editable"}
_OPTIONS |= {
    short: _OPTIONS[name]
    for short, name in {"-r": "--requirement", "-c": "--constraint", "-i": "--index-url", "-f": "--find-links"}.items()
}
_LISTS = {"extra-index-url": "extra_urls", "find-links": "find_links", "trusted-host": "trusted_hosts"}


def _named_file(option: str, text: str, base: Path, position: Position | None) -> Path:
    """The file of ``-r`` or ``-c``: a path or, as in pip, a ``file:`` URL, which may be relative."""
    path = without_file_scheme(text)
    if path == text and URL.match(text):
        wrong(position, f"'{option}' cannot be '{secrets.mask(text)[:80]}'", cause=URL_FOR_PATH, cure=FETCH_FIRST)
    return base / (path if path == text else unquote(path))


def _text(path: Path, named_at: Position | None) -> str:
    trust.obey(path, "install what is listed in")
    try:
        return read_bytes(path).decode("utf-8-sig")
    except OSError as error:
        kind = MissingInput if isinstance(error, FileNotFoundError) else InvalidPlaybook
        raise kind(
            f"cannot read the requirements file {path}",
            cause=error.strerror or str(error),
            cure="a relative path starts from the folder of the file that names it",
            position=named_at,
        ) from None
    except UnicodeDecodeError as error:
        before = error.object[: error.start].count(b"\n")
        wrong(Position(str(path), before + 1, 1), "this is not UTF-8 text", cure="save the file as UTF-8")


def _logical_lines(path: Path, env: Mapping[str, str], named_at: Position | None) -> Iterator[_Line]:
    text = _text(path, named_at)
    yield from _joined(text.splitlines(), env, lambda line, column: Position(str(path), line, column))


def _joined(
    lines: Sequence[str], env: Mapping[str, str], place: Callable[[int, int], Position | None]
) -> Iterator[_Line]:
    joined, first = "", 0
    for number, line in enumerate(lines, start=1):
        first = first or number
        comment = line.lstrip().startswith("#")
        if line.endswith("\\") and not comment and number < len(lines):
            joined += line[:-1]
            continue
        whole = _COMMENT.sub("", joined + ("" if comment else line).rstrip("\\"))
        if whole.strip():
            position = place(first, len(whole) - len(whole.lstrip()) + 1)
            yield _Line(_expanded(whole.strip(), env, position), position)
        joined, first = "", 0


def _expanded(text: str, env: Mapping[str, str], position: Position | None) -> str:
    def value(match: re.Match[str]) -> str:
        if match[1] not in env:
            message = f"the environment variable {match[1]} is not set"
            raise UnsetVariable(message, cure="set it before the run", position=position)
        return env[match[1]]

    return _VARIABLE.sub(value, text)
