"""A machine on which runs are killed: what a run does there, what must not be touched, and what may not be left."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from tests.conftest import Channel
from tests.reliability.world import PLAYBOOK, ROOT, Ran, World, copy

FAULTS = Path(__file__).with_name("faults.py")
STARTS = Path(__file__).with_name("kernel_starts.py")
ENGINES = ("rattler_child", "/uv\0")

REMOVAL = """
- tasks:
    - {ensure_kernel: {name: demo, state: absent}}
    - {ensure_kernel: {name: tool, state: absent}}
    - {ensure_conda_env: {name: demo, state: absent}}
    - {ensure_pip_index: {url: "https://{{ lookup('env', 'TEAM') }}.example/simple", state: absent}}
"""
REAL = PLAYBOOK.replace('"six={{ six }}", idna=3.10]', '"six={{ six }}", idna=3.10, ipykernel]')

# What is the user's own: not one byte of it may change, nor the lines of it in files that the playbook has a part in.
THEIRS = {
    "home/.local/share/jupyter/kernels/mine/kernel.json": '{"argv": ["true"], "display_name": "Mine"}\n',
    "home/.config/matplotlib/matplotlibrc": "backend: agg\n",
    "home/notes.ipynb": '{"cells": []}\n',
    "tool/envs/theirs/conda-meta/history": "==> 2024-01-01 00:00:00 <==\n",
    "tool/envs/theirs/bin/tool": "#!/bin/sh\nexit 0\n",
}
SHARED = {
    "home/.config/pip/pip.conf": "# mine\n[global]\ntimeout = 7\n\n[list]\nformat = columns\n",
    "home/.config/uv/uv.toml": "# mine\nlink-mode = 'copy'\n",
    "home/.conda/environments.txt": "/somewhere/else\n",
}
_LITTER = re.compile(
    r"nbprovision-tmp|^\.?tmp|\.part$|\.new$|^pip-(target|unpack|req)|^journal$|^lock\.holder$|^~|\.c~$"
)


class KillWorld(World):
    """A machine with a user's own things on it, and a temporary folder of its own.

    Attributes:
        removed: What is described is that nothing is there.
        real: The kernel is a real one.

    """

    def __init__(self, root: Path, channel: Channel, *, real: bool = False) -> None:
        self.real = real
        self.removed = False
        self.temporary = root / "tmp"
        self.temporary.mkdir(parents=True)
        super().__init__(root, channel, REAL if real else PLAYBOOK)
        self.plant()
        copy(self.home, root / "pristine/bare")

    def begin(self) -> None:
        """As always, and with a temporary folder of its own."""
        super().begin()
        self.removed = False
        self.env["TMPDIR"] = str(self.temporary)

    def plant(self) -> None:
        """Put down what is the user's own."""
        for name, text in {**THEIRS, **SHARED}.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def bare(self) -> None:
        """Back to before the first run, the engines' caches filled."""
        for folder in (self.tool / "envs", self.tool / "state", self.project):
            shutil.rmtree(folder, ignore_errors=True)
        copy(self.root / "pristine/bare", self.home)
        self.project.mkdir()
        self.plant()
        self.begin()

    def restore(self) -> None:
        """Back to where everything is as described."""
        super().restore()
        self.plant_beside()

    def plant_beside(self) -> None:
        """Put down what of the user's own lies beside the environment."""
        for name, text in THEIRS.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    # ------------------------------------------------------------------------------------------------------- the oracle

    def differences(self, *, files: bool = False) -> list[str]:
        """What is not as described, what of the user's own is not as it was, and what is left lying about."""
        if self.removed:
            wrong = [f"{path} is there" for path in (self.prefix, self.kernels / "demo", self.kernels / "tool")
                     if os.path.lexists(path)]  # fmt: skip
            wrong += [f"{name} is not as it was before the first run" for name, text in SHARED.items()
                      if (self.root / name).read_text() != text]  # fmt: skip
        else:
            wrong = super().differences(files=files)
            if self.real:
                wrong = [text for text in wrong if not text.startswith("distributions of ipykernel")]
                wrong += [] if wrong else self._kernel_fails()
        wrong += [f"{name} is not as the user left it" for name, text in THEIRS.items()
                  if (self.root / name).read_text() != text]  # fmt: skip
        for name, text in SHARED.items():
            there = (self.root / name).read_text().splitlines()
            wrong += [f"{name} has lost '{line}'" for line in text.splitlines() if line not in there]
        return wrong + list(self.litter()) + self._locks()

    def litter(self) -> Iterator[str]:
        """Temporary files, wherever a run may make one."""
        for folder in (self.home, self.tool, self.temporary, self.project):
            for place, folders, names in os.walk(folder):
                inside = os.path.relpath(place, self.root)
                if "site-packages" in inside or re.match(r"tool/(envs/[^/]+/lib|cache/(pkgs|uv/archive-v0))/", inside):
                    folders[:] = [name for name in folders if "site-packages" in (inside, name) or "lib" in inside]
                for name in (*names, *folders):
                    if _LITTER.search(name) and "python3" not in inside.replace("site-packages", ""):
                        yield f"left over: {inside}/{name}"
        for path in self.temporary.iterdir():
            if not re.fullmatch(r"uv-[0-9a-f]+\.lock", path.name):  # uv's own, kept also when all goes well
                yield f"left over: {path}"
        for packages in self.prefix.glob("lib/python3.*/site-packages"):
            for path in packages.iterdir():
                if path.name.startswith((".tmp", "~", ".~", "tmp")) or path.name.endswith(".nbprovision-tmp"):
                    yield f"left over: {path}"

    def _locks(self) -> list[str]:
        with (self.tool / "lock").open("r+b") as stream, contextlib.suppress(BlockingIOError):
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return []
        return ["the lock is held"]

    def _kernel_fails(self) -> list[str]:
        done = subprocess.run(
            [self.prefix / "bin/python", "-I", "-B", STARTS, "demo"],
            env=self.env, capture_output=True, text=True, check=False, cwd="/",
        )  # fmt: skip
        return [] if done.stdout.strip() == "42" else [f"the kernel does not start: {done.stderr[-2000:]}"]


# ------------------------------------------------------------------------------------------------------------- scenarios


def first_run(world: KillWorld) -> None:
    """Nothing is there."""
    world.bare()


def locked_first_run(world: KillWorld) -> None:
    """Nothing is there but the lock."""
    world.bare()
    world.lock()
    world.options = ("--locked",)


def update(world: KillWorld) -> None:
    """Other versions by conda and by pip, and a kernel with another variable."""
    world.restore()
    world.values |= {"six": "1.16.0", "apple": "1.1", "pear": "1.1"}
    text = world.playbook.read_text().replace('six: "1.17.0"', 'six: "1.16.0"')
    world.playbook.write_text(text.replace('apple: "1.0"', 'apple: "1.1"'))
    world.requirements.write_text("pear==1.1\n")


def removal(world: KillWorld) -> None:
    """All of it goes."""
    world.restore()
    world.removed = True
    world.playbook.write_text(REMOVAL)


def index_change(world: KillWorld) -> None:
    """Another index, in pip's configuration and uv's, and a kernel's name."""
    world.restore()
    world.values["team"] = world.env["TEAM"] = "teal"


SCENARIOS: dict[str, Callable[[KillWorld], None]] = {
    one.__name__: one for one in (first_run, locked_first_run, update, removal, index_change)
}


def converged(root: Path, channel: Channel, *, real: bool = False) -> KillWorld:
    """A world that has run once and can be put back there; the engines' caches are filled for what comes."""
    world = KillWorld(root, channel, real=real)
    done = world.run()
    assert done.status == 0, (done.document, done.errors)
    assert world.differences(files=True) == []
    world.keep()
    return world


# --------------------------------------------------------------------------------------------------------------- killing


def start(world: KillWorld, *program: str) -> subprocess.Popen[bytes]:
    """A run in a process group of its own."""
    return start_with(world.env, world.playbook, *program, options=world.options)


def start_with(
    env: Mapping[str, str], playbook: Path, *program: str, options: Iterable[str] = ()
) -> subprocess.Popen[bytes]:
    """A run of any playbook."""
    return subprocess.Popen(
        [sys.executable, *(program or ("-m", "nbprovision")), "run", str(playbook), "--format", "json", *options],
        env={**env, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, cwd="/",
    )  # fmt: skip


def members(group: int) -> dict[int, str]:
    """The processes of a group that are alive, with their command lines."""
    found = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                fields = Path(entry.path, "stat").read_text().rpartition(")")[2].split()
                if int(fields[2]) == group and fields[0] not in "ZX":
                    found[int(entry.name)] = Path(entry.path, "cmdline").read_bytes().decode("utf-8", "replace")
    return found


def engine_alive(group: int) -> bool:
    """Whether an engine's process is among them."""
    return any(name in command for command in members(group).values() for name in ENGINES)


def kill(process: subprocess.Popen[bytes]) -> bool:
    """Kill a run's process group; whether it was alive still."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return ended(process) == -signal.SIGKILL


def ended(process: subprocess.Popen[bytes]) -> int:
    """Its status, when all of its group have ended."""
    with process:
        process.communicate(timeout=300)
    while members(process.pid):
        time.sleep(0.005)
    return process.returncode


def killed_at_random(world: KillWorld, seconds: float | None, chance: random.Random) -> tuple[bool, bool]:
    """Start a run and kill it at a random moment; whether the kill landed, and whether it met an engine at work.

    Most kills wait for an engine's process (all of them, where the ``seconds`` that a run takes are not known): what
    rattler and uv write, no wrapper of ours sees.
    """
    process = start(world)
    if seconds is None or chance.random() < 0.6:
        while process.poll() is None and not engine_alive(process.pid):
            time.sleep(0.002)
        time.sleep(chance.random() * (seconds or 2.0) * 0.4)
    else:
        time.sleep(chance.random() * seconds)
    engine = process.poll() is None and engine_alive(process.pid)
    landed = kill(process)
    return landed, landed and engine


def killed_at(world: KillWorld, number: int, mode: str) -> bool:
    """Run until the n-th operation; whether there was one."""
    process = start(world, str(FAULTS), str(world.root), str(number), mode, "--")
    status = ended(process)
    assert status in (0, -signal.SIGKILL)
    return status != 0


def operations(world: KillWorld) -> dict[str, int]:
    """How many operations a run takes, to die before or in."""
    status = ended(start(world, str(FAULTS), str(world.root), "0", "before", "--"))
    assert status == 0
    before, inside = (world.root / "operations").read_text().split()
    (world.root / "operations").unlink()
    return {"before": int(before), "in": int(inside)}


def recovers(world: KillWorld) -> list[str]:
    """What is wrong after one more run."""
    done: Ran = world.run()
    if done.status != 0:
        return [json.dumps(done.document.get("tasks")), done.errors]
    wrong = world.differences(files=True)
    again = world.run()
    return wrong if again.all_ok else [*wrong, f"not at rest: {again.document}"]
