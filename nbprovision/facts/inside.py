"""Whether the files that an installed package lists lie in their environment: engines remove what is listed.

A list that was tampered with (``../../home/x``), or a folder of a package that somebody has replaced by a link to his
own work, would let the next update delete files elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from nbprovision.facts import conda_health
from nbprovision.facts.conda import CondaRecord
from nbprovision.facts.distributions import Distribution, recorded
from nbprovision.model.errors import TaskFailed

# Top folders that packages have their files in. An installation's `envs` and `pkgs` may be links, and often are.
WRITTEN = ("bin", "lib", "include", "share", "etc")


def leading_out(prefix: Path, base: Path, names: Iterable[str]) -> Iterator[Path]:
    """The places outside of ``prefix`` that ``names``, which begin at ``base``, lead to, links followed."""
    inside = os.path.realpath(prefix) + os.sep
    folders: dict[str, str] = {}
    for name in names:
        folder, _, last = os.path.normpath(os.path.join(base, name)).rpartition(os.sep)
        if folder not in folders:
            folders[folder] = os.path.realpath(folder) + os.sep
        if not folders[folder].startswith(inside):
            yield Path(folders[folder] + last)


def refuse_records(prefix: Path, going: Iterable[CondaRecord]) -> None:
    """Refuse to have conda packages removed whose files are not in the environment.

    Raises:
        TaskFailed: one of them leads out of it.

    """
    for record in going:
        for place in leading_out(prefix, prefix, conda_health.listed_files(record)):
            raise _refused(f"{record.name} in {prefix}", f"{record.path} lists a file that is {place}")


def refuse_distributions(prefix: Path, going: Iterable[Distribution]) -> None:
    """Refuse to have distributions removed whose files are not in the environment.

    Raises:
        TaskFailed: one of them leads out of it.

    """
    for one in going:
        for place in strays(prefix, one):
            raise _refused(f"{one.name} in {prefix}", f"{one.path / 'RECORD'} lists a file that is {place}")


def refuse_link(prefix: Path, name: str) -> None:
    """Refuse to write into a folder of an environment that is a link to elsewhere.

    Raises:
        TaskFailed: it is.

    """
    for place in leading_out(prefix, prefix, [f"{name}/x"]):
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
    for name in (*names, *libraries):
        refuse_link(prefix, name)


def strays(prefix: Path, one: Distribution) -> Iterator[Path]:
    """The files of a distribution outside of its environment."""
    return leading_out(prefix, one.path.parent, recorded(one.path))


def _refused(what: str, cause: str) -> TaskFailed:
    return TaskFailed(
        f"{what} is not changed",
        cause=f"{cause}, outside of the environment, and would be removed with the others",
        cure="put a folder in the place of a link, or take the line out of the list; or remove the environment "
        "(`state: absent`) and have it made anew",
    )
