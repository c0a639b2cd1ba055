"""A first environment (python, pip, ipykernel) beside bare py-rattler: same channel, empty caches, hard links for both.

    python benchmarks/first_environment.py CHANNEL [--runs 5] [--warm]

The promise: at most 1.5 times, interpreter starts included.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

from measure import paired

SPECS = ["python", "pip", "ipykernel"]
PROMISE = 1.5

BARE = """
import asyncio, os, sys
import rattler
from pathlib import Path
async def main(channel, folder, specs):
    gateway = rattler.Gateway(cache_dir=Path(folder) / "cache/repodata")
    records = await rattler.solve([channel], [rattler.MatchSpec(spec) for spec in specs], gateway=gateway,
                                  virtual_packages=rattler.VirtualPackage.detect())
    prefix, cache = Path(folder) / "envs/bare", Path(folder) / "cache/pkgs"
    await rattler.install(records, prefix, cache_dir=cache, show_progress=False)
asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
os._exit(0)
"""


def main() -> None:
    """Measure, and end with 1 where the promise is not kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("channel", help="URL or folder of a channel that has the three packages")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--warm", action="store_true", help="keep the caches, remove the environments only")
    options = parser.parse_args()
    channel = options.channel if "://" in options.channel else Path(options.channel).resolve().as_uri()
    scratch = Path(tempfile.mkdtemp(prefix="first-environment-"))
    try:
        ratio = measure(channel, scratch, options.runs, warm=options.warm)
    finally:
        shutil.rmtree(scratch)
    sys.exit(ratio > PROMISE)


def measure(channel: str, scratch: Path, runs: int, *, warm: bool) -> float:
    """The ratio, from ``runs`` pairs."""
    ours, bare, home = scratch / "ours", scratch / "bare", scratch / "home"
    playbook = scratch / "playbook.yml"
    playbook.write_text(
        f"- tasks:\n  - ensure_conda_env: {{name: first, packages: [{', '.join(SPECS)}], channels: ['{channel}']}}\n"
    )
    package = Path(__file__).parents[1]
    env = {
        "HOME": str(home),
        "PATH": os.environ["PATH"],
        "NBPROVISION_HOME": str(ours),
        "PYTHONPATH": str(package),
        "PYTHONDONTWRITEBYTECODE": "",
    }

    def emptied(*folders: Path) -> None:
        for folder in folders:
            for part in folder.glob("*"):
                if not (warm and part.name == "cache"):
                    shutil.rmtree(part) if part.is_dir() else part.unlink()
            folder.mkdir(parents=True, exist_ok=True)
        os.sync()  # what one run wrote is not the next one's to wait for

    return paired(
        f"first environment, {'warm' if warm else 'cold'}",
        [sys.executable, "-m", "nbprovision", "run", str(playbook)],
        [sys.executable, "-c", BARE, channel, str(bare), *SPECS],
        env,
        runs=runs,
        before_ours=lambda: emptied(ours, home),
        before_peer=lambda: emptied(bare),
        peer_name="bare py-rattler",
    )


if __name__ == "__main__":
    main()
