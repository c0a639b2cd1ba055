"""The watcher of the idle stop beside a real Jupyter server, and its call by the real ``aws`` command."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.root.test_idle_watch import Watch
from tests.support import moto_server
from tests.support.at_work import until
from tests.support.jupyter_server import OPTIONS, TOKEN, Server, server_environment

__all__ = ["server_environment"]
pytestmark = pytest.mark.proof
RUNTIME = ".local/share/jupyter/runtime"
NEVER_READY = '{"argv": ["/bin/sleep", "600"], "display_name": "Never", "language": "none"}'


class Socket:
    """An open tab: a websocket to a kernel or a terminal, held in a thread of its own loop."""

    def __init__(self, server: Server, path: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._connection = self._loop.run_until_complete(self._open(server, path))

    async def _open(self, server: Server, path: str) -> Any:
        from tornado.httpclient import HTTPRequest
        from tornado.websocket import websocket_connect

        url = f"{server.url}{path}".replace("http://", "ws://")
        return await websocket_connect(HTTPRequest(url, headers={"Authorization": f"token {TOKEN}"}))

    def send(self, message: Any) -> None:
        async def written() -> None:
            await self._connection.write_message(json.dumps(message))

        self._loop.run_until_complete(written())

    def close(self) -> None:
        async def closed() -> None:
            self._connection.close()
            while await self._connection.read_message() is not None:
                pass

        self._loop.run_until_complete(closed())
        self._loop.close()

    def execute(self, code: str) -> None:
        """Begin to run code in the kernel, without waiting for its end."""
        header = {
            "msg_id": "1", "msg_type": "execute_request", "session": "1", "username": "", "version": "5.3", "date": "",
        }  # fmt: skip
        content = {
            "code": code, "silent": False, "store_history": False, "user_expressions": {}, "allow_stdin": False,
            "stop_on_error": True,
        }  # fmt: skip
        self.send({"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"})


Start = Callable[..., Server]


@pytest.fixture
def start(server_environment: Path, tmp_path: Path) -> Iterator[Start]:
    """Starts a server of a user, in a time zone."""
    processes: list[subprocess.Popen[bytes]] = []
    home = tmp_path / "home"
    folder = home / ".local/share/jupyter/kernels/never"
    folder.mkdir(parents=True)
    (folder / "kernel.json").write_text(NEVER_READY)

    def start_one(zone: str = "UTC") -> Server:
        command = [server_environment / "bin/jupyter-server", *OPTIONS]
        env = {"HOME": str(home), "PATH": f"{server_environment}/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "TZ": zone}
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        processes.append(subprocess.Popen(command, env=env, cwd=home, **quiet))
        return Server(home, processes[-1].pid)

    yield start_one
    for process in processes:
        process.terminate()
        process.wait(60)


@pytest.fixture
def watcher(tmp_path: Path) -> Watch:
    """It finds the server by the records in the user's home."""
    folder = tmp_path / "watcher"
    folder.mkdir()
    return Watch(folder, runtime=str(tmp_path / "home" / RUNTIME))


def age(watcher: Watch) -> None:
    """What the watcher remembers of earlier uses was long ago."""
    path = watcher.folder / "memory.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "used": [0.0, "x"]}))


@pytest.mark.network
@pytest.mark.kernel
@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/New_York"])
def test_what_counts_as_use(start: Start, watcher: Watch, zone: str) -> None:
    """One kernel through its life: idle, open in a browser, at work, idle again, gone."""
    server = start(zone)
    began = time.time()
    identity = server.ask("api/sessions", {"path": "a.ipynb", "name": "a", "type": "notebook", "kernel": {"name": "python3"}})[
        "kernel"
    ]["id"]  # fmt: skip
    tab = Socket(server, f"api/kernels/{identity}/channels")
    try:
        until(lambda: watcher.look(TZ=zone)["why"] == ["the kernel of a.ipynb is open in a browser"])
        tab.execute("import time; time.sleep(600)")
        until(lambda: "the kernel of a.ipynb is at work" in watcher.look(TZ=zone)["why"][0])
        watcher.settings.update(connections=False, after=0.0, unknown="stop")
        assert watcher.look(TZ=zone)["decision"] == "keep", "live work is never stopped"
    finally:
        tab.close()
    assert "is at work" in watcher.look(TZ=zone)["why"][0], "without a tab, too"
    server_interrupts(server, identity)
    until(lambda: "is at work" not in watcher.look(TZ=zone)["why"][0])
    report = watcher.look(TZ=zone)
    assert report["unknown"] == []
    assert report["decision"] == "would stop"
    assert 0 <= report["idle"] <= time.time() - began
    watcher.settings.update(connections=False, after=3600.0)
    assert watcher.look(TZ=zone)["decision"] == "keep", "its last activity was a moment ago, in any zone"


def server_interrupts(server: Server, identity: str) -> None:
    request = urllib.request.Request(
        f"{server.url}api/kernels/{identity}/interrupt", data=b"{}", headers={"Authorization": f"token {TOKEN}"}
    )
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60).close()


@pytest.mark.network
@pytest.mark.kernel
def test_a_look_is_no_use_and_a_kernel_that_never_starts_is_no_work(start: Start, watcher: Watch) -> None:
    """The server's own time of activity does not move by looks, so that they do not keep the machine."""
    server = start()
    server.ask("api/kernels", {"name": "never"})
    watcher.look()
    before = watcher.look()
    time.sleep(3)
    after = watcher.look()
    assert after["idle"] > before["idle"] + 2
    assert (after["unknown"], after["why"][0].startswith("the last use")) == ([], True)
    watcher.settings["after"] = 1.0
    assert watcher.look()["decision"] == "would stop"


@pytest.mark.network
@pytest.mark.kernel
def test_a_terminal_at_work(start: Start, watcher: Watch) -> None:
    """Its output is use; the time of the last one is all that an idle terminal has."""
    server = start()
    terminal = server.ask("api/terminals", {})["name"]
    tab = Socket(server, f"terminals/websocket/{terminal}")
    try:
        watcher.settings["connections"] = False
        watcher.look()
        time.sleep(2)
        quiet = watcher.look()
        assert quiet["idle"] > 1
        tab.send(["stdin", "while :; do echo at work; sleep 0.2; done\r"])
        until(lambda: watcher.look()["idle"] < 1)
        assert watcher.look()["why"][0].startswith(f"the last use, the terminal {terminal}, was")
        watcher.settings["terminals"] = False
        age(watcher)
        assert "terminal" not in watcher.look()["why"][0]
    finally:
        tab.close()


@pytest.mark.network
@pytest.mark.kernel
def test_without_the_token_it_is_unknown(start: Start, watcher: Watch) -> None:
    """403, which ends AWS's sample for ever; here the next look with an answer decides."""
    server = start()
    port = int(server.url.rsplit(":", 1)[1].strip("/"))
    watcher.settings.update(runtime="", servers=[[False, port, "/"]], after=0.0)
    report = watcher.look()
    assert (report["decision"], report["unknown"]) == ("keep", ["/api/kernels: status 403"])
    watcher.settings["unknown"] = "stop"
    assert watcher.look()["decision"] == "would stop"


# ----------------------------------------------------------------------------------------------------------- aws and moto


@pytest.mark.skipif(not moto_server.AWS.exists(), reason="awscli is not installed")
@moto_server.NEEDED
def test_stop_notebook_instance_by_the_real_command(tmp_path: Path) -> None:
    env = {
        **os.environ, "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "AWS_PAGER": "",
    }  # fmt: skip
    with moto_server.serving() as address:
        env["AWS_ENDPOINT_URL"] = address

        def sagemaker(*words: str) -> Any:
            done = subprocess.run(
                [moto_server.AWS, "sagemaker", *words, "--output", "json"],
                env=env,
                capture_output=True,
                text=True,
                check=True,
            )
            return json.loads(done.stdout or "null")

        role = "arn:aws:iam::123456789012:role/FakeRole"
        arn = sagemaker(
            "create-notebook-instance", "--notebook-instance-name", "team-1", "--instance-type", "ml.t2.medium", "--role-arn", role
        )["NotebookInstanceArn"]  # fmt: skip
        (tmp_path / "metadata.json").write_text(json.dumps({"ResourceArn": arn, "ResourceName": "team-1"}))
        (tmp_path / "User").mkdir()
        os.utime(tmp_path / "User", (1.0, 1.0))
        watcher = Watch(
            tmp_path,
            aws=[str(moto_server.AWS)],
            dry_run=True,
            after=0.0,
            signal="files",
            files=[str(tmp_path / "User")],
        )

        def status() -> str:
            answer = sagemaker("describe-notebook-instance", "--notebook-instance-name", "team-1")
            return str(answer["NotebookInstanceStatus"])

        assert watcher.look(**env)["decision"] == "would stop"
        assert status() == "InService"
        watcher.settings["dry_run"] = False
        assert watcher.look(**env)["decision"] == "stop"
        assert status() == "Stopped"
        (tmp_path / "metadata.json").write_text(json.dumps({"ResourceArn": arn, "ResourceName": "other"}))
        report = watcher.look(**env)
        assert report["decision"] == "cannot stop"
        assert "RecordNotFound" in report["why"][1]
