"""The watcher of the idle stop: what it takes for use, what it does not understand, and what it decides."""

from __future__ import annotations

import http.server
import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nbprovision.root import idle_watch
from nbprovision.root.idle_watch import Look, Unreadable, moment
from tests.support.at_work import until
from tests.support.planted import root_only

HOUR = 3600.0
NOBODY = "games"  # a user of every Linux, without processes
WATCHER = Path(idle_watch.__file__)


class Watch:
    """A watcher with a folder of its own.

    Args:
        folder: For its settings, memory and report.
        settings: In place of the usual ones.

    """

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.settings: dict[str, Any] = {
            "after": 2 * HOUR, "every": 300.0, "connections": True, "terminals": True, "busy_cpu": 0, "signal": "jupyter",
            "files": [], "grace": 0.0, "unknown": "keep", "limit": 12 * HOUR, "dry_run": True, "user": NOBODY,
            "servers": [], "runtime": "", "held": str(folder / "until"), "memory": str(folder / "memory.json"),
            "report": str(folder / "report.json"), "loop": False, "aws": [], "metadata": str(folder / "metadata.json"),
            "platform": "notebook-instance", "program": "x", **settings,
        }  # fmt: skip

    def look(self, **env: str) -> dict[str, Any]:
        """The report of the real program, after a look before it."""
        path = self.folder / "settings.json"
        path.write_text(json.dumps(self.settings))
        for _ in range(1 if (self.folder / "memory.json").exists() else 2):
            done = subprocess.run(
                [sys.executable, "-I", "-S", WATCHER, path],
                env={"PATH": "/usr/bin:/bin", **env}, capture_output=True, text=True, check=False, timeout=120,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            assert "Traceback" not in done.stderr
        report: dict[str, Any] = json.loads((self.folder / "report.json").read_text())
        assert done.stderr.strip() == idle_watch.line_of(report)
        return report


@pytest.fixture
def watch(tmp_path: Path) -> Callable[..., Watch]:
    return lambda **settings: Watch(tmp_path, **settings)


Answers = dict[str, "tuple[int, Any]"]


@pytest.fixture
def server() -> Iterator[Callable[[Answers], int]]:
    """A server with such answers, by path; returns its port. It is no Jupyter: it gives answers that Jupyter never would."""
    running: list[http.server.ThreadingHTTPServer] = []

    def start(answers: Answers) -> int:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.partition("?")[0].removeprefix("/api/")
                assert self.path.endswith("?no_track_activity=1")
                status, content = answers.get(path, (404, ""))
                text = content if isinstance(content, str) else json.dumps(content)
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.send_header("Location", "http://127.0.0.1:1/")
                self.end_headers()
                self.wfile.write(text.encode("utf-8", "surrogatepass"))

            def log_message(self, *_: object) -> None:
                pass

        running.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=running[-1].serve_forever, daemon=True).start()
        return int(running[-1].server_address[1])

    yield start
    for each in running:
        each.shutdown()
        each.server_close()


def stamp(ago: float, zone: str = "Z") -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() - ago)) + zone


def kernel(ago: float = 10 * HOUR, state: str = "idle", connections: int = 0, **more: Any) -> dict[str, Any]:
    entry = {"id": "a", "name": "python3", "last_activity": stamp(ago), "execution_state": state}
    return {**entry, "connections": connections, **more}


def of_kernels(*kernels: Any) -> Answers:
    return {"kernels": (200, list(kernels)), "sessions": (200, []), "terminals": (200, [])}


# ------------------------------------------------------------------------------------------------------------------ times


@pytest.mark.parametrize(
    "text",
    [
        "2026-03-01T10:00:00Z", "2026-03-01T10:00:00.000000Z", "2026-03-01T10:00:00.0Z", "2026-03-01 10:00:00z",
        "2026-03-01T10:00:00,000000000+00:00", "2026-03-01T19:00:00+09:00", "2026-03-01T05:00:00.00-0500",
    ],
)  # fmt: skip
@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/New_York", "UTC"])
def test_a_time_is_the_same_in_each_form_and_zone(text: str, zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert moment(text, "x") == 1772359200.0
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    "text",
    [
        "", "now", None, 5, [], {}, "2026-03-01", "2026-03-01T10:00:00", "2026-13-01T10:00:00Z", "2026-03-01T25:00:00Z",
        "2026-03-01T10:00:00Z\n", "0000-00-00T00:00:00Z", "٢٠٢٦-03-01T10:00:00Z", "2026-03-01T10:00:00.Z", "9" * 10000,
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_no_time_is_unreadable(text: Any) -> None:
    with pytest.raises(Unreadable, match="is not a time"):
        moment(text, "x")


def test_a_time_in_the_future_is_unknown() -> None:
    look = Look(1000.0)
    look.used(1030.0, "a little ahead")
    look.used(5000.0, "x")
    assert look.last == [(1000.0, "a little ahead")]
    assert look.unknown == ["x was last used in the future"]


# ------------------------------------------------------------------------------------------------------------ decisions


def decided(seen: Callable[[Look], object], held: float = 0, used: object = None, **settings: Any) -> dict[str, Any]:
    """The decision of an instance that started a day ago."""
    look = Look(time.time())
    seen(look)
    memory = {} if used is None else {"used": [used, "x"]}
    return idle_watch.decide({**Watch(Path("/"), **settings).settings}, look, memory, held)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle_watch, "started_at", lambda now: now - 24 * HOUR)


@pytest.mark.parametrize(
    ("seen", "options", "decision"),
    [
        (lambda look: None, {}, "stop"),
        (lambda look: look.used(look.now - 3 * HOUR, "x"), {}, "stop"),
        (lambda look: look.used(look.now - 1 * HOUR, "x"), {}, "keep"),
        (lambda look: look.at_work.append("x"), {}, "keep"),
        (lambda look: look.at_work.append("x"), {"unknown": "stop"}, "keep"),
        (lambda look: look.unknown.append("x"), {}, "keep"),
        (lambda look: look.unknown.append("x"), {"unknown": "stop"}, "stop"),
        (lambda look: look.notes.append("x"), {}, "stop"),
        (lambda look: None, {"held": time.time() + HOUR}, "keep"),
        (lambda look: None, {"held": time.time() - HOUR}, "stop"),
        (lambda look: None, {"grace": 25 * HOUR}, "keep"),
        (lambda look: None, {"used": time.time() - HOUR}, "keep"),
        (lambda look: None, {"used": time.time() + HOUR}, "stop"),
        (lambda look: None, {"used": "nonsense"}, "stop"),
        (lambda look: setattr(look, "first", True), {}, "keep"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("started")
def test_decision(seen: Callable[[Look], object], options: dict[str, Any], decision: str) -> None:
    assert decided(seen, **options)["decision"] == decision


def test_the_start_of_the_machine_counts_as_use() -> None:
    assert decided(lambda look: None, after=10 * 365 * 24 * HOUR)["decision"] == "keep"
    assert 0 < time.time() - idle_watch.started_at(time.time()) < 10 * 365 * 24 * HOUR


# -------------------------------------------------------------------------------------------------------- its user's hold


@pytest.mark.parametrize(
    ("text", "held"),
    [("", 0), ("5000", 5000), ("5000\n", 5000), ("999999999999", 1000 + 12 * HOUR), ("-5", 0), ("1e9", 0), ("nan", 0), ("x" * 10_000_000, 0)],
    ids=lambda value: str(value)[:20],
)  # fmt: skip
def test_a_hold_never_passes_the_limit(watch: Callable[..., Watch], text: str, held: float) -> None:
    watcher = watch()
    Path(watcher.settings["held"]).write_text(text)
    memory: dict[str, Any] = {}
    look = Look(1000.0)
    assert idle_watch.held_until(watcher.settings, look, memory) == held
    assert idle_watch.held_until(watcher.settings, Look(2000.0), memory) == held, "from when it was first seen"
    assert look.unknown == []


def test_a_hold_that_is_no_file_holds_nothing(watch: Callable[..., Watch], tmp_path: Path) -> None:
    settings = watch().settings
    (tmp_path / "other").write_text("5000")
    for plant in (lambda path: path.symlink_to(tmp_path / "other"), Path.mkdir, os.mkfifo):
        path = Path(settings["held"])
        plant(path)
        look = Look(1000.0)
        assert idle_watch.held_until(settings, look, {}) == 0
        assert len(look.notes) == 1
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


# ------------------------------------------------------------------------------------------------- answers of a server


def test_an_idle_kernel_counts_from_its_last_activity(
    watch: Callable[..., Watch], server: Callable[[Answers], int]
) -> None:
    sessions = [{"path": "work/a.ipynb", "kernel": {"id": "a"}}]
    port = server({**of_kernels(kernel(ago=600)), "sessions": (200, sessions)})
    report = watch(servers=[[False, port, "/"]]).look()
    assert report["decision"] == "keep"
    assert "the kernel of work/a.ipynb, was 10 min ago" in report["why"][0]
    assert 595 < report["idle"] < 700


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/New_York"])
def test_the_zone_of_the_machine_does_not_matter(
    watch: Callable[..., Watch], server: Callable[[Answers], int], zone: str
) -> None:
    """In AWS's sample a user who was active a minute ago is stopped in Tokyo, and nobody ever in New York."""
    port = server(of_kernels(kernel(ago=60)))
    report = watch(servers=[[False, port, "/"]], after=HOUR).look(TZ=zone)
    assert (report["decision"], report["unknown"]) == ("keep", [])
    assert 55 < report["idle"] < 200


@pytest.mark.parametrize(
    "answers",
    [
        {"kernels": (403, {"message": "Forbidden"})},
        {"kernels": (500, "")},
        {"kernels": (302, "")},
        {"kernels": (200, "not JSON")},
        {"kernels": (200, "[" * 100_000)},
        {"kernels": (200, {"message": "x"})},
        {"kernels": (200, "x" * (5 << 20))},
        of_kernels(5),
        of_kernels(None),
        of_kernels({}),
        of_kernels(kernel(connections="many")),
        of_kernels(kernel(last_activity="yesterday")),
        of_kernels(kernel(last_activity=None)),
        of_kernels(kernel(last_activity=stamp(-5 * HOUR))),
        of_kernels(kernel(ago=10 * HOUR, name="\x1b[2J\nstop: x", last_activity="\x1b[2J")),
        {**of_kernels(kernel()), "sessions": (200, [5])},
        {**of_kernels(kernel()), "sessions": (403, "")},
        {**of_kernels(kernel()), "terminals": (200, [{"name": "1"}])},
        {**of_kernels(kernel()), "terminals": (403, "")},
        {**of_kernels(kernel()), "status": (200, [])},
    ],
)
def test_what_cannot_be_read_is_unknown_and_keeps(
    watch: Callable[..., Watch], server: Callable[[Answers], int], answers: Answers
) -> None:
    watcher = watch(servers=[[False, server(answers), "/"]], after=60.0)
    report = watcher.look()
    assert report["decision"] == "keep"
    assert report["unknown"]
    assert all(text.isprintable() for text in (*report["why"], *report["unknown"]))


def test_one_unreadable_kernel_does_not_hide_another_that_works(
    watch: Callable[..., Watch], server: Callable[[Answers], int]
) -> None:
    port = server(of_kernels(kernel(last_activity="x"), kernel(state="busy")))
    report = watch(servers=[[False, port, "/"]], unknown="stop").look()
    assert (report["decision"], report["why"]) == ("keep", ["a kernel python3 is at work"])


def test_without_a_server_it_is_unknown(watch: Callable[..., Watch]) -> None:
    report = watch(servers=[[True, 1, "/"], [False, 1, "/"]]).look()
    assert (report["decision"], report["unknown"]) == ("keep", ["no Jupyter server answers"])


def test_a_kernel_that_starts_for_ever_is_no_work(
    watch: Callable[..., Watch], server: Callable[[Answers], int]
) -> None:
    port = server(of_kernels(kernel(ago=7 * 24 * HOUR, state="starting")))
    watcher = watch(servers=[[False, port, "/"]], after=1.0)
    watcher.look()
    (watcher.folder / "memory.json").write_text(
        json.dumps({**json.loads((watcher.folder / "memory.json").read_text()), "used": [0.0, "x"]})
    )
    assert watcher.look()["decision"] == "would stop"


# ------------------------------------------------------------------------------------------------------- other signals


@root_only
def test_a_program_in_a_terminal_and_processor_time_are_work(watch: Callable[..., Watch]) -> None:
    """In a real terminal, of a user who has no other processes; a shell that waits for a command is no work."""
    import pwd

    user = pwd.getpwnam(NOBODY)
    pid, handle = pty.fork()
    if pid == 0:  # pragma: no cover
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # ignored where the tests run in the background of a shell
        os.execve("/bin/bash", ["bash", "--norc", "-i"], {"PATH": "/usr/bin:/bin", "PS1": "ready "})
    try:
        until(lambda: b"ready" in os.read(handle, 4096))
        watcher = watch(servers=[[False, 1, "/"]])
        assert watcher.look()["why"] == ["whether it is in use is unknown"]
        os.write(handle, b"sleep 600\n")
        # Between its fork and its exec, the program is still named bash.
        until(lambda: [p.name for p in idle_watch.processes_of(user.pw_uid) if p.in_front] == ["sleep"])
        assert watcher.look()["why"] == ["sleep runs in a terminal"]
        watcher.settings["terminals"] = False
        assert watcher.look()["why"] == ["whether it is in use is unknown"]
        os.write(handle, b"\x03")
        until(lambda: not any(process.in_front for process in idle_watch.processes_of(user.pw_uid)))
        os.write(handle, b"while :; do :; done &\n")
        until(lambda: len(list(idle_watch.processes_of(user.pw_uid))) == 2)
        watcher.settings["busy_cpu"] = 1  # a loaded machine gives little of a processor
        watcher.look()
        until(lambda: "of a processor" in watcher.look()["why"][0])
        watcher.settings["busy_cpu"] = 100_000
        assert watcher.look()["why"] == ["whether it is in use is unknown"]
    finally:
        os.close(handle)
        subprocess.run(["pkill", "-KILL", "-s", str(pid)], check=False)
        os.waitpid(pid, 0)


def test_files_of_an_editor(watch: Callable[..., Watch], tmp_path: Path) -> None:
    folder = tmp_path / "User/History/abc"
    folder.mkdir(parents=True)
    (folder / "file").write_text("x")
    watcher = watch(signal="files", files=[str(tmp_path / "none"), str(tmp_path / "User")])
    report = watcher.look()
    assert "a change of the editor's files" in report["why"][0]
    (folder / "link").symlink_to("/proc/self/status")
    os.utime(folder / "file", (time.time() + 9000, time.time() + 9000))
    assert watcher.look()["unknown"] == ["a change of the editor's files was last used in the future"]
    watcher.settings["files"] = [str(tmp_path / "none")]
    assert watcher.look()["unknown"] == [f"there is none of {tmp_path / 'none'}"]


def test_a_memory_of_nonsense_is_none(watch: Callable[..., Watch]) -> None:
    watcher = watch(servers=[])
    for text in ("[]", "{", '{"at": 1.5, "ticks": {"1 1": "x"}, "used": [], "held": 5}', "[" * 100_000, ""):
        (watcher.folder / "memory.json").write_text(text)
        assert watcher.look()["decision"] == "keep"
        assert "used" in json.loads((watcher.folder / "memory.json").read_text())


# ------------------------------------------------------------------------------------------------------------- the call


@pytest.mark.parametrize(
    ("names", "platform", "words"),
    [
        (
            {"ResourceArn": "arn:aws:sagemaker:eu-west-1:111122223333:notebook-instance/team", "ResourceName": "Team-1"},
            "notebook-instance",
            "sagemaker stop-notebook-instance --notebook-instance-name Team-1 --region eu-west-1",
        ),
        (
            {
                "ResourceArn": "arn:aws-us-gov:sagemaker:us-gov-west-1:1:app/d-1/s/JupyterLab/default", "ResourceName": "default",
                "DomainId": "d-1abc", "SpaceName": "mine", "AppType": "JupyterLab", "UserProfileName": "me",
            },
            "studio",
            "sagemaker delete-app --domain-id d-1abc --app-type JupyterLab --app-name default --space-name mine --region us-gov-west-1",
        ),
        (
            {
                "ResourceArn": "arn:aws:sagemaker:eu-west-1:1:app/d-1/me/CodeEditor/default", "ResourceName": "default",
                "DomainId": "d-1abc", "AppType": "CodeEditor", "UserProfileName": "me",
            },
            "studio",
            "sagemaker delete-app --domain-id d-1abc --app-type CodeEditor --app-name default --user-profile-name me --region eu-west-1",
        ),
    ],
)  # fmt: skip
def test_words_of_the_call(names: dict[str, str], platform: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "names.json").write_text(json.dumps(names))
    assert " ".join(idle_watch.call_of(platform, str(tmp_path / "names.json"))) == words


@pytest.mark.parametrize(
    "names",
    [
        None, "[]", "{", "{}", "[" * 100_000,
        '{"ResourceArn": "arn:aws:sagemaker:eu-west-1:1:x", "ResourceName": "--endpoint-url=http://x"}',
        '{"ResourceArn": "arn:aws:sagemaker:eu-west-1:1:x", "ResourceName": "a b"}',
        '{"ResourceArn": "arn:aws:sagemaker:eu-west-1:1:x", "ResourceName": 5}',
        '{"ResourceArn": "arn:aws:sagemaker:-x:1:x", "ResourceName": "a"}', '{"ResourceArn": 5, "ResourceName": "a"}',
    ],
    ids=lambda value: str(value)[:60],
)  # fmt: skip
def test_a_name_that_is_none_stops_nothing(names: str | None, tmp_path: Path) -> None:
    if names is not None:
        (tmp_path / "names.json").write_text(names)
    with pytest.raises(Unreadable):
        idle_watch.call_of("notebook-instance", str(tmp_path / "names.json"))


def test_what_aws_says_is_in_the_report(watch: Callable[..., Watch], server: Callable[[Answers], int]) -> None:
    """The command is missing, is refused, and does what it is told."""
    watcher = watch(servers=[[False, server(of_kernels()), "/"]], after=0.0, dry_run=False, aws=["/none/aws"])
    report = watcher.look()
    assert (report["decision"], report["why"][1]) == ("cannot stop", "the aws command is missing: /none/aws")
    program = watcher.folder / "aws"
    watcher.settings["aws"] = [str(program)]
    program.write_text("#!/bin/sh\necho first; echo 'AccessDenied: no \033[2J' >&2; exit 254\n")
    program.chmod(0o755)
    assert "does not say it" in watcher.look()["why"][1]
    arn = "arn:aws:sagemaker:eu-west-1:1:notebook-instance/team"
    (watcher.folder / "metadata.json").write_text(json.dumps({"ResourceArn": arn, "ResourceName": "team"}))
    assert watcher.look()["why"][1] == "aws ended with 254: AccessDenied: no ?[2J"
    program.write_text(f'#!/bin/sh\necho "$@" >>{watcher.folder}/calls\n')
    assert watcher.look()["decision"] == "stop"
    assert (
        (watcher.folder / "calls")
        .read_text()
        .startswith("sagemaker stop-notebook-instance --notebook-instance-name team")
    )
