"""A small machine for the reliability tests: a playbook, what it describes, and an oracle that says whether it is so."""

from __future__ import annotations

import configparser
import contextlib
import io
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec

from nbprovision.__main__ import main
from tests.conftest import Channel, registry_settings
from tests.support.wheels import make_wheel

ROOT = Path(__file__).parents[2]
ORACLE = Path(__file__).with_name("oracle.py")

PLAYBOOK = """
- name: A machine
  vars:
    six: "1.17.0"
    apple: "1.0"
  tasks:
    - name: index
      ensure_pip_index:
        url: "https://{{ lookup('env', 'TEAM') }}.example/simple"
    - name: environment
      ensure_conda_env:
        name: demo
        channels: [CHANNEL]
        packages: [python, "six={{ six }}", idna=3.10]
    - name: packages
      ensure_pip_pkg:
        env: demo
        packages: ["apple=={{ apple }}"]
        requirements: requirements.txt
    - name: kernel
      ensure_kernel:
        env: demo
        environment: {FRUIT: "apple {{ apple }}"}
    - name: tool
      ensure_kernel:
        name: tool
        argv: [/bin/sh, "-c", "exit", "{connection_file}"]
        display_name: "Tool of {{ lookup('env', 'TEAM') }}"
"""


class Ran(msgspec.Struct, frozen=True):
    """What a run said."""

    status: int
    document: dict[str, Any]
    errors: str

    @property
    def statuses(self) -> list[str]:
        """Of each task."""
        return [task["status"] for task in self.document.get("tasks", ())]

    @property
    def proofs(self) -> set[str]:
        """How its tasks were proven."""
        return {task["proof"] for task in self.document.get("tasks", ())}

    @property
    def all_ok(self) -> bool:
        """Nothing was changed, and all is as described."""
        return self.status == 0 and bool(self.statuses) and set(self.statuses) == {"ok"}


class World:
    """A machine in a folder, with the playbook above carried out, that can be put back as it was.

    Attributes:
        root: Where all of it lies.
        prefix: The environment that the playbook makes.
        values: What the playbook describes now; to be kept in step with what is written into it.
        options: Those of each run.

    """

    def __init__(self, root: Path, channel: Channel, playbook: str = PLAYBOOK) -> None:
        self.root = root
        self.home = root / "home"
        self.tool = root / "tool"
        self.prefix = self.tool / "envs/demo"
        self.project = root / "project"
        self.wheels = root / "wheels"
        self.playbook = self.project / "playbook.yml"
        self.requirements = self.project / "requirements.txt"
        self.pip_conf = self.home / ".config/pip/pip.conf"
        self.kernels = self.home / ".local/share/jupyter/kernels"
        self._text = playbook.replace("CHANNEL", channel.url)
        self._pristine = root / "pristine"
        for folder in (self.home, self.project):
            folder.mkdir(parents=True)
        make_wheels(self.wheels)
        self.begin()

    def begin(self) -> None:
        """The variables and inputs that a sequence starts from."""
        reached = {name: value for name, value in registry_settings().items() if not name.startswith(("PIP_", "UV_"))}
        self.env = {
            **reached,
            "HOME": str(self.home),
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "TMPDIR": os.environ.get("TMPDIR", "/tmp"),
            "NBPROVISION_HOME": str(self.tool),
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.wheels),
            "TEAM": "blue",
        }
        self.options: tuple[str, ...] = ()
        self.values = {"six": "1.17.0", "apple": "1.0", "pear": "1.0", "team": "blue"}
        self.playbook.write_text(self._text)
        self.requirements.write_text("pear==1.0\n")

    # ------------------------------------------------------------------------------------------------ kept and restored

    def keep(self) -> None:
        """Remember the environment and the home folder as they are."""
        copy(self.prefix, self._pristine / "demo")
        copy(self.home, self._pristine / "home")

    def keep_other(self) -> None:
        """Remember the environment as another one, to be found in `other`."""
        copy(self.prefix, self.other)

    @property
    def other(self) -> Path:
        """An environment that is not as the playbook describes it."""
        return self._pristine / "other"

    def restore(self) -> None:
        """Put everything back as it was kept, the tool's own records away."""
        for folder in (self.tool / "envs", self.tool / "state", self.home, self.project):
            shutil.rmtree(folder, ignore_errors=True)
        copy(self._pristine / "demo", self.prefix, linked=True)
        copy(self._pristine / "home", self.home)
        self.project.mkdir()
        self.begin()

    # ------------------------------------------------------------------------------------------------------------ runs

    def run(self, *options: str, tree: Path | None = None) -> Ran:
        """Run the playbook by the command line: in this process, or in one of its own with the code of ``tree``."""
        argv = ["run", str(self.playbook), "--format", "json", *self.options, *options]
        if tree is not None:
            done = subprocess.run(
                [sys.executable, "-m", "nbprovision", *argv],
                env={**self.env, "PYTHONPATH": str(tree)}, capture_output=True, text=True, check=False, cwd="/",
            )  # fmt: skip
            return read_document(done.returncode, done.stdout, done.stderr)
        return read_document(*self._called(argv))

    def lock(self) -> None:
        """Lock the playbook."""
        status, _, errors = self._called(["lock", str(self.playbook)])
        assert status == 0, errors

    def _called(self, argv: list[str]) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        with (
            mock.patch.dict(os.environ, self.env, clear=True),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            status = main(argv)
        return status, out.getvalue(), err.getvalue()

    # ------------------------------------------------------------------------------------------------------ the oracle

    def differences(self, *, files: bool = False) -> list[str]:
        """What is not as described, by the environment's own word and by plain looks; empty if all is well."""
        answer = ask(self.prefix, files=files)
        if isinstance(answer, str):
            return [answer]
        wrong = list(answer.get("harm", ()))
        values = self.values
        wanted = {"six": values["six"], "idna": "3.10"}
        for name, version in wanted.items():
            if answer["records"].get(name) != [version]:
                wrong.append(f"records of {name}: {answer['records'].get(name)}, not {version}")
        wanted |= {"apple": values["apple"], "pear": values["pear"], "ipykernel": "6.0"}
        for name, version in wanted.items():
            if answer["distributions"].get(name) != [version]:
                wrong.append(f"distributions of {name}: {answer['distributions'].get(name)}, not {version}")
        if answer["prefix"] != str(self.prefix):
            wrong.append(f"its sys.prefix is {answer['prefix']}")
        if os.path.lexists(self.prefix / ".nbprovision-unfinished"):
            wrong.append("it is marked unfinished")
        return wrong + self._pip_conf_differences() + self._kernel_differences()

    def _pip_conf_differences(self) -> list[str]:
        url = f"https://{self.values['team']}.example/simple"
        parser = configparser.ConfigParser()
        parser.read(self.pip_conf)
        found = parser.get("global", "index-url", fallback=None)
        wrong = [] if found == url else [f"{self.pip_conf}: index-url is {found}, not {url}"]
        if self.pip_conf.exists() and stat.S_IMODE(self.pip_conf.stat().st_mode) & 0o022:
            wrong.append(f"{self.pip_conf} is writable for others")
        return wrong

    def _kernel_differences(self) -> list[str]:
        python = str(self.prefix / "bin/python")
        fruit = f"apple {self.values['apple']}"
        wrong = []
        demo = _json(self.kernels / "demo/kernel.json")
        command = demo.get("argv", [])[-5:]
        if command != [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"]:
            wrong.append(f"kernel demo runs {command}")
        if demo.get("display_name") != "Python (demo)" or demo.get("env", {}).get("FRUIT") != fruit:
            wrong.append(f"kernel demo is {demo}")
        launcher = self.kernels / "demo" / "activate.sh"
        for word in demo.get("argv", []):
            if word.startswith(str(self.kernels)):
                launcher = Path(word)
        if not launcher.is_file():
            wrong.append(f"kernel demo has no launcher {launcher}")
        tool = _json(self.kernels / "tool/kernel.json")
        if tool.get("argv") != ["/bin/sh", "-c", "exit", "{connection_file}"]:
            wrong.append(f"kernel tool is {tool}")
        if tool.get("display_name") != f"Tool of {self.values['team']}":
            wrong.append(f"kernel tool is called {tool.get('display_name')}")
        for path, mode in ((self.kernels / "demo/kernel.json", 0o600), (self.kernels / "tool/kernel.json", 0o644)):
            if path.exists() and stat.S_IMODE(path.stat().st_mode) != mode:
                wrong.append(f"{path} has mode {path.stat().st_mode:o}")
        return wrong


def ask(prefix: Path, *, files: bool = False) -> dict[str, Any] | str:
    """The oracle's answer, or why there is none."""
    try:
        done = subprocess.run(
            [prefix / "bin/python", "-I", "-B", ORACLE, prefix, *(["files"] if files else [])],
            env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False, cwd="/",
        )  # fmt: skip
    except OSError as error:
        return f"the environment's Python does not start: {error}"
    if done.returncode:
        return f"the oracle failed: {done.stderr[-2000:]}"
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def make_wheels(folder: Path) -> None:
    """What pip and uv find here; of conda's six and idna too, so that either can put them in place of conda's."""
    for version in ("1.0", "1.1"):
        make_wheel(folder, "apple", version, files={"orchard/__init__.py": f"tree = {version!r}\n"})
        make_wheel(folder, "pear", version, requires=["apple<2"], files={"garden/__init__.py": f"tree = {version!r}\n"})
    make_wheel(folder, "six", "1.16.0")
    make_wheel(folder, "idna", "3.7", files={"idna/__init__.py": "version = '3.7'\n"})
    make_wheel(folder, "stray", "1.0")
    logo = {"ipykernel/resources/logo-64x64.png": "not really a picture\n", "ipykernel/__init__.py": ""}
    make_wheel(folder, "ipykernel", "6.0", files=logo)


def copy(source: Path, target: Path, *, linked: bool = False) -> None:
    """Copy a folder in place of whatever is there; ``linked`` shares the files that no test edits in place."""
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-al" if linked else "-a", source, target], check=True)
    if linked:
        own = [target / "conda-meta", *target.glob("lib/python3.*/site-packages")]
        for folder in own:
            inner = source / folder.relative_to(target)
            shutil.rmtree(folder)
            subprocess.run(["cp", "-a", inner, folder], check=True)


def site_packages(prefix: Path) -> Path:
    """The environment's folder of distributions."""
    (found,) = prefix.glob("lib/python3.*/site-packages")
    return found


def _json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content


def read_document(status: int, out: str, errors: str) -> Ran:
    assert "Traceback" not in errors, errors
    try:
        document: Mapping[str, Any] = json.loads(out)
    except ValueError:
        document = {}
    return Ran(status, dict(document), errors)
