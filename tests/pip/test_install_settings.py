"""What pip's configuration, uv's and requirements files say of an install happens, whoever installs."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nbprovision.machine import distributions
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import InvalidPlaybook, TaskFailed
from nbprovision.pip.ensure_pip_pkg import EnsurePipPkg
from tests.support.driver import converge, planned
from tests.support.faulty_server import serving_index
from tests.support.pip_environment import ENGINES, Task, prefix, task, venv, wheels
from tests.support.wheels import make_project, make_wheel

__all__ = ["prefix", "task", "wheels"]
pytestmark = [pytest.mark.engine, pytest.mark.sampled(2)]

BOTH = pytest.mark.parametrize("engine", ["uv", "pip", "auto"])


def versions(prefix: Path) -> dict[str, str]:
    return {name: several[0].version for name, several in distributions.installed(prefix).items()}


def user_pip_conf(home: Path, text: str) -> Path:
    path = home / ".config/pip/pip.conf"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def user_uv_toml(home: Path, text: str) -> Path:
    path = home / ".config/uv/uv.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def source_distribution(folder: Path, work: Path, trace: Path) -> Path:
    """`mine` 0.1, whose build leaves a trace: its code was run."""
    project = make_project(work / "project")
    backend = project / "backend.py"
    backend.write_text(f"open({str(trace)!r}, 'w').close()\n{backend.read_text()}")
    path = folder / "mine-0.1.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(project, "mine-0.1")
        text = b"Metadata-Version: 2.1\nName: mine\nVersion: 0.1\n"
        entry = tarfile.TarInfo("mine-0.1/PKG-INFO")
        entry.size = len(text)
        archive.addfile(entry, io.BytesIO(text))
    return path


class TestConstraints:
    @BOTH
    @pytest.mark.parametrize("where", ["global", "install", "variable", "environment"])
    def test_of_the_configuration(
        self, task: Task, prefix: Path, machine: Machine, home: Path, tmp_path: Path, engine: str, where: str
    ) -> None:
        (tmp_path / "c.txt").write_text("apple<2\n")
        if where == "variable":
            machine.env["PIP_CONSTRAINT"] = str(tmp_path / "c.txt")
        elif where == "environment":
            (prefix / "pip.conf").write_text(f"[global]\nconstraint = {tmp_path}/c.txt\n")
        else:
            user_pip_conf(home, f"[{where}]\nconstraint = {tmp_path}/c.txt\n")
        wanted = task("apple", engine=engine)
        converge(wanted, machine)
        assert versions(prefix) == {"apple": "1.1"}
        assert tmp_path / "c.txt" in set(wanted.witnesses(machine))

    @BOTH
    def test_one_that_is_new_holds_for_what_is_there(
        self, task: Task, prefix: Path, machine: Machine, home: Path, tmp_path: Path, engine: str
    ) -> None:
        wanted = task("apple", engine=engine)
        converge(wanted, machine)
        assert home / ".config/pip/pip.conf" in set(wanted.witnesses(machine))
        (tmp_path / "c.txt").write_text("apple<2\n")
        user_pip_conf(home, f"[global]\nconstraint = {tmp_path}/c.txt\n")
        converge(wanted, machine)
        assert versions(prefix) == {"apple": "1.1"}

    @ENGINES
    def test_one_that_is_not_there_is_named(self, task: Task, machine: Machine, engine: str) -> None:
        machine.env["PIP_CONSTRAINT"] = "/nope/c.txt"
        with pytest.raises(InvalidPlaybook, match=r"/nope/c\.txt"):
            planned(task("apple", engine=engine), machine)

    def test_dependencies_in_uv_toml(self, task: Task, prefix: Path, machine: Machine, home: Path) -> None:
        user_uv_toml(home, 'constraint-dependencies = ["apple<2"]\n')
        converge(task("apple"), machine)
        assert versions(prefix) == {"apple": "1.1"}


class TestFormats:
    @BOTH
    @pytest.mark.parametrize(
        "said", ["[global]\nonly-binary = :all:\n", "[install]\nonly_binary = mine\n", "uv", "uv-pip"]
    )
    def test_no_code_of_a_source_distribution_runs(
        self,
        task: Task,
        prefix: Path,
        wheels: Path,
        machine: Machine,
        home: Path,
        tmp_path: Path,
        engine: str,
        said: str,
    ) -> None:
        source_distribution(wheels, tmp_path, tmp_path / "trace")
        if said.startswith("uv"):
            if engine == "pip":
                pytest.skip("pip knows nothing of uv.toml")
            user_uv_toml(home, "no-build = true\n" if said == "uv" else '[pip]\nonly-binary = [":all:"]\n')
        else:
            user_pip_conf(home, said)
        with pytest.raises(TaskFailed):
            converge(task("mine", engine=engine), machine)
        assert not (tmp_path / "trace").exists()
        assert versions(prefix) == {}

    @ENGINES
    def test_a_requirements_file_allows_one_after_the_configuration_forbade_all(
        self, prefix: Path, wheels: Path, machine: Machine, home: Path, tmp_path: Path, engine: str
    ) -> None:
        source_distribution(wheels, tmp_path, tmp_path / "trace")
        user_pip_conf(home, "[global]\nonly-binary = :all:\n")
        (tmp_path / "r.txt").write_text("--no-binary mine\nmine\n")
        converge(EnsurePipPkg(requirements=str(tmp_path / "r.txt"), env=str(prefix), engine=engine), machine)
        assert (tmp_path / "trace").exists()
        assert versions(prefix) == {"mine": "0.1"}

    @ENGINES
    def test_no_binary(
        self, task: Task, prefix: Path, wheels: Path, machine: Machine, tmp_path: Path, engine: str
    ) -> None:
        source_distribution(wheels, tmp_path, tmp_path / "trace")
        make_wheel(wheels, "mine", "9.0")
        machine.env["PIP_NO_BINARY"] = "mine"
        converge(task("mine", engine=engine), machine)
        assert versions(prefix) == {"mine": "0.1"}


class TestOnlyPip:
    @pytest.fixture(autouse=True)
    def _newer_without_a_wheel(self, wheels: Path, tmp_path: Path) -> None:
        source_distribution(wheels, tmp_path, tmp_path / "trace")
        make_wheel(wheels, "mine", "0.0.9")

    @pytest.mark.parametrize("where", ["configuration", "variable", "file"])
    def test_prefer_binary(self, prefix: Path, machine: Machine, home: Path, tmp_path: Path, where: str) -> None:
        text = "mine\n"
        if where == "configuration":
            user_pip_conf(home, "[global]\nprefer-binary = yes\n")
        elif where == "variable":
            machine.env["PIP_PREFER_BINARY"] = "1"
        else:
            text = "--prefer-binary\nmine\n"
        (tmp_path / "r.txt").write_text(text)
        converge(EnsurePipPkg(requirements=str(tmp_path / "r.txt"), env=str(prefix)), machine)
        assert versions(prefix) == {"mine": "0.0.9"}
        assert not (tmp_path / "trace").exists()

    def test_uv_cannot_and_says_so(self, task: Task, machine: Machine, home: Path) -> None:
        path = user_pip_conf(home, "[global]\nprefer-binary = yes\n")
        with pytest.raises(TaskFailed) as caught:
            planned(task("mine", engine="uv"), machine)
        assert f"prefer-binary ({path} [global])" in caught.value.message

    def test_beside_what_only_uv_can_nobody_is_chosen(
        self, task: Task, prefix: Path, machine: Machine, home: Path
    ) -> None:
        user_pip_conf(home, "[global]\nprefer-binary = yes\n")
        path = user_uv_toml(home, 'exclude-newer = "2020-01-01"\n')
        with pytest.raises(TaskFailed) as caught:
            planned(task("mine"), machine)
        assert f"exclude-newer ({path})" in caught.value.cause
        converge(task("mine", engine="pip"), machine)
        assert versions(prefix) == {"mine": "0.0.9"}


@ENGINES
@pytest.mark.parametrize("option", ["no-deps = true", "only-deps = true"])
def test_what_no_task_can_heed_is_refused(task: Task, machine: Machine, home: Path, engine: str, option: str) -> None:
    path = user_pip_conf(home, f"[install]\n{option}\n")
    with pytest.raises(TaskFailed) as caught:
        planned(task("pear", engine=engine), machine)
    assert f"({path} [install]) is not supported" in caught.value.message


# Each of them by itself breaks pip, or makes it install something else or somewhere else.
DECIDED = (
    "require-virtualenv = true", "target = {tmp}/t", "user = true", "prefix = {tmp}/t", "root = {tmp}/t", "dry-run = 1",
    "quiet = 3", "report = {tmp}/t", "python = /nope", "ignore-installed = 1", "log = {tmp}/t", "platform = win32",
    "abi = none", "requirement = /nope", "editable = /nope", "upgrade = 1", "isolated = 1", "help = 1", "group = x",
    "break-system-packages = 1", "src = {tmp}/t", "debug = 1", "python-version = 3.8", "requirements-from-script = /n",
)  # fmt: skip


@BOTH
@pytest.mark.parametrize("variables", [True, False], ids=["variables", "file"])
def test_what_the_task_decides_breaks_no_engine(
    task: Task, prefix: Path, machine: Machine, home: Path, tmp_path: Path, engine: str, variables: bool
) -> None:
    options = [text.replace("{tmp}", str(tmp_path)) for text in DECIDED]
    if variables:
        for name, _, value in (text.partition(" = ") for text in options):
            machine.env[f"PIP_{name.upper().replace('-', '_')}"] = value
    else:
        user_pip_conf(home, "\n".join(["[global]", *options, ""]))
    converge(task("apple==1.0", engine=engine), machine)
    assert versions(prefix) == {"apple": "1.0"}
    assert not (tmp_path / "t").exists()
    converge(task("apple", state="absent", engine=engine), machine)  # pip takes an empty site-packages along
    assert versions(prefix) == {}
    converge(task("apple==1.1", engine=engine), machine)


class TestHashes:
    @BOTH
    def test_one_asks_for_all(self, prefix: Path, wheels: Path, machine: Machine, tmp_path: Path, engine: str) -> None:
        digest = hashlib.sha256((wheels / "apple-1.0-py3-none-any.whl").read_bytes()).hexdigest()
        file = tmp_path / "r.txt"
        file.write_text(f"plum==1.0\napple==1.0 --hash=sha256:{digest}\n")
        wanted = EnsurePipPkg(requirements=str(file), env=str(prefix), engine=engine)
        with pytest.raises(InvalidPlaybook, match=r"'plum==1\.0' has no --hash") as caught:
            planned(wanted, machine)
        assert caught.value.position is not None
        assert caught.value.position.line == 1
        assert caught.value.cure.startswith(
            "add one: `pip hash FILE` prints the hash of a file; `uv pip compile --generate-"
        )
        file.write_text(f"--no-require-hashes\n{file.read_text()}")
        converge(wanted, machine)
        assert versions(prefix) == {"apple": "1.0", "plum": "1.0"}

    @ENGINES
    def test_what_it_depends_on_must_have_one_too(
        self, prefix: Path, wheels: Path, machine: Machine, tmp_path: Path, engine: str
    ) -> None:
        digest = hashlib.sha256((wheels / "pear-1.0-py3-none-any.whl").read_bytes()).hexdigest()
        (tmp_path / "r.txt").write_text(f"pear==1.0 --hash=sha256:{digest}\n")
        with pytest.raises(TaskFailed) as caught:
            converge(EnsurePipPkg(requirements=str(tmp_path / "r.txt"), env=str(prefix), engine=engine), machine)
        assert versions(prefix) == {}
        assert caught.value.cure.startswith("give each named package a version and a hash, dependencies too: ")
        assert "--generate-hashes" in caught.value.cure
        assert "tampered" not in caught.value.text

    @ENGINES
    def test_one_that_is_not_listed_is_no_fault_of_the_index(
        self, prefix: Path, wheels: Path, machine: Machine, tmp_path: Path, engine: str
    ) -> None:
        """Nor is it asked again: what came is what the index itself says."""
        del machine.env["PIP_NO_INDEX"], machine.env["PIP_FIND_LINKS"]
        other = hashlib.sha256((wheels / "plum-1.0-py3-none-any.whl").read_bytes()).hexdigest()
        (tmp_path / "r.txt").write_text(f"apple==1.0 --hash=sha256:{other} --hash=sha256:{'1' * 64}\n")
        with serving_index(wheels) as server:
            machine.env["PIP_INDEX_URL"] = f"{server.url.rstrip('/').removesuffix('/simple')}/simple"
            with pytest.raises(TaskFailed) as caught:
                converge(EnsurePipPkg(requirements=str(tmp_path / "r.txt"), env=str(prefix), engine=engine), machine)
        assert "is not the expected one" not in caught.value.text
        assert caught.value.cure.startswith("compare the hash with the one that the package's author publishes: ")
        assert hashlib.sha256((wheels / "apple-1.0-py3-none-any.whl").read_bytes()).hexdigest() in caught.value.cause

    def test_a_version_that_is_not_pinned(self, prefix: Path, wheels: Path, machine: Machine, tmp_path: Path) -> None:
        digest = hashlib.sha256((wheels / "apple-1.0-py3-none-any.whl").read_bytes()).hexdigest()
        (tmp_path / "r.txt").write_text(f"apple>=1 --hash=sha256:{digest}\n")
        with pytest.raises(TaskFailed, match="pinned") as caught:
            converge(EnsurePipPkg(requirements=str(tmp_path / "r.txt"), env=str(prefix), engine="uv"), machine)
        assert caught.value.cure.startswith("give each named package a version and a hash")

    @pytest.mark.parametrize(
        ("written", "message", "cure"),
        [
            (f"md5:{'a' * 32}", "'md5' is not an algorithm for --hash", "give the sha256: `pip hash FILE`"),
            (f"sha1:{'a' * 40}", "'sha1' is not an algorithm for --hash", "give the sha256: `pip hash FILE`"),
            (f"blake2b:{'a' * 128}", "'blake2b' is not an algorithm for --hash", "give the sha256: `pip hash FILE`"),
            ("sha256:abc", "'--hash=sha256:abc' is not a complete hash", "copy all of it: `pip hash FILE`"),
            (f"{'a' * 64}", f"'--hash={'a' * 64}' is not a hash", "write `--hash=sha256:`"),
        ],
    )
    def test_one_that_pip_does_not_take(
        self, machine: Machine, tmp_path: Path, written: str, message: str, cure: str
    ) -> None:
        """Before anything is done, at its place."""
        (tmp_path / "r.txt").write_text(f"# mine\napple==1.0 --hash={written}\n")
        with pytest.raises(InvalidPlaybook) as caught:
            planned(EnsurePipPkg(requirements=str(tmp_path / "r.txt"), env="/nowhere"), machine)
        assert caught.value.message == message
        assert caught.value.cure.startswith(cure)
        assert caught.value.position == (str(tmp_path / "r.txt"), 2, 1)

    @BOTH
    def test_of_the_configuration(self, task: Task, machine: Machine, engine: str) -> None:
        machine.env["PIP_REQUIRE_HASHES"] = "1"
        with pytest.raises(InvalidPlaybook, match="has no --hash"):
            planned(task("apple==1.0", engine=engine), machine)


def test_resolution_of_uv_toml(task: Task, prefix: Path, machine: Machine, home: Path) -> None:
    user_uv_toml(home, '[pip]\nresolution = "lowest"\n')
    converge(task("apple"), machine)
    assert versions(prefix) == {"apple": "1.0"}
    converge(task("apple", state="latest"), machine)
    assert versions(prefix) == {"apple": "2.0"}


@pytest.mark.parametrize("text", ["pre = true", "all-releases = :all:"])
def test_pre_releases(task: Task, prefix: Path, machine: Machine, home: Path, text: str) -> None:
    user_pip_conf(home, f"[install]\n{text}\n")
    converge(task("apple"), machine)
    assert versions(prefix) == {"apple": "3.0rc1"}


def test_the_files_that_are_handed_to_uv_go_again(task: Task, machine: Machine, home: Path) -> None:
    user_uv_toml(home, 'http-proxy = "http://u:canary-9@proxy.example:1"\nconcurrent-builds = 1\n')
    converge(task("apple"), machine)
    assert list((machine.cache / "uv-settings").glob("*")) == []
    assert not [path for path in machine.cache.rglob("*") if path.is_file() and b"canary-9" in path.read_bytes()]


class Dated(http.server.BaseHTTPRequestHandler):
    """An index that tells when a file was uploaded (PEP 700): apple 1.0 in 2020, apple 2.0 in 2024; a constraints file."""

    folder: Path

    def do_GET(self) -> None:
        file = self.folder / self.path.rpartition("/")[2]
        content, kind = b"", "application/vnd.pypi.simple.v1+json"
        if file.is_file():
            content, kind = file.read_bytes(), "application/octet-stream"
        elif self.path == "/c.txt":
            content, kind = b"apple<2\n", "text/plain"
        elif self.path == "/simple/apple/":
            files = [
                {"filename": f"apple-{version}-py3-none-any.whl", "url": f"/apple-{version}-py3-none-any.whl",
                 "hashes": {}, "upload-time": f"{year}-06-01T00:00:00Z"}
                for version, year in (("1.0", 2020), ("2.0", 2024))
            ]  # fmt: skip
            page = {"meta": {"api-version": "1.1"}, "name": "apple", "versions": ["1.0", "2.0"], "files": files}
            content = json.dumps(page).encode()
        self.send_response(200 if content else 404)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def dated(wheels: Path, env: dict[str, str]) -> Iterator[str]:
    handler = type("Handler", (Dated,), {"folder": wheels})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name in ("PIP_NO_INDEX", "PIP_FIND_LINKS"):
        del env[name]
    base = f"http://127.0.0.1:{server.server_port}"
    env["PIP_INDEX_URL"] = f"{base}/simple/"
    yield base
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("file", "text", "version"),
    [
        ("uv", 'exclude-newer = "2022-01-01T00:00:00Z"', "1.0"),
        ("uv", '[pip]\nexclude-newer = "2022-01-01"', "1.0"),
        ("uv", 'exclude-newer-package = { apple = "2022-01-01T00:00:00Z" }', "1.0"),
        ("uv", 'exclude-newer = "2025-01-01"', "2.0"),
        ("pip", "[install]\nuploaded-prior-to = 2022-01-01", "1.0"),
        ("pip", "[global]\nuploaded-prior-to = P300D", "2.0"),
    ],
)
def test_files_that_are_too_new(
    dated: str, task: Task, prefix: Path, machine: Machine, home: Path, file: str, text: str, version: str
) -> None:
    (user_uv_toml if file == "uv" else user_pip_conf)(home, f"{text}\n")
    converge(task("apple"), machine)
    assert versions(prefix) == {"apple": version}


@pytest.mark.parametrize("text", ["exclude-newer = 2022-01-01T00:00:00Z", "no-such-key = 1"])
def test_what_uv_does_not_take_is_told_with_the_user_s_file(
    task: Task, machine: Machine, home: Path, text: str
) -> None:
    path = user_uv_toml(home, f"{text}\n")
    with pytest.raises(TaskFailed, match="uv does not accept") as caught:
        converge(task("apple"), machine)
    assert str(path) in caught.value.message
    assert str(machine.cache) not in caught.value.text
    assert text.partition(" ")[0] in caught.value.cause


@BOTH
def test_constraints_of_a_server(dated: str, task: Task, prefix: Path, machine: Machine, engine: str) -> None:
    machine.env["PIP_CONSTRAINT"] = f"{dated}/c.txt"
    converge(task("apple", engine=engine), machine)
    assert versions(prefix) == {"apple": "1.0"}


@ENGINES
def test_a_prefix_of_its_own_configuration_is_for_that_one_only(
    task: Task, prefix: Path, machine: Machine, tmp_path: Path, engine: str
) -> None:
    other = venv(tmp_path / "other")
    (tmp_path / "c.txt").write_text("apple<2\n")
    (other / "pip.conf").write_text(f"[install]\nconstraint = {tmp_path}/c.txt\n")
    converge(EnsurePipPkg(packages="apple", envs=[str(prefix), str(other)], engine=engine), machine)
    assert (versions(prefix), versions(other)) == ({"apple": "2.0"}, {"apple": "1.1"})
