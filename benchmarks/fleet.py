"""A fleet of 1,000 simulated notebook instances in moto: a release that reaches all, and a bad one that does not.

The commands of the publisher are the real ones; most of the time and the memory is that of moto and the instances.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

INSTANCES = 1000
SECONDS, PEAK, CALLS = 60, 400, 15


def main() -> None:
    """Measure, and end with 1 where a promise is not kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="the fastest counts (default: %(default)s)")
    options = parser.parse_args()
    root = Path(__file__).parents[1]
    samples = [run(root) for _ in range(options.runs)]
    seconds, peak = min(seconds for seconds, _, _ in samples), max(peak for _, peak, _ in samples)
    calls = max(calls for _, _, calls in samples)
    kept = seconds <= SECONDS and peak <= PEAK and calls <= CALLS
    print(
        f"promised: at most {SECONDS} s, {PEAK} MiB, and {CALLS} calls for a status with nothing new; "
        f"{seconds:.1f} s, {peak:.0f} MiB, {calls} calls: {'kept' if kept else 'NOT KEPT'}"
    )
    sys.exit(not kept)


def run(root: Path) -> tuple[float, float, int]:
    """Seconds, peak memory in MiB, and the calls of a status with nothing new."""
    command = [sys.executable, "-m", "tests.support.fleet_simulation", str(INSTANCES)]
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, cwd=root, stdout=output)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - started
        output.seek(0)
        lines = output.read().splitlines()
    if process.returncode != 0:
        raise SystemExit(f"the simulation ended with {process.returncode}")
    used = usage.ru_utime + usage.ru_stime
    print(
        *lines,
        f"{seconds:.1f} s, {used:.1f} s of processor time, {usage.ru_maxrss / 1024:.0f} MiB",
        sep="\n",
        flush=True,
    )
    return seconds, usage.ru_maxrss / 1024, int(lines[0].split()[-2])


if __name__ == "__main__":
    main()
