"""How tests start bootstrap.sh; their fixtures are in own_wheels.py."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
NOT_THERE = "no-such-playbook.yml"
REACHED = 4  # the run's own status for a playbook that is not there


def bootstrap(
    env: dict[str, str], *words: str, script: Path = ROOT / "bootstrap.sh", shell: str = "sh"
) -> subprocess.CompletedProcess[str]:
    return subprocess.run([shell, str(script), *words], env=env, capture_output=True, text=True, timeout=300)


def unset_for_root() -> list[str]:
    """The variables that bootstrap.sh takes away from all that root starts."""
    (names,) = re.findall(r"^ +unset (LD_PRELOAD .*)$", (ROOT / "bootstrap.sh").read_text(), re.MULTILINE)
    return str(names).split()
