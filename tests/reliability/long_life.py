"""One process that provides again and again, as a notebook's does that stays open for weeks; tells what it has grown by.

    python long_life.py FOLDER RUNS

Standard output: JSON, the process and the home folder as they were after a third of the runs, and at the end.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import random
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nbprovision import ProvisionError, ensure_kernel, ensure_pip_index, run_playbook
from nbprovision.system.context import RunContext

PLAYBOOK = """
- vars: {{url: "https://{team}.example/simple", team: {team}}}
  tasks:
    - ensure_pip_index: {{url: "{{{{ url }}}}"}}
    - {{ensure_kernel: {{name: tool, argv: [/bin/true, "{{connection_file}}"], display_name: "{title}"}}}}
    - {{ensure_conda_env: {{name: gone, state: absent}}}}
"""


def measured(folder: Path) -> dict[str, int]:
    """What can grow."""
    end = time.monotonic() + 60
    while threading.active_count() > 1 and time.monotonic() < end:
        time.sleep(0.05)  # a thread that was told that a run is over ends by itself
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    tool = folder / "tool"
    files = [path for path in tool.rglob("*") if path.is_file()]
    return {
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "children": len(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()),
        "memory": pages * os.sysconf("SC_PAGE_SIZE"),
        "objects": len(gc.get_objects()),
        "contexts": sum(isinstance(thing, RunContext) for thing in gc.get_objects()),
        "files": len(files),
        "states": sum(path.suffix == ".state" for path in files),
        "log": sum(path.stat().st_size for path in files if path.parent.name == "log"),
        "the rest": sum(path.stat().st_size for path in files if path.parent.name != "log"),
    }


def main(folder: Path, runs: int) -> None:
    """Provide so many times, each time something else."""
    chance = random.Random(1)
    playbook = folder / "playbook.yml"
    grown = {}

    def changed() -> Any:
        title = f"Tool {chance.random()}"
        playbook.write_text(PLAYBOOK.format(team=f"team{chance.randint(0, 9)}", title=title))
        return run_playbook(playbook)

    ways: list[Callable[[], Any]] = [
        changed,
        changed,
        lambda: run_playbook(playbook),
        lambda: run_playbook(playbook, check=True),
        lambda: run_playbook(playbook, deep=True),
        lambda: run_playbook(playbook, extra_vars={"team": chance.random()}),
        lambda: ensure_pip_index(url=f"https://user:secret{chance.randint(0, 9)}@blue.example/simple"),
        lambda: ensure_kernel(name="other", argv=["/bin/true", "{connection_file}"], display_name=str(chance.random())),
        lambda: ensure_kernel(name="../no"),
        lambda: ensure_kernel(env="not there"),
    ]
    changed()
    for number in range(runs):
        if number == runs // 3:
            grown["before"] = measured(folder)
        with contextlib.suppress(ProvisionError):
            chance.choice(ways)()
    grown["after"] = measured(folder)
    print(json.dumps(grown))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
