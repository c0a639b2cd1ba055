"""Notebook instances as containers, each with a volume, a project name and lifecycle scripts of its own."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, NoReturn, TypeVar

import pytest
from pytest_docker.plugin import Services, get_docker_services

DOCKER = Path(__file__).parents[2] / "docker"
TOKEN = "notebook"
VOLUME = "/home/ec2-user/SageMaker"
TOOL_HOME = f"{VOLUME}/.nbprovision"
# Those by which Studio's containers reach AWS.
VARIABLES = {"AWS_REGION": "eu-west-1", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/_sagemaker-instance-credentials/x"}
SYSTEMD = {"entrypoint": ["/opt/start-systemd"], "init": False, "cap_add": ["SYS_ADMIN"], "tmpfs": ["/run"]}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test of this folder needs a Docker engine and takes its time."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.container)
            item.add_marker(pytest.mark.proof)


@pytest.fixture(scope="session")
def docker_compose_command() -> str:
    """Whichever of the two is there: the plugin of docker, or the program of its own."""
    for command in ("docker compose", "docker-compose"):
        if (
            shutil.which(command.split()[0])
            and not subprocess.run([*command.split(), "version"], capture_output=True).returncode
        ):
            return command
    return _without("there is no docker compose")


class Image(NamedTuple):
    """The instance's image, and the folder with the tool's wheel that is mounted in it."""

    id: str
    tool: str


@pytest.fixture(scope="session")
def image(shared_cache: Path, docker_compose_command: str) -> Image:
    """The notebook instance's, built where it is not there."""
    return _built(shared_cache)


@pytest.fixture(scope="session")
def studio_image(shared_cache: Path, docker_compose_command: str) -> Image:
    """The image of a space of Studio, built where it is not there."""
    return _built(shared_cache, "studio")


def _built(shared_cache: Path, *layout: str) -> Image:
    if subprocess.run(["docker", "version"], capture_output=True).returncode:
        _without("no Docker engine answers")
    built = subprocess.run(
        [sys.executable, DOCKER / "build.py", shared_cache / "docker", *layout],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(DOCKER.parent)},
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return Image(*built.stdout.splitlines()[-2:])


def _without(reason: str) -> NoReturn:
    text = f"{reason}; `sh docker/engine.sh with COMMAND` starts an engine for COMMAND (Debian, root)"
    if os.environ.get("CI_REQUIRES_CONTAINERS") == "1":
        pytest.fail(text)
    pytest.skip(text)


class Instance:
    """A notebook instance.

    Args:
        folder: Of this instance alone: its lifecycle scripts, its part of the compose file.
        services: The compose project, which is taken down by whoever made it.
        image: Its image, and the tool's wheel.
    """

    user = "ec2-user"
    base_url = ""
    compose_file = DOCKER / "compose.yml"
    logs = "/var/log/notebook-instance"

    def __init__(self, folder: Path, services: Services, image: Image) -> None:
        self.folder = folder
        self.image = image
        self._compose = services._docker_compose.execute
        self.container = ""
        self._port = ""

    @property
    def mounts(self) -> list[Any]:
        """What is mounted beside the volume."""
        return [f"{self.folder / 'lifecycle'}:/opt/lifecycle:ro", f"{self.image.tool}:/srv/tool:ro"]

    def hook(self, name: str, script: str | bytes) -> None:
        """Set the script ``on-create`` or ``on-start``."""
        (self.folder / "lifecycle" / name).write_bytes(script.encode() if isinstance(script, str) else script)

    def start(
        self,
        *hooks: str,
        seconds: int = 280,
        root_access: str = "Enabled",
        systemd: bool = False,
        early: bool = False,
        image: str | None = None,
        defined: dict[str, Any] | None = None,
        variables: Mapping[str, str] = MappingProxyType({}),
        **service: Any,
    ) -> Instance:
        """Start it as the platform does, and wait for Jupyter.

        Args:
            hooks: The scripts that this start runs.
            seconds: The platform's time limit for each. How long a script takes is a figure (`seconds`), no test.
            root_access: Disabled: ec2-user has no sudo.
            systemd: It is the first process, the scripts are oneshot units, and Jupyter is a service.
            early: With systemd: the scripts run before basic.target.
            image: Another image, from now on.
            defined: Further volumes of the compose file.
            variables: Further environment variables of the container.
            service: Further keys of the compose file.
        """
        self.image = self.image._replace(id=image or self.image.id)
        environment = {
            "LIFECYCLE_HOOKS": " ".join(hooks),
            "LIFECYCLE_SECONDS": str(seconds),
            "ROOT_ACCESS": root_access,
            "LIFECYCLE_EARLY": "1" if early else "",
            **variables,
        }
        instance = {
            "image": self.image.id,
            "environment": environment,
            "volumes": self.mounts,
            **(SYSTEMD if systemd else {}),
            **service,
        }
        (self.folder / "compose.yml").write_text(
            json.dumps({"version": "2.4", "services": {"instance": instance}, "volumes": defined or {}})
        )
        self._compose("up -d instance")
        self.container = self._compose("ps -q instance").decode().split()[-1]
        limit = time.monotonic() + seconds * max(len(hooks), 1) + 30
        while not self.answers():
            if not self._port:
                raise InstanceFailed(self.output())
            assert time.monotonic() < limit, "Jupyter does not answer\n" + self.output()
            time.sleep(0.1)
        return self

    def stop(self) -> None:
        """All but the volume goes, as on the platform."""
        self._compose("rm -s -f instance")

    def restart(self, *hooks: str, **options: Any) -> Instance:
        """Stop and start: a new root file system. Runs the on-start script if there is one, or those named."""
        self.stop()
        if not hooks and (self.folder / "lifecycle/on-start").exists():
            hooks = ("on-start",)
        return self.start(*hooks, **options)

    def output(self) -> str:
        """What the lifecycle scripts printed, as CloudWatch has it."""
        done = subprocess.run(["docker", "logs", self.container], capture_output=True, text=True)
        return done.stdout + done.stderr

    def status(self, hook: str) -> int:
        """The exit status of a lifecycle script."""
        return int(self.run("cat", f"{self.logs}/{hook}.status", user="root"))

    def seconds(self, hook: str) -> float:
        """How long a lifecycle script took."""
        began, ended = self.run("cat", f"{self.logs}/{hook}.times", user="root").split()
        return float(ended) - float(began)

    def ends_by_itself(self, seconds: float) -> bool:
        """Whether the instance has ended before this time is over."""
        limit = time.monotonic() + seconds
        while time.monotonic() < limit:
            form = "{{.State.Running}}"
            shown = subprocess.run(
                ["docker", "inspect", "--format", form, self.container], capture_output=True, text=True
            )
            if shown.stdout.strip() != "true":
                return True
            time.sleep(0.1)
        return False

    def run(self, *argv: str, user: str = "", ok: bool = True, stdin: str | None = None) -> str:
        """Run a command inside, as somebody who is logged in; standard output and errors."""
        user = user or self.user
        done = subprocess.run(
            ["docker", "exec", "--interactive", "--user", user, "--env", f"HOME={'/root' if user == 'root' else '/home/' + user}", "--workdir", "/", self.container, *argv],
            input=stdin or "",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )  # fmt: skip
        assert not ok or done.returncode == 0, f"{argv} ended with {done.returncode}:\n{done.stdout}"
        return done.stdout

    def shell(self, script: str, *, user: str = "", ok: bool = True) -> str:
        """Run a shell script inside."""
        return self.run("/bin/sh", "-euc", script, user=user, ok=ok)

    def write(self, path: str, text: str, *, user: str = "") -> None:
        """A file inside, of this user."""
        self.run("/bin/sh", "-euc", 'mkdir -p "${1%/*}" && cat >"$1"', "sh", path, user=user, stdin=text)

    def api(self, path: str, method: str = "GET", body: Any = None) -> Any:
        """Jupyter's REST API."""
        headers = {"Authorization": f"token {TOKEN}"}
        with contextlib.closing(
            http.client.HTTPConnection("127.0.0.1", int(self._port or 0), timeout=10)
        ) as connection:
            connection.request(
                method, f"{self.base_url}/api/{path}", None if body is None else json.dumps(body), headers
            )
            answer = connection.getresponse()
            content = answer.read()
            if answer.status >= 400:
                raise ValueError(f"{method} {path}: {answer.status} {content!r}")
        return json.loads(content) if content else None

    def kernels(self) -> dict[str, str]:
        """Display names of the kernels that Jupyter offers, by name."""
        return {name: spec["spec"]["display_name"] for name, spec in self.api("kernelspecs")["kernelspecs"].items()}

    def execute(self, kernel: str, code: str) -> str:
        """Run code in a kernel over the server's websocket; its output, or its traceback."""
        started = self.api("kernels", "POST", {"name": kernel})
        try:
            return asyncio.run(asyncio.wait_for(self._execute(started["id"], code), 60))
        finally:
            self.api(f"kernels/{started['id']}", "DELETE")

    def terminal(self, command: str) -> str:
        """Type a line into a terminal of Jupyter; what it shows."""
        name = self.api("terminals", "POST", {})["name"]
        try:
            return asyncio.run(asyncio.wait_for(self._type(name, command), 30))
        finally:
            self.api(f"terminals/{name}", "DELETE")

    async def _execute(self, kernel_id: str, code: str) -> str:
        connection = await self._websocket(f"kernels/{kernel_id}/channels")
        message_id = uuid.uuid4().hex
        header = {
            "msg_id": message_id,
            "msg_type": "execute_request",
            "session": message_id,
            "username": "",
            "version": "5.3",
            "date": "",
        }
        content = {
            "code": code,
            "silent": False,
            "store_history": False,
            "user_expressions": {},
            "allow_stdin": False,
            "stop_on_error": True,
        }
        await connection.write_message(
            json.dumps({"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"})
        )
        output = ""
        while True:
            message = json.loads(await connection.read_message())
            if message["parent_header"].get("msg_id") != message_id:
                continue
            content = message["content"]
            output += (
                content.get("text", "")
                or content.get("data", {}).get("text/plain", "")
                or "\n".join(content.get("traceback", []))
            )
            if message["msg_type"] == "status" and content["execution_state"] == "idle":
                await self._closed(connection)
                return output

    async def _type(self, terminal: str, command: str) -> str:
        connection = await self._websocket(f"../terminals/websocket/{terminal}")
        end = uuid.uuid4().hex
        shown = ""
        while not shown.endswith("$ "):  # the prompt
            kind, *rest = json.loads(await connection.read_message())
            shown += rest[0] if kind == "stdout" else ""
        # The typed line is echoed, so it must not hold the mark that its output is told by.
        await connection.write_message(json.dumps(["stdin", f"{command}; echo {end[:8]}''{end[8:]}\r"]))
        shown = ""
        while end not in shown:
            kind, *rest = json.loads(await connection.read_message())
            shown += rest[0] if kind == "stdout" else ""
        await self._closed(connection)
        return shown.split("\r\n", 1)[1].split(end)[0]

    async def _closed(self, connection: Any) -> None:
        connection.close()
        while await connection.read_message() is not None:
            pass

    async def _websocket(self, path: str) -> Any:
        from tornado.httpclient import HTTPRequest
        from tornado.websocket import websocket_connect

        url = f"ws://127.0.0.1:{self._port}{self.base_url}/api/{path}".replace("/api/../", "/")
        # A busy machine needs more than tornado's own 20 seconds.
        headers = {"Authorization": f"token {TOKEN}"}
        return await websocket_connect(HTTPRequest(url, headers=headers, connect_timeout=60, request_timeout=60))

    def answers(self) -> bool:
        """Whether Jupyter answers."""
        # A container that is no more has no port; one that was made anew has a new one.
        form = '{{range index .NetworkSettings.Ports "8888/tcp"}}{{.HostPort}}{{end}}'
        shown = subprocess.run(["docker", "inspect", "--format", form, self.container], capture_output=True, text=True)
        self._port = shown.stdout.strip()
        try:
            self.api("status")
        except (OSError, ValueError, http.client.HTTPException):
            return False
        return True


class Space(Instance):
    """A space of Studio: JupyterLab, or with ``editor`` a Code Editor, for which a server of files stands in."""

    user = "sagemaker-user"
    base_url = "/jupyterlab/default"
    compose_file = DOCKER / "studio/compose.yml"
    logs = "/var/log/apps"
    app_type = "JupyterLab"

    @property
    def mounts(self) -> list[Any]:
        """What is mounted beside the home: the platform mounts the space's description too."""
        content = {
            "AppType": self.app_type,
            "DomainId": "d-abcdefghijkl",
            "SpaceName": "fraud",
            "UserProfileName": "ada",
            "ResourceArn": f"arn:aws:sagemaker:eu-west-1:123456789012:app/d-abcdefghijkl/fraud/{self.app_type}/default",
            "ResourceName": "default",
            "AppImageVersion": "",
        }
        metadata = self.folder / "resource-metadata.json"
        metadata.write_text(json.dumps(content))
        return [*super().mounts, f"{metadata}:/opt/ml/metadata/resource-metadata.json:ro"]

    def start(self, *hooks: str, **options: Any) -> Space:
        """Run the space, and wait for its application."""
        variables = {**VARIABLES, "SAGEMAKER_APP_TYPE": self.app_type, **options.pop("variables", {})}
        super().start(*hooks, variables=variables, **options)
        return self

    def answers(self) -> bool:
        """Whether the application answers: Jupyter, or what stands for the Code Editor."""
        if self.app_type == "JupyterLab":
            return super().answers()
        self._port = "-"
        answer = "import urllib.request as r; r.urlopen('http://127.0.0.1:8888/').read()"
        running = ["docker", "exec", self.container, "/opt/conda/bin/python", "-c", answer]
        if subprocess.run(running, capture_output=True).returncode == 0:
            return True
        self._port = "" if self.ends_by_itself(0.05) else "-"
        return False


class InstanceFailed(Exception):
    """The platform gave up: a lifecycle script failed or took too long."""


Kind = TypeVar("Kind", bound=Instance)


@contextlib.contextmanager
def made(image: Image, compose_command: str, folder: Path, kind: type[Kind]) -> Iterator[Kind]:
    """An instance with an empty volume, not yet started; it goes with all that is its own."""
    (folder / "lifecycle").mkdir()
    (folder / "compose.yml").write_text('{"version": "2.4"}')
    files = [str(kind.compose_file), str(folder / "compose.yml")]
    project = f"nbprovision{uuid.uuid4().hex[:12]}"
    with get_docker_services(compose_command, files, project, [], ["down -v -t 0"]) as services:
        yield kind(folder, services, image)


@pytest.fixture(scope="module")
def new_instance(
    image: Image, docker_compose_command: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], Instance]]:
    """Makes instances that several tests of a file share; they go after the last of these."""
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(
            made(image, docker_compose_command, tmp_path_factory.mktemp("instance"), Instance)
        )


@pytest.fixture(scope="module")
def new_space(
    studio_image: Image, docker_compose_command: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], Space]]:
    """Makes spaces that several tests of a file share."""
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(
            made(studio_image, docker_compose_command, tmp_path_factory.mktemp("space"), Space)
        )


@pytest.fixture
def instance(image: Image, docker_compose_command: str, tmp_path: Path) -> Iterator[Instance]:
    """An instance that was just created and not yet started."""
    with made(image, docker_compose_command, tmp_path, Instance) as instance:
        yield instance
