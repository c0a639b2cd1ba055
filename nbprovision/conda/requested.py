"""The packages that users requested in an environment, from the notes of the tools that installed them.

Sources: conda's history (conda.history.History) and the specs in its records; REQUESTED of pip (PEP 376,
https://packaging.python.org/en/latest/specifications/recording-installed-packages/); direct_url.json (PEP 610).
"""

from __future__ import annotations

import ast
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import msgspec

from nbprovision.conda import health
from nbprovision.conda.records import Details, all_details
from nbprovision.conda.specs import parse
from nbprovision.conda.specs import satisfied as spec_satisfied
from nbprovision.machine import distributions
from nbprovision.machine.condarc import Condarc
from nbprovision.machine.distributions import Distribution, normalized
from nbprovision.machine.environments import META, CondaRecord, installed
from nbprovision.model.task import Claim
from nbprovision.pip import requirements, satisfied
from nbprovision.system.reading import read_bytes

_SPECS = re.compile(r"#\s*(?:(update|neutered|remove)\s+)?specs:\s*(.+)")
_CHANNEL_OPTION = re.compile(r"(?:\s-c|\s--channel)[\s=]+(\S+)")
_EXTRA = re.compile(r"""extra\s*==\s*["']([A-Za-z0-9._-]+)["']""")
_BROUGHT_BY_VENV = ("pip", "setuptools", "wheel")
_STAT = Path("/proc/stat")


class CondaRequests(msgspec.Struct, frozen=True, kw_only=True):
    """The packages that users requested from conda or a tool like it.

    Attributes:
        specs: Match specs by package, which the installed packages satisfy.
        channels: The channels of the installed packages, the preferred one first; by name if conda has one.
        guessed: No tool noted the requests: these are the packages that no other needs.

    """

    specs: dict[str, str] = {}
    channels: tuple[str, ...] = ()
    guessed: bool = False


class PipRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A distribution that a user requested from pip or uv.

    Attributes:
        name: Normalised.
        requirement: As in a requirements file; may contain a password.
        gone: The file or folder of its source, if that no longer exists.

    """

    name: str
    requirement: str
    gone: str | None = None


class Since(msgspec.Struct, frozen=True):
    """Names of packages that were installed or changed since a certain moment.

    Attributes:
        packages: conda packages.
        distributions: Python distributions.
        moved: Packages of both kinds that changed their version.

    """

    packages: frozenset[str]
    distributions: frozenset[str]
    moved: frozenset[str] = frozenset()


def by_conda(
    prefix: Path, condarc: Condarc, configured: Iterable[str], *, pinned: bool, only: Collection[str] | None = None
) -> CondaRequests:
    """The packages that users requested from conda.

    Args:
        prefix: The environment.
        condarc: conda's configuration, for the names and URLs of channels.
        configured: The configured channels, the preferred one first.
        pinned: Give the installed versions.
        only: Consider these packages only.

    """
    records = [record for record in installed(prefix) if only is None or record.name in only]
    details = all_details(records)
    if not details:
        return CondaRequests()
    # conda itself prefers its history to the records.
    noted = {**health.requested(details), **_history(prefix)}
    texts = {name: text for name, text in noted.items() if name in details}
    guessed = not texts
    if guessed:
        texts = {name: name for name in _needed_by_none(details)}
    replaced = replaced_by_pip(prefix, records)
    by_name = {record.name: record for record in records}
    return CondaRequests(
        specs={
            name: _spec(name, text, by_name[name], condarc, pinned=pinned)
            for name, text in sorted(texts.items())
            if name not in replaced
        },
        channels=tuple(_channels(prefix, details.values(), condarc, configured)),
        guessed=guessed,
    )


def by_pip(prefix: Path, *, pinned: bool, only: Collection[str] | None = None) -> tuple[list[PipRequest], list[str]]:
    """The distributions that users requested from pip, uv and similar tools.

    Args:
        prefix: A conda or virtual environment.
        pinned: Give the installed versions.
        only: Consider these distributions only.

    Returns:
        The requested distributions, and the names of those that were not requested and that no other needs.

    """
    every = distributions.installed(prefix)
    records = installed(prefix)
    from_pip = _not_condas(every, records)
    if only is not None:
        from_pip = {name: copy for name, copy in from_pip.items() if name in only}
    if not records:
        from_pip = {name: copy for name, copy in from_pip.items() if name not in _BROUGHT_BY_VENV}
    needed_by_none = _leaves(prefix, every)
    # pip writes REQUESTED for requested distributions, its old versions never do. uv writes it for all dependencies too
    # (https://github.com/astral-sh/uv/issues/13278), so that it has no meaning.
    honest = any(copy.installer == "pip" and copy.requested for copy in from_pip.values())
    requested = {
        name: copy
        for name, copy in from_pip.items()
        if (copy.requested if honest and copy.installer == "pip" else name in needed_by_none or copy.direct_url)
    }
    condas = [name for name in every if name not in from_pip]
    extras = _extras(prefix, requested, condas, every)
    wanted = [requirements.parse(_named(name, extras)) for name in requested]
    needed = satisfied.needed(wanted, condas, every, _environment(prefix))
    replaced = {normalized(name) for name in replaced_by_pip(prefix, records)}
    return (
        [_requirement(copy, extras, pinned=pinned or name in replaced) for name, copy in sorted(requested.items())],
        sorted(from_pip.keys() - requested.keys() - needed),
    )


def replaced_by_pip(prefix: Path, records: Iterable[CondaRecord]) -> set[str]:
    """Names of conda packages that pip or uv replaced by another version."""
    return {name for name, drift in health.drifts(prefix, records) if drift.strays}


def since_start(prefix: Path) -> Since:
    """The packages that were installed since the machine started, by the times of their records and folders.

    An image's files keep their times when a machine starts from it.
    """
    copies = [copy for several in distributions.installed(prefix).values() for copy in several]
    return Since(
        frozenset(record.name for record in installed(prefix) if is_newer_than_start(record.path)),
        frozenset(copy.name for copy in copies if is_newer_than_start(copy.path)),
    )


def is_newer_than_start(path: Path) -> bool:
    """Whether a file was created or changed since the machine started."""
    return _changed(path) > _started()


def unneeded_packages(details: Mapping[str, Details], requested: Iterable[str]) -> list[str]:
    """Names of conda packages that are neither requested nor needed by a requested one: ``exact`` removes them."""
    needed: set[str] = set()
    waiting = [name for name in requested if name in details]
    while waiting:
        name = waiting.pop()
        if name in needed:
            continue
        needed.add(name)
        specs = (parse(text) for text in details[name].depends)
        waiting += [spec.name for spec in specs if spec is not None and spec.name in details]
    return sorted(details.keys() - needed)


def unneeded_distributions(prefix: Path, claims: Iterable[Claim], owned: Collection[str]) -> list[Distribution]:
    """Distributions from pip or uv that neither a pip task nor a kept package needs: ``exact`` removes them.

    A distribution from a path or repository stays, because a task may have requested it without a name.

    Args:
        prefix: The environment.
        claims: The distributions that pip tasks want in it.
        owned: Normalised names of conda's packages.

    """
    present = distributions.installed(prefix)
    wanted = [requirements.parse(claim.requirement) for claim in claims]
    kept = [name for name, copies in present.items() if name in owned or copies[0].direct_url is not None]
    if present.keys() <= {*kept, *(requirement.name for requirement in wanted)}:
        return []  # without a look at the dependencies of each
    needed = satisfied.needed(wanted, kept, present, _environment(prefix))
    return [copy for name, copies in sorted(present.items()) if name not in needed for copy in copies]


# ---------------------------------------------------------------------------------------------------------------- conda


def _history(prefix: Path) -> dict[str, str]:
    """Specs by package, from conda's history."""
    specs: dict[str, str] = {}
    command = ""
    for line in _lines(prefix / META / "history"):
        if line.startswith("# cmd:"):
            command = line
        match = _SPECS.match(line)
        if match is None:
            continue
        removed = match[1] == "remove" or (match[1] is None and re.search(r"\s(remove|uninstall)\s", command))
        for spec in filter(None, map(parse, _listed(match[2]))):
            if removed:
                specs.pop(spec.name, None)
            else:
                specs[spec.name] = spec.text
    return specs


def _listed(text: str) -> list[str]:
    """The specs of a line: a list in Python's syntax; separated by commas in old versions of conda."""
    try:
        entries = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        entries = text.split(",")
    return [str(entry).strip() for entry in entries] if isinstance(entries, (list, tuple)) else []


def _spec(name: str, text: str, record: CondaRecord, condarc: Condarc, *, pinned: bool) -> str:
    """The spec as requested, if the installed package satisfies it and need not be pinned; else one of its version."""
    spec = parse(text)
    true = spec is not None and spec_satisfied(spec, [record], condarc)
    if true and not pinned:
        return text
    source = f"{spec.channel}::{name}" if spec is not None and spec.channel is not None else name
    bare = parse(source)
    if bare is None or not spec_satisfied(bare, [record], condarc):
        source = name  # it has come from another channel since
    return f"{source}={record.version}"


def _needed_by_none(details: Mapping[str, Details]) -> list[str]:
    needed = {spec.name for content in details.values() for spec in map(parse, content.depends) if spec is not None}
    return sorted(details.keys() - needed)


def _channels(prefix: Path, details: Iterable[Details], condarc: Condarc, configured: Iterable[str]) -> Iterator[str]:
    """Channels by name or URL: those of commands, then the configured ones, then by their number of packages."""
    counts = Counter(filter(None, (content.channel.rstrip("/") for content in details)))
    commands = [line for line in _lines(prefix / META / "history") if line.startswith("# cmd:")]
    named = [name for line in commands for name in _CHANNEL_OPTION.findall(line)]
    order = [url for name in named for url in condarc.urls(name)] + list(configured)
    rank = {url: number for number, url in reversed(list(enumerate(order)))}
    ordered = sorted(counts, key=lambda channel: (rank.get(channel, len(order)), -counts[channel], channel))
    yield from dict.fromkeys(_channel_name(channel, condarc) for channel in ordered)


def _channel_name(channel: str, condarc: Condarc) -> str:
    """The short name if it means the same URL; a URL with a secret stays, and callers mask it."""
    name = condarc.name_of(channel)
    return name if channel in condarc.urls(name) else channel


# ------------------------------------------------------------------------------------------------------------------ pip


def _not_condas(every: Mapping[str, list[Distribution]], records: Iterable[CondaRecord]) -> dict[str, Distribution]:
    """The distributions that no conda package brought: by INSTALLER, and by the files in conda's records."""
    versions = {normalized(record.name): record.version for record in records}
    copies = {name: several[-1] for name, several in every.items() if several[-1].installer != "conda"}
    copies = {name: copy for name, copy in copies.items() if versions.get(name) != copy.version}
    if copies and versions:
        listed = {folder for record in records for folder in health.dist_infos(record)}
        copies = {name: copy for name, copy in copies.items() if copy.path.name not in listed}
    return copies


def _environment(prefix: Path) -> dict[str, str]:
    return requirements.marker_environment(distributions.python_version(prefix) or "3")


def _leaves(prefix: Path, every: Mapping[str, list[Distribution]]) -> set[str]:
    """Names that no other distribution needs."""
    environment = _environment(prefix)
    needed = {
        other
        for name in every
        for other in satisfied.needed([], [name], {name: every[name]}, environment)
        if other != name
    }
    return set(every) - needed


def _extras(
    prefix: Path, requested: Mapping[str, Distribution], condas: Collection[str], every: satisfied.Installed
) -> dict[str, list[str]]:
    """Extras by name: those whose needs are all installed, and that alone explain an installed distribution.

    No tool notes the requested extras, but their dependencies are installed.
    """
    environment = _environment(prefix)
    explained = satisfied.needed([], [*requested, *condas], every, environment)
    extras: dict[str, list[str]] = {}
    for name, copy in requested.items():
        plain = satisfied.needed([], [name], {name: every[name]}, environment)
        for extra in sorted({normalized(match) for text in copy.requires for match in _EXTRA.findall(text)}):
            wanted = requirements.parse(f"{name}[{extra}]")
            more = satisfied.needed([wanted], [], {name: every[name]}, environment) - plain
            if more and more <= every.keys() and not more <= explained:
                extras.setdefault(name, []).append(extra)
    return extras


def _named(name: str, extras: Mapping[str, list[str]]) -> str:
    return f"{name}[{','.join(extras[name])}]" if name in extras else name


def _requirement(copy: Distribution, extras: Mapping[str, list[str]], *, pinned: bool) -> PipRequest:
    named, origin, gone = _named(copy.name, extras), copy.direct_url, None
    if origin is None:
        return PipRequest(name=copy.name, requirement=f"{named}=={copy.version}" if pinned else named)
    url = origin.url
    path = unquote(urlsplit(url).path) if url.startswith("file:") else None
    if path is not None and not os.path.exists(path):
        gone = path
    if origin.vcs_info is not None:
        revision = origin.vcs_info.get("commit_id" if pinned else "requested_revision")
        url = f"{origin.vcs_info.get('vcs', 'git')}+{url}{f'@{revision}' if revision else ''}"
    folder = f"subdirectory={quote(origin.subdirectory)}" if origin.subdirectory else ""
    if origin.editable and path is not None:
        requirement = f"-e {path}{folder and '#' + folder}{named.removeprefix(copy.name)}"
    elif origin.editable:
        requirement = f"-e {url}#egg={copy.name}{folder and '&' + folder}"
    else:
        requirement = f"{named} @ {url}{folder and '#' + folder}"
    return PipRequest(name=copy.name, requirement=requirement, gone=gone)


# ---------------------------------------------------------------------------------------------------------------- files


def _lines(path: Path) -> list[str]:
    try:
        return read_bytes(path).decode("utf-8", "replace").splitlines()
    except OSError:
        return []


def _changed(path: Path) -> float:
    try:
        return os.lstat(path).st_ctime
    except OSError:
        return 0.0


def _started() -> float:
    """When the machine started (https://man7.org/linux/man-pages/man5/proc_stat.5.html)."""
    times = (line.split()[1] for line in _lines(_STAT) if line.startswith("btime "))
    return float(next(times, "0"))
