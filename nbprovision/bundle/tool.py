"""The tool's own wheels for a bundle: one of what runs here, and of what it needs those for any image's Python."""

from __future__ import annotations

import base64
import hashlib
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path
from typing import TYPE_CHECKING

from nbprovision.bundle import wheel_file
from nbprovision.bundle.contents import Archive
from nbprovision.indexes import index_settings
from nbprovision.lifecycle import wheels
from nbprovision.lifecycle.wheels import TOOL
from nbprovision.lock.pylock import MACHINES, UV_PLATFORMS
from nbprovision.machine.network import NetworkFailed
from nbprovision.model.errors import TaskFailed
from nbprovision.pip import install_settings, pylock, uv_command
from nbprovision.pip.request import Request
from nbprovision.system.files import make_folder, read_text, write_atomically

if TYPE_CHECKING:
    from nbprovision.machine.machine import Machine

_AT_ONCE = 4  # resolutions


def own_wheel() -> tuple[str, bytes]:
    """A wheel of the running tool, the same bytes for the same code: its file name and its content.

    Raises:
        TaskFailed: the tool is not installed as a distribution.

    """
    installed = distribution(TOOL)
    stem = f"{TOOL}-{installed.version}"
    package = Path(__file__).parents[1]
    files = {
        path.relative_to(package.parent).as_posix(): path.read_bytes()
        for path in sorted(package.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    files[f"{stem}.data/scripts/{TOOL}"] = _script(installed)
    files[f"{stem}.dist-info/METADATA"] = (installed.read_text("METADATA") or "").encode()
    tag = "Wheel-Version: 1.0\nGenerator: nbprovision\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{stem}.dist-info/WHEEL"] = tag.encode()
    record = f"{stem}.dist-info/RECORD"
    lines = [f"{name},sha256={_digest(content)},{len(content)}\n" for name, content in files.items()]
    files[record] = "".join([*lines, f"{record},,\n"]).encode()
    content = wheel_file.written((name, data, name.endswith(f"scripts/{TOOL}")) for name, data in files.items())
    return f"{stem}-py3-none-any.whl", content


def _script(installed: Distribution) -> bytes:
    """The command, with the first line that installers replace by the path of their Python."""
    for file in installed.files or ():
        if file.name == TOOL and file.parent.name == "bin":
            text = Path(str(file.locate())).read_text(encoding="utf-8")
            return f"#!python\n{text[text.index('import ') :]}".encode()
    raise TaskFailed(
        "the tool's own wheel cannot be built",
        cause=f"{TOOL} is not installed with its command",
        cure="install it: sh bootstrap.sh PLAYBOOK, from a checkout or its wheel",
    )


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def needed(machine: Machine, platforms: Sequence[str], scratch: Path) -> tuple[list[Archive], dict[str, list[int]]]:
    """The wheels of the distributions that the tool needs, in the installed versions where a Python supports them.

    Args:
        machine: The machine, for its indexes.
        platforms: conda's names of the platforms.
        scratch: A folder.

    Returns:
        The wheels, and for each platform the versions of CPython 3 that they are complete for.

    Raises:
        TaskFailed: an index cannot be read, or they are complete for no Python of a platform.

    """
    make_folder(scratch)
    installed = scratch / "installed.txt"
    pins = sorted({f"{each.name}=={each.version}" for each in distributions() if each.name != TOOL})
    write_atomically(installed, "".join(f"{pin}\n" for pin in pins), durable=False)
    keys = [(platform, minor) for platform in platforms for minor in wheels.MINORS]
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        results = list(threads.map(lambda key: _resolved(machine, key[0], key[1], installed, scratch), keys))
    archives = {archive.url: archive for result in results for archive in result or ()}
    complete: dict[str, list[int]] = {platform: [] for platform in platforms}
    for (platform, minor), result in zip(keys, results, strict=True):
        if result is not None:
            complete[platform].append(minor)
    for platform, minors in complete.items():
        if not minors:
            raise TaskFailed(
                f"the index has not all wheels of the tool for {platform}",
                cause="a bundle brings nbprovision with all that it needs, as wheels",
                cure="use an index with the wheels of: " + ", ".join(requirements()),
            )
    return list(archives.values()), complete


def _resolved(machine: Machine, platform: str, minor: int, pins: Path, scratch: Path) -> list[Archive] | None:
    """The wheels for a Python; None if one of them does not exist."""
    output = scratch / f"{platform}-{minor}" / "pylock.toml"
    make_folder(output.parent)
    try:
        _compile(machine, platform, minor, output, (pins,))
    except NetworkFailed:
        raise
    except TaskFailed:  # an installed version does not support that Python
        _compile(machine, platform, minor, output, ())
    lock = pylock.read(output, read_text(output) or "")
    try:
        chosen = pylock.fitting(lock.packages, list(wheels.wheel_tags(MACHINES[platform], minor)), ())
    except TaskFailed:
        return None
    files = [wheel for entry in chosen for wheel in entry.package.wheels or ()]
    if len(files) < len(chosen):
        return None
    return [Archive(wheel.url or "", wheel.filename, wheel.hashes["sha256"], "wheel") for wheel in files]


def _compile(machine: Machine, platform: str, minor: int, output: Path, constraints: tuple[Path, ...]) -> None:
    settings = index_settings.effective(machine.env, machine.user_home, root=machine.root)
    request = Request(
        prefix=Path(sys.prefix),
        python=Path(sys.executable),
        lines=tuple(requirements()),
        constraints=constraints,
        options=install_settings.configured(machine.env, machine.user_home, None, root=machine.root),
    )
    target = UV_PLATFORMS[platform]
    uv_command.compile_lock(machine, request, settings, output=output, version=f"3.{minor}", platform=target)


def requirements() -> Iterator[str]:
    """The distributions that the tool needs, as its metadata has them."""
    return (text for text in distribution(TOOL).requires or () if "extra ==" not in text)
