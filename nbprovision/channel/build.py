"""Builds a channel in a process of its own: wheels fetched by pip, converted side by side, indexed by py-rattler.

Run as ``python -m nbprovision.channel.build`` by `system.process.call_module`.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from nbprovision.channel import interpreter
from nbprovision.channel.interpreter import Interpreter
from nbprovision.channel.package import NATIVE, Package
from nbprovision.channel.wheel import convert, is_pure
from nbprovision.machine.network import pip_log, pip_log_output
from nbprovision.model.errors import TaskFailed
from nbprovision.system import disk_space
from nbprovision.system.commands import run
from nbprovision.system.files import own_temporary_files, temporary_folder, write_atomically
from nbprovision.system.process import answer

Tell = Callable[..., None]


class Order(msgspec.Struct, frozen=True):
    """What to build.

    Attributes:
        channel: The folder.
        interpreters: Paths or versions; None for the one that the tool runs on.
        requirements: Of the Python package index, or paths of wheels.
        wheels: The folder that keeps fetched wheels.
        uv: The uv program, which brings pip.
        uv_env, pip_env: Environment variables of the two.
    """

    channel: str
    interpreters: tuple[str | None, ...]
    requirements: tuple[str, ...]
    wheels: str
    uv: str
    uv_env: dict[str, str]
    pip_env: dict[str, str]


class Built(msgspec.Struct, frozen=True):
    """A package that was built: its path below the channel, size in bytes, and digest."""

    path: str
    size: int
    sha256: str


def build(order: Order, tell: Tell) -> list[Built]:
    """Build what is ordered, into the channel's folder, and index it."""
    channel = Path(order.channel)
    for subdir in ("noarch", NATIVE):
        (channel / subdir).mkdir(parents=True, exist_ok=True)
    found = {python.minor: python for python in map(interpreter.find, order.interpreters)}
    wheels: dict[Path, set[str]] = {}
    for minor, python in found.items():
        tell(text=f"fetching wheels for Python {minor}", done=0, total=0)
        for requirements in _rounds(order.requirements):
            for wheel in _fetch(order, python, requirements):
                wheels.setdefault(wheel, set()).add(minor)
    extras = _extras(order.requirements)
    try:
        written = _convert_all(channel, found, wheels, extras, tell)
        tell(text="indexing", done=0, total=0)
        asyncio.run(_index(channel))
    except Exception as error:
        no_room = disk_space.explain_output(f"{type(error).__name__}: {error}", channel)
        if no_room is None:
            raise
        raise TaskFailed(f"cannot build the channel {channel}", cause=no_room[0], cure=no_room[1]) from error
    return [_built(channel, path) for path in sorted(written)]


def _convert_all(
    channel: Path,
    found: dict[str, Interpreter],
    wheels: dict[Path, set[str]],
    extras: dict[str, set[str]],
    tell: Tell,
) -> list[Path]:
    # One pure wheel may lie in the folders of several Pythons; it becomes one package for all of them.
    pure: dict[str, tuple[Path, set[str]]] = {}
    jobs: list[tuple[Path, list[str]]] = []
    for wheel, minors in wheels.items():
        if is_pure(wheel):
            pure.setdefault(wheel.name, (wheel, set()))[1].update(minors)
        else:
            jobs += [(wheel, [minor]) for minor in sorted(minors)]
    jobs += [(wheel, sorted(minors)) for wheel, minors in pure.values()]
    jobs.sort(key=lambda job: -job[0].stat().st_size)
    written = []
    total = len(found) + len(jobs)
    with concurrent.futures.ProcessPoolExecutor(os.cpu_count()) as pool:
        pending = [pool.submit(_write_python, channel, python) for python in found.values()]
        pending += [pool.submit(_write_wheel, channel, wheel, minors, extras) for wheel, minors in jobs]
        for done in concurrent.futures.as_completed(pending):
            written.append(done.result())
            tell(text="converting", done=len(written), total=total)
    return written


def _write_python(channel: Path, python: Interpreter) -> Path:
    return interpreter.package(python).write(channel)


def _write_wheel(channel: Path, wheel: Path, minors: list[str], extras: dict[str, set[str]]) -> Path:
    made: Package = convert(wheel, minors, extras)
    return made.write(channel)


async def _index(channel: Path) -> None:
    from rattler.index.index import index_fs

    await index_fs(channel, write_zst=True, write_shards=True, force=True)


def _rounds(requirements: Iterable[str]) -> list[list[str]]:
    """Requirements that can be resolved together: each round has every distribution once.

    A channel may well have several versions of one distribution, which no resolver gives at once.
    """
    rounds: list[dict[str, str]] = []
    for text in requirements:
        name = _name(text)
        free = next((members for members in rounds if name not in members), None)
        if free is None:
            rounds.append(free := {})
        free[name] = text
    return [list(members.values()) for members in rounds]


def _fetch(order: Order, python: Interpreter, requirements: list[str]) -> list[Path]:
    """The wheels of some requirements and of what they need, for one interpreter."""
    folder = Path(order.wheels) / f"cp{python.minor.replace('.', '')}"
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256("\n".join(sorted(requirements)).encode()).hexdigest()[:16]
    listing = folder / f"{digest}.txt"
    if listing.exists():
        wheels = [folder / name for name in listing.read_text().split("\n")]
        if all(wheel.is_file() for wheel in wheels):
            return wheels
    with temporary_folder(listing) as staging:
        _download(order, python, requirements, folder, staging)
        names = sorted(path.name for path in staging.glob("*.whl"))
        for name in names:
            (staging / name).replace(folder / name)
    write_atomically(listing, "\n".join(names))
    return [folder / name for name in names]


def _download(order: Order, python: Interpreter, requirements: list[str], folder: Path, staging: Path) -> None:
    # pip and not uv: uv cannot download wheels without installing them. uv brings pip, for any interpreter, also one
    # that has neither pip nor ensurepip. The last word on tags and markers is the interpreter's own.
    pip = [order.uv, "tool", "run", "--no-config", "--python", python.executable, "pip"]
    download = [*pip, "download", "--quiet", "--only-binary", ":all:", "--find-links", str(folder), "-d", str(staging)]
    failure = f"cannot fetch wheels for Python {python.minor}: {', '.join(requirements)}"
    try:
        env = {**order.pip_env, **order.uv_env}
        with own_temporary_files(env) as temporary:
            log = pip_log(temporary)
            try:
                run([*download, *requirements], env={**env, **temporary, **log}, failure=failure)
            except TaskFailed as error:
                error.cause = f"{error.cause}\n{pip_log_output(log)}".strip()
                raise
    except TaskFailed as error:
        complaint = "\n".join(line for line in error.cause.splitlines() if "WARNING" not in line)
        no_room = disk_space.explain_output(complaint, folder)
        if no_room is not None:
            raise TaskFailed(failure, cause=no_room[0], cure=no_room[1]) from None
        raise TaskFailed(
            failure,
            cause=complaint,
            cure="only wheels can be converted: see whether the index is reached (pip config list) and has a wheel for "
            f"Python {python.minor} of each",
        ) from None


def _name(text: str) -> str:
    try:
        return canonicalize_name(Requirement(text).name)
    except InvalidRequirement:
        return text  # the path of a wheel


def _extras(requirements: Iterable[str]) -> dict[str, set[str]]:
    extras: dict[str, set[str]] = {}
    for text in requirements:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue  # the path of a wheel
        extras.setdefault(canonicalize_name(requirement.name), set()).update(requirement.extras)
    return extras


def _built(channel: Path, path: Path) -> Built:
    content = path.read_bytes()
    return Built(path.relative_to(channel).as_posix(), len(content), hashlib.sha256(content).hexdigest())


if __name__ == "__main__":
    answer(lambda request, tell: msgspec.to_builtins(build(msgspec.convert(request, Order), tell)))
