"""Adding one package to ten environments by one task, beside the same ten one after the other; by conda and by pip."""

from __future__ import annotations

from measure import paired
from scene import DISTRIBUTIONS, Scene, arguments, scene

ENVIRONMENTS = 10
NAMES = [f"team{number:02}" for number in range(ENVIRONMENTS)]


def main() -> None:
    """Measure both kinds."""
    options = arguments(__doc__, runs=7)
    with scene(options) as it:
        channel, index = it.channel(), it.index()
        packages = f"packages: [python, pip], channels: ['{channel}']"
        it.run(it.playbook([f"ensure_conda_env: {{name: {name}, {packages}}}" for name in NAMES], "made.yml"))
        conda = f"packages: [ipykernel], channels: ['{channel}']"
        measure(it, "conda package", "ensure_conda_pkg", conda, options.runs)
        it.env["PIP_INDEX_URL"] = index
        measure(it, "distribution", "ensure_pip_pkg", f"packages: [{', '.join(DISTRIBUTIONS[:1])}]", options.runs)


def measure(it: Scene, what: str, task: str, words: str, runs: int) -> None:
    """Print the ratio of one kind of package, each run with environments that lack it."""
    at_once = it.playbook([f"{task}: {{envs: [{', '.join(NAMES)}], {words}}}"], "at-once.yml")
    in_turn = it.playbook([f"{task}: {{env: {name}, {words}}}" for name in NAMES], "in-turn.yml")
    # Where a block has an `always`, its tasks are carried out one after the other.
    in_turn.write_text(in_turn.read_text().replace("- tasks:", "- tasks:\n  - always: [{meta: noop}]\n    block:"))
    named = words.partition("[")[2].partition("]")[0]
    without = it.playbook(
        [f"{task}: {{envs: [{', '.join(NAMES)}], packages: [{named}], state: absent}}"], "without.yml"
    )

    def lacking() -> None:
        it.run(without)

    it.run(at_once)  # caches are full
    paired(
        f"one {what} into {ENVIRONMENTS} environments",
        [it.command, "run", str(at_once)],
        [it.command, "run", str(in_turn)],
        it.env,
        runs=runs,
        before_ours=lacking,
        before_peer=lacking,
        peer_name="one after the other",
    )


if __name__ == "__main__":
    main()
