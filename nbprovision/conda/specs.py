"""conda's match specs (https://conda.org/learn/ceps/cep-0029), judged by py-rattler.

Loading that library takes longer than a look at an environment. So it is asked only for what the text alone does not
tell: whether a spec of an ordinary form is one, and whether an installed version is just the one that a spec names.

The names of channels (https://conda.org/learn/ceps/cep-0026), by which a spec may begin, are judged by their text.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote, urlsplit

import msgspec

from nbprovision.machine.condarc import Condarc
from nbprovision.machine.distributions import name_in, normalized
from nbprovision.machine.environments import CondaRecord
from nbprovision.model.errors import ParameterError, TaskFailed
from nbprovision.model.task import Resource
from nbprovision.system import secrets

if TYPE_CHECKING:
    from rattler import MatchSpec

    from nbprovision.machine.machine import Machine

_SPEC = re.compile(r"(?:(?P<channel>[^\[\]=<>!~ ]+)::)?(?P<name>[A-Za-z0-9_][A-Za-z0-9_.-]*)\s*(?P<rest>.*)", re.DOTALL)
_NUMBERS = re.compile(r"[0-9]+(\.[0-9]+)*")
# What names a version, or all that begin with it: =1.2, ==1.2, 1.2, =1.2.*, =1.2=py_0
_NAMED = re.compile(
    r"(?P<operator>={0,2})\s*(?P<version>[0-9][A-Za-z0-9_.+!]*?)(?P<star>\.\*)?(?:(?:\s+|=)(?P<build>[A-Za-z0-9_.+]+))?"
)
# A range of plain numbers, as py-rattler writes it: it means the same in Python's form (PEP 440).
_RANGE = re.compile(r"(?:[=!~<>]=|<|>)?[0-9]+(?:\.[0-9]+)*(?:\.\*)?")

# What needs no library to be known as a match spec: a name, ranges of ordinary versions, a build without a pattern.
_PLAIN_VERSION = r"[0-9]+(?:[._][0-9]+)*(?:[a-z]+[0-9]*)?(?:\.(?:post|dev)[0-9]+)?(?:\.\*)?"
_PLAIN_RANGE = rf"(?:==|>=|<=|!=|~=|>|<) ?{_PLAIN_VERSION}"
_PLAIN = re.compile(
    r"(?:[A-Za-z0-9_][A-Za-z0-9_./-]*::)?[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?"
    rf"(?: ?={_PLAIN_VERSION}(?:=[A-Za-z0-9_.]+)?| ?{_PLAIN_RANGE}(?:, ?{_PLAIN_RANGE})*)?"
)
_SCHEMES = ("https", "http", "file", "s3", "gcs", "oci")
# With a path behind it (`conda-forge/label/dev`), and the platforms that are meant, which conda takes in brackets.
_CHANNEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*(/[A-Za-z0-9_.+@-]+)*/?(\[[A-Za-z0-9_, -]+\])?")
_CHANNEL_CURE = "write a name (conda-forge), a URL (https://HOST/PATH) or a path (./folder, /folder)"


class Fault(NamedTuple):
    """Why a text is not what it has to be, and what to write instead."""

    cause: str
    cure: str


@functools.lru_cache(maxsize=4096)  # one playbook asks several times
def fault(text: str) -> Fault | None:
    """Why conda or the built-in engine cannot read a text as a match spec; None where both can.

    Args:
        text: A match spec, as a playbook or an environment file has it.

    """
    text = text.strip()
    if _PLAIN.fullmatch(text) and not text.replace(".", "").isdigit():
        return None
    for pattern, cause, cure in _SLIPS:
        match = re.search(pattern, text)
        if match is not None:
            return Fault(match.expand(cause), match.expand(cure))
    channel, colons, _ = text.partition("::")
    if colons and "[" not in channel and (wrong := channel_fault(channel)) is not None:
        return Fault(f"'{secrets.without_password(channel)}' is not a channel: {wrong.cause}", wrong.cure)
    if parse(text) is None:
        return Fault("it does not begin with the name of a package", _CURE)
    try:
        spec = _read(text)
    except ImportError:
        return None  # the machine's own conda, which is the engine then, says what it cannot read
    except ValueError as error:
        return Fault(str(error).partition("\n")[0], _CURE)
    build = str(spec.build or "")
    if re.search(r"[<>=!~, ]", build):  # the library takes for a build what conda refuses
        return Fault(f"'{build}' stands where the build does", "put a comma between two versions: name>=1.2,<2")
    return None


# The usual slips: what tells one, why it is one, and what to write instead; the first that fits. Some of them conda
# takes, for something that nobody means.
_CURE = "write it as conda does: name, name=1.2, name>=1.2,<2"
_PIP = "hand it to pip: in the pip section of an environment file, or by ensure_pip_pkg"
_EACH = "give each package an entry of its own"
_NAME = r"(?:[^:\s]+::)?[A-Za-z0-9_.-]+"
_SLIPS: tuple[tuple[str, str, str], ...] = (
    (r"^$", "it is empty", _CURE),
    (r"[\x00-\x1f\x7f]", "there is a line break or a control character in it", _EACH),
    (r"^[0-9]+(\.[0-9]+)+$", "it is a version, and not a package", "write name=VERSION in one entry"),
    (r"^-", "it is an option, not a package", f"name channels by `channels`, and {_EACH}"),
    (
        r"^(?!.*::)(?:[a-z0-9+]+:|[./~]).*?([^/]+)-([^/-]+)-([^/-]+)\.(?:conda|tar\.bz2)(?:#.*)?$",
        "it is the URL or path of a package's file",
        r"name its channel in `channels`, and write \1=\2=\3",
    ),
    (r"^(git|hg|svn|bzr)\+|^[a-z]+://(?!.*::)", "it is a URL, and conda takes packages from channels", _PIP),
    (r"^[./~]", "it is a path, and conda takes packages from channels", _PIP),
    (r";", "conda knows no markers behind a semicolon", _PIP),
    (r"^([^\s\[]+)\[(?![^\]]*=)[^\]]*\]", "conda has no extras in brackets", rf"write \1, or {_PIP}"),
    (r"(\$\{?\w+\}?|\{\{.*|<[A-Za-z_]+>)", r"conda replaces no variables, and there is '\1' in it", "write the value"),
    (r"===", "conda has no operator ===", "write == for one version, = for all that begin with it"),
    (r"=([<>])", r"the operator is \1=", r"write \1= in place of =\1"),
    (r"<>", "conda has no operator <>", "write !="),
    (r"[=<>!~]\s*$", "there is no version behind the operator", _CURE),
    (rf"^{_NAME}\s*(\^|@|~(?!=))", r"conda has no operator \1", "write name=1.2, or a range: name>=1.2,<2"),
    (rf"^{_NAME}:(?![:/])", "conda takes a single colon for nothing", "write CHANNEL::NAME, or NAME=VERSION"),
    (rf"^{_NAME}(,|\s+(?!v?[0-9]|r[0-9]))\s*[A-Za-z_]", "a package's name has no blank and no comma", _EACH),
    (r"""^[^\[]*(["'\u2018-\u201d])""", "there is a quotation mark in it", "leave the inner quotation marks out"),
    (rf"^{_NAME}\*|^\*", "a package is named in full, without *", _CURE),
)


class Spec(msgspec.Struct, frozen=True):
    """A match spec in its parts; ``rest`` is what says something of version and build."""

    text: str
    name: str
    channel: str | None = None
    rest: str = ""

    @property
    def bare(self) -> str:
        """The spec without its channel."""
        return f"{self.name} {self.rest}".strip()


def parse(text: str) -> Spec | None:
    """Take a match spec apart, None where it has no name in front."""
    match = _SPEC.fullmatch(text.strip())
    if match is None or any(ord(letter) < 32 for letter in text.strip()):
        return None
    return Spec(text.strip(), match["name"].lower(), match["channel"], match["rest"].strip())


def allows(spec: Spec, version: str, build: str, path: Path | None = None) -> bool | None:
    """Whether a package of the spec's name is what it asks for; None where that cannot be told.

    Args:
        spec: The spec; its channel is left aside.
        version: The package's version.
        build: Its build; where it is not known, empty: that is one which no spec names.
        path: Its record, if it is installed: a spec with brackets may say more than of version and build.

    Raises:
        TaskFailed: the library cannot be loaded, and the text alone does not tell.

    """
    if not spec.rest or _is_named(spec.rest, version, build):
        return True
    try:
        from rattler import PackageRecord, PrefixRecord
        from rattler.exceptions import InvalidVersionError
        from rattler.package.build_string import BuildString
    except ImportError as error:
        raise TaskFailed(
            f"'{spec.text}' cannot be compared with {spec.name} {version}",
            cause=f"py-rattler, which knows how, cannot be loaded: {error}",
            cure="name the version itself: name=1.2 or name==1.2.3",
        ) from error
    try:
        wanted = _read(spec.bare)
        if "[" in spec.rest:
            return None if path is None else wanted.matches(PrefixRecord.from_path(path))
        named = build if build and wanted.build else "0"  # old builds can be none by CEP 26
        return wanted.matches(PackageRecord(spec.name, version, BuildString(named), 0, "noarch"))
    except (InvalidVersionError, OSError, ValueError):
        return None


def _is_named(rest: str, version: str, build: str) -> bool:
    """Whether this is the very version, and build, that a spec names."""
    match = _NAMED.fullmatch(rest)
    if match is None or match["build"] not in (None, build):
        return False
    if version == match["version"]:
        return True
    begins = match["build"] is None and (match["star"] or match["operator"] == "=")
    plain = _NUMBERS.fullmatch(version) and _NUMBERS.fullmatch(match["version"])
    return bool(begins and plain and version.startswith(f"{match['version']}."))


@functools.lru_cache(maxsize=65536)
def _read(text: str) -> MatchSpec:
    """The spec as the library reads it.

    Raises:
        ImportError: the library cannot be loaded.
        ValueError: it cannot read the text.

    """
    from rattler import MatchSpec
    from rattler.exceptions import InvalidMatchSpecError

    try:
        return MatchSpec(text)
    except InvalidMatchSpecError as error:
        raise ValueError(str(error)) from None


def satisfied(spec: Spec, records: Iterable[CondaRecord], condarc: Condarc) -> bool:
    """Whether one of the installed packages is what the spec asks for."""
    return any(
        allows(spec, record.version, record.build, record.path)
        and (spec.channel is None or _comes_from(record, condarc.urls(spec.channel)))
        for record in records
        if record.name == spec.name
    )


def conflicts(spec: Spec, requirement: str, *, absent: bool = False) -> bool:
    """Whether surely no version satisfies both a match spec and a requirement (PEP 508) of the same distribution."""
    if name_in(requirement) != normalized(spec.name):
        return False
    if absent:
        return True
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        wanted = Requirement(requirement)
    except InvalidRequirement:
        return False
    if wanted.url is not None or (wanted.marker is not None and "extra" not in str(wanted.marker)):
        return False
    return _disjoint(_versions(spec), str(wanted.specifier))


def exclude(one: Spec, other: Spec) -> bool:
    """Whether two match specs of one package surely have no version in common."""
    return one.name == other.name and _disjoint(_versions(one), _versions(other))


def _versions(spec: Spec) -> str:
    """What a spec says of versions, in the library's form; empty for nothing, and for what it cannot read."""
    try:
        return _read(spec.bare).version or "" if spec.rest else ""
    except (ImportError, ValueError):
        return ""


def _disjoint(first: str, second: str) -> bool:
    """Whether no version is in both; only ranges of plain numbers are judged."""
    clauses = [*first.split(","), *second.split(",")]
    if not all(map(_RANGE.fullmatch, clauses)):
        return False
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        return SpecifierSet(",".join(f"=={text}" if text[0].isdigit() else text for text in clauses)).is_unsatisfiable()
    except InvalidSpecifier:
        return False


def _comes_from(record: CondaRecord, urls: list[str]) -> bool:
    from nbprovision.conda.health import details

    found = details(record)
    return found is not None and found.home in urls


def channel_fault(channel: str) -> Fault | None:
    """Why a text cannot be a channel, None where it can; a path is taken for one as it is."""
    if not channel.strip() or not channel.isprintable():
        return Fault("it is empty, or holds a line break or a control character", _CHANNEL_CURE)
    if "$" in channel:
        return Fault("it has a variable in it that is not set, or that nothing replaces there", "write out the channel")
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", channel):
        return _of_url(channel)
    if channel.startswith(("/", "~/", "./", "../")) or channel in (".", "..", "~"):
        return None
    if _CHANNEL.fullmatch(channel):
        return None
    if re.search(r"[\s,]", channel):
        return Fault("a channel's name has no blank and no comma", "give each channel an entry of its own")
    return Fault("a channel's name has letters, digits and . _ + - /", _CHANNEL_CURE)


def _of_url(url: str) -> Fault | None:
    scheme, _, rest = url.partition(":")
    if scheme not in _SCHEMES:
        return Fault(
            f"'{scheme}:' is not a scheme that conda knows", f"begin it with one of {', '.join(_SCHEMES)}, and ://"
        )
    if not rest.startswith("//"):
        return Fault(f"two slashes belong behind {scheme}:", f"begin it with {scheme}://")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port  # a port that is not a number raises
    except ValueError as error:
        return Fault(str(error), _CHANNEL_CURE)
    if scheme == "file":
        wrong = parts.netloc not in ("", "localhost") or not parts.path.startswith("/")
        return Fault("it names no absolute path", "write file:///absolute/path") if wrong else None
    if not host or " " in parts.netloc:
        return Fault("it names no host", f"write {scheme}://HOST/PATH")
    if " " in url:
        return Fault("there is a blank in it", "write a blank as %20, and give each channel an entry of its own")
    return None


def requested_specs(texts: Iterable[str]) -> list[Spec]:
    """The match specs of a task's ``packages``, each once.

    Raises:
        ParameterError: a text is not a match spec, or no version satisfies two specs of one package.

    """
    specs = [_requested_spec(text) for text in dict.fromkeys(texts)]
    for first, second in combinations(specs, 2):
        if exclude(first, second):
            raise ParameterError(
                "packages", f"no version satisfies both '{first.text}' and '{second.text}'", cure="drop one of them"
            )
    return specs


def _requested_spec(text: str) -> Spec:
    spec, wrong = parse(text), fault(text)
    if spec is None or wrong is not None:
        cause, cure = wrong or ("", _CURE)
        shown = secrets.without_password(text)[:80]
        raise ParameterError("packages", f"'{shown}' is not a match spec", cause=cause, cure=cure)
    return spec


def check_channels(key: str, channels: Iterable[str]) -> None:
    """Refuse what cannot be a channel.

    Args:
        key: The parameter, for the error.
        channels: Its values.

    Raises:
        ParameterError: one is none; shown without its password.

    """
    for text in channels:
        wrong = channel_fault(text)
        if wrong is not None:
            secrets.remember_url(text)
            shown = secrets.without_password(text)[:80]
            raise ParameterError(key, f"'{shown}' is not a channel", cause=wrong.cause, cure=wrong.cure)


def channel_urls(machine: Machine, asked: Iterable[str], specs: Iterable[Spec]) -> tuple[str, ...]:
    """URLs of the channels asked for (else the configured ones), and of those that specs name."""
    named = [spec.channel.partition("[")[0] for spec in specs if spec.channel]
    urls = machine.conda.channels(asked)
    return tuple(dict.fromkeys([*urls, *(url for name in named for url in machine.conda.condarc.urls(name))]))


def required_resources(machine: Machine, urls: Iterable[str] = ()) -> frozenset[Resource]:
    """The files of conda's configuration and the local channels, which other tasks of the playbook may write."""
    configuration = {Resource("condarc", str(place)) for place in machine.conda.condarc_places}
    channels = {Resource("channel", unquote(urlsplit(url).path)) for url in urls if url.startswith("file://")}
    return frozenset(configuration | channels)
