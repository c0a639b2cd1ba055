"""What of the requirements asked for is not there, told from the distributions' own files: no process is started.

An installed version satisfies a requirement by the rules of PEP 440, prereleases included, as pip decides it; one that
is asked for by URL must have come from there (PEP 610). What a distribution depends on must be there too; in which
version is for `conflicts` to say: two tasks that want incompatible things would otherwise undo each other for ever.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple
from urllib.parse import unquote, urlsplit

import msgspec

from nbprovision.machine.digests import Digests
from nbprovision.machine.distributions import Distribution, normalized
from nbprovision.pip import editable_clone
from nbprovision.pip.requirements import PipRequirement, applies
from nbprovision.system import inputs
from nbprovision.system.secrets import without_password

if TYPE_CHECKING:
    from packaging.requirements import Requirement

Reason = Literal["missing", "version", "source", "broken", "doubled", "files"]

# What an installer cannot see for itself: it would find the version in place and do nothing.
UNSEEN: tuple[Reason, ...] = ("source", "broken", "doubled", "files")

_VCS_URL = re.compile(r"(?P<vcs>git|hg|svn|bzr)\+(?P<url>[^@]*//([^/@]*@)?[^@#]*|[^@#]*)(@(?P<revision>[^#]*))?")
# What a build reads first; uv looks at the same to see that a local project has changed.
_PROJECT_FILES = ("pyproject.toml", "setup.py", "setup.cfg")


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """A distribution that is not as asked for.

    Attributes:
        name: Normalised; of an unnamed requirement its line.
        reason: What is wrong with it: not there, another version, from somewhere else, an install that was cut off,
            two of one name, files gone or changed.
        installed: Installed versions, None for none.
        expected: The version that will do, as far as that is known: that which is there, the one asked for, a
            specifier, a URL; empty for any.
        pin: What keeps a mend from being an upgrade: the version that is there and would do.
    """

    name: str
    reason: Reason
    installed: str | None = None
    expected: str = ""
    pin: str = ""


class _Edge(NamedTuple):
    """A distribution that has to be there, why, and with which extras."""

    name: str
    extras: frozenset[str]
    wanted: PipRequirement | None


Installed = Mapping[str, Sequence[Distribution]]


def unsatisfied(
    wanted: Iterable[PipRequirement],
    constraints: Iterable[PipRequirement],
    found: Installed,
    environment: Mapping[str, str],
    *,
    files: bool = False,
    torn: bool = False,
    digests: Digests | None = None,
) -> list[Need]:
    """What of ``wanted``, and of what it depends on, is not as it should be; the first fault of each distribution.

    Args:
        wanted: What is asked for; what its marker shuts out is passed over.
        constraints: Versions allowed of whatever is there.
        found: The installed distributions, see `distributions.installed`.
        environment: The target's markers, see `requirements.marker_environment`.
        files: Look whether the files themselves are there, in their sizes.
        torn: An install was killed there: look whether each came to its end.
        digests: Compare the digests too, with these.
    """
    bounds: dict[str, list[PipRequirement]] = {}
    for bound in constraints:
        if bound.name is not None and applies(bound, environment):
            bounds.setdefault(bound.name, []).append(bound)
    needs: dict[str, Need] = {}
    waiting = [_edge(one, found) for one in wanted if applies(one, environment)]
    known: set[_Edge] = set()
    while waiting:
        edge = waiting.pop(0)
        if edge in known:
            continue
        known.add(edge)
        need = _need(edge, found, bounds.get(edge.name, []), files=files, torn=torn, digests=digests)
        if need is not None:
            needs.setdefault(edge.name, need)
        else:
            waiting += _dependencies(found[edge.name][0], edge.extras, environment)
    return list(needs.values())


def needed(
    wanted: Iterable[PipRequirement], names: Iterable[str], found: Installed, environment: Mapping[str, str]
) -> set[str]:
    """Names of ``wanted`` and ``names``, and of all that these depend on as they are installed."""
    known: set[_Edge] = set()
    waiting = [*(_edge(one, found) for one in wanted), *(_Edge(name, frozenset(), None) for name in names)]
    while waiting:
        edge = waiting.pop()
        if edge not in known:
            known.add(edge)
            if edge.name in found:
                waiting += _dependencies(found[edge.name][0], edge.extras, environment)
    return {edge.name for edge in known}


def conflicts(found: Installed, environment: Mapping[str, str]) -> list[str]:
    """What ``pip check`` would say: what each distribution depends on and is not there, or in another version."""
    said = []
    for distributions in found.values():
        for one in distributions[:1]:
            for requirement in _requirements(one, frozenset(), environment):
                other = next(iter(found.get(normalized(requirement.name), ())), None)
                if other is None:
                    said.append(f"{one.name} {one.version} requires {requirement.name}, which is not installed")
                elif not allowed(str(requirement.specifier), other.version):
                    needed = f"{requirement.name}{requirement.specifier}"
                    said.append(
                        f"{one.name} {one.version} requires {needed}, but {other.name} {other.version} is installed"
                    )
    return said


def dependents(name: str, found: Installed, environment: Mapping[str, str]) -> list[str]:
    """Names of the distributions that depend on ``name``."""
    return sorted(
        one.name
        for several in found.values()
        for one in several[:1]
        if any(normalized(needed.name) == name for needed in _requirements(one, frozenset(), environment))
    )


def allowed(specifier: str, version: str) -> bool:
    """Whether a version satisfies a specifier (PEP 440), prereleases included as for all that is installed already."""
    if not specifier:
        return True
    from packaging.specifiers import SpecifierSet
    from packaging.version import InvalidVersion

    try:
        return SpecifierSet(specifier).contains(version, prereleases=True)
    except InvalidVersion:
        return False


def expected(wanted: PipRequirement | None) -> str:
    """The version that a requirement asks for, where it is one; else what it says of versions, or its URL."""
    if wanted is None:
        return ""
    exact = re.fullmatch(r"==([^,*]+)", wanted.specifier)
    return exact[1] if exact else wanted.specifier or without_password(wanted.url or "")


def by_source(wanted: PipRequirement, found: Installed) -> str | None:
    """The name of the distribution that came from where an unnamed requirement points."""
    for name, distributions in found.items():
        for one in distributions:
            if one.direct_url is not None and _came_from(one, wanted):
                return name
    return None


def _edge(wanted: PipRequirement, found: Installed) -> _Edge:
    name = wanted.name or by_source(wanted, found) or wanted.shown
    return _Edge(name, frozenset(wanted.extras), wanted)


def _need(
    edge: _Edge, found: Installed, bounds: Sequence[PipRequirement], *, files: bool, torn: bool, digests: Digests | None
) -> Need | None:
    there = list(found.get(edge.name, ()))
    reason = _fault(edge, there, bounds, files=files, torn=torn, digests=digests)
    if reason is None:
        return None
    specifier = edge.wanted.specifier if edge.wanted else ""
    version = there[0].version if len(there) == 1 and reason != "version" else ""
    keeps = bool(version) and allowed(specifier, version)
    named = expected(edge.wanted)
    pinned = keeps and reason in ("broken", "files") and there[0].direct_url is None and named != version
    return Need(
        name=edge.name,
        reason=reason,
        installed=", ".join(one.version for one in there) or None,
        expected=version if keeps else named,
        pin=f"{edge.name}=={version}" if pinned else "",
    )


def _fault(
    edge: _Edge,
    there: list[Distribution],
    bounds: Sequence[PipRequirement],
    *,
    files: bool,
    torn: bool,
    digests: Digests | None,
) -> Reason | None:
    if not there:
        return "missing"
    if len(there) > 1:
        return "doubled"
    one, wanted = there[0], edge.wanted
    if one.broken or (torn and not one.finished):
        return "broken"
    if wanted is not None and not allowed(wanted.specifier, one.version):
        return "version"
    if not all(allowed(bound.specifier, one.version) for bound in bounds):
        return "version"
    if wanted is not None and wanted.url is not None and not (_came_from(one, wanted) and _fresh(one, wanted)):
        return "source"
    # A file of conda's, where no task asks for the distribution by name, is for the environment's own task to mend.
    if files and (wanted is not None or one.installer != "conda") and one.files_missing(digests=digests):
        return "files"
    return None


def _dependencies(one: Distribution, extras: frozenset[str], environment: Mapping[str, str]) -> Iterator[_Edge]:
    for requirement in _requirements(one, extras, environment):
        names = frozenset(normalized(extra) for extra in requirement.extras)
        yield _Edge(normalized(requirement.name), names, None)


def _requirements(one: Distribution, extras: frozenset[str], environment: Mapping[str, str]) -> Iterator[Requirement]:
    """What a distribution depends on in that environment, with those extras."""
    for text in one.requires:
        if not extras and _OF_EXTRA_ONLY.search(text):
            continue  # most lines of most distributions: not even parsed
        requirement = _requirement(text)
        if requirement is None:
            continue
        marker = requirement.marker
        if marker is None or any(marker.evaluate({**environment, "extra": extra}) for extra in {"", *extras}):
            yield requirement


_OF_EXTRA_ONLY = re.compile(r";(?!.*\bor\b).*\bextra\s*==")


@functools.lru_cache(maxsize=65536)
def _requirement(text: str) -> Requirement | None:
    """None for what is none: old distributions have things like ``pytz (>dev)``, which pip passes over as well."""
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        return Requirement(text)
    except InvalidRequirement:
        return None


def _came_from(one: Distribution, wanted: PipRequirement) -> bool:
    """Whether a distribution was installed from the URL or path of ``wanted``, user and password left aside."""
    origin = one.direct_url
    if origin is None or wanted.url is None or origin.editable != wanted.editable:
        return False
    vcs = _VCS_URL.match(wanted.url)
    if vcs is not None and wanted.editable:
        return editable_clone.came_from(origin.url, wanted.url)
    if vcs is not None:
        info = origin.vcs_info or {}
        if info.get("vcs") != vcs["vcs"] or _bare(origin.url) != _bare(vcs["url"]):
            return False
        revision = vcs["revision"] or None
        commit = str(info.get("commit_id") or "")
        is_commit = bool(revision and len(revision) >= 7 and commit.startswith(revision))
        return revision == info.get("requested_revision") or is_commit
    if _bare(origin.url) != _bare(wanted.url):
        return False
    asked = dict(re.findall(r"(?:^|[#&])(md5|sha\d+)=([0-9a-fA-F]+)", urlsplit(wanted.url).fragment))
    allowed = [tuple(text.split(":", 1)) for text in wanted.hashes] + list(asked.items())
    known = [(algorithm, digest) for algorithm, digest in allowed if algorithm in origin.hashes]
    return not known or any(origin.hashes[algorithm] == digest.lower() for algorithm, digest in known)


def _fresh(one: Distribution, wanted: PipRequirement) -> bool:
    """Whether a local file or project is as it was when it was installed."""
    parts = urlsplit(wanted.url or "")
    if parts.scheme != "file":
        return True
    path = Path(unquote(parts.path))
    sources = [path / name for name in _PROJECT_FILES] if path.is_dir() else [path]
    for source in (*sources, one.path / "direct_url.json"):
        inputs.file(source)
    try:
        # ctime, as a file that is moved here keeps its old mtime.
        changed = max((os.stat(source).st_ctime_ns for source in sources if source.exists()), default=0)
        return changed <= os.stat(one.path / "direct_url.json").st_ctime_ns
    except OSError:
        return False


def _bare(url: str) -> str:
    """A URL without user, password and fragment, in one spelling."""
    return unquote(re.sub(r"//[^/@]*@", "//", url.partition("#")[0])).rstrip("/")
