"""When a process that waits for a network ends itself, and when not; it is tried with processes made for it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import ExitStack

import pytest

from nbprovision.backends import silence

# Waits for what never comes, or for nothing, or for one thing after another; works, or hears a byte now and then.
WAITING = """
import socket, sys, time
from nbprovision.backends import silence

kind = sys.argv[1]
end = time.monotonic() + 4
awaited = {"idle": lambda: [], "one by one": lambda: [str(time.monotonic())]}.get(kind, lambda: ["six", "apple"])
with socket.create_server(("127.0.0.1", 0)) as server:
    hearing = socket.create_connection(server.getsockname())
    speaking, _ = server.accept()
    with silence.watched(60.0, lambda: []), silence.watched(1.0 if kind == "silent" else 2.0, awaited):
        while time.monotonic() < end:
            if kind != "busy":
                time.sleep(0.1)
            if kind == "heard":
                speaking.send(b"x")
                hearing.recv(1)
print("left alone")
"""


def begin(kind: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WAITING, kind], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_silence_ends_the_process_which_says_what_it_waited_for() -> None:
    process = begin("silent")
    told, complaint = process.communicate(timeout=300)
    assert process.returncode == silence.SILENT
    assert told == ""
    assert complaint.startswith("gave no answer in time: ")
    assert complaint.endswith(" s without a byte of apple, six\n")


def test_what_goes_on_is_not_silent() -> None:
    kinds = ("heard", "busy", "one by one", "idle")
    processes = [begin(kind) for kind in kinds]
    ended = [(*process.communicate(timeout=300), process.returncode) for process in processes]
    assert dict(zip(kinds, ended, strict=True)) == dict.fromkeys(kinds, ("left alone\n", "", 0))


def test_without_a_limit_nobody_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silence, "_thread", None)
    with silence.watched(None, lambda: pytest.fail("it was asked")):
        assert silence._watched == {}
    assert silence._thread is None


def test_a_network_is_heard_and_what_else_is_open_is_not() -> None:
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        hearing = stack.enter_context(socket.create_connection(server.getsockname()))
        speaking = stack.enter_context(server.accept()[0])
        pair = [stack.enter_context(one) for one in socket.socketpair()]
        packets = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        packets.bind(("127.0.0.1", 0))
        before, files = silence._received(), os.listdir("/proc/self/fd")
        pair[0].sendall(b"x" * 1000)
        packets.sendto(b"x" * 1000, packets.getsockname())
        assert silence._received() == before
        speaking.sendall(b"x" * 1000)
        assert len(hearing.recv(2000)) == 1000
        assert silence._received() == before + 1000
        assert len(os.listdir("/proc/self/fd")) == len(files)  # it looks at copies, and closes them
