"""Requirements files, read as pip reads them, with all that they include.

Source: https://pip.pypa.io/en/stable/reference/requirements-file-format/. The libraries for it keep no positions, so
that an error could not say where it is.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

from nbprovision.facts.requirements import URL, Wanted, parse, wrong
from nbprovision.model.errors import Position, nearest
from nbprovision.system import secrets
from nbprovision.system.reading import read_bytes

_COMMENT = re.compile(r"(^|\s+)#.*$")
_VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")
_DEEPEST = 50


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Options that stand in requirements files, for the whole install."""

    index_url: str | None = None
    extra_urls: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    trusted_hosts: tuple[str, ...] = ()
    no_binary: tuple[str, ...] = ()
    only_binary: tuple[str, ...] = ()
    no_index: bool = False
    pre: bool = False
    prefer_binary: bool = False
    require_hashes: bool = False


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is asked for.

    Attributes:
        wanted: What is to be installed.
        constraints: What may be installed of a name, if it is.
        options: What requirements files say of the whole install.
        constraint_files: Handed to the installer as they are.
        files: All files that were read.
        variables: Whether a file takes something from an environment variable, so that its text alone does not tell.
    """

    wanted: tuple[Wanted, ...] = ()
    constraints: tuple[Wanted, ...] = ()
    options: Options = Options()
    constraint_files: tuple[Path, ...] = ()
    files: tuple[Path, ...] = ()
    variables: bool = False


def read(packages: Iterable[str], files: Iterable[Path], constraints: Iterable[Path], env: Mapping[str, str]) -> Asked:
    """Read a list of requirements and requirements files, with all that they include.

    Args:
        packages: Requirements, one each.
        files: Requirements files.
        constraints: Constraints files.
        env: For ``${NAME}`` in files.

    Raises:
        InvalidPlaybook: one cannot be read or says what cannot be understood; at its file, line and column.
    """
    reader = _Reader(env)
    for text in packages:
        reader.wanted.append(parse(text))
    for path in files:
        reader.read(path)
    for path in constraints:
        reader.constrain(path)
    return Asked(
        wanted=tuple(reader.wanted),
        constraints=tuple(reader.constraints),
        options=msgspec.convert({**reader.flags, **reader.lists}, Options),
        constraint_files=tuple(reader.constraint_files),
        files=tuple(dict.fromkeys(reader.files)),
        variables=reader.variables,
    )


class _Line(msgspec.Struct, frozen=True):
    """A logical line: continuations joined, comment gone, variables replaced."""

    text: str
    position: Position | None
    variables: bool


class _Reader:
    """Reads files one into the other, as pip does, and gathers what they say."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env
        self._within: list[Path] = []
        self.wanted: list[Wanted] = []
        self.constraints: list[Wanted] = []
        self.constraint_files: list[Path] = []
        self.files: list[Path] = []
        self.flags: dict[str, str | bool] = {}
        self.lists: dict[str, list[str]] = {}
        self.variables = False

    def read(self, path: Path, position: Position | None = None, *, constrains: bool = False) -> None:
        """Read a requirements (or constraints) file; ``position`` is where it is named."""
        path = Path(os.path.abspath(path))
        if path in self._within:
            chain = " > ".join(str(file) for file in (*self._within[self._within.index(path) :], path))
            wrong(position, f"{path} includes itself", cause=chain, cure="take one of these includes out")
        if len(self._within) > _DEEPEST:
            wrong(position, f"{path} is included more than {_DEEPEST} files deep")
        self.files.append(path)
        self._within.append(path)
        for line in _logical_lines(path, self._env, position):
            self.variables |= line.variables
            if "\0" in line.text:
                wrong(line.position, "there is a NUL in the line", cure="take it out")
            if line.text.startswith("-") and not re.match(r"(-e|--editable)\b", line.text):
                self._option(line, path.parent, constrains)
            else:
                wanted = parse(line.text, base=path.parent, position=line.position)
                if constrains and wanted.name is None:
                    wrong(line.position, "a constraint needs a name", cure="write `name==1.2` or `name @ URL`")
                (self.constraints if constrains else self.wanted).append(wanted)
        self._within.pop()

    def constrain(self, path: Path, position: Position | None = None) -> None:
        """Read a constraints file, which is handed over as it stands."""
        self.read(path, position, constrains=True)
        self.constraint_files.append(Path(os.path.abspath(path)))

    def _option(self, line: _Line, base: Path, constrains: bool) -> None:
        try:
            words = shlex.split(line.text)
        except ValueError as error:
            wrong(line.position, "the line cannot be split into words", cause=str(error), cure="close the quotation")
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
            self.read(base / value, position, constrains=constrains)
        elif field == "constraints":
            if constrains:
                self.read(base / value, position, constrains=True)
            else:
                self.constrain(base / value, position)
        elif kind == "flag":
            self.flags[field] = True
        elif kind == "one":
            self.flags[field] = value
        elif kind == "words":
            self.lists.setdefault(field, []).extend(word for word in value.split(",") if word)
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
    "--no-index": ("no_index", "flag"), "--pre": ("pre", "flag"), "--prefer-binary": ("prefer_binary", "flag"),
    "--require-hashes": ("require_hashes", "flag"), "--use-feature": ("", "many"),
}  # fmt: skip


def _logical_lines(path: Path, env: Mapping[str, str], named_at: Position | None) -> Iterator[_Line]:
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except OSError as error:
        wrong(
            named_at,
            f"cannot read the requirements file {path}",
            cause=error.strerror or str(error),
            cure="a relative path starts from the folder of the file that names it",
        )
    except UnicodeDecodeError as error:
        before = error.object[: error.start].count(b"\n")
        wrong(Position(str(path), before + 1, 1), "this is not UTF-8 text", cure="save the file as UTF-8")
    joined, first = "", 0
    lines = text.splitlines()
    for number, line in enumerate(lines, start=1):
        first = first or number
        comment = line.lstrip().startswith("#")
        if line.endswith("\\") and not comment and number < len(lines):
            joined += line[:-1]
            continue
        whole = _COMMENT.sub("", joined + ("" if comment else line).rstrip("\\"))
        if whole.strip():
            position = Position(str(path), first, len(whole) - len(whole.lstrip()) + 1)
            yield _Line(_expanded(whole.strip(), env, position), position, bool(_VARIABLE.search(whole)))
        joined, first = "", 0


def _expanded(text: str, env: Mapping[str, str], position: Position | None) -> str:
    def value(match: re.Match[str]) -> str:
        if match[1] not in env:
            wrong(position, f"the environment variable {match[1]} is not set", cure="set it before the run")
        return env[match[1]]

    return _VARIABLE.sub(value, text)
