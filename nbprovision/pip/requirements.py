"""Requirements: what a pip task asks for, each taken apart.

Sources: https://packaging.python.org/en/latest/specifications/dependency-specifiers/ (PEP 508) and, for paths, URLs and
what may stand behind a requirement, https://pip.pypa.io/en/stable/reference/requirements-file-format/.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import quote, unquote, urlsplit

import msgspec

from nbprovision.machine.distributions import normalized
from nbprovision.model.errors import InvalidPlaybook, ParameterError, Position
from nbprovision.system import secrets
from nbprovision.system.reading import read_bytes

if TYPE_CHECKING:
    from packaging.requirements import Requirement

_OPTIONS_BEHIND = re.compile(r"\s+(?=--?[A-Za-z])")
_SETTING = re.compile(r"(--config-settings?|-C)(\s+|=)(?=\S)")
_BEFORE_MARKER = re.compile(r"\s+;\s*|;\s+")
_VCS = re.compile(r"(git|hg|svn|bzr)\+[a-z]")
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|file:", re.IGNORECASE)
# What needs no library to be understood, whose import would take a tenth of a run after a restart.
_VERSION = re.compile(r"[0-9]+(\.[0-9]+)+")
_SIMPLE = re.compile(r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)((?:==[0-9]+(?:\.[0-9]+){1,3})?)")
# git, hg and ssh would take a host or a revision like this for an option of theirs, and some of these start programs.
_OPTION_INSIDE = re.compile(r"[:+]//([^/@]*@)?-|@-")
_SHOWN = 200  # characters of what is no requirement
_ARCHIVES = (".whl", ".zip", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
# How a digest is had, and how the digests of all: https://pip.pypa.io/en/stable/topics/secure-installs/
HASH_OF_ONE = "`pip hash FILE` prints that of a file"
HASHES_OF_ALL = (
    "`uv pip compile --generate-hashes` or `pip-compile --generate-hashes` writes the list with those of all"
)
_DIGITS = {"sha256": 64, "sha384": 96, "sha512": 128}  # of the algorithms that pip takes
_PEP_508 = "write it as `name`, `name==1.2`, `name[extra]>=1,<2`, `name; python_version < '3.12'` or `name @ URL`"


class PipRequirement(msgspec.Struct, frozen=True, kw_only=True):
    """One requirement.

    Attributes:
        line: What is handed to the installer: paths absolute, variables replaced, hashes left out. May hold a password.
        name: Normalised; None where only the built package would tell it.
        specifier: Versions that are allowed, empty for any (PEP 440).
        extras: Normalised.
        marker: The condition, empty for none.
        url: Where it must come from (``file://`` for a path), None for an index.
        editable: The source itself is to be on the path.
        hashes: ``algorithm:digest`` of the files that are allowed, empty for all.
        settings: ``KEY=VALUE`` for what builds it, which pip alone takes here.
        position: File, line and column; None in a list.
    """

    line: str
    name: str | None = None
    specifier: str = ""
    extras: tuple[str, ...] = ()
    marker: str = ""
    url: str | None = None
    editable: bool = False
    hashes: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    position: Position | None = None

    @property
    def shown(self) -> str:
        """The line without secrets."""
        return secrets.mask(self.line)

    @property
    def requirement(self) -> str:
        """The line as a requirements file has it, with all that stands behind it."""
        behind = [f"--config-settings={shlex.quote(setting)}" for setting in self.settings]
        return " ".join([self.line, *(f"--hash={digest}" for digest in self.hashes), *behind])


def parse(text: str, *, base: Path | None = None, position: Position | None = None) -> PipRequirement:
    """Take one requirement apart.

    Args:
        text: A requirement as pip takes it: PEP 508, a path, a URL, ``-e PATH``, with ``--hash`` behind it.
        base: Folder that relative paths start from; default the working folder.
        position: Where it stands, for errors.

    Raises:
        InvalidPlaybook: it is none.
    """
    secrets.remember_url(text)
    text = text.strip()
    if not text or not text.isprintable():
        wrong(position, f"{secrets.mask(text)!r} is not a requirement", cure=_PEP_508)
    first, *options = _OPTIONS_BEHIND.split(text) if not text.startswith("-") else [text]
    settings = tuple(_setting(option) for option in options if _SETTING.match(option))
    hashes = tuple(_hash(option, position) for option in options if not _SETTING.match(option))
    editable = re.match(r"(-e|--editable)(\s+|=)(?=\S)", text)
    if editable:
        wanted = _editable(text[editable.end() :], base, position)
    elif first.startswith("-"):
        wrong(
            position,
            f"'{secrets.mask(first.split()[0])}' is an option, not a requirement",
            cure="files belong into `requirements` and `constraints`, indexes into an ensure_pip_index task",
        )
    else:
        wanted = (_from_place if _is_place(first) else _from_pep_508)(first, base, position)
    if wanted.url and (_OPTION_INSIDE.search(wanted.url) or "\0" in unquote(wanted.url)):
        wrong(
            position,
            f"'{_brief(wanted.url)}' cannot be the place of a package",
            cause="a host or a revision that begins with - would be an option of the command that fetches it, and a "
            "NUL is in no path",
            cure="correct the URL; the path of a file may have %2D for a -",
        )
    if wanted.url and re.match(r"([a-z]+\+)?(https?|ssh|git)://([^/@]*@)?([/?#]|$)", wanted.url):
        wrong(position, f"'{_brief(wanted.url)}' names no host", cure="write https://HOST/PATH")
    return msgspec.structs.replace(wanted, hashes=hashes, settings=settings, position=position)


def of_parameter(key: str, text: str) -> PipRequirement:
    """A requirement that stands in a parameter of a task.

    Raises:
        ParameterError: it is none.
    """
    try:
        return parse(text)
    except InvalidPlaybook as error:
        raise ParameterError(key, error.message, cause=error.cause, cure=error.cure) from None


def anchored(text: str, folder: Path) -> str:
    """The requirement with ``folder`` before the path in it, if it has one and that is relative."""
    match = re.match(r"\s*((?:-e|--editable)(?:\s+|=)|[A-Za-z0-9._-]+\s*(?:\[[^\]]*\])?\s*@\s*)?(file:(?!/))?", text)
    if match is None:
        return text
    before, place = match[1] or "", text[match.end() :]
    named = bool(before or match[2]) or _is_place(place)
    if not named or not place or place.startswith(("/", "~")) or URL.match(place) or _VCS.match(place):
        return text
    return before + os.path.normpath(folder / place)


def applies(wanted: PipRequirement, environment: Mapping[str, str]) -> bool:
    """Whether the marker of ``wanted`` holds in a target (see `marker_environment`)."""
    if not wanted.marker:
        return True
    from packaging.markers import Marker

    return Marker(wanted.marker).evaluate({**environment, "extra": ""})


def marker_environment(python_version: str) -> dict[str, str]:
    """The values of PEP 508's markers in a Python of that version on this machine; of the target no process is started.

    Args:
        python_version: ``3.12`` or ``3.12.1``.
    """
    from packaging.markers import default_environment

    full = python_version if python_version.count(".") > 1 else f"{python_version}.0"
    own: dict[str, str] = {name: str(value) for name, value in default_environment().items()}
    minor = ".".join(full.split(".")[:2])
    return {**own, "python_version": minor, "python_full_version": full, "implementation_version": full}


def source_name(url: str) -> str | None:
    """The distribution's name as far as a URL tells it: ``#egg=``, a file's name, a local project's pyproject.toml."""
    parts = urlsplit(url)
    named = re.search(r"(?:^|&)egg=([A-Za-z0-9._-]+)", parts.fragment)
    if named:
        return normalized(named[1])
    if not _VCS.match(url):
        name = _file_name(unquote(parts.path))
        if name is not None:
            return name[0]
    return _project_name(Path(unquote(parts.path))) if parts.scheme == "file" else None


def source_version(url: str) -> str | None:
    """The version that a file's name tells."""
    found = _file_name(unquote(urlsplit(url).path))
    return found[1] if found else None


def local_path(wanted: PipRequirement) -> Path | None:
    """The file or folder of this machine that a requirement points to."""
    parts = urlsplit(wanted.url or "")
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def incompatible(one: PipRequirement, other: PipRequirement) -> bool:
    """Whether no version of a distribution can satisfy both."""
    from packaging.specifiers import SpecifierSet

    if one.url and other.url:
        return _place_of(one.url) != _place_of(other.url)
    if one.url or other.url:
        version = source_version(one.url or other.url or "")
        return version is not None and not SpecifierSet(one.specifier or other.specifier).contains(
            version, prereleases=True
        )
    return (SpecifierSet(one.specifier) & SpecifierSet(other.specifier)).is_unsatisfiable()


def _place_of(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//", url.partition("#")[0]).rstrip("/")


def lines(wanted: Sequence[PipRequirement]) -> str:
    """The text of a requirements file that asks for ``wanted``."""
    return "".join(f"{one.requirement}\n" for one in wanted)


def wrong(position: Position | None, message: str, *, cause: str = "", cure: str = "") -> NoReturn:
    """Refuse what stands at ``position``; without one the engine gives that of the task."""
    raise InvalidPlaybook(message, cause=cause, cure=cure, position=position)


def _brief(text: str) -> str:
    shown = secrets.mask(text)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."


@functools.lru_cache(maxsize=4096)  # a notebook may read file after file
def _from_pep_508(text: str, base: Path | None, position: Position | None) -> PipRequirement:
    simple = _SIMPLE.fullmatch(text)
    if simple is not None:
        if _VERSION.fullmatch(simple[1]):
            wrong(
                position, f"'{_brief(text)}' is a version, and not a package", cure="write NAME==VERSION in one entry"
            )
        return PipRequirement(line=text, name=normalized(simple[1]), specifier=simple[2])
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        span: tuple[int, int] = getattr(error.__cause__, "span", (0, 0))
        if position is not None:
            position = position._replace(column=position.column + span[0])
        reason = _brief(str(error).partition("\n")[0])
        wrong(position, f"'{_brief(text)}' is not a requirement", cause=reason, cure=_advice(text))
    except RecursionError:
        wrong(position, f"'{_brief(text)}' is not a requirement", cause="it is nested too deep", cure=_PEP_508)
    if requirement.url and not _is_place(requirement.url):
        wrong(position, f"'{secrets.mask(requirement.url)}' is neither a URL nor a path", cure=_PEP_508)
    if requirement.url:
        requirement.url = _absolute_url(requirement.url, base)
    return _wanted(requirement)


def _wanted(requirement: Requirement) -> PipRequirement:
    return PipRequirement(
        line=str(requirement),
        name=normalized(requirement.name),
        specifier=str(requirement.specifier),
        extras=tuple(sorted(normalized(extra) for extra in requirement.extras)),
        marker=str(requirement.marker or ""),
        url=requirement.url,
    )


def _from_place(text: str, base: Path | None, position: Position | None, *, editable: bool = False) -> PipRequirement:
    """A URL or path, with ``[extras]`` and ``; marker`` behind it."""
    place, *behind = _BEFORE_MARKER.split(text, maxsplit=1)
    marker = behind[0].strip() if behind else ""
    place = place.strip()
    extras = re.search(r"(?<=[^/\s])\[([A-Za-z0-9._, -]+)\]$", place)
    place = place[: extras.start()] if extras else place
    try:
        url = _absolute_url(place, base)
        name = source_name(url)
    except ValueError as error:
        wrong(position, f"'{secrets.mask(place)}' is not a URL", cause=str(error), cure=_PEP_508)
    path = Path(unquote(urlsplit(url).path)) if url.startswith("file:") else None
    if marker:
        from packaging.markers import InvalidMarker, Marker

        try:
            marker = str(Marker(marker))
        except InvalidMarker as error:
            wrong(position, f"'{marker}' is not a marker", cause=str(error).partition("\n")[0], cure=_PEP_508)
    names = tuple(sorted({normalized(extra.strip()) for extra in extras[1].split(",")})) if extras else ()
    of_extras = f"[{','.join(names)}]" if names else ""
    if editable:
        fragment = urlsplit(url).fragment
        line = f"-e {path}{'#' if fragment else ''}{fragment}{of_extras}" if path else f"-e {url}{of_extras}"
    elif name is not None:
        line = f"{name}{of_extras} @ {url}"
    else:
        line = f"{path or url}{of_extras}"
    line += f" ; {marker}" if marker else ""
    return PipRequirement(line=line, name=name, extras=names, marker=marker, url=url, editable=editable)


def _editable(text: str, base: Path | None, position: Position | None) -> PipRequirement:
    """A folder, or a repository: pip has to know its name before it clones, and older ones by ``#egg=`` only."""
    named = re.fullmatch(r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*(\[[^\]]*\])?\s*@\s*([^;\s]+)(.*)", text)
    if named is not None and _VCS.match(named[3]):
        url = named[3] + ("" if "#egg=" in named[3] else ("&" if "#" in named[3] else "#") + f"egg={named[1]}")
        text = f"{url}{named[2] or ''}{named[4]}"
    wanted = _from_place(text, base, position, editable=True)
    if wanted.name is None and not (wanted.url or "").startswith("file:"):
        wrong(
            position,
            f"'{wanted.shown}' has no name",
            cause="pip needs the name of what it clones as editable",
            cure="write `-e NAME @ git+URL`, or `#egg=NAME` behind the URL",
        )
    return wanted


def _is_place(text: str) -> bool:
    """Whether a requirement is a URL or path and not a name."""
    place = _BEFORE_MARKER.split(text, maxsplit=1)[0].strip()
    if re.match(r"[A-Za-z0-9._-]+\s*(\[[^\]]*\])?\s*@", place) and not URL.match(place) and not _VCS.match(place):
        return False
    bare = re.sub(r"\[[^\]]*\]$", "", place)
    return bool(URL.match(place)) or bare.startswith((".", "/", "~")) or "/" in bare or bare.endswith(_ARCHIVES)


def _absolute_url(place: str, base: Path | None) -> str:
    if place.lower().startswith("file:"):
        path, _, fragment = without_file_scheme(place).partition("#")
        path = unquote(path)
    elif URL.match(place):
        return place
    else:
        path, _, fragment = place.partition("#")
    absolute = os.path.abspath((base or Path.cwd()) / os.path.expanduser(path))
    return f"file://{quote(absolute)}{'#' + fragment if fragment else ''}"


def without_file_scheme(text: str) -> str:
    """The path in a ``file:`` URL, as it is written; what is none stays as it is."""
    return re.sub(r"(?i)^file:(//(localhost)?(?=/))?", "", text)


def _file_name(path: str) -> tuple[str, str] | None:
    """Name and version that the name of a wheel or source distribution tells."""
    from packaging.utils import (
        InvalidSdistFilename,
        InvalidWheelFilename,
        parse_sdist_filename,
        parse_wheel_filename,
    )

    name = os.path.basename(path)
    try:
        if name.endswith(".whl"):
            found = parse_wheel_filename(name)
            return found[0], str(found[1])
        if name.endswith((".tar.gz", ".zip")):
            return parse_sdist_filename(name)[0], str(parse_sdist_filename(name)[1])
    except (InvalidWheelFilename, InvalidSdistFilename):
        pass
    return None


def _project_name(folder: Path) -> str | None:
    """The name in a local project's pyproject.toml; anything else only a build would tell."""
    try:
        text = read_bytes(folder / "pyproject.toml").decode()
    except (OSError, UnicodeDecodeError):
        return None
    section = re.search(r"(?ms)^\[project\]\s*$(.*?)(?=^\[|\Z)", text)
    name = re.search(r"""(?m)^name\s*=\s*["']([A-Za-z0-9._-]+)["']""", section[1]) if section else None
    return normalized(name[1]) if name else None


def _setting(option: str) -> str:
    text = _SETTING.sub("", option).strip()
    with contextlib.suppress(ValueError):
        return shlex.split(text)[0]
    return text


def _hash(option: str, position: Position | None) -> str:
    match = re.fullmatch(r"--hash[=\s]\s*(([a-z0-9]+):([0-9a-fA-F]+))", option.strip())
    if match is None and option.startswith("--hash"):
        wrong(
            position, f"'{option}' is not a hash", cure="write `--hash=sha256:` and the digest in hexadecimal figures"
        )
    if match is None:
        wrong(
            position,
            f"'{re.split('[= ]', option, maxsplit=1)[0]}' cannot stand behind a requirement",
            cure="only `--hash=sha256:...` and `--config-settings=KEY=VALUE` can; other settings stand on lines of "
            "their own in a requirements file",
        )
    digits = _DIGITS.get(match[2])
    if digits is None:
        wrong(
            position,
            f"'{match[2]}' is no algorithm for --hash",
            cause=f"pip takes {', '.join(_DIGITS)}",
            cure=f"give the sha256: {HASH_OF_ONE}; {HASHES_OF_ALL}",
        )
    if len(match[3]) != digits:
        wrong(
            position,
            f"'{option.strip()}' is not a whole hash",
            cause=f"a {match[2]} has {digits} hexadecimal figures, and this has {len(match[3])}",
            cure=f"copy all of it: {HASH_OF_ONE}",
        )
    return match[1]


def _advice(text: str) -> str:
    """What to write instead of the usual slips."""
    single = re.fullmatch(r"([A-Za-z0-9._-]+(?:\[[^\]]*\])?)\s*=\s*([^=\s]+)", text)
    spaced = re.fullmatch(r"([A-Za-z0-9._-]+)\s+v?([0-9][^\s]*)", text)
    match = single or spaced
    return f"write `{match[1]}=={match[2]}`" if match else _PEP_508
