"""The run after a restart: HOME is new and empty, 12 environments are kept; beside ``python3 -c pass``."""

from __future__ import annotations

import statistics

from measure import once
from scene import arguments, scene, typical_tasks

PROMISE = 0.25  # seconds


def main() -> None:
    options = arguments(__doc__, runs=20)
    with scene(options) as it:
        book = it.playbook(typical_tasks(it.channel(), it.index()))
        it.run(book)
        it.forget_home()
        print(it.run(book).splitlines()[-1])  # what is put back
        ours = [once([it.command, "run", str(book)], it.env, it.forget_home).seconds for _ in range(options.runs)]
        bare = [once([it.python, "-c", "pass"], it.env).seconds for _ in range(options.runs)]
    print(
        f"after a restart, 12 environments: {1000 * statistics.median(ours):.0f} ms "
        f"(from {1000 * min(ours):.0f} to {1000 * max(ours):.0f}, {options.runs} runs), "
        f"python3 -c pass {1000 * statistics.median(bare):.1f} ms, promised {1000 * PROMISE:.0f} ms"
    )


if __name__ == "__main__":
    main()
