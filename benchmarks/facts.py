"""``nbprovision facts`` on a machine with 20 environments and their kernels, beside ``python3 -c pass``."""

from __future__ import annotations

import statistics

from measure import once, paired
from scene import arguments, environment_tasks, scene

ENVIRONMENTS = 20
PROMISE = 0.1  # seconds


def main() -> None:
    options = arguments(__doc__, runs=40)
    with scene(options) as it:
        channel, index = it.channel(), it.index()
        tasks = [
            task for number in range(ENVIRONMENTS) for task in environment_tasks(f"team{number:02}", channel, index)
        ]
        it.run(it.playbook(tasks))
        for name, words in (("facts", ["facts"]), ("facts as JSON", ["facts", "--format", "json"])):
            paired(
                f"{name}, {ENVIRONMENTS} environments",
                [it.command, *words],
                [it.python, "-c", "pass"],
                it.env,
                runs=options.runs,
                peer_name="python3 -c pass",
            )
        paired(
            f"facts --sizes, {ENVIRONMENTS} environments",
            [it.command, "facts", "--sizes"],
            ["du", "-sc", *(str(it.tool_home / "envs" / f"team{number:02}") for number in range(ENVIRONMENTS))],
            it.env,
            runs=5,
            peer_name="du -sc",
        )
        seconds = statistics.median(once([it.command, "facts"], it.env).seconds for _ in range(options.runs))
    kept = "kept" if seconds <= PROMISE else "NOT KEPT"
    print(f"promised: at most {1000 * PROMISE:.0f} ms without sizes; {1000 * seconds:.1f} ms: {kept}")


if __name__ == "__main__":
    main()
