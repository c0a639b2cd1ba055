"""One package of one of 12 environments removed by hand, beside a playbook of that one task alone."""

from __future__ import annotations

import shutil
from pathlib import Path

from measure import paired
from scene import DISTRIBUTIONS, Scene, arguments, environment_tasks, scene, typical_tasks

PROMISE = 2.0


def main() -> None:
    options = arguments(__doc__, runs=15)
    with scene(options) as it:
        channel, index = it.channel(), it.index()
        whole = it.playbook(typical_tasks(channel, index))
        it.run(whole)
        alone = it.playbook([environment_tasks("team05", channel, index)[2]], "alone.yml")
        it.run(alone)
        packages = site_packages(it, "team05")

        def remove() -> None:
            module = DISTRIBUTIONS[0].replace("-", "_")
            shutil.rmtree(packages / module)
            shutil.rmtree(packages / f"{module}-1.0.dist-info")

        ratio = paired(
            "one package removed by hand, 50 tasks",
            [it.command, "run", str(whole)],
            [it.command, "run", str(alone)],
            it.env,
            runs=options.runs,
            before_ours=remove,
            before_peer=remove,
            peer_name="that task alone",
        )
    print(f"promised: at most {PROMISE}; {'kept' if ratio <= PROMISE else 'NOT KEPT'}")


def site_packages(it: Scene, env: str) -> Path:
    """The folder of an environment's pip packages."""
    (found,) = (it.tool_home / "envs" / env / "lib").glob("python3.*/site-packages")
    return found


if __name__ == "__main__":
    main()
