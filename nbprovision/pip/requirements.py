"""Parse the requirements of a pip task.

Sources: https://packaging.python.org/en/latest/specifications/dependency-specifiers/ (PEP 508) and, for paths, URLs and
options of a requirement, https://pip.pypa.io/en/stable/reference/requirements-file-format/.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import quote, unquote, urlsplit

import msgspec

from nbprovision.machine.distributions import normalized
from nbprovision.model.errors import InvalidPlaybook, ParameterError, Position
from nbprovision.system import secrets
from nbprovision.system.reading import read_bytes

if TYPE_CHECKING:
    from packaging.version import Version

_OPTIONS_BEHIND = re.compile(r"\s+(?=--?[A-Za-z])")
_SETTING = re.compile(r"(--config-settings?|-C)(\s+|=)(?=\S)")
_BEFORE_MARKER = re.compile(r"\s+;\s*|;\s+")
_VCS = re.compile(r"(git|hg|svn|bzr)\+[a-z]")
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|file:", re.IGNORECASE)
# Simple requirements are parsed without the library, whose import takes a tenth of a run after a restart.
_VERSION = re.compile(r"[0-9]+(\.[0-9]+)+")
_SIMPLE = re.compile(r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)((?:==[0-9]+(?:\.[0-9]+){1,3})?)")
# git, hg and ssh take such a host or revision for one of their options, and some options start programs.
_OPTION_INSIDE = re.compile(r"[:+]//([^/@]*@)?-|@-")
_SHOWN = 200  # characters of invalid text
_ARCHIVES = (".whl", ".zip", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
# Commands that print digests: https://pip.pypa.io/en/stable/topics/secure-installs/
HASH_OF_ONE = "`pip hash FILE` prints the hash of a file"
HASHES_OF_ALL = "`uv pip compile --generate-hashes` or `pip-compile --generate-hashes` writes a list with all hashes"
DIGITS = {"sha256": 64, "sha384": 96, "sha512": 128}  # of the algorithms that pip takes
_PEP_508 = "write it as `name`, `name==1.2`, `name[extra]>=1,<2`, `name; python_version < '3.12'` or `name @ URL`"


class PipRequirement(msgspec.Struct, frozen=True, kw_only=True):
    """A requirement.

    Attributes:
        line: The line for the installer: absolute paths, variables replaced, no hashes. It may contain a password.
        name: Normalised; None if only the built package has it.
        specifier: Allowed versions, empty for any (PEP 440).
        extras: Normalised.
        marker: The condition, empty for none.
        url: The source (``file://`` for a path), None for an index.
        editable: Whether the source itself is put on the path.
        hashes: ``algorithm:digest`` of the allowed files, empty for any file.
        settings: ``KEY=VALUE`` for the build backend; uv is not used for such a requirement.
        locked: Whether it is of a lock file: exactly that version, and the lock has all dependencies.
        position: File, line and column; None for a parameter.
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
    locked: bool = False
    position: Position | None = None

    @property
    def shown(self) -> str:
        """The line without secrets."""
        return secrets.mask(self.line)

    @property
    def name_and_extras(self) -> str:
        """``name[extra]``, of a named requirement."""
        return f"{self.name}[{','.join(self.extras)}]" if self.extras else self.name or ""

    @property
    def requirement(self) -> str:
        """The line of a requirements file, with hashes and settings."""
        behind = [f"--config-settings={shlex.quote(setting)}" for setting in self.settings]
        return " ".join([self.line, *(f"--hash={digest}" for digest in self.hashes), *behind])


def parse(text: str, *, base: Path | None = None, position: Position | None = None) -> PipRequirement:
    """Parse a requirement.

    Args:
        text: A requirement in pip's notation: PEP 508, a path, a URL, ``-e PATH``, followed by ``--hash`` options.
        base: The folder from which relative paths start; default the working folder.
        position: Its position, for errors.

    Raises:
        InvalidPlaybook: it is not valid.
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
            cure="give files to `requirements` and `constraints`, and indexes to an ensure_pip_index task",
        )
    else:
        wanted = (_from_place if _is_place(first) else _from_pep_508)(first, base, position)
    if wanted.url and (_OPTION_INSIDE.search(wanted.url) or "\0" in unquote(wanted.url)):
        wrong(
            position,
            f"'{_brief(wanted.url)}' cannot be the source of a package",
            cause="the command that fetches the package would take a host or revision that begins with - for an "
            "option, and a path cannot contain a NUL",
            cure="correct the URL; in the path of a file write %2D for a -",
        )
    if wanted.url and re.match(r"([a-z]+\+)?(https?|ssh|git)://([^/@]*@)?([/?#]|$)", wanted.url):
        wrong(position, f"'{_brief(wanted.url)}' names no host", cure="write https://HOST/PATH")
    return msgspec.structs.replace(wanted, hashes=hashes, settings=settings, position=position)


def of_parameter(key: str, text: str) -> PipRequirement:
    """Parse a requirement of a task's parameter.

    Raises:
        ParameterError: it is not valid.
    """
    try:
        return parse(text)
    except InvalidPlaybook as error:
        raise ParameterError(key, error.message, cause=error.cause, cure=error.cure) from None


def anchored(text: str, folder: Path) -> str:
    """The requirement with its relative path, if it has one, made absolute from ``folder``."""
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
    """The values of PEP 508's markers for a Python of that version on this machine. Starts no process.

    Args:
        python_version: ``3.12`` or ``3.12.1``.
    """
    from packaging.markers import default_environment

    full = python_version if python_version.count(".") > 1 else f"{python_version}.0"
    own: dict[str, str] = {name: str(value) for name, value in default_environment().items()}
    minor = ".".join(full.split(".")[:2])
    return {**own, "python_version": minor, "python_full_version": full, "implementation_version": full}


def source_name(url: str) -> str | None:
    """The distribution's name, if a URL shows it: by ``#egg=``, a file's name, or a local project's pyproject.toml."""
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
    """The version in the name of a URL's file."""
    name_and_version = _file_name(unquote(urlsplit(url).path))
    return name_and_version[1] if name_and_version else None


def local_path(wanted: PipRequirement) -> Path | None:
    """The file or folder of this machine that a requirement names."""
    parts = urlsplit(wanted.url or "")
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def incompatible(first: PipRequirement, second: PipRequirement) -> bool:
    """Whether no version of a distribution can satisfy both requirements."""
    from packaging.specifiers import SpecifierSet

    if first.url and second.url:
        return without_credentials(first.url).rstrip("/") != without_credentials(second.url).rstrip("/")
    if first.url or second.url:
        version = source_version(first.url or second.url or "")
        specifier = SpecifierSet(first.specifier or second.specifier)
        return version is not None and not specifier.contains(version, prereleases=True)
    return (SpecifierSet(first.specifier) & SpecifierSet(second.specifier)).is_unsatisfiable()


def version_of(text: str) -> Version | None:
    """A version, or None for text that is not a version (PEP 440)."""
    from packaging.version import InvalidVersion, Version

    try:
        return Version(text)
    except InvalidVersion:
        return None


def without_credentials(url: str) -> str:
    """``url`` without user, password and fragment."""
    return re.sub(r"//[^/@]*@", "//", url.partition("#")[0])


def wrong(position: Position | None, message: str, *, cause: str = "", cure: str = "") -> NoReturn:
    """Refuse the text at ``position``; if it is None, the engine adds that of the task."""
    raise InvalidPlaybook(message, cause=cause, cure=cure, position=position)


def _brief(text: str) -> str:
    shown = secrets.mask(text)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."


@functools.lru_cache(maxsize=4096)  # a notebook may read file after file
def _from_pep_508(text: str, base: Path | None, position: Position | None) -> PipRequirement:
    simple = _SIMPLE.fullmatch(text)
    if simple is not None:
        if _VERSION.fullmatch(simple[1]):
            wrong(position, f"'{_brief(text)}' is a version, not a package", cure="write NAME==VERSION in one entry")
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
        wrong(position, f"'{_brief(text)}' is not a requirement", cause="it is nested too deeply", cure=_PEP_508)
    if requirement.url and not _is_place(requirement.url):
        wrong(position, f"'{secrets.mask(requirement.url)}' is neither a URL nor a path", cure=_PEP_508)
    if requirement.url:
        requirement.url = _absolute_url(requirement.url, base)
    return PipRequirement(
        line=str(requirement),
        name=normalized(requirement.name),
        specifier=str(requirement.specifier),
        extras=tuple(sorted(normalized(extra) for extra in requirement.extras)),
        marker=str(requirement.marker or ""),
        url=requirement.url,
    )


def _from_place(text: str, base: Path | None, position: Position | None, *, editable: bool = False) -> PipRequirement:
    """Parse a URL or path, followed by ``[extras]`` and ``; marker``."""
    place, *markers = (part.strip() for part in _BEFORE_MARKER.split(text, maxsplit=1))
    marker = markers[0] if markers else ""
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
    extras_text = f"[{','.join(names)}]" if names else ""
    if editable:
        fragment = urlsplit(url).fragment
        line = f"-e {path}{'#' if fragment else ''}{fragment}{extras_text}" if path else f"-e {url}{extras_text}"
    elif name is not None:
        line = f"{name}{extras_text} @ {url}"
    else:
        line = f"{path or url}{extras_text}"
    line += f" ; {marker}" if marker else ""
    return PipRequirement(line=line, name=name, extras=names, marker=marker, url=url, editable=editable)


def _editable(text: str, base: Path | None, position: Position | None) -> PipRequirement:
    """Parse a folder or a repository, whose name pip must know before it clones, and old versions by ``#egg=`` only."""
    named = re.fullmatch(r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*(\[[^\]]*\])?\s*@\s*([^;\s]+)(.*)", text)
    if named is not None and _VCS.match(named[3]):
        url = named[3] + ("" if "#egg=" in named[3] else ("&" if "#" in named[3] else "#") + f"egg={named[1]}")
        text = f"{url}{named[2] or ''}{named[4]}"
    wanted = _from_place(text, base, position, editable=True)
    if wanted.name is None and not (wanted.url or "").startswith("file:"):
        wrong(
            position,
            f"'{wanted.shown}' has no name",
            cause="pip needs the name of a package before it clones its repository",
            cure="write `-e NAME @ git+URL`, or `#egg=NAME` after the URL",
        )
    return wanted


def _is_place(text: str) -> bool:
    """Whether a requirement is a URL or path instead of a name."""
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
    """The path in a ``file:`` URL, as written; other text unchanged."""
    return re.sub(r"(?i)^file:(//(localhost)?(?=/))?", "", text)


def _file_name(path: str) -> tuple[str, str] | None:
    """Name and version in the name of a wheel or source distribution."""
    from packaging.utils import InvalidSdistFilename, InvalidWheelFilename, parse_sdist_filename, parse_wheel_filename

    file = os.path.basename(path)
    with contextlib.suppress(InvalidWheelFilename, InvalidSdistFilename):
        if file.endswith(".whl"):
            name, version, *_ = parse_wheel_filename(file)
            return name, str(version)
        if file.endswith((".tar.gz", ".zip")):
            name, version = parse_sdist_filename(file)
            return name, str(version)
    return None


def _project_name(folder: Path) -> str | None:
    """The name in a local project's pyproject.toml; other names are known after a build only."""
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
        wrong(position, f"'{option}' is not a hash", cure="write `--hash=sha256:` and the digest in hexadecimal digits")
    if match is None:
        wrong(
            position,
            f"'{re.split('[= ]', option, maxsplit=1)[0]}' cannot follow a requirement",
            cause="only `--hash=sha256:...` and `--config-settings=KEY=VALUE` can",
            cure="put other options on lines of their own in a requirements file",
        )
    digits = DIGITS.get(match[2])
    if digits is None:
        wrong(
            position,
            f"'{match[2]}' is not an algorithm for --hash",
            cause=f"pip accepts {', '.join(DIGITS)}",
            cure=f"give the sha256: {HASH_OF_ONE}; {HASHES_OF_ALL}",
        )
    if len(match[3]) != digits:
        wrong(
            position,
            f"'{option.strip()}' is not a complete hash",
            cause=f"a {match[2]} has {digits} hexadecimal digits, and this one has {len(match[3])}",
            cure=f"copy all of it: {HASH_OF_ONE}",
        )
    return match[1]


def _advice(text: str) -> str:
    """The correct form for common mistakes."""
    single = re.fullmatch(r"([A-Za-z0-9._-]+(?:\[[^\]]*\])?)\s*=\s*([^=\s]+)", text)
    spaced = re.fullmatch(r"([A-Za-z0-9._-]+)\s+v?([0-9][^\s]*)", text)
    match = single or spaced
    return f"write `{match[1]}=={match[2]}`" if match else _PEP_508
