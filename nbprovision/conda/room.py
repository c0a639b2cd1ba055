"""Whether there is room for what a solve asks for, told before anything is changed.

The need is a lower bound, so that nothing is refused that would fit: the sizes of the packages as they are fetched, for
those that are in no cache. Unpacked they are larger, by a factor that nobody knows before.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from nbprovision.conda.rattler_messages import Package
from nbprovision.machine.environments import installed
from nbprovision.system.room import left, megabytes, require_bytes

_WORTH_TELLING = 1_000_000  # bytes


def coming(prefix: Path, packages: Iterable[Package], again: Collection[str] = ()) -> list[Package]:
    """The packages that are not in the environment in this version and build, and those that are put in place again."""
    there = {(one.name, one.version, one.build) for one in installed(prefix) if one.name not in again}
    return [one for one in packages if (one.name, one.version, one.build) not in there]


def download(prefix: Path, packages: Iterable[Package], caches: Sequence[Path]) -> int:
    """The bytes to fetch: of what is in none of ``caches`` (conda's form: a folder NAME-VERSION-BUILD)."""
    names = [(one, f"{one.name}-{one.version}-{one.build}") for one in coming(prefix, packages)]
    return sum(one.size for one, name in names if not any((cache / name).is_dir() for cache in caches))


def note(prefix: Path, packages: Iterable[Package], caches: Sequence[Path]) -> tuple[str, ...]:
    """What is to be fetched, and whether there is room for it, for whoever only asks what would change."""
    need = download(prefix, packages, caches)
    room = left(next(iter(caches), prefix))
    if need < _WORTH_TELLING:
        return ()
    verdict = "" if need <= room.free else ": there is no room"
    told = f"downloads {megabytes(need)} and takes more unpacked; {megabytes(room.free)} are free at {room.place}"
    return (told + verdict,)


def require(prefix: Path, packages: Iterable[Package], caches: Sequence[Path]) -> None:
    """Refuse what surely does not fit.

    Args:
        prefix: The environment, which need not be there yet.
        packages: All that it shall hold.
        caches: Where packages are kept; the first one gets what is fetched.

    Raises:
        NotBegun: with the need, the room, and what to do.

    """
    require_bytes(prefix, download(prefix, packages, caches), next(iter(caches), prefix))
