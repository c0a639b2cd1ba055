"""conda's match specs, as far as they can be judged without the solver's library.

Loading that library takes longer than all the rest of a run that finds everything in place, and nearly every spec is a
name, a version or a range of plain numbers. Those are judged here; of others `satisfies` says None, and the library is
asked. (Match specs: https://conda.org/learn/ceps/cep-0029; order of versions: conda.models.version.VersionOrder.)
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable

import msgspec

from nbprovision.facts import channel_names
from nbprovision.facts.channel_names import Fault
from nbprovision.facts.conda import CondaRecord
from nbprovision.facts.condarc import Condarc
from nbprovision.model.errors import TaskFailed
from nbprovision.system import secrets

_SPEC = re.compile(r"(?:(?P<channel>[^\[\]=<>!~ ]+)::)?(?P<name>[A-Za-z0-9_][A-Za-z0-9_.-]*)\s*(?P<rest>.*)", re.DOTALL)
_NUMBERS = re.compile(r"[0-9]+(\.[0-9]+)*")
_CLAUSE = re.compile(r"(?P<operator>==|>=|<=|!=|>|<|=|)(?P<version>[0-9]+(?:\.[0-9]+)*)(?P<star>\.?\*)?")
_BUILD = re.compile(r"[A-Za-z0-9_.+]+")


# What needs no library to be known as a match spec: a name, ranges of ordinary versions, a build without a pattern.
_PLAIN_VERSION = r"[0-9]+(?:[._][0-9]+)*(?:[a-z]+[0-9]*)?(?:\.(?:post|dev)[0-9]+)?(?:\.\*)?"
_PLAIN_RANGE = rf"(?:==|>=|<=|!=|~=|>|<) ?{_PLAIN_VERSION}"
_PLAIN = re.compile(
    r"(?:[A-Za-z0-9_][A-Za-z0-9_./-]*::)?[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?"
    rf"(?: ?={_PLAIN_VERSION}(?:=[A-Za-z0-9_.]+)?| ?{_PLAIN_RANGE}(?:, ?{_PLAIN_RANGE})*)?"
)


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
    if colons and "[" not in channel and (wrong := channel_names.fault(channel)) is not None:
        return Fault(f"'{secrets.without_password(channel)}' is no channel: {wrong.cause}", wrong.cure)
    if parse(text) is None:
        return Fault("it does not begin with the name of a package", _CURE)
    try:
        import rattler
        from rattler.exceptions import InvalidMatchSpecError
    except ImportError:
        return None  # the machine's own conda, which is the engine then, says what it cannot read
    try:
        spec = rattler.MatchSpec(text)
    except InvalidMatchSpecError as error:
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


def parse(text: str) -> Spec | None:
    """Take a match spec apart, None where it has no name in front."""
    match = _SPEC.fullmatch(text.strip())
    if match is None or any(ord(letter) < 32 for letter in text.strip()):
        return None
    return Spec(text.strip(), match["name"].lower(), match["channel"], match["rest"].strip())


def satisfies(spec: Spec, version: str, build: str) -> bool | None:
    """Whether a package of the spec's name has a version and build that it allows; None: the library must be asked."""
    if not spec.rest:
        return True
    versions, wanted_build = _split(spec.rest)
    if versions is None or not _NUMBERS.fullmatch(version):
        return None
    if wanted_build is not None:
        if not _BUILD.fullmatch(wanted_build):
            return None
        if wanted_build != build:
            return False
    verdicts = [_clause(clause.strip(), version) for clause in versions.split(",")]
    if None in verdicts:
        return None
    return all(verdicts)


def satisfied(spec: Spec, records: Iterable[CondaRecord], condarc: Condarc) -> bool:
    """Whether one of the installed packages is what the spec asks for."""
    for record in records:
        if record.name != spec.name:
            continue
        verdict = satisfies(spec, record.version, record.build)
        if verdict is None:
            verdict = _library_says(spec, record)
        if verdict and spec.channel is not None:
            verdict = _comes_from(record, condarc.urls(spec.channel))
        if verdict:
            return True
    return False


def conflicts(spec: Spec, requirement: str, *, absent: bool = False) -> bool:
    """Whether no version can satisfy both a match spec and a requirement (PEP 508) of the same distribution.

    Both are sets of ranges, so if versions satisfy both, one of them lies at an end of a range or right beside it.
    """
    name = re.match(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)", requirement)
    if name is None or _folded(name[1]) != _folded(spec.name):
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
    ends = {match[0] for text in (spec.rest, str(wanted.specifier)) for match in _NUMBERS.finditer(text)}
    for version in {beside for end in ends for beside in _beside(end)}:
        verdict = satisfies(Spec(spec.text, spec.name, None, _without_build(spec.rest)), version, "")
        if verdict is None or (verdict and wanted.specifier.contains(version, prereleases=True)):
            return False
    return bool(ends)


def exclude(one: Spec, other: Spec) -> bool:
    """Whether two match specs of one package surely have no version in common; of plain numbers alone."""
    if one.name != other.name:
        return False
    from packaging.specifiers import SpecifierSet

    first, second = _specifier(one.rest), _specifier(other.rest)
    return bool(first and second) and SpecifierSet(f"{first},{second}").is_unsatisfiable()


def _specifier(rest: str) -> str:
    """A constraint of conda's in Python's form: ``=3.12`` is ``==3.12.*``; empty for what is not judged."""
    versions, _ = _split(rest)
    clauses = []
    for clause in (versions or "").split(","):
        match = _CLAUSE.fullmatch(clause.strip())
        if match is None:
            return ""
        alone = match["operator"] in ("", "=")
        fuzzy = (match["operator"] == "=" or bool(match["star"])) and (alone or match["operator"] in ("==", "!="))
        clauses.append(f"{'==' if alone else match['operator']}{match['version']}{'.*' if fuzzy else ''}")
    return ",".join(clauses)


def _without_build(rest: str) -> str:
    versions, build = _split(rest)
    return rest if versions is None or build is None else versions


def _beside(end: str) -> list[str]:
    """A version, one right above it, one right below it."""
    numbers = _numbers(end)
    below = list(numbers)
    while below and below[-1] == 0:
        below.pop()
    if below:
        below[-1] -= 1
    return [end, end + ".0.0.1", ".".join(map(str, [*below, 999999]))]


def _folded(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.rstrip("._-")).lower()


def _library_says(spec: Spec, record: CondaRecord) -> bool:
    from pathlib import Path

    try:
        import rattler
        from rattler.exceptions import InvalidMatchSpecError
    except ImportError as error:
        raise TaskFailed(
            f"'{spec.text}' cannot be compared with {record.name} {record.version}",
            cause=f"py-rattler, which knows how, cannot be loaded: {error}",
            cure="write the spec as ranges of plain numbers: name=1.2, name>=1.2,<2",
        ) from error
    try:
        wanted = rattler.MatchSpec(f"{spec.name} {spec.rest}" if spec.rest[:1] not in "[=" else spec.name + spec.rest)
        return bool(wanted.matches(rattler.PrefixRecord.from_path(Path(record.path))))
    except (OSError, InvalidMatchSpecError):
        return False  # the engine says what is wrong with it


def _comes_from(record: CondaRecord, urls: list[str]) -> bool:
    from nbprovision.facts.conda_health import details

    found = details(record)
    return found is not None and found.home in urls


def _split(rest: str) -> tuple[str | None, str | None]:
    """Version part and build of ``=1.2=build``, ``==1.2``, ``1.2 build``, ``>=1,<2``; (None, None) for all else."""
    if any(letter in rest for letter in "[]()|~^"):
        return None, None
    words = rest.split()
    if (
        len(words) == 2
        and not words[0].endswith((",", "=", "<", ">", "!"))
        and not words[1].startswith(("<", ">", "!", "=", ","))
    ):
        return _exact(words[0].lstrip("=")), words[1]
    if len(words) > 1:
        rest = re.sub(r"\s*,\s*", ",", rest)
        rest = re.sub(r"([=<>!])\s+", r"\1", rest)
        if " " in rest:
            return None, None
    match = re.fullmatch(r"(={0,2})([^=<>!,]+)=([^=<>!,]+)", rest)
    if match:  # with a build, one sign in front of the version means the same as two
        return _exact(match[2]), match[3]
    return _exact(rest), None


def _exact(versions: str) -> str:
    """A version that stands alone is meant exactly (unlike ``=1.2``)."""
    return "==" + versions if _NUMBERS.fullmatch(versions) else versions


def _clause(clause: str, version: str) -> bool | None:
    match = _CLAUSE.fullmatch(clause)
    if clause == "*":
        return True
    if match is None:
        return None
    operator, star = match["operator"], match["star"]
    wanted, have = _numbers(match["version"]), _numbers(version)
    if star == "*" or (star and operator not in ("", "=")):
        return None
    if operator == "=" or star:
        if len(have) < len(wanted) and have + [0] * (len(wanted) - len(have)) == wanted:
            return None  # whether 1 begins with 1.0 is the library's to say
        return have[: len(wanted)] == wanted
    order = _compare(have, wanted)
    return {
        "": order == 0, "==": order == 0, "!=": order != 0,
        ">=": order >= 0, "<=": order <= 0, ">": order > 0, "<": order < 0,
    }[operator]  # fmt: skip


def compare(one: str, other: str) -> int | None:
    """Order of two versions: negative, 0 or positive; None where one is not plain numbers."""
    if not (_NUMBERS.fullmatch(one) and _NUMBERS.fullmatch(other)):
        return None
    return _compare(_numbers(one), _numbers(other))


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def _compare(one: list[int], other: list[int]) -> int:
    length = max(len(one), len(other))
    one, other = one + [0] * (length - len(one)), other + [0] * (length - len(other))
    return (one > other) - (one < other)
