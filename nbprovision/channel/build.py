"""Builds a channel in a process of its own: pip fetches wheels, which are converted in parallel and indexed.

Run as ``python -m nbprovision.channel.build`` by `system.process.call_module`.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from nbprovision.channel import index, interpreter
from nbprovision.channel.interpreter import Interpreter
from nbprovision.channel.manifest import File
from nbprovision.channel.package import NATIVE, build_time
from nbprovision.channel.wheel import convert, is_pure
from nbprovision.machine.network import pip_log, pip_log_output
from nbprovision.model.errors import TaskFailed
from nbprovision.system import disk_space
from nbprovision.system.commands import run
from nbprovision.system.files import own_temporary_files, temporary_folder, write_atomically
from nbprovision.system.process import answer

Tell = Callable[..., None]


class Order(msgspec.Struct, frozen=True):
    """The channel to build.

    Attributes:
        channel: The folder.
        interpreters: Paths or versions; None for nbprovision's own interpreter.
        requirements: Requirements for pip, or paths of wheels.
        wheels: The folder that keeps fetched wheels.
        uv: The uv program, which brings pip.
        uv_env: Environment variables for uv.
        pip_env: Environment variables for pip.
    """

    channel: str
    interpreters: tuple[str | None, ...]
    requirements: tuple[str, ...]
    wheels: str
    uv: str
    uv_env: dict[str, str]
    pip_env: dict[str, str]


def build(order: Order, tell: Tell) -> list[File]:
    """Build the packages into the channel's folder, and index it."""
    build_time()  # a wrong variable is an error before anything is fetched
    channel = Path(order.channel)
    for subdir in ("noarch", NATIVE):
        (channel / subdir).mkdir(parents=True, exist_ok=True)
    interpreters = {python.minor: python for python in map(interpreter.find, order.interpreters)}
    wheels: dict[Path, set[str]] = {}
    for minor, python in interpreters.items():
        tell(text=f"fetching wheels for Python {minor}", done=0, total=0)
        for requirements in _rounds(order.requirements):
            for wheel in _fetch(order, python, requirements):
                wheels.setdefault(wheel, set()).add(minor)
    try:
        written = _convert_all(channel, interpreters, wheels, _extras(order.requirements), tell)
        tell(text="indexing", done=0, total=0)
        index.write(channel)
    except Exception as error:
        disk_full = disk_space.explain_output(f"{type(error).__name__}: {error}", channel)
        if disk_full is None:
            raise
        raise TaskFailed(f"cannot build the channel {channel}", cause=disk_full[0], cure=disk_full[1]) from error
    return [_file(channel, path) for path in sorted(written)]


def _convert_all(
    channel: Path,
    interpreters: dict[str, Interpreter],
    wheels: dict[Path, set[str]],
    extras: dict[str, set[str]],
    tell: Tell,
) -> list[Path]:
    # A pure wheel may be in the folders of several Pythons; it becomes one package for all of them.
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
    total = len(interpreters) + len(jobs)
    with concurrent.futures.ProcessPoolExecutor(os.cpu_count()) as pool:
        pending = [pool.submit(_write_python, channel, python) for python in interpreters.values()]
        pending += [pool.submit(_write_wheel, channel, wheel, minors, extras) for wheel, minors in jobs]
        for done in concurrent.futures.as_completed(pending):
            written.append(done.result())
            tell(text="converting", done=len(written), total=total)
    return written


def _write_python(channel: Path, python: Interpreter) -> Path:
    return interpreter.package(python).write(channel)


def _write_wheel(channel: Path, wheel: Path, minors: list[str], extras: dict[str, set[str]]) -> Path:
    return convert(wheel, minors, extras).write(channel)


def _rounds(requirements: Iterable[str]) -> list[list[str]]:
    """Requirements in rounds that are resolved separately: each round has a distribution only once.

    A channel may have several versions of one distribution, which a resolver does not give at once.
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
    """The wheels of requirements and their dependencies, for one interpreter."""
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
    # uv cannot download wheels without installing them, so pip does it. uv brings pip for any interpreter, even one
    # without pip and ensurepip. The interpreter itself decides about tags and markers.
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
        disk_full = disk_space.explain_output(complaint, folder)
        if disk_full is not None:
            raise TaskFailed(failure, cause=disk_full[0], cure=disk_full[1]) from None
        raise TaskFailed(
            failure,
            cause=complaint,
            cure="only wheels can be converted: check that the index can be reached (pip config list) and has a wheel "
            f"for Python {python.minor} of each",
        ) from None


def _name(text: str) -> str:
    requirement = _requirement(text)
    return canonicalize_name(requirement.name) if requirement is not None else text


def _extras(requirements: Iterable[str]) -> dict[str, set[str]]:
    extras: dict[str, set[str]] = {}
    for requirement in filter(None, map(_requirement, requirements)):
        extras.setdefault(canonicalize_name(requirement.name), set()).update(requirement.extras)
    return extras


def _requirement(text: str) -> Requirement | None:
    """The requirement, None for the path of a wheel."""
    try:
        return Requirement(text)
    except InvalidRequirement:
        return None


def _file(channel: Path, path: Path) -> File:
    content = path.read_bytes()
    return File(path.relative_to(channel).as_posix(), len(content), hashlib.sha256(content).hexdigest())


if __name__ == "__main__":
    answer(lambda request, tell: msgspec.to_builtins(build(msgspec.convert(request, Order), tell)))
