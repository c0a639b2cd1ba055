"""An environment from a served channel of the size of conda-forge, solved and locked: seconds and memory.

The channel has 800,000 made-up records in two subdirs, generated from a seed, and the real packages of a small one. The
peer is the conda that NBPROVISION_TEST_CONDA names, else the one on the PATH, if there is one.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from scene import Scene, arguments, scene

LIMIT = 2048  # MiB that all processes together may take
SEED = 18
RECORDS = {"linux-64": 500_000, "noarch": 300_000}
VERSIONS = 40  # of each made-up package, each in one to four builds
PACKAGES = "[python, pip, ipykernel]"


class Sample(NamedTuple):
    """Seconds of wall time and the most memory that a command and all its children took at once, in MiB."""

    seconds: float
    peak: float


def main() -> None:
    """Measure, and end with 1 where a run took more memory than promised."""
    options = arguments(__doc__, runs=3)
    with scene(options) as it:
        channel = large_channel(it)
        with served(channel) as url:
            playbook = str(book(it, url))
            tool = [it.command, "run", playbook]
            caches = [it.tool_home / "cache", it.home / ".cache"]
            prefix = it.tool_home / "envs/large"
            peaks = measured("nbprovision", tool, it, prefix, caches, options.runs)
            subprocess.run([it.command, "lock", playbook], check=True, env=it.env, stdout=subprocess.DEVNULL)
            peaks += measured("nbprovision --locked", [*tool, "--locked"], it, prefix, caches, options.runs)
            conda = os.environ.get("NBPROVISION_TEST_CONDA") or shutil.which("conda")
            if conda is None:
                print("there is no conda to compare with")
            else:
                prefix = it.folder / "peer"
                words = [
                    conda,
                    "create",
                    "--yes",
                    "--quiet",
                    "--prefix",
                    str(prefix),
                    "--override-channels",
                    "--channel",
                ]
                it.env["CONDA_PKGS_DIRS"] = str(it.folder / "pkgs")
                peer = [*words, url, "python", "pip", "ipykernel"]
                measured(Path(conda).name, peer, it, prefix, [it.folder / "pkgs", it.home / ".cache"], options.runs)
    print(f"promised: at most {LIMIT} MiB; {'kept' if max(peaks) <= LIMIT else 'NOT KEPT'}")
    sys.exit(max(peaks) > LIMIT)


def book(it: Scene, url: str) -> Path:
    """The playbook of one environment."""
    return it.playbook([f"ensure_conda_env: {{name: large, channels: ['{url}'], packages: {PACKAGES}}}"], "large.yml")


def measured(name: str, argv: Sequence[str], it: Scene, prefix: Path, caches: Sequence[Path], runs: int) -> list[float]:
    """Measure a command with empty caches and with those that it left, print both, and return the peaks."""
    peaks: list[float] = []
    for kind in ("cold", "index cached"):
        samples = []
        for _ in range(runs):
            shutil.rmtree(prefix, ignore_errors=True)
            for cache in caches if kind == "cold" else ():
                shutil.rmtree(cache, ignore_errors=True)
            samples.append(once(argv, it.env))
        seconds = [sample.seconds for sample in samples]
        peaks += [sample.peak for sample in samples]
        print(
            f"{name}, {sum(RECORDS.values()):,} records, {kind}: {statistics.median(seconds):.2f} s "
            f"(from {min(seconds):.2f} to {max(seconds):.2f}, {runs} runs), "
            f"at most {max(sample.peak for sample in samples):.0f} MiB in all processes",
            flush=True,
        )
    return peaks


def once(argv: Sequence[str], env: Mapping[str, str]) -> Sample:
    """Run a command to its end; a status other than 0 ends the benchmark."""
    started = time.perf_counter()
    process = subprocess.Popen(argv, env=dict(env), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd="/")
    peak = 0.0
    over = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not over.wait(0.02):
            peak = max(peak, sum(map(memory, tree(process.pid))))

    watching = threading.Thread(target=watch)
    watching.start()
    output, _ = process.communicate()
    seconds = time.perf_counter() - started
    over.set()
    watching.join()
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(argv)} ended with {process.returncode}: {output.decode()}")
    return Sample(seconds, peak)


def tree(pid: int) -> Iterator[int]:
    """A process and all that it has started."""
    yield pid
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from tree(int(child))


def memory(pid: int) -> float:
    """MiB that a process takes, its share of what it has in common with others (proc_pid_smaps(5))."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    return 0.0


def large_channel(it: Scene) -> Path:
    """The channel, made once: the small one's packages, and its index with the made-up records in it."""
    import backports.zstd

    small, large = it.channel(), it.cache / f"large-{sys.version_info.major}.{sys.version_info.minor}"
    if (large / "complete").exists():
        return large
    shutil.rmtree(large, ignore_errors=True)
    chance = random.Random(SEED)
    for subdir, count in RECORDS.items():
        folder = large / subdir
        shutil.copytree(
            small / subdir, folder, copy_function=os.link, ignore=shutil.ignore_patterns("*repodata*", "*.msgpack*")
        )
        index = json.loads((small / subdir / "repodata.json").read_text())
        packages = {**index.pop("packages.conda"), **dict(made_up(chance, subdir, count))}
        text = json.dumps({**index, "packages.conda": packages}, separators=(",", ":")).encode()
        (folder / "repodata.json").write_bytes(text)
        (folder / "repodata.json.zst").write_bytes(backports.zstd.compress(text, 3))
    (large / "complete").touch()
    return large


def made_up(chance: random.Random, subdir: str, count: int) -> Iterator[tuple[str, dict[str, object]]]:
    """Records of packages that need one another and Python, as those of conda-forge do; nobody fetches them."""
    made, number = 0, 0
    while made < count:
        name = f"{'lib' if chance.random() < 0.3 else ''}part{subdir[0]}{number}"
        needs = [f"part{subdir[0]}{chance.randrange(number)} >=1.{chance.randrange(20)}" for _ in range(min(number, 4))]
        for version in range(VERSIONS):
            for build in range(chance.randint(1, 4)):
                python = f"python >=3.{8 + build},<3.{9 + build}.0a0"
                text = f"py3{8 + build}h{chance.randrange(16**7):07x}_{build}"
                yield f"{name}-1.{version}-{text}.conda", {
                    "build": text, "build_number": build, "depends": [python, *needs], "license": "MIT",
                    "md5": f"{chance.getrandbits(128):032x}", "name": name, "sha256": f"{chance.getrandbits(256):064x}",
                    "size": chance.randrange(10_000_000), "subdir": subdir, "timestamp": 1_600_000_000_000 + made,
                    "version": f"1.{version}",
                }  # fmt: skip
                made += 1
        number += 1


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """A folder by HTTP, from a process of its own."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    words = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", str(folder)]
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        wait(lambda: urllib.request.urlopen(f"{url}/complete", timeout=5).status == 200)
        yield url
    finally:
        server.kill()
        server.wait()


def wait(answers: Callable[[], bool]) -> None:
    """Wait until something answers."""
    for _ in range(100):
        with contextlib.suppress(OSError):
            if answers():
                return
        time.sleep(0.1)
    raise SystemExit("the server does not answer")


if __name__ == "__main__":
    main()
