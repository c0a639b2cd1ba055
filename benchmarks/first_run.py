"""The first run of 12 environments beside bare py-rattler and uv at the same work: same caches, links, parallelism."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from measure import paired
from scene import DISTRIBUTIONS, ENVIRONMENTS, Scene, arguments, scene, uv

PROMISE = 1.15
SIDE_BY_SIDE = max(3, min(8, 2 * (os.cpu_count() or 1)))  # as in nbprovision.engine.work
SPECS = ("python", "pip", "ipykernel")

BARE = """
import asyncio, os, sys
from pathlib import Path
import rattler

async def environment(number, slots, gateway):
    async with slots:
        records = await rattler.solve([channel], [rattler.MatchSpec(spec) for spec in specs], gateway=gateway,
                                      virtual_packages=rattler.VirtualPackage.detect())
        prefix = folder / f"envs/team{number:02}"
        await rattler.install(records, prefix, cache_dir=folder / "cache/pkgs", show_progress=False)
        pip = await asyncio.create_subprocess_exec(
            uv, "pip", "install", "--quiet", "--python", prefix / "bin/python", "--default-index", index,
            "--cache-dir", folder / "cache/uv", *distributions)
        assert await pip.wait() == 0

async def main():
    slots = asyncio.Semaphore(side_by_side)
    gateway = rattler.Gateway(cache_dir=folder / "cache/repodata")
    await asyncio.gather(*(environment(number, slots, gateway) for number in range(environments)))

channel, folder, index, uv = sys.argv[1], Path(sys.argv[2]), sys.argv[3], sys.argv[4]
environments, side_by_side = int(sys.argv[5]), int(sys.argv[6])
specs, distributions = sys.argv[7].split(","), sys.argv[8].split(",")
asyncio.run(main())
os._exit(0)
"""


def main() -> None:
    """Measure cold and warm, and end with 1 where the promise is not kept."""
    options = arguments(__doc__, runs=5, byte_code="the channel's Python brings its byte code, as conda-forge's does")
    with scene(options) as it:
        channel = it.channel_with_byte_code() if options.byte_code else it.channel()
        index = it.index()
        ratios = [measure(it, channel, index, options.runs, warm=warm) for warm in (False, True)]
    sys.exit(max(ratios) > PROMISE)


def measure(it: Scene, channel: Path, index: str, runs: int, *, warm: bool) -> float:
    """The ratio, from ``runs`` pairs."""
    bare = it.folder / "bare"
    kept = ("cache",) if warm else ()
    tasks = [f"ensure_pip_index: {{url: '{index}'}}"]
    for number in range(ENVIRONMENTS):
        name = f"team{number:02}"
        tasks += [
            f"ensure_conda_env: {{name: {name}, channels: ['{channel}'], packages: [{', '.join(SPECS)}]}}",
            f"ensure_pip_pkg: {{env: {name}, packages: [{', '.join(DISTRIBUTIONS)}]}}",
        ]
    book = it.playbook(tasks, "first.yml")

    if warm:
        it.run(book)
    numbers = [str(ENVIRONMENTS), str(SIDE_BY_SIDE)]
    words = [",".join(SPECS), ",".join(DISTRIBUTIONS)]
    return paired(
        f"first run of {ENVIRONMENTS} environments, {'warm' if warm else 'cold'} caches",
        [it.command, "run", str(book)],
        [it.python, "-c", BARE, channel.as_uri(), str(bare), index, uv(), *numbers, *words],
        it.env,
        runs=runs,
        before_ours=lambda: (it.empty(it.tool_home, *kept), it.forget_home())[1],
        before_peer=lambda: it.empty(bare, *kept),
        peer_name="bare py-rattler and uv",
    )


if __name__ == "__main__":
    main()
