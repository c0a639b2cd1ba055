"""A listener to audit events lets threads be traced, as coverage traces them."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

THREADS = """
import gc, sys, threading, time
from tests.support import auditing

seen = []
sys.setswitchinterval(1e-6)
threading.settrace(lambda *_: None)
LISTEN
failed, kept = [], []
threading.excepthook = lambda told: failed.append(told)
sys.unraisablehook = lambda told: failed.append(told)
for _ in range(100):
    threads = [threading.Thread(target=lambda: kept.append([])) for _ in range(20)]
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
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=300,
    ).stdout.split()  # fmt: skip


def test_threads_can_be_traced_while_somebody_listens() -> None:
    failed, seen = failures("context = auditing.heard_by(lambda event, _: seen.append(event)); context.__enter__()")
    assert failed == "0"
    assert int(seen) >= 1


FINALIZER = """
class Slow:
    def __init__(self):
        self.circle = self
    def __del__(self):
        time.sleep(0.0005)
        Slow()

gc.set_threshold(1)
Slow()
"""


def test_a_collection_of_garbage_in_between_changes_nothing() -> None:
    listen = "context = auditing.heard_by(lambda event, _: seen.append(event)); context.__enter__()"
    failed, seen = failures(FINALIZER + listen)
    assert failed == "0"
    assert int(seen) >= 1


# Its hook stays in a process that is killed, and has no other test in it.
OWN_PROCESS = {"auditing.py", "faults.py"}


def _puts_a_hook(path: Path) -> bool:
    return any(
        isinstance(node, ast.Attribute) and node.attr == "addaudithook"
        for node in ast.walk(ast.parse(path.read_text()))
    )


def test_no_test_puts_a_hook_of_its_own_into_the_process_of_all() -> None:
    """CPython never takes one out again, and the next test whose thread is traced fails."""
    modules = [path for path in (ROOT / "tests").rglob("*.py") if path.name not in OWN_PROCESS]
    assert [path.name for path in modules if _puts_a_hook(path)] == [], "use tests.support.auditing"
