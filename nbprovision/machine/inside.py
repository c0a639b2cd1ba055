"""Whether the files that an installed package lists lie in their environment: engines remove what is listed.

A list that was tampered with (``../../home/x``), or a folder of a package that somebody has replaced by a link to his
own work, would let the next update delete files elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from nbprovision.machine.distributions import Distribution, recorded
from nbprovision.model.errors import TaskFailed

# Top folders that packages have their files in. An installation's `envs` and `pkgs` may be links, and often are.
WRITTEN = ("bin", "lib", "include", "share", "etc")


def leading_out(prefix: Path, base: Path, names: Iterable[str], known: dict[str, str] | None = None) -> Iterator[Path]:
    """The places outside of ``prefix`` that ``names``, which begin at ``base``, lead to, links followed.

    Args:
        prefix: The environment.
        base: Where a relative name begins.
        names: As a package lists them.
        known: Real places of folders, for several calls that come at once: each folder is looked at once.

    """
    known = {} if known is None else known
    inside = os.path.join(_real(os.path.abspath(prefix), known), "")
    start = os.path.abspath(base)
    judged: set[str] = set()  # folders as they are written, all of them inside
    for name in names:
        written, entry = name[: (end := name.rfind(os.sep) + 1)], name[end:]
        plain = entry not in ("", os.curdir, os.pardir)
        if plain and written in judged:
            continue
        folder, _, last = os.path.normpath(os.path.join(start, name)).rpartition(os.sep)
        real = os.path.join(_real(folder, known), "")
        if not real.startswith(inside):
            yield Path(real + last)
        elif plain:
            judged.add(written)


def _real(folder: str, known: dict[str, str]) -> str:
    """`os.path.realpath`, which looks at each folder on the way, for paths that have most of the way in common."""
    found = known.get(folder)
    if found is None:
        above, _, name = folder.rpartition(os.sep)
        found = os.path.join(_real(above, known), name) if name else os.sep
        if os.path.islink(found):
            found = os.path.realpath(found)
        known[folder] = found
    return found


def refuse_distributions(prefix: Path, going: Iterable[Distribution]) -> None:
    """Refuse to have distributions removed whose files are not in the environment.

    Raises:
        TaskFailed: one of them leads out of it.

    """
    for one, place in strays(prefix, going):
        raise refused_because(f"{one.name} in {prefix}", f"{one.path / 'RECORD'} lists a file that is {place}")


def refuse_link(prefix: Path, *names: str) -> None:
    """Refuse to write into folders of an environment where one is, or lies in, a link to elsewhere.

    Raises:
        TaskFailed: one does.

    """
    known: dict[str, str] = {}
    for name in names:
        for place in leading_out(prefix, prefix, [f"{name}/x"], known):
            raise TaskFailed(
                f"{prefix} is not changed",
                cause=f"{prefix / name} leads to {place.parent}, outside of the environment",
                cure="remove the link, and run once more",
            )


def refuse_links(prefix: Path, names: Iterable[str] = WRITTEN) -> None:
    """Refuse to install into an environment where a folder that packages write to is a link to elsewhere.

    Args:
        prefix: The environment, which need not be there yet.
        names: The folders, beside that of Python's packages.

    Raises:
        TaskFailed: one of them is.

    """
    libraries = (str(path.relative_to(prefix)) for path in prefix.glob("lib/python3*/site-packages"))
    refuse_link(prefix, *names, *libraries)


def has_linked_folder(prefix: Path) -> bool:
    """Whether any folder of an environment, or of what an earlier try left of one, is a link."""
    return any(os.path.islink(os.path.join(place, name)) for place, names, _ in os.walk(prefix) for name in names)


def refuse_written(prefix: Path, rehearsed: Path) -> None:
    """Refuse to install what would be written through a folder of the environment that is a link to elsewhere.

    Args:
        prefix: The environment.
        rehearsed: A folder where what is to come lies as it will lie there.

    Raises:
        TaskFailed: naming such a folder.

    """
    refuse_link(prefix, *(os.path.relpath(place, rehearsed) for place, _, _ in os.walk(rehearsed)))


def strays(prefix: Path, distributions: Iterable[Distribution]) -> Iterator[tuple[Distribution, Path]]:
    """The files of distributions outside of their environment, each with the one that lists it."""
    known: dict[str, str] = {}
    for one in distributions:
        for place in leading_out(prefix, one.path.parent, recorded(one.path), known):
            yield one, place


def refused_because(what: str, cause: str) -> TaskFailed:
    """The error for a package that lists files outside of its environment."""
    return TaskFailed(
        f"{what} is not changed",
        cause=f"{cause}, outside of the environment, and would be removed with the others",
        cure="put a folder in the place of a link, or take the line out of the list; or remove the environment "
        "(`state: absent`) and have it made again",
    )
