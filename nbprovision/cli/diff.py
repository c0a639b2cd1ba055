"""``nbprovision diff``: compares the packages of locks, lists, machines and environments."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nbprovision.lock import comparison, sources
from nbprovision.lock.comparison import Comparison, Difference
from nbprovision.lock.contents import Package
from nbprovision.lock.sources import Pair, Source
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import InvalidPlaybook
from nbprovision.model.result import Change
from nbprovision.report.colour import painted, shown
from nbprovision.report.document import render_plain
from nbprovision.report.terminal import change_lines
from nbprovision.system.secrets import masked

DIFFERENT = 3

_EPILOG = """
nbprovision diff team.lock machine            how the environments here differ from the team's lock
nbprovision diff old.lock team.lock           what a change of the lock would change
nbprovision diff hers.json machine            why it works there: hers.json is from `facts --packages --format json`
nbprovision diff requirements.txt fraud       one environment of this machine, by name or path
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``diff``."""
    parser.epilog = _EPILOG
    what = "a folder with pixi.lock or pylock.toml, a list of packages, `machine`, or an environment by name or path"
    parser.add_argument("before", metavar="A", help=what)
    parser.add_argument("after", metavar="B", help="what to compare it with")
    parser.add_argument("--env", metavar="NAME", help="only this environment")
    parser.add_argument(
        "--platform", metavar="SUBDIR", help="only packages for it, such as linux-64, of a lock with several"
    )
    parser.add_argument("--format", choices=("text", "json"), default="text", help="json: one document")
    parser.add_argument("--home", type=Path, metavar="DIR", help="folder of state, lock, log and caches")


def execute(options: argparse.Namespace) -> int:
    """Print the differences.

    Returns:
        0 if there are none, else 3.

    Raises:
        InvalidPlaybook: a side cannot be read, or it is not clear which environments to compare.
    """
    machine = Machine(home=options.home.absolute() if options.home else None)
    before, after = sources.read_both(machine, (options.before, options.after), options.env)
    pairs = sources.pairs(before, after, env=options.env, platform=options.platform)
    if not pairs:
        raise InvalidPlaybook("neither side has an environment", cure="name other files, or an environment")
    results = [
        (pair, None if pair.before is None or pair.after is None else comparison.compare(pair.before, pair.after))
        for pair in pairs
    ]
    if options.format == "json":
        sys.stdout.write(render_plain(masked(_document(before, after, results))))
    else:
        for line in _text(before, after, results):
            print(line)
    return 0 if all(_is_same(result) for _, result in results) else DIFFERENT


def _is_same(result: Comparison | None) -> bool:
    return result is not None and not result.differences


def _status(pair: Pair, result: Comparison | None) -> str:
    if result is None:
        return "only_from" if pair.after is None else "only_to"
    return "different" if result.differences else "same"


def _document(before: Source, after: Source, results: list[tuple[Pair, Comparison | None]]) -> dict[str, Any]:
    environments = [
        {
            "name": pair.name,
            "platform": pair.platform,
            "status": _status(pair, result),
            "compared": result.compared if result else 0,
            "differences": [
                {"name": each.name, "from": _side(each.before), "to": _side(each.after)}
                for each in (result.differences if result else ())
            ],
        }
        for pair, result in results
    ]
    return {
        "from": {"name": before.name, "kind": before.kind},
        "to": {"name": after.name, "kind": after.kind},
        "same": all(_is_same(result) for _, result in results),
        "environments": environments,
    }


def _side(package: Package | None) -> dict[str, str | None] | None:
    if package is None:
        return None
    fields = ("kind", "version", "build", "channel", "sha256")
    return {field: getattr(package, field) for field in fields}


def _text(before: Source, after: Source, results: list[tuple[Pair, Comparison | None]]) -> Iterator[str]:
    several = len({pair.platform for pair, _ in results}) > 1
    for pair, result in results:
        title = f"{pair.name} ({pair.platform})" if several and pair.platform else pair.name
        if result is None:
            yield shown(f"{title}: only in {before.name if pair.after is None else after.name}")
        elif not result.differences:
            yield shown(f"{title}: the same ({_counted(result.compared, 'package')})")
        else:
            yield shown(f"{title}: {_counted(len(result.differences), 'difference')}")
            for line in change_lines(map(_change, result.differences), in_full=True):
                yield "  " + painted(shown(line.text), line.colour, sys.stdout)
    packages = sum(len(result.differences) for _, result in results if result)
    different = sum(not _is_same(result) for _, result in results)
    whole = _counted(len(results), "environment")
    if not different:
        yield f"no differences in {whole}"
        return
    where = f", in {_counted(packages, 'package')}" if packages else ""
    yield f"{different} of {whole} {'differs' if different == 1 else 'differ'}{where}"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _change(difference: Difference) -> Change:
    """The row of a package: versions, and what else differs where these are equal."""
    left, right = difference.before, difference.after
    cells: list[str | None] = []
    for package, other in ((left, right), (right, left)):
        if package is None:
            cells.append(None)
            continue
        words = [package.version or "?"]
        if other is not None and package.version == other.version:
            words += [package.build] if package.build else []
            if package.build == other.build and package.sha256 and package.sha256 != other.sha256:
                words.append(f"sha256:{package.sha256[:12]}")
        if other is not None and None not in (package.kind, other.kind) and package.kind != other.kind:
            words.append(f"({package.kind})")
        cells.append(" ".join(words))
    origins = [_origin(package) for package in (left, right) if package is not None]
    channel = " -> ".join(dict.fromkeys(filter(None, origins)))
    return Change("differs", difference.name, cells[0], cells[1], kind="package", channel=channel)


def _origin(package: Package) -> str:
    return package.channel or ("pip" if package.kind == "pip" else "")
