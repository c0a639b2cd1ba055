"""Real programs and a server by a company's authority: before `ensure_ca_cert` each refuses it, and after it none."""

from __future__ import annotations

import functools
import hashlib
import http.server
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from nbprovision.catalogue import Catalogue
from nbprovision.engine.session import Request, Session
from nbprovision.machine.machine import Machine
from nbprovision.report.document import Silent
from nbprovision.services.ensure_ca_cert import EnsureCaCert
from tests.conftest import Channel
from tests.services.certificates import authority, openssl
from tests.support import moto_server
from tests.support.driver import converge
from tests.support.file_server import Authority
from tests.support.git_repositories import Origin
from tests.support.jupyter_server import OPTIONS, Server, server_environment
from tests.support.wheels import make_wheel

__all__ = ["authority", "server_environment"]
pytestmark = pytest.mark.proof
UV = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
REFUSED = ("certificate", "CERTIFICATE", "SSL", "UnknownIssuer")


class _Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Print nothing."""


class _Quiet(http.server.ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing: clients refuse the certificate on purpose."""


class Company(NamedTuple):
    """A server of a company: a package index, a git repository, a conda channel, a file."""

    url: str
    folder: Path


@pytest.fixture
def company(tmp_path: Path, authority: Authority, channel: Channel) -> Iterator[Company]:
    folder = tmp_path / "served"
    make_wheel(folder / "simple/pear", "pear", "1.0")
    origin = Origin(tmp_path / "origins/models")
    subprocess.run(["git", "clone", "--quiet", "--bare", str(origin.folder), str(folder / "models.git")], check=True)
    subprocess.run(["git", "update-server-info"], cwd=folder / "models.git", check=True)
    (folder / "channel").symlink_to(channel.path)
    (folder / "file").write_text("content\n")
    handler = functools.partial(_Handler, directory=str(folder))
    server = _Quiet(("127.0.0.1", 0), handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.certificate, authority.key)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield Company(f"https://127.0.0.1:{server.server_address[1]}", folder)
    server.shutdown()
    server.server_close()


@pytest.fixture
def user(env: dict[str, str], home: Path) -> dict[str, str]:
    """The variables with which a user logs in: none names an authority, an index or a proxy."""
    return {name: env[name] for name in ("HOME", "PATH", "LANG", "TMPDIR", "NBPROVISION_HOME")}


@pytest.fixture
def programs(company: Company, home: Path, tmp_path: Path) -> dict[str, list[str]]:
    """Commands that reach the server, by what tells them of its authority."""
    python = str(Path(sys.executable))
    node = f"fetch('{company.url}/file').then(a => process.exit(0), e => {{ console.error(e.cause); process.exit(1) }})"
    index = ["--index-url", f"{company.url}/simple"]
    commands = {
        "pip": [python, "-m", "pip", "--no-input", "download", "--no-cache-dir", "--no-deps", "-d", str(tmp_path / "d"), *index, "pear"],
        "git": ["git", "ls-remote", f"{company.url}/models.git"],
        "curl": ["curl", "-fsS", f"{company.url}/file"],
        "python": [python, "-c", f"import urllib.request; urllib.request.urlopen('{company.url}/file')"],
        "requests": [python, "-c", f"import requests; requests.get('{company.url}/file').raise_for_status()"],
        "uv": [UV, "pip", "install", "--no-cache", "--target", str(tmp_path / "t"), *index, "pear"],
        "node": ["node", "-e", node],
    }  # fmt: skip
    return {name: argv for name, argv in commands.items() if shutil.which(argv[0])}


def run(argv: list[str], env: dict[str, str], *, shell: str = "") -> tuple[int, str]:
    """Run a program, in a shell of the user or by itself."""
    words = [shell, "-l", "-c", 'exec "$@"', shell, *argv] if shell else argv
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=180, check=False, cwd="/")
    return done.returncode, done.stdout + done.stderr


def test_each_program(
    user: dict[str, str], company: Company, programs: dict[str, list[str]], authority: Authority, tmp_path: Path
) -> None:
    machine = Machine(user)
    for name, argv in programs.items():
        status, output = run(argv, user, shell="bash")
        assert status != 0, f"{name} trusts an unknown authority"
        assert any(word in output for word in REFUSED), f"{name}: {output[-600:]}"
    converge(EnsureCaCert(path=str(authority.bundle), name="company"), machine)
    for name, argv in programs.items():
        status, output = run(argv, user, shell="bash")
        assert status == 0, f"{name}: {output[-2000:]}"
    for name in ("pip", "git"):
        status, output = run(programs[name], user)
        assert status == 0, f"{name} without variables: {output[-2000:]}"
    converge(EnsureCaCert(name="company", state="absent"), machine)
    shutil.rmtree(tmp_path / "t")  # or uv has nothing to fetch
    for name, argv in programs.items():
        assert run(argv, user, shell="bash")[0] != 0, f"{name} trusts the authority still"


def test_the_bundle_has_the_public_authorities_too(
    user: dict[str, str], home: Path, authority: Authority, tmp_path: Path
) -> None:
    """By openssl, with the real authorities of this machine."""
    converge(EnsureCaCert(path=str(authority.bundle)), Machine(user))
    bundle = home / ".local/share/nbprovision/ca-bundle.pem"
    public = Path("/etc/ssl/certs/ca-certificates.crt")
    if not public.exists():
        pytest.skip("this machine has no public authorities of Debian's")
    first = tmp_path / "first.pem"
    first.write_text(public.read_text().partition("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n")
    assert openssl("verify", "-no-CApath", "-CAfile", bundle, first).endswith("OK\n")
    assert openssl("verify", "-no-CApath", "-CAfile", bundle, authority.certificate).endswith("OK\n")


@moto_server.NEEDED
def test_the_aws_command(user: dict[str, str], home: Path, authority: Authority) -> None:
    """Against moto's server by https, which stands in for AWS behind a proxy of the company."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["-H", "127.0.0.1", "-p", str(port), "-s", "-c", str(authority.certificate), "-k", str(authority.key)]
    server = subprocess.Popen(
        [Path(sys.executable).with_name("moto_server"), *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "eu-west-1"}
        argv = [str(moto_server.AWS), "--endpoint-url", f"https://127.0.0.1:{port}", "sts", "get-caller-identity"]
        status, output = run(argv, user | keys)
        assert (status != 0, "CERTIFICATE_VERIFY_FAILED" in output) == (True, True), output
        converge(EnsureCaCert(path=str(authority.bundle)), Machine(user))
        for shell in ("", "bash"):
            status, output = run(argv, user | keys, shell=shell)
            assert status == 0, output
        assert '"Account"' in output
    finally:
        server.terminate()
        server.wait()


PLAYBOOK = """\
- tasks:
    - ensure_ca_cert: {path: AUTHORITY}
    - ensure_pip_index: {url: "URL/simple"}
    - ensure_conda_env: {name: one, packages: [python, pip], channels: ["URL/channel"]}
    - ensure_pip_pkg: {env: one, packages: [pear]}
    - ensure_pip_pkg: {env: one, packages: [pear], engine: pip, target: HOME/lib}
    - ensure_download: {url: "URL/file", path: HOME/file, sha256: SHA256}
    - ensure_git_repo: {url: "URL/models.git", path: HOME/models}
"""


@pytest.mark.engine
def test_later_tasks_of_the_same_run(
    user: dict[str, str], company: Company, home: Path, authority: Authority, tmp_path: Path
) -> None:
    text = PLAYBOOK.replace("URL", company.url).replace("HOME", str(home)).replace("AUTHORITY", str(authority.bundle))
    text = text.replace("SHA256", hashlib.sha256(b"content\n").hexdigest())
    playbook = tmp_path / "playbook.yml"

    def statuses() -> list[str]:
        session = Session(Request(playbook=playbook), Machine(dict(user)), Catalogue())
        results, _ = session.perform(Silent(), lambda _text: None)
        return [f"{result.status} {result.error or ''}" for result in results]

    playbook.write_text(text.replace("    - ensure_ca_cert", "    # - ensure_ca_cert"))
    user["NBPROVISION_NETWORK_PATIENCE"] = "1"
    before = statuses()
    assert before[0] == "changed "
    assert all("certificate" in before[number] for number in (1, 4)), before
    playbook.write_text(text)
    first = statuses()
    assert first[0].strip() == "changed"
    assert all(status.split()[0] in ("changed", "ok") for status in first), first
    assert (home / "file").read_text() == "content\n"
    assert {status.strip() for status in statuses()} == {"ok"}


@pytest.fixture
def servers(server_environment: Path) -> Iterator[Callable[[dict[str, str]], Server]]:
    """Starts servers of the user."""
    started: list[subprocess.Popen[bytes]] = []

    def start(env: dict[str, str]) -> Server:
        command = [server_environment / "bin/jupyter-server", *OPTIONS]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        started.append(subprocess.Popen(command, env=env, cwd=env["HOME"], **quiet))
        return Server(Path(env["HOME"]), started[-1].pid)

    yield start
    for process in started:
        process.terminate()
        process.wait(60)


@pytest.mark.network
@pytest.mark.kernel
def test_the_image_s_own_kernel(
    user: dict[str, str],
    company: Company,
    authority: Authority,
    server_environment: Path,
    servers: Callable[[dict[str, str]], Server],
) -> None:
    """A kernel of a real server has the variables, and a program with exactly these reaches the server."""
    argv = [sys.executable, "-c", f"import urllib.request; urllib.request.urlopen('{company.url}/file')"]
    assert run(argv, servers(user).kernel("python3"))[0] != 0
    converge(EnsureCaCert(path=str(authority.bundle)), Machine(user))
    status, output = run(argv, servers(user).kernel("python3"))
    assert status == 0, output
