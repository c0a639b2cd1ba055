"""A run that finds everything in place, beside ``python3 -c pass`` of the same interpreter."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from measure import paired
from scene import Scene, arguments, scene, typical_tasks

from nbprovision.channel.package import Package

# Root's part has not run here, so that each is a difference that stands.
ROOT_TASKS = (
    "ensure_mount: {name: team, source: 'fs-0123456789abcdef0:/'}",
    "ensure_service: {name: team-agent, state: started}",
    "ensure_system_pkg: {packages: [team-agent]}",
    "ensure_schedule: {name: report, every: 1h, shell: date}",
    "ensure_idle_stop: {after: 2h}",
)


def main() -> None:
    options = arguments(__doc__, runs=40)
    with scene(options) as it:
        channel = it.channel()
        book = it.playbook(typical_tasks(channel, it.index()))
        it.run(book)
        compare(it, "nothing to do, 50 tasks", book, options.runs)
        book = it.playbook([*typical_tasks(channel, it.index()), *settings(it)], "root.yml", root=ROOT_TASKS)
        it.run(book)
        compare(it, "nothing to do, the same with settings and root's tasks", book, options.runs)
        book = it.playbook(kernels(1000), "thousand.yml")
        it.run(book)
        compare(it, "nothing to do, 1,000 tasks", book, options.runs)
        sizes = {}
        for packages in (30, 3000):
            book = it.playbook([tiny_environment(it, packages)], f"tiny{packages}.yml")
            it.run(book)
            sizes[packages] = book
            compare(it, f"nothing to do, an environment of {packages:,} packages", book, options.runs)
        paired(
            "nothing to do, 3,000 packages beside 30",
            [it.command, "run", str(sizes[3000])],
            [it.command, "run", str(sizes[30])],
            it.env,
            runs=options.runs,
            peer_name="30 packages",
        )


def compare(it: Scene, name: str, book: Path, runs: int) -> None:
    if "(witnessed" not in it.run(book) + it.run(book):
        raise SystemExit(f"{name}: the run did not end at its witnesses")
    paired(
        name, [it.command, "run", str(book)], [it.python, "-c", "pass"], it.env, runs=runs, peer_name="python3 -c pass"
    )


def settings(it: Scene) -> Iterator[str]:
    for number in range(3):
        yield f"ensure_json: {{path: '{it.folder}/{number}.json', values: {{a: {number}}}}}"
        yield f"ensure_ini: {{path: '{it.folder}/{number}.ini', values: {{a: {{b: '{number}'}}}}}}"


def kernels(count: int) -> Iterator[str]:
    for number in range(count):
        yield f"ensure_kernel: {{name: k{number}, display_name: K{number}, argv: [/bin/cat, '{{connection_file}}']}}"


def tiny_environment(it: Scene, packages: int) -> str:
    """An environment of so many packages without Python, each of one file."""
    channel = it.folder / f"channel-{packages}"
    (channel / "linux-64").mkdir(parents=True)
    for number in range(packages):
        package = Package(f"tiny-{number:04}", "1.0", "0", noarch="generic")
        package.add(f"share/tiny/{number:04}", b"tiny\n")
        package.write(channel)
    it.index_channel(channel)
    names = ", ".join(f"tiny-{number:04}" for number in range(packages))
    return f"ensure_conda_env: {{name: tiny{packages}, channels: ['{channel}'], packages: [{names}]}}"


if __name__ == "__main__":
    main()
