"""What people asked for in an environment, by what the tools wrote down; the rest came along, or is not needed at all.

Sources: conda's history (conda.history.History) and the specs in its records; REQUESTED of pip (PEP 376,
https://packaging.python.org/en/latest/specifications/recording-installed-packages/); direct_url.json (PEP 610).
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import msgspec

from nbprovision.conda import health
from nbprovision.conda.health import Details
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


class CondaAsked(msgspec.Struct, frozen=True, kw_only=True):
    """What conda (or a tool like it) was asked for.

    Attributes:
        specs: Match specs by package; each is what is installed.
        channels: Where what is installed came from, the preferred channel first; a name where conda has one for it.
        guessed: Nobody wrote down what was asked for: these are the packages that nothing else needs.

    """

    specs: dict[str, str] = {}
    channels: tuple[str, ...] = ()
    guessed: bool = False


class PipAsked(msgspec.Struct, frozen=True, kw_only=True):
    """A distribution that pip or uv was asked for.

    Attributes:
        name: Normalised.
        requirement: As a requirements file has it; may hold a password.
        gone: The file or folder that it was installed from, where that is not there any more.

    """

    name: str
    requirement: str
    gone: str | None = None


class Since(msgspec.Struct, frozen=True):
    """Names of what has come or moved since some moment, by its kind.

    Attributes:
        packages: Of conda.
        distributions: Of Python.
        moved: Those of both that were there before in another version.

    """

    packages: frozenset[str]
    distributions: frozenset[str]
    moved: frozenset[str] = frozenset()


def by_conda(
    prefix: Path, condarc: Condarc, configured: Iterable[str], *, pinned: bool, only: Collection[str] | None = None
) -> CondaAsked:
    """What conda was asked for.

    Args:
        prefix: The environment.
        condarc: Names channels, and says what a spec's channel stands for.
        configured: Channels in the order in which they are preferred here.
        pinned: In the versions that are installed.
        only: Look at these packages only.

    """
    records = [record for record in installed(prefix) if only is None or record.name in only]
    details = health.all_details(records)
    if not details:
        return CondaAsked()
    specs = {name: text for name, text in _told(prefix, details).items() if name in details}
    guessed = not specs
    if guessed:
        specs = {name: name for name in _needed_by_none(details)}
    replaced = replaced_by_pip(prefix, records)
    by_name = {record.name: record for record in records}
    found = {
        name: _spec(name, text, by_name[name], condarc, pinned=pinned)
        for name, text in sorted(specs.items())
        if name not in replaced
    }
    return CondaAsked(
        specs=found, channels=tuple(_channels(prefix, details.values(), condarc, configured)), guessed=guessed
    )


def by_pip(prefix: Path, *, pinned: bool, only: Collection[str] | None = None) -> tuple[list[PipAsked], list[str]]:
    """What pip, uv and their like were asked for.

    Args:
        prefix: A conda or virtual environment.
        pinned: In the versions that are installed.
        only: Look at these distributions only.

    Returns:
        What was asked for, and names of what is left over: nobody asked for it, nothing needs it.

    """
    every = distributions.installed(prefix)
    records = installed(prefix)
    found = _not_condas(every, records)
    if only is not None:
        found = {name: one for name, one in found.items() if name in only}
    if not records:
        found = {name: one for name, one in found.items() if name not in _BROUGHT_BY_VENV}
    needed_by_none = _leaves(prefix, every)
    # pip writes REQUESTED for what is asked for, old versions of it never; uv writes it for all that comes along too
    # (https://github.com/astral-sh/uv/issues/13278), so that it tells nothing.
    honest = any(one.installer == "pip" and one.requested for one in found.values())
    asked = {
        name: one
        for name, one in found.items()
        if (one.requested if honest and one.installer == "pip" else name in needed_by_none or one.direct_url)
    }
    condas = [name for name in every if name not in found]
    extras = _extras(prefix, asked, condas, every)
    wanted = [requirements.parse(_named(name, extras)) for name in asked]
    needed = satisfied.needed(wanted, condas, every, _environment(prefix))
    replaced = {normalized(name) for name in replaced_by_pip(prefix, records)}
    return (
        [_requirement(one, extras, pinned=pinned or name in replaced) for name, one in sorted(asked.items())],
        sorted(found.keys() - asked.keys() - needed),
    )


def replaced_by_pip(prefix: Path, records: Iterable[CondaRecord]) -> set[str]:
    """Names of conda packages in whose place pip or uv has put another version."""
    return {name for name, drift in health.drifts(prefix, records) if drift.strays}


def since_start(prefix: Path) -> Since:
    """What has come into an environment since the machine started, by the times of its records and folders.

    An image's files keep their times when a machine starts from it.
    """
    started = _started()
    folders = [one for several in distributions.installed(prefix).values() for one in several]
    return Since(
        frozenset(record.name for record in installed(prefix) if _changed(record.path) > started),
        frozenset(one.name for one in folders if _changed(one.path) > started),
    )


def is_newer_than_start(path: Path) -> bool:
    """Whether a file was made or changed since the machine started."""
    return _changed(path) > _started()


def unneeded_packages(details: Mapping[str, Details], asked: Iterable[str]) -> list[str]:
    """Names of conda packages that nobody asked for, and that none of ``asked`` needs: ``exact`` removes them."""
    needed: set[str] = set()
    waiting = [name for name in asked if name in details]
    while waiting:
        name = waiting.pop()
        if name in needed:
            continue
        needed.add(name)
        specs = (parse(text) for text in details[name].depends)
        waiting += [spec.name for spec in specs if spec is not None and spec.name in details]
    return sorted(details.keys() - needed)


def unneeded_distributions(prefix: Path, claims: Iterable[Claim], owned: Collection[str]) -> list[Distribution]:
    """Distributions that pip or uv brought, and that no pip task and nothing that stays needs: ``exact`` removes them.

    What came from a path or a repository stays: a task may have asked for it without a name.

    Args:
        prefix: The environment.
        claims: What pip tasks want in it.
        owned: Normalised names of conda's packages.

    """
    found = distributions.installed(prefix)
    environment = _environment(prefix)
    wanted = [requirements.parse(claim.requirement) for claim in claims]
    placed = [name for name, several in found.items() if name in owned or several[0].direct_url is not None]
    needed = satisfied.needed(wanted, placed, found, environment)
    return [one for name, several in sorted(found.items()) if name not in needed for one in several]


# ---------------------------------------------------------------------------------------------------------------- conda


def _told(prefix: Path, details: dict[str, Details]) -> dict[str, str]:
    """Specs by package: as conda's history tells, which conda itself goes by, else as the records do."""
    return {**health.requested(details), **_history(prefix)}


def _history(prefix: Path) -> dict[str, str]:
    told: dict[str, str] = {}
    command = ""
    for line in _lines(prefix / META / "history"):
        if line.startswith("# cmd:"):
            command = line
        match = _SPECS.match(line)
        if match is None:
            continue
        removed = match[1] == "remove" or (match[1] is None and re.search(r"\s(remove|uninstall)\s", command))
        for text in _listed(match[2]):
            spec = parse(text)
            if spec is None:
                continue
            if removed:
                told.pop(spec.name, None)
            else:
                told[spec.name] = spec.text
    return told


def _listed(text: str) -> list[str]:
    """The specs of a line: a list as Python writes it; of old versions of conda separated by commas."""
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        found = text.split(",")
    return [str(one).strip() for one in found] if isinstance(found, (list, tuple)) else []


def _spec(name: str, text: str, record: CondaRecord, condarc: Condarc, *, pinned: bool) -> str:
    """The spec as it was asked for, if it still says the truth and is to stay as it was; else that of the version."""
    spec = parse(text)
    if spec is None or spec.channel is None:
        there = spec is not None and spec_satisfied(spec, [record], condarc)
        return text if there and not pinned else f"{name}={record.version}"
    bare = parse(f"{spec.channel}::{name}")
    if bare is None or not spec_satisfied(bare, [record], condarc):
        return f"{name}={record.version}"  # it has come from elsewhere since
    return text if not pinned and spec_satisfied(spec, [record], condarc) else f"{bare.text}={record.version}"


def _needed_by_none(details: Mapping[str, Details]) -> list[str]:
    needed = {spec.name for one in details.values() for spec in map(parse, one.depends) if spec is not None}
    return sorted(details.keys() - needed)


def _channels(prefix: Path, details: Iterable[Details], condarc: Condarc, configured: Iterable[str]) -> Iterator[str]:
    """By name or URL: those that a command named, those configured, the others by how much came from them."""
    counts: dict[str, int] = {}
    for one in details:
        channel = one.channel.rstrip("/")
        if channel:
            counts[channel] = counts.get(channel, 0) + 1
    commands = [line for line in _lines(prefix / META / "history") if line.startswith("# cmd:")]
    named = [name for line in commands for name in _CHANNEL_OPTION.findall(line)]
    order = [url for name in named for url in condarc.urls(name)] + list(configured)
    rank = {url: number for number, url in reversed(list(enumerate(order)))}
    found = sorted(counts, key=lambda channel: (rank.get(channel, len(order)), -counts[channel], channel))
    yield from dict.fromkeys(_channel_name(channel, condarc) for channel in found)


def _channel_name(channel: str, condarc: Condarc) -> str:
    """The short name, where that leads to the same place; a URL with a secret in it stays, for others to mask."""
    name = condarc.name_of(channel)
    return name if channel in condarc.urls(name) else channel


# ------------------------------------------------------------------------------------------------------------------ pip


def _not_condas(every: Mapping[str, list[Distribution]], records: Iterable[CondaRecord]) -> dict[str, Distribution]:
    """The distributions that no conda package brought: by INSTALLER, and by what conda's records list."""
    found = {name: several[-1] for name, several in every.items() if several[-1].installer != "conda"}
    versions = {normalized(record.name): record.version for record in records}
    found = {name: one for name, one in found.items() if versions.get(name) != one.version}
    if found and versions:
        listed = {folder for record in records for folder in health.dist_infos(record)}
        found = {name: one for name, one in found.items() if one.path.name not in listed}
    return found


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
    prefix: Path, asked: Mapping[str, Distribution], condas: Collection[str], every: satisfied.Installed
) -> dict[str, list[str]]:
    """Extras by name: those without which nobody would need something that is there, and all of whose needs are met.

    What was asked for with an extra is not written down; what came by it is there all the same.
    """
    environment = _environment(prefix)
    came_along = satisfied.needed([], [*asked, *condas], every, environment)
    found: dict[str, list[str]] = {}
    for name, one in asked.items():
        plain = satisfied.needed([], [name], {name: every[name]}, environment)
        for extra in sorted({normalized(match) for text in one.requires for match in _EXTRA.findall(text)}):
            wanted = requirements.parse(f"{name}[{extra}]")
            more = satisfied.needed([wanted], [], {name: every[name]}, environment) - plain
            if more and more <= every.keys() and not more <= came_along:
                found.setdefault(name, []).append(extra)
    return found


def _named(name: str, extras: Mapping[str, list[str]]) -> str:
    return f"{name}[{','.join(extras[name])}]" if name in extras else name


def _requirement(one: Distribution, extras: Mapping[str, list[str]], *, pinned: bool) -> PipAsked:
    named = _named(one.name, extras)
    origin = one.direct_url
    if origin is None:
        return PipAsked(name=one.name, requirement=f"{named}=={one.version}" if pinned else named)
    path = unquote(urlsplit(origin.url).path) if origin.url.startswith("file:") else None
    gone = path if path is not None and not os.path.exists(path) else None
    inside = f"#subdirectory={quote(origin.subdirectory)}" if origin.subdirectory else ""
    if origin.editable and path is not None:
        of_extras = named.removeprefix(one.name)
        return PipAsked(name=one.name, requirement=f"-e {path}{inside}{of_extras}", gone=gone)
    url = origin.url
    if origin.vcs_info is not None:
        commit, revision = origin.vcs_info.get("commit_id"), origin.vcs_info.get("requested_revision")
        wanted = commit if pinned else revision
        url = f"{origin.vcs_info.get('vcs', 'git')}+{url}{f'@{wanted}' if wanted else ''}"
    if origin.editable:
        return PipAsked(name=one.name, requirement=f"-e {url}#egg={one.name}{inside.replace('#', '&')}", gone=gone)
    return PipAsked(name=one.name, requirement=f"{named} @ {url}{inside}", gone=gone)


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
