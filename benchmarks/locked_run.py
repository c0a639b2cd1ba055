"""The first run of locked environments, beside the same run without the lock, and beside bare py-rattler and uv.

There are 12 environments of some 30 packages, of which the tool's own work is a large part, and two of the size that a
data scientist has, with some 120 packages.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from first_run import SIDE_BY_SIDE
from measure import paired
from scene import DISTRIBUTIONS, ENVIRONMENTS, PYPI, Scene, arguments, scene, uv

PROMISE = 1.15


class Team(NamedTuple):
    """Locked environments: how many, of which distributions from PyPI, in which channel."""

    environments: int
    pypi: tuple[str, ...]
    channel: str

    def __str__(self) -> str:
        return f"{self.environments} environments of {len(self.pypi) + 1} conda specs"


SMALL = Team(ENVIRONMENTS, PYPI, "channel")
LARGE = Team(2, (*PYPI, "jupyterlab", "pandas", "scikit-learn", "matplotlib", "polars", "pyarrow", "s3fs"), "science")

BARE = """
import asyncio, os, sys
from pathlib import Path
import rattler

async def environment(name, slots):
    async with slots:
        records = lock.environment(name).conda_repodata_records_for_platform(lock.platforms()[0])
        prefix = folder / "envs" / name
        await rattler.install(records, prefix, cache_dir=folder / "cache/pkgs", show_progress=False)
        pip = await asyncio.create_subprocess_exec(
            uv, "pip", "install", "--quiet", "--python", prefix / "bin/python", "--cache-dir", folder / "cache/uv",
            "--preview-features", "pylock", "-r", locks / f"pylock.{name}.toml")
        assert await pip.wait() == 0

async def main():
    slots = asyncio.Semaphore(side_by_side)
    await asyncio.gather(*(environment(f"team{number:02}", slots) for number in range(environments)))

locks, folder, uv = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
environments, side_by_side = int(sys.argv[4]), int(sys.argv[5])
lock = rattler.LockFile.from_path(locks / "pixi.lock")
asyncio.run(main())
os._exit(0)
"""


def main() -> None:
    """Measure cold and warm, and end with 1 where the promise is not kept."""
    options = arguments(__doc__, runs=5)
    ratios = []
    for team in (SMALL, LARGE):
        with scene(options) as it:
            book = locked(it, team, it.channel(team.pypi, team.channel), it.index())
            ratios += [measure(it, team, book, options.runs, warm=warm) for warm in (False, True)]
    sys.exit(max(ratios) > PROMISE)


def locked(it: Scene, team: Team, channel: Path, index: str) -> Path:
    """A playbook with its lock."""
    tasks = [f"ensure_pip_index: {{url: '{index}'}}"]
    specs = ", ".join(("python", *team.pypi))
    for number in range(team.environments):
        name = f"team{number:02}"
        tasks += [
            f"ensure_conda_env: {{name: {name}, channels: ['{channel}'], packages: [{specs}]}}",
            f"ensure_pip_pkg: {{env: {name}, packages: [{', '.join(DISTRIBUTIONS)}]}}",
        ]
    book = it.playbook(tasks, "team.yml")
    subprocess.run([it.command, "lock", str(book)], check=True, env=it.env, stdout=subprocess.DEVNULL)
    return book


def measure(it: Scene, team: Team, book: Path, runs: int, *, warm: bool) -> float:
    """The ratio to the bare engines, from ``runs`` pairs."""
    bare = it.folder / "bare"
    kept = ("cache",) if warm else ()

    def before_ours() -> None:
        it.empty(it.tool_home, *kept)
        it.forget_home()

    if warm:
        it.run(book, "--locked")
    caches = "warm" if warm else "cold"
    ours = [it.command, "run", str(book), "--locked"]
    paired(
        f"locked run of {team}, {caches} caches",
        ours,
        [it.command, "run", str(book)],
        it.env,
        runs=runs,
        before_ours=before_ours,
        before_peer=before_ours,
        peer_name="without the lock",
    )
    words = [str(book.with_suffix(".lock")), str(bare), uv(), str(team.environments), str(SIDE_BY_SIDE)]
    return paired(
        f"locked run of {team}, {caches} caches",
        ours,
        [it.python, "-c", BARE, *words],
        it.env,
        runs=runs,
        before_ours=before_ours,
        before_peer=lambda: it.empty(bare, *kept),
        peer_name="bare py-rattler and uv",
    )


if __name__ == "__main__":
    main()
