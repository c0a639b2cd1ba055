"""Whatever a task reads to decide is a witness: a change of any such file or variable makes the next run look.

What a task reads is heard from the interpreter itself, not from the tool's own record of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from nbprovision.__main__ import main
from nbprovision.catalogue import Catalogue
from nbprovision.system import unfinished
from tests.conftest import Channel
from tests.support import auditing, moto_server
from tests.support.authority_file import AUTHORITY
from tests.support.file_server import EMPTY_ZIP, FileServer
from tests.support.git_repositories import Origin
from tests.support.r_repository import HAS_R, Repository
from tests.support.wheels import make_project, make_wheel

pytestmark = [pytest.mark.engine, pytest.mark.sampled(2)]

# What is there before: an environment of each kind of content, and the files that the tasks below name.
BASE = """
- tasks:
    - ensure_conda_env: {name: one, packages: [python, pip, ipykernel], channels: [CHANNEL]}
"""
TASKS = {
    "conda_env": "ensure_conda_env: {name: one, packages: [python], channels: [CHANNEL]}",
    "conda_env with a file": "ensure_conda_env: {name: one, file: environment.yml}",
    "conda_pkg": "ensure_conda_pkg: {env: one, packages: [six], channels: [CHANNEL]}",
    "conda_pkg everywhere": "ensure_conda_pkg: {envs: all, packages: [python], channels: [CHANNEL]}",
    "pip_pkg": "ensure_pip_pkg: {env: one, packages: [pear]}",
    "pip_pkg with files": "ensure_pip_pkg: {env: one, requirements: outer.txt, constraints: bounds.txt}",
    "pip_pkg editable": "ensure_pip_pkg: {env: one, requirements: editable.txt}",
    "pip_pkg into a folder": "ensure_pip_pkg: {env: one, packages: [pear], target: ROOT/lib}",
    "pip_pkg by pip": "ensure_pip_pkg: {env: one, packages: [pear], engine: pip}",
    "kernel": "ensure_kernel: {env: one, environment: {A: b}}",
    "kernels": "ensure_kernel: {envs: all}",
    "kernel of a program": "ensure_kernel: {name: tool, argv: [/bin/sh, '-c', exit, '{connection_file}']}",
    "pip_index": "ensure_pip_index: {url: 'https://blue.example/simple'}",
    "pip_index of an environment": "ensure_pip_index: {url: 'https://blue.example/simple', scope: env, env: one}",
    "condarc": "ensure_condarc: {channels: [CHANNEL]}",
    "channel": "ensure_conda_channel: {path: ROOT/channel, pypi: [ROOT/wheels/apple-1.0-py3-none-any.whl]}",
    "env_var": "ensure_env_var: {name: FRUIT, value: pear, kernels: [tool]}",
    "env_var in shells": "ensure_env_var: {name: FRUIT, value: pear, where: shells}",
    "env_var in the server": "ensure_env_var: {name: FRUIT, value: pear, where: server}",
    "file": "ensure_file: {path: ROOT/a, src: source.txt}",
    "files": "ensure_file: {path: ROOT/b, src: folder}",
    "line": "ensure_line: {path: ROOT/home/.bashrc, line: x=1, create: true}",
    "block": "ensure_block: {path: ROOT/home/.profile, block: x=1, create: true}",
    "json": "ensure_json: {path: ROOT/home/settings.json, values: {a: {b: 1}}}",
    "ini": "ensure_ini: {path: ROOT/home/settings.ini, values: {a: {b: 1}}, remove: [c]}",
    "git_config": "ensure_git_config: {name: user.email, value: ada@example.org}",
    "git_config of a work tree": "ensure_git_config: {name: user.email, value: ada@example.org, repo: ROOT/tree}",
    "git_repo": "ensure_git_repo: {url: 'file://ROOT/origin', path: ROOT/clone, ref: main}",
    "ca_cert": "ensure_ca_cert: {path: ca.pem}",
    "download": "ensure_download: {url: SERVER/a, path: ROOT/download, sha256: SHA256}",
    "download of an archive": "ensure_download: {url: SERVER/zip, path: ROOT/unpacked, sha256: ZIP256, unpack: true}",
    "s3_sync": "ensure_s3_sync: {source: 's3://backups/ada', path: ROOT/restored}",
    "command": "ensure_command: {shell: touch ROOT/made, creates: ROOT/made}",
    "command once": "ensure_command: {shell: touch ROOT/made, once_per: content, reads: ROOT/read}",
    "venv": "ensure_venv: {path: ROOT/venv, requirements: outer.txt}",
    "r_pkg": "ensure_r_pkg: {packages: [apple], repos: ROOT/cran}",
    "jupyter_extension": "ensure_jupyter_extension: {env: one, lab: {x: false}}",
}
FILES = {
    "environment.yml": "channels: [CHANNEL]\ndependencies: [python, {pip: [-r outer.txt, -c bounds.txt, -e ./plum]}]\n",
    "outer.txt": "-r inner.txt\n",
    "inner.txt": "pear==${PEAR}\n",
    "bounds.txt": "-c further.txt\n",
    "further.txt": "apple<9\n",
    "editable.txt": "-e ./plum\n",
    "source.txt": "text\n",
    "ca.pem": AUTHORITY,
    "folder/one.txt": "text\n",
}
# Python's own files, the kernel's and the tool's own notes decide nothing that could be another way tomorrow.
OWN = ("cache", "log", "state", "journal", "lock", "last-run.json", "runs", "status.json", "progress")


class Place:
    """A machine in a folder, whose commands run in this process."""

    def __init__(self, root: Path, env: dict[str, str], channel: Channel) -> None:
        self.root = root
        self.project = root / "project"
        self.channel = channel
        for name in ("home", "tmp", "project/folder", "wheels", "tree/.git"):
            (root / name).mkdir(parents=True)
        for name, version, needs in (("apple", "1.0", []), ("pear", "1.0", ["apple"]), ("pear", "1.1", ["apple"])):
            make_wheel(root / "wheels", name, version, requires=needs)
        make_project(self.project / "plum")
        (root / "tree/.git/HEAD").write_text("ref: refs/heads/main\n")
        (root / "tree/.git/config").write_text("[core]\n\tbare = false\n")
        Origin(root / "origin")
        if HAS_R:
            Repository(root / "cran").add("apple", "1.0")
        self.server = FileServer()
        self.server.files |= {"/a": b"a", "/zip": EMPTY_ZIP}
        for name, text in FILES.items():
            (self.project / name).write_text(self.filled(text))
        for shell in (".bashrc", ".profile"):
            (root / "home" / shell).write_text("# mine\n")
        kept = {name: value for name, value in env.items() if not name.startswith("PIP_")}
        self.env = {
            **kept, "HOME": str(root / "home"), "NBPROVISION_HOME": str(root / "tool"), "TMPDIR": str(root / "tmp"),
            "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(root / "wheels"), "PEAR": "1.0",
        }  # fmt: skip

    def filled(self, text: str) -> str:
        values = {"CHANNEL": self.channel.url, "ROOT": str(self.root), "SERVER": self.server.url}
        values |= {"SHA256": hashlib.sha256(b"a").hexdigest(), "ZIP256": hashlib.sha256(EMPTY_ZIP).hexdigest()}
        for name, value in values.items():
            text = text.replace(name, value)
        return text

    def playbook(self, name: str, text: str) -> Path:
        path = self.project / f"{name}.yml"
        path.write_text(self.filled(text))
        return path

    def run(self, playbook: Path, *options: str, fails: bool = False, **more: str) -> list[tuple[str, str]]:
        """Status and proof of each task; with ``more`` variables."""
        out, errors = io.StringIO(), io.StringIO()
        with (
            mock.patch.dict(os.environ, {**self.env, **more}, clear=True),
            mock.patch.object(tempfile, "tempdir", None),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(errors),
        ):
            status = main(["run", str(playbook), "--format", "json", *options])
        assert status == 0 or fails, out.getvalue() + errors.getvalue()
        if not out.getvalue():  # it is not even begun
            return [("invalid", "")]
        return [(task["status"], task["proof"]) for task in json.loads(out.getvalue())["tasks"]]

    def settled(self, playbook: Path) -> None:
        """Run until the witnesses are enough: once what was changed is done, once for what was changed too lately."""
        for _ in range(4):
            if self.run(playbook) == [("ok", "witness")]:
                return
        raise AssertionError(self.run(playbook))

    def read_by(self, playbook: Path, kind: str) -> list[Path]:
        """The files that the task reads."""
        task = Catalogue()[kind]
        read = task.read

        def heard(self: Any, machine: Any) -> Any:
            with auditing.heard_by(hear):
                return read(self, machine)

        def hear(event: str, arguments: tuple[Any, ...]) -> None:
            if event != "open" or not isinstance(arguments[0], (str, bytes, os.PathLike)):
                return
            if not (isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
                found.add(os.path.abspath(os.fsdecode(arguments[0])))

        found: set[str] = set()
        with mock.patch.object(task, "read", heard):
            self.run(playbook, "--no-witness", "--check")
        return [path for path in map(Path, sorted(found)) if self.counts(path)]

    def counts(self, path: Path) -> bool:
        own = self.root / "tool"
        if own in path.parents and path.relative_to(own).parts[0] in OWN:
            return False
        if (path.parent.name == "conda-meta" and path.suffix == ".json") or path.parent.name.endswith(".dist-info"):
            return False  # of what is installed the folders are the witnesses: a start would pay for each record
        return self.root in path.parents and "__pycache__" not in path.parts and path.name != unfinished.MARK


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, channel: Channel) -> Iterator[Place]:
    from tests.conftest import registry_settings

    env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", **registry_settings()}
    root = tmp_path_factory.mktemp("inputs")
    with moto_server.serving() as address:
        moto_server.put(address, "backups", "ada/a", b"1")
        moto_server.make_command(root / "bin", address)
        made = Place(root, {**env, "PATH": f"{root}/bin:{env['PATH']}"}, channel)
        made.run(made.playbook("base", BASE))
        made.run(made.playbook("tool", f"- tasks: [{TASKS['kernel of a program']}]\n"))
        yield made


@pytest.fixture(params=TASKS)
def task(request: pytest.FixtureRequest, place: Place) -> Iterator[tuple[Path, str]]:
    """The playbook of one task, at rest, and its kind."""
    text = TASKS[request.param]
    if "ensure_r_pkg" in text and not HAS_R:
        pytest.skip("there is no R here: apt-get install r-base-core")
    playbook = place.playbook("one", f"- tasks:\n    - {text}\n")
    place.settled(playbook)
    yield playbook, text.partition(":")[0]
    shutil.rmtree(place.root / "home/.config", ignore_errors=True)  # an index that nobody answers for


def test_a_change_of_any_file_that_a_task_reads_is_seen(place: Place, task: tuple[Path, str]) -> None:
    playbook, kind = task
    unseen = []
    for path in place.read_by(playbook, kind):
        place.settled(playbook)
        before = path.read_bytes() if path.exists() else None
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as stream:
            stream.write(b"\n")
        if place.run(playbook, "--check", fails=True) == [("ok", "witness")]:
            unseen.append(str(path))
        path.unlink()
        if before is not None:
            path.write_bytes(before)
    assert unseen == []


@pytest.mark.parametrize("name", ["outer.txt", "inner.txt", "bounds.txt", "further.txt", "plum/pyproject.toml"])
@pytest.mark.parametrize("gone", [False, True], ids=["edited", "deleted"])
def test_what_an_environment_file_names_is_looked_at(place: Place, name: str, gone: bool) -> None:
    """However deep, and though the environment file itself stays as it is."""
    playbook = place.playbook("one", f"- tasks: [{TASKS['conda_env with a file']}]\n")
    place.settled(playbook)
    path = place.project / name
    before = path.read_text()
    if gone:
        path.unlink()
    else:
        path.write_text(before.replace("9", "1").replace("${PEAR}", "1.1") + "\n")
    seen = place.run(playbook, "--check", fails=True)
    path.unlink(missing_ok=True)
    path.write_text(before)
    assert seen != [("ok", "witness")]


@pytest.mark.parametrize("text", ["conda_env with a file", "pip_pkg with files"])
def test_a_variable_that_a_file_takes_in_is_looked_at(place: Place, text: str) -> None:
    """And where it has its old value, the witnesses are enough."""
    playbook = place.playbook("one", f"- tasks: [{TASKS[text]}]\n")
    place.settled(playbook)
    assert place.run(playbook, "--check", PEAR="1.1") == [("changed", "check")]
    place.settled(playbook)
    assert place.run(playbook, UNRELATED="1") == [("ok", "witness")]


@pytest.mark.parametrize("text", ["conda_env", "pip_pkg"])
def test_a_variable_in_the_configuration_of_conda_is_looked_at(place: Place, text: str) -> None:
    playbook = place.playbook("one", f"- tasks: [{TASKS[text]}]\n")
    place.settled(playbook)
    condarc = place.root / "home/.condarc"
    before = condarc.read_bytes() if condarc.exists() else None
    condarc.write_text("envs_dirs: ['${PLACE}/envs']\n")
    assert place.run(playbook, "--check", fails=True) != [("ok", "witness")], "a file that was not there"
    place.env["PLACE"] = str(place.root / "tool")
    try:
        place.settled(playbook)
        assert place.run(playbook, "--check", PLACE=str(place.root / "elsewhere")) != [("ok", "witness")]
    finally:
        del place.env["PLACE"]
        condarc.unlink()
        if before is not None:
            condarc.write_bytes(before)
