"""Requirements files, read as pip reads them, with all that they include.

Source: https://pip.pypa.io/en/stable/reference/requirements-file-format/. The libraries for it keep no positions, so
that an error could not say where it is.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
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
from nbprovision.pip.install_settings import Options
from nbprovision.pip.requirements import (
    HASH_OF_ONE,
    HASHES_OF_ALL,
    URL,
    PipRequirement,
    local_path,
    parse,
    without_file_scheme,
    wrong,
)
from nbprovision.system import secrets, trust
from nbprovision.system.reading import read_bytes

_COMMENT = re.compile(r"(^|\s+)#.*$")
_VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")
_DEEPEST = 50
_DIGEST = re.compile(r"[#&](md5|sha\d+)=")


class RequirementSet(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is asked for.

    Attributes:
        wanted: What is to be installed.
        constraints: What may be installed of a name, if it is.
        options: What requirements files say of the whole install.
        constraint_files: Handed to the installer as they are.
        files: All files that were read.
    """

    wanted: tuple[PipRequirement, ...] = ()
    constraints: tuple[PipRequirement, ...] = ()
    options: Options = Options()
    constraint_files: tuple[Path, ...] = ()
    files: tuple[Path, ...] = ()


class Section(msgspec.Struct, frozen=True):
    """Lines of a requirements file that stand in another file, each with its place; their paths begin at ``base``."""

    base: Path
    lines: tuple[tuple[str, Position], ...]


def read(
    packages: Iterable[str],
    files: Iterable[Path],
    constraints: Iterable[Path],
    env: Mapping[str, str],
    section: Section | None = None,
) -> RequirementSet:
    """Read a list of requirements and requirements files, with all that they include.

    Args:
        packages: Requirements, one each.
        files: Requirements files.
        constraints: Constraints files.
        env: For ``${NAME}`` in files.
        section: Lines of a requirements file that stand elsewhere.

    Raises:
        InvalidPlaybook: one cannot be read or says what cannot be understood; at its file, line and column.
    """
    reader = _Reader(env)
    if section is not None:
        reader.section(section)
    for text in packages:
        reader.wanted.append(parse(text))
    for path in files:
        reader.read(path)
    for path in constraints:
        reader.constrain(path)
    reader.require_hashes()
    return RequirementSet(
        wanted=tuple(reader.wanted),
        constraints=tuple(reader.constraints),
        options=reader.options(),
        constraint_files=tuple(reader.constraint_files),
        files=tuple(dict.fromkeys(reader.files)),
    )


def after_configuration(asked: RequirementSet, configured: Options, env: Mapping[str, str]) -> RequirementSet:
    """What is asked for, with what the configuration says of every install.

    Args:
        asked: What a task asks for.
        configured: See `install_settings.configured`.
        env: For ``${NAME}`` in constraints files.

    Raises:
        InvalidPlaybook: a constraints file cannot be read, or a digest is missing.
    """
    reader = _Reader(env)
    for place in configured.constraints:
        if not URL.match(place):  # of one that is elsewhere only the installer knows what it says
            reader.constrain(Path(place))
    reader.wanted = list(asked.wanted)
    reader.constraints = [*asked.constraints, *reader.constraints]
    options = asked.options.after(configured)
    reader.flags = {"require_hashes": options.require_hashes, "no_require_hashes": options.no_require_hashes}
    reader.require_hashes()
    return msgspec.structs.replace(
        asked,
        constraints=tuple(reader.constraints),
        options=msgspec.structs.replace(options, require_hashes=bool(reader.flags["require_hashes"])),
        constraint_files=(*asked.constraint_files, *reader.constraint_files),
        files=tuple(dict.fromkeys((*asked.files, *reader.files))),
    )


def named(
    packages: Iterable[str], files: Iterable[Path], constraints: Iterable[Path], section: Section | None = None
) -> dict[Path, Position | None]:
    """Every file and folder that requirements name, there or not, each with the place in a file that names it.

    Args:
        packages: Requirements, one each.
        files: Requirements files.
        constraints: Constraints files.
        section: Lines of a requirements file that stand elsewhere.

    Raises:
        InvalidPlaybook: a file says what cannot be understood. Environment variables may be set elsewhere.
    """
    reader = _Reader(AnyVariable(), missing_ok=True)
    if section is not None:
        reader.section(section)
    for path in files:
        reader.read(path)
    for path in constraints:
        reader.constrain(path)
    wanted = [*(parse(text) for text in packages), *reader.wanted, *reader.constraints]
    found = dict(reader.named)
    for entry in wanted:
        place = local_path(entry)
        if place is not None:
            found.setdefault(place, entry.position)
    for text in reader.lists.get("find_links", ()):
        if not URL.match(text):
            found.setdefault(Path(text), None)
    return found


class AnyVariable(dict[str, str]):
    """Environment variables, of which each is set to something."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> str:
        return "variable"


class _Line(msgspec.Struct, frozen=True):
    """A logical line: continuations joined, comment gone, variables replaced."""

    text: str
    position: Position | None


class _Reader:
    """Reads files one into the other, as pip does, and gathers what they say."""

    def __init__(self, env: Mapping[str, str], *, missing_ok: bool = False) -> None:
        self._env = env
        self._missing_ok = missing_ok
        self.named: dict[Path, Position | None] = {}
        self._within: list[Path] = []
        self.wanted: list[PipRequirement] = []
        self.constraints: list[PipRequirement] = []
        self.constraint_files: list[Path] = []
        self.files: list[Path] = []
        self.flags: dict[str, str | bool] = {}
        self.lists: dict[str, list[str]] = {}
        self.uses: dict[str, list[tuple[str, str]]] = {"formats": [], "releases": []}

    def options(self) -> Options:
        """What was read of options."""
        uses = {field: tuple(uses) for field, uses in self.uses.items()}
        behind = tuple(f"config-settings ({one.shown})" for one in self.wanted if one.settings)
        lists = {field: tuple(values) for field, values in self.lists.items()}
        return msgspec.convert({**self.flags, **lists, **uses, "only_pip": behind}, Options)

    def require_hashes(self) -> None:
        """One digest asks for digests of all, as for pip; uv would look at those only that there are.

        https://pip.pypa.io/en/stable/topics/secure-installs/#hash-checking-mode
        """
        first = next((one for one in self.wanted if one.hashes), None)
        if self.flags.get("no_require_hashes") or not (first or self.flags.get("require_hashes")):
            return
        self.flags["require_hashes"] = True
        hashed = {one.name for one in self.constraints if one.hashes}
        for one in self.wanted:
            if not (one.hashes or one.marker or one.name in hashed or _DIGEST.search(one.url or "")):
                because = f"{first.shown} has one" if first else "require-hashes is set"
                wrong(
                    one.position,
                    f"'{one.shown}' has no --hash",
                    cause=f"{because}, and then every requirement must have one",
                    cure=f"give it one: {HASH_OF_ONE}; {HASHES_OF_ALL}",
                )

    def read(self, path: Path, position: Position | None = None, *, constrains: bool = False) -> None:
        """Read a requirements (or constraints) file; ``position`` is where it is named."""
        path = Path(os.path.abspath(path))
        if path in self._within:
            chain = " > ".join(str(file) for file in (*self._within[self._within.index(path) :], path))
            wrong(position, f"{path} includes itself", cause=chain, cure="take one of these includes out")
        if len(self._within) > _DEEPEST:
            wrong(position, f"{path} is included more than {_DEEPEST} files deep")
        self.files.append(path)
        self.named.setdefault(path, position)
        if self._missing_ok and not os.path.isfile(path):
            return
        self._within.append(path)
        for line in _logical_lines(path, self._env, position):
            self._line(line, path.parent, constrains=constrains)
        self._within.pop()

    def section(self, section: Section) -> None:
        """Take lines that stand in another file as pip takes those of a requirements file."""
        for text, position in section.lines:
            for line in _joined(text.splitlines(), self._env, lambda *_, place=position: place):
                self._line(line, section.base, constrains=False)

    def _line(self, line: _Line, base: Path, *, constrains: bool) -> None:
        if "\0" in line.text:
            wrong(line.position, "there is a NUL in the line", cure="take it out")
        if line.text.startswith("-") and not re.match(r"(-e|--editable)\b", line.text):
            self._option(line, base, constrains)
        else:
            wanted = parse(line.text, base=base, position=line.position)
            if constrains and wanted.name is None:
                wrong(line.position, "a constraint needs a name", cure="write `name==1.2` or `name @ URL`")
            (self.constraints if constrains else self.wanted).append(wanted)

    def constrain(self, path: Path, position: Position | None = None) -> None:
        """Read a constraints file, which is handed over as it stands."""
        self.read(path, position, constrains=True)
        self.constraint_files.append(Path(os.path.abspath(path)))

    def _option(self, line: _Line, base: Path, constrains: bool) -> None:
        try:
            words = shlex.split(line.text)
        except ValueError as error:
            wrong(line.position, "the line cannot be split into words", cause=str(error), cure="close the quotation")
        if any(word.startswith(";") for word in words):
            wrong(
                line.position,
                f"an option takes no condition: '{line.text.partition(';')[2].strip()[:60]}'",
                cause="pip takes the option whatever stands there",
                cure="put the condition behind each requirement: `name; python_version < '3.12'`",
            )
        while words:
            word = words.pop(0)
            name, equals, value = word.partition("=") if word.startswith("--") else (word[:2], word[2:], word[2:])
            field, kind = _OPTIONS.get(name, ("", ""))
            if not kind:
                wrong(
                    line.position,
                    f"unknown option '{name}'{nearest(name, _OPTIONS)}",
                    cure="leave it out, or pass what it sets to the task",
                )
            if kind != "flag" and not equals:
                if not words:
                    wrong(line.position, f"the option {name} needs a value")
                value = words.pop(0)
            self._take(field, kind, value, base, line.position, constrains)

    def _take(self, field: str, kind: str, value: str, base: Path, position: Position | None, constrains: bool) -> None:
        secrets.remember_url(value)
        if field == "requirements":
            self.read(_named_file("-r", value, base, position), position, constrains=constrains)
        elif field == "constraints":
            path = _named_file("-c", value, base, position)
            if constrains:
                self.read(path, position, constrains=True)
            else:
                self.constrain(path, position)
        elif field in _EXCLUSIVE:
            self.uses[_EXCLUSIVE[field]].append((field, value or ":all:"))
        elif kind == "flag":
            self.flags[field] = True
        elif kind == "one":
            self.flags[field] = value
        elif field == "find_links" and not URL.match(value):
            self.lists.setdefault(field, []).append(os.path.abspath(base / os.path.expanduser(value)))
        elif field:
            self.lists.setdefault(field, []).append(value)


# Options that a requirements file may have, the field that keeps them, and what they take. What has no field makes no
# difference here.
_OPTIONS: dict[str, tuple[str, str]] = {
    "-r": ("requirements", "file"), "--requirement": ("requirements", "file"),
    "-c": ("constraints", "file"), "--constraint": ("constraints", "file"),
    "-i": ("index_url", "one"), "--index-url": ("index_url", "one"), "--pypi-url": ("index_url", "one"),
    "--extra-index-url": ("extra_urls", "many"),
    "-f": ("find_links", "many"), "--find-links": ("find_links", "many"),
    "--trusted-host": ("trusted_hosts", "many"),
    "--no-binary": ("no_binary", "words"), "--only-binary": ("only_binary", "words"),
    "--pre": ("all_releases", "flag"), "--all-releases": ("all_releases", "words"),
    "--only-final": ("only_final", "words"),
    "--no-index": ("no_index", "flag"), "--prefer-binary": ("prefer_binary", "flag"),
    "--require-hashes": ("require_hashes", "flag"), "--no-require-hashes": ("no_require_hashes", "flag"),
    "--use-feature": ("", "many"),
}  # fmt: skip
# Options that take back what another one said before, and where they are kept.
_EXCLUSIVE = {"no_binary": "formats", "only_binary": "formats", "all_releases": "releases", "only_final": "releases"}


def _named_file(option: str, text: str, base: Path, position: Position | None) -> Path:
    """The file that ``-r`` or ``-c`` names: a path, or as for pip a ``file:`` URL, which may be relative."""
    path = without_file_scheme(text)
    if path == text and URL.match(text):
        wrong(position, f"'{option}' cannot be '{secrets.mask(text)[:80]}'", cause=URL_FOR_PATH, cure=FETCH_FIRST)
    return base / (path if path == text else unquote(path))


def _logical_lines(path: Path, env: Mapping[str, str], named_at: Position | None) -> Iterator[_Line]:
    trust.obey(path, "install what is listed in")
    try:
        text = read_bytes(path).decode("utf-8-sig")
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
