"""What `aws s3 sync` would transfer between a folder and a place in S3, and what it must not.

The comparison is its own (https://docs.aws.amazon.com/cli/latest/reference/s3/sync.html), so that a plan can be made of
structured lists, where the output of its `--dryrun` is text with the names of files in it. A test compares both.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from nbprovision.files.folder_scan import Scanned, excluding
from nbprovision.machine.s3 import Place, Stored
from nbprovision.model.errors import TaskFailed

# What the command's downloads end with until they are complete, if it is killed (s3transfer.utils).
_INCOMPLETE = re.compile(r"(?P<name>.+)\.[0-9a-fA-F]{8}", re.DOTALL)
_MOST_KEPT = 1000  # files named on a command line, each of which every other is compared with


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """The differences of two sides; all paths are relative to them.

    Attributes:
        source_is_empty: The source has no file.
        transferred: Files to transfer.
        size: The bytes of these.
        removed: Files that only the receiving side has, if they are to be removed.
        newer: Files to keep, as somebody has changed them after their objects were stored.
        linked: Links, pipes and the like in the folder, which are neither sent nor replaced.
        unnamed: Files of the folder whose names no key can have.
        incomplete: What a killed download has left.

    """

    source_is_empty: bool = False
    transferred: tuple[str, ...] = ()
    size: int = 0
    removed: tuple[str, ...] = ()
    newer: tuple[str, ...] = ()
    linked: tuple[str, ...] = ()
    unnamed: tuple[str, ...] = ()
    incomplete: tuple[str, ...] = ()


def compare_up(
    entries: Iterable[Scanned], stored: Iterable[Stored], place: Place, patterns: Sequence[str], *, delete: bool
) -> Comparison:
    """Compare a folder with the objects that it is sent to."""
    files, others, unnamed = _sorted(entries)
    objects = dict(_named(stored, place, patterns))
    sent = [
        file
        for name, file in files.items()
        if name not in objects or objects[name].size != file.size or objects[name].modified < file.modified
    ]
    return Comparison(
        source_is_empty=not files,
        transferred=tuple(file.name for file in sent),
        size=sum(file.size for file in sent),
        removed=tuple(name for name in objects if name not in files) if delete else (),
        linked=tuple(others),
        unnamed=unnamed,
    )


def compare_down(
    entries: Iterable[Scanned],
    stored: Iterable[Stored],
    place: Place,
    patterns: Sequence[str],
    failure: str,
    *,
    delete: bool,
    interrupted: float,
) -> Comparison:
    """Compare objects with the folder that they are copied into.

    Args:
        entries: The entries of the folder.
        stored: The objects.
        place: Their place.
        patterns: What is left out.
        failure: The message of an error.
        delete: Whether files without an object are to be removed.
        interrupted: When the last transfer began, if it was killed; else 0.

    Raises:
        TaskFailed: the key of an object cannot be a path in the folder, or something is in the way of it.

    """
    entries = list(entries)
    files, others, unnamed = _sorted(entries)
    folders = {entry.name for entry in entries if entry.kind == "folder"}
    objects = dict(_named(stored, place, patterns))
    changed: list[Stored] = []
    names: list[str] = []
    newer: list[str] = []
    linked: dict[str, None] = {}
    for name, wanted in objects.items():
        _require_path(name, wanted, failure)
        above = _parents(name)
        obstacle = next((path for path in (*above, name) if path in others), None)
        if obstacle is not None:
            linked[obstacle] = None
            continue
        blocked = next((path for path in above if path in files), name if name in folders else None)
        if blocked is not None:
            raise TaskFailed(
                failure,
                cause=f"{wanted.key} needs {'a folder' if blocked != name else 'a file'} at {blocked!a}, "
                f"where {'a file' if blocked != name else 'a folder'} is",
                cure="move it away, or name the object in `exclude`",
            )
        file = files.get(name)
        if file is not None and file.modified > wanted.modified:
            newer.append(name)
        elif file is None or (file.size, file.modified) != (wanted.size, wanted.modified):
            names.append(name)
            changed.append(wanted)
    left = [
        name
        for name, file in files.items()
        if interrupted and file.created >= interrupted and _is_incomplete(name, objects)
    ]
    if len(newer) + len(linked) + len(unnamed) > _MOST_KEPT:
        raise TaskFailed(
            failure,
            cause=f"more than {_MOST_KEPT} files of the folder have to be kept, as they are newer than their objects",
            cure="choose another `path`, and compare the two folders by hand",
        )
    return Comparison(
        source_is_empty=not objects,
        transferred=tuple(names),
        size=sum(wanted.size for wanted in changed),
        removed=tuple(name for name in files if name not in objects and name not in left) if delete else (),
        newer=tuple(newer),
        linked=tuple(linked),
        unnamed=unnamed,
        incomplete=tuple(left),
    )


def exclusions(comparison: Comparison, patterns: Sequence[str], *, up: bool) -> list[str]:
    """The patterns for `aws s3 sync`: the given ones, and those of the files that it must leave alone.

    The command itself sends no link, but it would write to what is below one.
    """
    links = () if up else comparison.linked
    own = [*comparison.newer, *comparison.unnamed]
    return [*patterns, *map(_literal, own), *(part for name in links for part in _below(_literal(name)))]


def own_exclusions(folder: Path, home: Path, suffix: str) -> list[str]:
    """What is never transferred: the tool's home and temporary files, and the folder of the file system's own."""
    patterns = ["lost+found", "lost+found/*", f"*{suffix}*"]
    inside = os.path.relpath(os.path.realpath(home), os.path.realpath(folder))
    if inside.split("/")[0] != "..":
        patterns += _below(_literal(inside))
    return patterns


def _sorted(entries: Iterable[Scanned]) -> tuple[dict[str, Scanned], dict[str, None], tuple[str, ...]]:
    """The files of a folder by name, its links and special files, and the files whose names are not UTF-8."""
    files: dict[str, Scanned] = {}
    others: dict[str, None] = {}
    unnamed: list[str] = []
    for entry in entries:
        if entry.kind == "folder":
            continue
        if not entry.is_text:
            unnamed.append(entry.name)
        elif entry.kind == "file":
            files[entry.name] = entry
        else:
            others[entry.name] = None
    return files, others, tuple(unnamed)


def _named(stored: Iterable[Stored], place: Place, patterns: Sequence[str]) -> Iterator[tuple[str, Stored]]:
    """The objects by their paths below the place; the marks of folders, which have no content, are none."""
    excluded = excluding(patterns)
    for entry in stored:
        name = entry.key[len(place.key) :]
        if name and not (entry.size == 0 and name.endswith("/")) and not excluded(name):
            yield name, entry


def _require_path(name: str, entry: Stored, failure: str) -> None:
    """Require that the key of an object is a path in the folder, as anybody who may write to the bucket chooses it."""
    if any(part in ("", ".", "..") for part in name.split("/")) or "\0" in name:
        raise TaskFailed(
            failure,
            cause=f"the object {entry.key[:200]!a} cannot be a file in the folder",
            cure="remove it from the bucket, or name it in `exclude`",
        )


def _parents(name: str) -> list[str]:
    parts = name.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def _is_incomplete(name: str, objects: dict[str, Stored]) -> bool:
    match = _INCOMPLETE.fullmatch(name)
    return match is not None and match["name"] in objects and name not in objects


def _literal(name: str) -> str:
    """The pattern that matches this path alone."""
    return re.sub(r"([*?[])", r"[\1]", name)


def _below(pattern: str) -> tuple[str, str]:
    return pattern, f"{pattern}/*"
