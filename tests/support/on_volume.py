"""The command on a notebook instance whose volume is any folder: ``python -m tests.support.on_volume FOLDER ARGUMENTS``.

Only the platform's marks are assumed, which a test cannot put into ``/etc``; all else is the command itself.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from nbprovision.machine import platform

ROOT = Path(__file__).parents[2]


def argv(volume: Path, *words: object) -> list[str]:
    return [sys.executable, "-m", "tests.support.on_volume", str(volume), *map(str, words)]


def nbprovision(env: Mapping[str, str], volume: Path, *words: object) -> subprocess.CompletedProcess[str]:
    variables = {**env, "NBPROVISION_HOME": str(volume / ".nbprovision"), "PYTHONPATH": str(ROOT)}
    return subprocess.run(argv(volume, *words), env=variables, capture_output=True, text=True, check=False, cwd="/")


if __name__ == "__main__":
    assumed = platform.Platform("notebook-instance", "a test", Path(sys.argv.pop(1)))
    platform.detect = lambda root=Path("/"): assumed
    from nbprovision.__main__ import main

    sys.exit(main(sys.argv[1:]))
