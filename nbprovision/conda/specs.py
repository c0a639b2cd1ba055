"""conda's match specs (https://conda.org/learn/ceps/cep-0029), parsed by py-rattler.

Loading that library takes longer than checking an environment. Therefore it is used only if the text alone does not
suffice to decide whether an ordinary spec is valid, and whether an installed version is exactly the one in the spec.

Names of channels (https://conda.org/learn/ceps/cep-0026), with which a spec may begin, are checked by their text.
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

from nbprovision.conda.records import details_of
from nbprovision.machine.condarc import Condarc
from nbprovision.machine.distributions import name_in, normalized
from nbprovision.machine.environments import CondaRecord
from nbprovision.model.errors import ParameterError, TaskFailed
from nbprovision.model.task import Resource
from nbprovision.system import secrets
from nbprovision.system.context import current

if TYPE_CHECKING:
    from rattler import MatchSpec

    from nbprovision.machine.machine import Machine

_SPEC = re.compile(r"(?:(?P<channel>[^\[\]=<>!~ ]+)::)?(?P<name>[A-Za-z0-9_][A-Za-z0-9_.-]*)\s*(?P<rest>.*)", re.DOTALL)
_NUMBERS = re.compile(r"[0-9]+(\.[0-9]+)*")
# One version, or all that begin with it: =1.2, ==1.2, 1.2, =1.2.*, =1.2=py_0
_NAMED = re.compile(
    r"(?P<operator>={0,2})\s*(?P<version>[0-9][A-Za-z0-9_.+!]*?)(?P<star>\.\*)?(?:(?:\s+|=)(?P<build>[A-Za-z0-9_.+]+))?"
)
# A range of plain numbers as py-rattler writes it, which has the same meaning in PEP 440.
_RANGE = re.compile(r"(?:[=!~<>]=|<|>)?[0-9]+(?:\.[0-9]+)*(?:\.\*)?")

# Valid match specs that need no library: a name, ranges of ordinary versions, a build without a pattern.
_PLAIN_VERSION = r"[0-9]+(?:[._][0-9]+)*(?:[a-z]+[0-9]*)?(?:\.(?:post|dev)[0-9]+)?(?:\.\*)?"
_PLAIN_RANGE = rf"(?:==|>=|<=|!=|~=|>|<) ?{_PLAIN_VERSION}"
_PLAIN = re.compile(
    r"(?:[A-Za-z0-9_][A-Za-z0-9_./-]*::)?[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?"
    rf"(?: ?={_PLAIN_VERSION}(?:=[A-Za-z0-9_.]+)?| ?{_PLAIN_RANGE}(?:, ?{_PLAIN_RANGE})*)?"
)
_SCHEMES = ("https", "http", "file", "s3", "gcs", "oci")
# A name, with a path (`conda-forge/label/dev`), and with platforms in brackets.
_CHANNEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*(/[A-Za-z0-9_.+@-]+)*/?(\[[A-Za-z0-9_, -]+\])?")
_CHANNEL_CURE = "write a name (conda-forge), a URL (https://HOST/PATH) or a path (./folder, /folder)"


class Fault(NamedTuple):
    """Why a text is invalid, and what to write instead."""

    cause: str
    cure: str


class Unchecked:
    """The match specs of this run that only py-rattler can check, where it cannot be loaded."""

    def __init__(self) -> None:
        self.texts: set[str] = set()
        self.cause = ""


def fault(text: str) -> Fault | None:
    """Why conda or the built-in engine cannot parse a match spec; None if both can, or if `Unchecked` has it.

    Args:
        text: A match spec from a playbook or an environment file.

    """
    try:
        return _fault(text.strip())
    except ImportError as error:  # the machine's own conda, which is the engine then, reports invalid specs
        unchecked = current(Unchecked)
        unchecked.texts.add(text.strip())
        unchecked.cause = str(error)
        return None


@functools.lru_cache(maxsize=4096)  # a playbook's specs are checked several times
def _fault(text: str) -> Fault | None:
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
    except ValueError as error:
        return Fault(str(error).partition("\n")[0], _CURE)
    build = str(spec.build or "")
    if re.search(r"[<>=!~, ]", build):  # the library accepts builds that conda refuses
        return Fault(f"'{build}' is in the place of the build", "put a comma between two versions: name>=1.2,<2")
    return None


# Common mistakes: a pattern, the cause and the cure; the first match counts. conda accepts some of them with a meaning
# that nobody intends.
_CURE = "write it as conda does: name, name=1.2, name>=1.2,<2"
_PIP = "hand it to pip: in the pip section of an environment file, or by ensure_pip_pkg"
_EACH = "give each package an entry of its own"
_NAME = r"(?:[^:\s]+::)?[A-Za-z0-9_.-]+"
_SLIPS: tuple[tuple[str, str, str], ...] = (
    (r"^$", "it is empty", _CURE),
    (r"[\x00-\x1f\x7f]", "it contains a line break or a control character", _EACH),
    (r"^[0-9]+(\.[0-9]+)+$", "it is a version, not a package", "write name=VERSION in one entry"),
    (r"^-", "it is an option, not a package", f"name channels by `channels`, and {_EACH}"),
    (
        r"^(?!.*::)(?:[a-z0-9+]+:|[./~]).*?([^/]+)-([^/-]+)-([^/-]+)\.(?:conda|tar\.bz2)(?:#.*)?$",
        "it is the URL or path of a package's file",
        r"name its channel in `channels`, and write \1=\2=\3",
    ),
    (r"^(git|hg|svn|bzr)\+|^[a-z]+://(?!.*::)", "it is a URL, and conda takes packages from channels", _PIP),
    (r"^[./~]", "it is a path, and conda takes packages from channels", _PIP),
    (r";", "conda does not support markers after a semicolon", _PIP),
    (r"^([^\s\[]+)\[(?![^\]]*=)[^\]]*\]", "conda does not support extras in brackets", rf"write \1, or {_PIP}"),
    (
        r"(\$\{?\w+\}?|\{\{.*|<[A-Za-z_]+>)",
        r"it contains '\1', which conda does not replace",
        "write the value",
    ),
    (r"===", "conda has no operator ===", "write == for one version, = for all that begin with it"),
    (r"=([<>])", r"the operator is \1=", r"write \1= in place of =\1"),
    (r"<>", "conda has no operator <>", "write !="),
    (r"[=<>!~]\s*$", "no version follows the operator", _CURE),
    (rf"^{_NAME}\s*(\^|@|~(?!=))", r"conda has no operator \1", "write name=1.2, or a range: name>=1.2,<2"),
    (rf"^{_NAME}:(?![:/])", "conda does not accept a single colon", "write CHANNEL::NAME, or NAME=VERSION"),
    (rf"^{_NAME}(,|\s+(?!v?[0-9]|r[0-9]))\s*[A-Za-z_]", "a package's name contains neither blanks nor commas", _EACH),
    (r"""^[^\[]*(["'\u2018-\u201d])""", "it contains a quotation mark", "remove the inner quotation marks"),
    (rf"^{_NAME}\*|^\*", "a package's name cannot contain *", _CURE),
)


class Spec(msgspec.Struct, frozen=True):
    """A match spec in its parts; ``rest`` is the part about version and build."""

    text: str
    name: str
    channel: str | None = None
    rest: str = ""

    @property
    def bare(self) -> str:
        """The spec without its channel."""
        return f"{self.name} {self.rest}".strip()


def parse(text: str) -> Spec | None:
    """Split a match spec into its parts; None if it does not begin with a name."""
    match = _SPEC.fullmatch(text.strip())
    if match is None or any(ord(letter) < 32 for letter in text.strip()):
        return None
    return Spec(text.strip(), match["name"].lower(), match["channel"], match["rest"].strip())


def allows(spec: Spec, version: str, build: str, path: Path | None = None) -> bool | None:
    """Whether a package of the spec's name satisfies it; None if that cannot be decided.

    Args:
        spec: The spec, whose channel is ignored.
        version: The package's version.
        build: Its build; empty if it is unknown, and then no spec with a build is satisfied.
        path: Its record, if it is installed, for specs with brackets.

    Raises:
        TaskFailed: the library cannot be loaded, and the text alone does not suffice.

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
            cause=f"py-rattler, which compares them, cannot be loaded: {error}",
            cure="name the version itself: name=1.2 or name==1.2.3",
        ) from error
    try:
        wanted = _read(spec.bare)
        if "[" in spec.rest:
            return None if path is None else wanted.matches(PrefixRecord.from_path(path))
        named = build if build and wanted.build else "0"  # old builds can be invalid by CEP 26
        return wanted.matches(PackageRecord(spec.name, version, BuildString(named), 0, "noarch"))
    except (InvalidVersionError, OSError, ValueError):
        return None


def _is_named(rest: str, version: str, build: str) -> bool:
    """Whether a spec names exactly this version and build."""
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
    """The spec as the library parses it.

    Raises:
        ImportError: the library cannot be loaded.
        ValueError: the library cannot parse the text.

    """
    from rattler import MatchSpec
    from rattler.exceptions import InvalidMatchSpecError

    try:
        return MatchSpec(text)
    except InvalidMatchSpecError as error:
        raise ValueError(str(error)) from None


def satisfied(spec: Spec, records: Iterable[CondaRecord], condarc: Condarc) -> bool:
    """Whether an installed package satisfies the spec."""
    return any(
        allows(spec, record.version, record.build, record.path)
        and (spec.channel is None or _comes_from(record, condarc.urls(spec.channel)))
        for record in records
        if record.name == spec.name
    )


def conflicts(spec: Spec, requirement: str, *, absent: bool = False) -> bool:
    """Whether certainly no version satisfies both a match spec and a requirement (PEP 508) of the same distribution."""
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


def exclude(first: Spec, second: Spec) -> bool:
    """Whether two match specs of one package certainly have no version in common."""
    return first.name == second.name and _disjoint(_versions(first), _versions(second))


def _versions(spec: Spec) -> str:
    """The versions of a spec in the library's form; empty for any version, and for an invalid spec."""
    try:
        return _read(spec.bare).version or "" if spec.rest else ""
    except (ImportError, ValueError):
        return ""


def _disjoint(first: str, second: str) -> bool:
    """Whether no version is in both; only ranges of plain numbers are compared."""
    clauses = [*first.split(","), *second.split(",")]
    if not all(map(_RANGE.fullmatch, clauses)):
        return False
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        return SpecifierSet(",".join(f"=={text}" if text[0].isdigit() else text for text in clauses)).is_unsatisfiable()
    except InvalidSpecifier:
        return False


def _comes_from(record: CondaRecord, urls: list[str]) -> bool:
    content = details_of(record)
    return content is not None and content.home in urls


def channel_fault(channel: str) -> Fault | None:
    """Why a text cannot be a channel, None if it can; any path can."""
    if not channel.strip() or not channel.isprintable():
        return Fault("it is empty, or contains a line break or a control character", _CHANNEL_CURE)
    if "$" in channel:
        return Fault("it contains a variable that is not set, or not replaced there", "write out the channel")
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", channel):
        return _url_fault(channel)
    if channel.startswith(("/", "~/", "./", "../")) or channel in (".", "..", "~"):
        return None
    if _CHANNEL.fullmatch(channel):
        return None
    if re.search(r"[\s,]", channel):
        return Fault("a channel's name contains neither blanks nor commas", "give each channel an entry of its own")
    return Fault("a channel's name consists of letters, digits and . _ + - /", _CHANNEL_CURE)


def _url_fault(url: str) -> Fault | None:
    scheme, _, rest = url.partition(":")
    if scheme not in _SCHEMES:
        return Fault(
            f"'{scheme}:' is not a scheme that conda supports", f"begin it with one of {', '.join(_SCHEMES)}, and ://"
        )
    if not rest.startswith("//"):
        return Fault(f"two slashes must follow {scheme}:", f"begin it with {scheme}://")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port  # a port that is not a number raises
    except ValueError as error:
        return Fault(str(error), _CHANNEL_CURE)
    if scheme == "file":
        wrong = parts.netloc not in ("", "localhost") or not parts.path.startswith("/")
        return Fault("it does not contain an absolute path", "write file:///absolute/path") if wrong else None
    if not host or " " in parts.netloc:
        return Fault("it does not contain a host", f"write {scheme}://HOST/PATH")
    if " " in url:
        return Fault("it contains a blank", "write a blank as %20, and give each channel an entry of its own")
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
    """Refuse invalid channels.

    Args:
        key: The parameter, for the error.
        channels: Its values.

    Raises:
        ParameterError: a channel is invalid; shown without its password.

    """
    for text in channels:
        wrong = channel_fault(text)
        if wrong is not None:
            secrets.remember_url(text)
            shown = secrets.without_password(text)[:80]
            raise ParameterError(key, f"'{shown}' is not a channel", cause=wrong.cause, cure=wrong.cure)


def channel_urls(machine: Machine, channels: Iterable[str], specs: Iterable[Spec]) -> tuple[str, ...]:
    """URLs of the task's channels (else the configured ones), and of those that specs name."""
    named = [spec.channel.partition("[")[0] for spec in specs if spec.channel]
    urls = machine.conda.channels(channels)
    return tuple(dict.fromkeys([*urls, *(url for name in named for url in machine.conda.condarc.urls(name))]))


def required_resources(machine: Machine, urls: Iterable[str] = ()) -> frozenset[Resource]:
    """The files of conda's configuration and the local channels, which other tasks of the playbook may write."""
    configuration = {Resource("condarc", str(place)) for place in machine.conda.condarc_places}
    channels = {Resource("channel", unquote(urlsplit(url).path)) for url in urls if url.startswith("file://")}
    return frozenset(configuration | channels)
