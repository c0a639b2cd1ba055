"""A listener to audit events lets threads be traced, as coverage traces them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

THREADS = """
import sys, threading
from tests.support import auditing

seen = []
sys.setswitchinterval(1e-6)
threading.settrace(lambda *_: None)
LISTEN
failed = []
threading.excepthook = lambda told: failed.append(told)
sys.unraisablehook = lambda told: failed.append(told)
for _ in range(100):
    threads = [threading.Thread(target=lambda: None) for _ in range(20)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(10)
open("/dev/null").close()
print(len(failed), len(seen))
"""


def failures(listen: str) -> list[str]:
    return subprocess.run(
        [sys.executable, "-S", "-c", THREADS.replace("LISTEN", listen)],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False, timeout=300,
    ).stdout.split()  # fmt: skip


def test_threads_can_be_traced_while_somebody_listens() -> None:
    failed, seen = failures("context = auditing.heard_by(lambda event, _: seen.append(event)); context.__enter__()")
    assert failed == "0"
    assert int(seen) >= 1
