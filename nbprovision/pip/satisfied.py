"""The requirements that an environment does not satisfy, from the distributions' own files: starts no process.

An installed version satisfies a requirement by the rules of PEP 440, prereleases included, as in pip. A requirement
with a URL is satisfied by a distribution that came from there (PEP 610). Dependencies must be installed too. Their
versions are the business of `conflicts`: otherwise two tasks with incompatible requirements would undo each other's
work for ever.
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
from nbprovision.pip.requirements import PipRequirement, applies, version_of, without_credentials
from nbprovision.system import inputs
from nbprovision.system.files import read_text
from nbprovision.system.secrets import without_password

if TYPE_CHECKING:
    from packaging.requirements import Requirement

Reason = Literal["missing", "version", "source", "broken", "doubled", "files"]

# Faults that an installer does not see: it would find the right version and do nothing.
UNSEEN: tuple[Reason, ...] = ("source", "broken", "doubled", "files")

_VCS_URL = re.compile(r"(?P<vcs>git|hg|svn|bzr)\+(?P<url>[^@]*//([^/@]*@)?[^@#]*|[^@#]*)(@(?P<revision>[^#]*))?")
# By these files uv too recognises that a local project has changed.
_PROJECT_FILES = ("pyproject.toml", "setup.py", "setup.cfg")
_ORIGIN = re.compile(r'\[remote "origin"\][^\[]*?^\s*url\s*=\s*(\S+)', re.MULTILINE)


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """A distribution that does not satisfy the requirements.

    Attributes:
        name: Normalised; the line of an unnamed requirement.
        reason: Why: missing, another version, from another source, an interrupted install, two of one name, or files
            that are missing or changed.
        installed: Installed versions, None if there are none.
        expected: The version that satisfies, if known: the installed one, the requested one, a specifier or a URL;
            empty for any.
        pin: A pin of the installed version, so that a repair does not upgrade it.
    """

    name: str
    reason: Reason
    installed: str | None = None
    expected: str = ""
    pin: str = ""


class _Edge(NamedTuple):
    """A distribution that must be installed, with these extras, and the requirement for it, if it is not indirect."""

    name: str
    extras: frozenset[str]
    wanted: PipRequirement | None


Installed = Mapping[str, Sequence[Distribution]]


class _Checks(NamedTuple):
    """How thoroughly distributions are checked; see `unsatisfied`."""

    files: bool
    torn: bool
    digests: Digests | None


def unsatisfied(
    wanted: Iterable[PipRequirement],
    constraints: Iterable[PipRequirement],
    installed: Installed,
    environment: Mapping[str, str],
    *,
    files: bool = False,
    torn: bool = False,
    digests: Digests | None = None,
) -> list[Need]:
    """The requirements and dependencies that are not satisfied, with the first fault of each distribution.

    Args:
        wanted: The requirements; those whose marker does not hold are ignored.
        constraints: Allowed versions of installed distributions.
        installed: The installed distributions, see `distributions.installed`.
        environment: The values of markers in the target, see `requirements.marker_environment`.
        files: Check that the files exist and have the recorded sizes.
        torn: An install into the environment was killed: check that each distribution is complete.
        digests: Compare the files' digests too, using these.
    """
    checks = _Checks(files, torn, digests)
    bounds: dict[str, list[PipRequirement]] = {}
    for bound in constraints:
        if bound.name is not None and applies(bound, environment):
            bounds.setdefault(bound.name, []).append(bound)
    needs: dict[str, Need] = {}
    waiting = [_edge(requirement, installed) for requirement in wanted if applies(requirement, environment)]
    visited: set[_Edge] = set()
    while waiting:
        edge = waiting.pop(0)
        if edge in visited:
            continue
        visited.add(edge)
        need = _need(edge, installed.get(edge.name, ()), bounds.get(edge.name, ()), checks)
        if need is not None:
            needs.setdefault(edge.name, need)
        elif not (edge.wanted and edge.wanted.locked):  # a lock has the dependencies that it wants
            waiting += _dependencies(installed[edge.name][0], edge.extras, environment)
    return list(needs.values())


def needed(
    wanted: Iterable[PipRequirement], names: Iterable[str], installed: Installed, environment: Mapping[str, str]
) -> set[str]:
    """The names of ``wanted`` and ``names``, and of all their dependencies as they are installed."""
    visited: set[_Edge] = set()
    waiting = [_edge(requirement, installed) for requirement in wanted]
    waiting += [_Edge(name, frozenset(), None) for name in names]
    while waiting:
        edge = waiting.pop()
        if edge not in visited:
            visited.add(edge)
            if edge.name in installed:
                waiting += _dependencies(installed[edge.name][0], edge.extras, environment)
    return {edge.name for edge in visited}


def conflicts(installed: Installed, environment: Mapping[str, str]) -> list[str]:
    """The messages of ``pip check``: dependencies that are missing, or installed in another version."""
    messages = []
    for distribution, *_ in filter(None, installed.values()):
        for requirement in _requirements(distribution, frozenset(), environment):
            dependent = f"{distribution.name} {distribution.version} requires"
            dependency = next(iter(installed.get(normalized(requirement.name), ())), None)
            if dependency is None:
                messages.append(f"{dependent} {requirement.name}, which is not installed")
            elif not allowed(str(requirement.specifier), dependency.version):
                messages.append(
                    f"{dependent} {requirement.name}{requirement.specifier}, "
                    f"but {dependency.name} {dependency.version} is installed"
                )
    return messages


def dependents(name: str, installed: Installed, environment: Mapping[str, str]) -> list[str]:
    """The names of the distributions that depend on ``name``."""
    return sorted(
        distribution.name
        for distribution, *_ in filter(None, installed.values())
        if any(normalized(needed.name) == name for needed in _requirements(distribution, frozenset(), environment))
    )


@functools.lru_cache(maxsize=65536)  # environments with the same distributions ask the same
def allowed(specifier: str, version: str) -> bool:
    """Whether a version satisfies a specifier (PEP 440), prereleases included as for every installed version."""
    if not specifier:
        return True
    from packaging.specifiers import SpecifierSet
    from packaging.version import InvalidVersion

    try:
        return SpecifierSet(specifier).contains(version, prereleases=True)
    except InvalidVersion:
        return False


def same_version(first: str, second: str) -> bool:
    """Whether two texts are the same version (PEP 440), the local part included."""
    return first == second or (version_of(first) is not None and version_of(first) == version_of(second))


def expected(wanted: PipRequirement | None) -> str:
    """The version that a requirement pins; otherwise its specifier, or its URL."""
    if wanted is None:
        return ""
    exact = re.fullmatch(r"==([^,*]+)", wanted.specifier)
    return exact[1] if exact else wanted.specifier or without_password(wanted.url or "")


def by_source(wanted: PipRequirement, installed: Installed) -> str | None:
    """The name of the distribution that came from the place of an unnamed requirement."""
    for name, same_name in installed.items():
        if any(_came_from(distribution, wanted) for distribution in same_name):
            return name
    return None


def _edge(wanted: PipRequirement, installed: Installed) -> _Edge:
    name = wanted.name or by_source(wanted, installed) or wanted.shown
    return _Edge(name, frozenset(wanted.extras), wanted)


def _need(
    edge: _Edge, installed: Sequence[Distribution], bounds: Sequence[PipRequirement], checks: _Checks
) -> Need | None:
    reason = _fault(edge.wanted, installed, bounds, checks)
    if reason is None:
        return None
    specifier = edge.wanted.specifier if edge.wanted else ""
    version = installed[0].version if len(installed) == 1 and reason != "version" else ""
    keeps = bool(version) and allowed(specifier, version)
    requested = expected(edge.wanted)
    from_index = keeps and reason in ("broken", "files") and installed[0].direct_url is None
    return Need(
        name=edge.name,
        reason=reason,
        installed=", ".join(distribution.version for distribution in installed) or None,
        expected=version if keeps else requested,
        pin=f"{edge.name}=={version}" if from_index and requested != version else "",
    )


def _fault(
    wanted: PipRequirement | None,
    installed: Sequence[Distribution],
    bounds: Sequence[PipRequirement],
    checks: _Checks,
) -> Reason | None:
    if len(installed) != 1:
        return "doubled" if installed else "missing"
    distribution = installed[0]
    if distribution.broken or (checks.torn and not distribution.finished):
        return "broken"
    specifiers = [bound.specifier for bound in (*([wanted] if wanted else []), *bounds)]
    if not all(allowed(specifier, distribution.version) for specifier in specifiers):
        return "version"
    # A lock means one version exactly, where the specifier ==1.0 allows 1.0+cpu as well.
    if wanted and wanted.locked and wanted.specifier and not same_version(wanted.specifier[2:], distribution.version):
        return "version"
    if wanted and wanted.url is not None and not (_came_from(distribution, wanted) and _fresh(distribution, wanted)):
        return "source"
    # A conda package's files are repaired by the environment's own task, unless a task names the distribution.
    own = wanted is not None or distribution.installer != "conda"
    if checks.files and own and distribution.files_missing(digests=checks.digests):
        return "files"
    return None


def _dependencies(
    distribution: Distribution, extras: frozenset[str], environment: Mapping[str, str]
) -> Iterator[_Edge]:
    for requirement in _requirements(distribution, extras, environment):
        names = frozenset(normalized(extra) for extra in requirement.extras)
        yield _Edge(normalized(requirement.name), names, None)


def _requirements(
    distribution: Distribution, extras: frozenset[str], environment: Mapping[str, str]
) -> tuple[Requirement, ...]:
    """The dependencies of a distribution in that environment, with those extras."""
    return _applying(distribution.requires, extras, tuple(sorted(environment.items())))


@functools.lru_cache(maxsize=8192)  # environments have the same distributions, and each is asked several times
def _applying(
    texts: tuple[str, ...], extras: frozenset[str], environment: tuple[tuple[str, str], ...]
) -> tuple[Requirement, ...]:
    requirements = []
    for text in texts:
        if not extras and _OF_EXTRA_ONLY.search(text):
            continue  # most lines of most distributions: not even parsed
        requirement = _requirement(text)
        if requirement is not None and _applies(requirement, extras, environment):
            requirements.append(requirement)
    return tuple(requirements)


def _applies(requirement: Requirement, extras: frozenset[str], environment: tuple[tuple[str, str], ...]) -> bool:
    """Whether the marker of a requirement holds in an environment, with one of the extras or none."""
    marker = requirement.marker
    return marker is None or any(marker.evaluate({**dict(environment), "extra": extra}) for extra in {"", *extras})


_OF_EXTRA_ONLY = re.compile(r";(?!.*\bor\b).*\bextra\s*==")


@functools.lru_cache(maxsize=65536)
def _requirement(text: str) -> Requirement | None:
    """None for text that is not valid: old distributions have ``pytz (>dev)`` and the like, which pip ignores too."""
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        return Requirement(text)
    except InvalidRequirement:
        return None


def _came_from(distribution: Distribution, wanted: PipRequirement) -> bool:
    """Whether a distribution was installed from the URL or path of ``wanted``, apart from user and password."""
    origin = distribution.direct_url
    if origin is None or wanted.url is None or origin.editable != wanted.editable:
        return False
    vcs = _VCS_URL.match(wanted.url)
    if vcs is not None and wanted.editable:
        return _cloned_from(origin.url, without_credentials(wanted.url))
    if vcs is not None:
        info = origin.vcs_info or {}
        if info.get("vcs") != vcs["vcs"] or _comparable(origin.url) != _comparable(vcs["url"]):
            return False
        revision = vcs["revision"] or None
        commit = str(info.get("commit_id") or "")
        is_commit = bool(revision and len(revision) >= 7 and commit.startswith(revision))
        return revision == info.get("requested_revision") or is_commit
    if _comparable(origin.url) != _comparable(wanted.url):
        return False
    digests = re.findall(r"(?:^|[#&])(md5|sha\d+)=([0-9a-fA-F]+)", urlsplit(wanted.url).fragment)
    digests += [tuple(text.split(":", 1)) for text in wanted.hashes]
    comparable = [(algorithm, digest) for algorithm, digest in digests if algorithm in origin.hashes]
    return not comparable or any(origin.hashes[algorithm] == digest.lower() for algorithm, digest in comparable)


def clone_mark(origin: str) -> Path | None:
    """The file in a clone of a repository that says where it came from; None for a folder that is not a clone.

    pip's own record names the folder of an editable clone only (PEP 610, PEP 660), and not the repository and the
    revision. The user's branches and commits in the clone do not change its source.

    Args:
        origin: The folder of the clone, as ``file:`` URL.
    """
    path = Path(unquote(urlsplit(origin).path))
    folders = (path / name for name in (".git", ".hg", ".svn", ".bzr"))
    return next((folder / "nbprovision-source" for folder in folders if folder.is_dir()), None)


def _cloned_from(origin: str, url: str) -> bool:
    """Whether a clone came from ``url``. If somebody else made the clone, only its repository is known."""
    mark = clone_mark(origin)
    if mark is None:
        return False
    marked = read_text(mark)
    if marked is not None:
        return marked.strip() == url
    remote = _ORIGIN.search(read_text(mark.with_name("config")) or "")
    return remote is not None and f"git+{without_credentials(remote[1])}" == url


def _fresh(distribution: Distribution, wanted: PipRequirement) -> bool:
    """Whether a local file or project has not changed since it was installed."""
    parts = urlsplit(wanted.url or "")
    if parts.scheme != "file":
        return True
    path = Path(unquote(parts.path))
    record = distribution.path / "direct_url.json"
    sources = [path / name for name in _PROJECT_FILES] if path.is_dir() else [path]
    for source in (*sources, record):
        inputs.file(source)
    try:
        # ctime, as a moved file keeps its old mtime.
        changed = max((os.stat(source).st_ctime_ns for source in sources if source.exists()), default=0)
        return changed <= os.stat(record).st_ctime_ns
    except OSError:
        return False


def _comparable(url: str) -> str:
    return unquote(without_credentials(url)).rstrip("/")
