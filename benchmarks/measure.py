"""Whole commands, measured in turn: A B A B ..., so that a ratio holds when the machine's speed drifts."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple


class Sample(NamedTuple):
    """One run of a command: seconds of wall time, peak memory in MiB."""

    seconds: float
    peak: float


def once(argv: Sequence[str], env: Mapping[str, str], prepare: Callable[[], None] | None = None) -> Sample:
    """Run ``argv`` to its end, after ``prepare``; a status other than 0 ends the benchmark."""
    if prepare is not None:
        prepare()
    started = time.perf_counter()
    process = subprocess.Popen(argv, env=dict(env), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd="/")
    assert process.stderr is not None
    complaint = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.stderr.close()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(argv)} ended with {process.returncode}: {complaint.decode()}")
    return Sample(seconds, usage.ru_maxrss / 1024)


def paired(
    name: str,
    ours: Sequence[str],
    peer: Sequence[str],
    env: Mapping[str, str],
    *,
    runs: int,
    before_ours: Callable[[], None] | None = None,
    before_peer: Callable[[], None] | None = None,
    peer_name: str = "peer",
) -> float:
    """Measure two commands in turn, print a line, and return the median of the ratios pair by pair."""
    pairs = [(once(ours, env, before_ours), once(peer, env, before_peer)) for _ in range(runs)]
    ratios = [a.seconds / b.seconds for a, b in pairs]
    ratio = statistics.median(ratios)
    memory = statistics.median(a.peak for a, _ in pairs) - statistics.median(b.peak for _, b in pairs)
    print(
        f"{name}: {1000 * statistics.median(a.seconds for a, _ in pairs):.1f} ms, "
        f"{peer_name} {1000 * statistics.median(b.seconds for _, b in pairs):.1f} ms, "
        f"ratio {ratio:.2f} (from {min(ratios):.2f} to {max(ratios):.2f}, {runs} pairs), memory {memory:+.1f} MiB",
        flush=True,
    )
    return ratio
