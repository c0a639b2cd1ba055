"""Packages for a Python that is in no environment, and in a folder that several programs see: real uv, pip, kernels."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbprovision.machine import distributions
from nbprovision.model.errors import InvalidPlaybook
from tests.conftest import Channel
from tests.support.auditing import started_processes
from tests.support.provided import Instance, conda_environment, versions
from tests.support.wheels import make_project, make_wheel

pytestmark = [pytest.mark.engine, pytest.mark.sampled(2)]

ENGINES = pytest.mark.parametrize("engine", ["uv", "pip"])
ROOT = Path(__file__).parents[2]


@pytest.fixture
def instance(env: dict[str, str], tmp_path: Path) -> Instance:
    made = Instance(tmp_path, env)
    made.provide("python3")
    for version in ("1.0", "1.1", "2.0"):
        script = {f"apple-{version}.dist-info/entry_points.txt": "[console_scripts]\neat = apple:eat\n"}
        make_wheel(made.wheels, "apple", version, files={"orchard/apple_tree.py": "", **script})
    make_wheel(made.wheels, "pear", "1.0", requires=["apple<2"], files={"orchard/pear_tree.py": ""})
    return made


@pytest.fixture
def elsewhere(env: dict[str, str], tmp_path: Path) -> Instance:
    """A machine of no known platform: its image's conda is a folder as any other."""
    made = Instance(tmp_path, env)
    shutil.rmtree(made.root)
    make_wheel(made.wheels, "apple", "1.0")
    return made


BASE = Path(sys.base_prefix)
MINOR = f"python3.{sys.version_info.minor}"
# Where it has its packages: lib/python3.X/site-packages; Debian's own, local/lib/python3.X/dist-packages.
PACKAGES = subprocess.check_output(
    [
        BASE / "bin" / MINOR,
        "-I",
        "-c",
        "import os, sys, sysconfig\nprint(os.path.relpath(sysconfig.get_path('purelib'), sys.prefix))",
    ],
    text=True,
).strip()


def bare_python(prefix: Path) -> Path:
    """A CPython that is no environment: its own copy of the program, and links to the standard library."""
    minor, base = MINOR, BASE
    library = prefix / "lib" / minor
    library.mkdir(parents=True)
    (prefix / PACKAGES).mkdir(parents=True, exist_ok=True)
    for entry in (base / "lib" / minor).iterdir():
        if entry.name not in ("site-packages", "EXTERNALLY-MANAGED"):
            (library / entry.name).symlink_to(entry)
    (prefix / "bin").mkdir()
    shutil.copy(base / "bin" / minor, prefix / "bin" / minor)
    (prefix / "bin/python3").symlink_to(minor)
    return prefix / "bin/python3"


@pytest.fixture
def started() -> Iterator[list[str]]:
    """Every process that is started from here on."""
    with started_processes() as started:
        yield started


class TestSystem:
    @ENGINES
    def test_on_an_instance_it_is_the_base_of_the_conda_of_the_image(self, instance: Instance, engine: str) -> None:
        tasks = f"- ensure_pip_pkg: {{packages: apple<2, system: true, engine: {engine}}}"
        assert instance.good(tasks) == ["changed"]
        assert versions(instance.anaconda) == {"apple": "1.1"}
        assert instance.good(tasks) == ["ok"]

    @ENGINES
    def test_elsewhere_it_is_python3_of_the_path_without_what_is_active(
        self, elsewhere: Instance, tmp_path: Path, engine: str, started: list[str]
    ) -> None:
        python = bare_python(tmp_path / "usr")
        active = conda_environment(tmp_path / "active")
        (active / "bin/python3").symlink_to("python")
        elsewhere.env["VIRTUAL_ENV"] = str(active)
        elsewhere.env["PATH"] = f"{active}/bin:{python.parent}:/usr/bin:/bin"
        tasks = f"- ensure_pip_pkg: {{packages: apple, system: true, engine: {engine}}}"
        assert elsewhere.good(tasks) == ["changed"]
        assert set(in_folder(tmp_path / "usr" / PACKAGES)) == {"apple"}
        assert versions(active) == {}
        asked = subprocess.check_output([python, "-I", "-c", "import apple; print(apple.version)"], text=True)
        assert asked == "1.0\n"
        started.clear()
        results = elsewhere.run(tasks, witness=False)
        assert [result.status for result in results] == ["ok"]
        assert started == []
        assert elsewhere.good(tasks.replace("apple,", "apple, state: absent,")) == ["changed"]
        assert in_folder(tmp_path / "usr" / PACKAGES) == {}

    def test_without_a_python(self, elsewhere: Instance, tmp_path: Path) -> None:
        elsewhere.env["PATH"] = str(tmp_path)
        with pytest.raises(Exception, match="no Python found for `system: true`"):
            elsewhere.run("- ensure_pip_pkg: {packages: apple, system: true}")

    def test_managed_by_the_system(self, elsewhere: Instance, tmp_path: Path) -> None:
        python = bare_python(tmp_path / "usr")
        (tmp_path / f"usr/lib/python3.{sys.version_info.minor}/EXTERNALLY-MANAGED").write_text("[externally-managed]\n")
        elsewhere.env["PATH"] = str(python.parent)
        error = elsewhere.bad("- ensure_pip_pkg: {packages: apple, system: true}")
        assert "is managed by the system" in error.message
        assert "-m venv" in error.cure

    def test_without_the_right_to(self, elsewhere: Instance, tmp_path: Path) -> None:
        python = bare_python(tmp_path / "usr")
        (tmp_path / "usr" / PACKAGES).chmod(0o555)
        elsewhere.env.update(PATH=str(python.parent), PYTHONPATH=str(ROOT), PYTHONDONTWRITEBYTECODE="1")
        elsewhere.playbook.write_text("- tasks:\n    - ensure_pip_pkg: {packages: apple, system: true}\n")
        # Root may write everywhere: not without the capability for it (PR_CAPBSET_DROP of CAP_DAC_OVERRIDE).
        begin = (
            "import ctypes, os, sys; ctypes.CDLL(None).prctl(24, 1, 0, 0, 0); os.execv(sys.executable, sys.argv[1:])"
        )
        argv = [sys.executable, "-m", "nbprovision", "run", str(elsewhere.playbook)]
        done = subprocess.run(
            [sys.executable, "-c", begin, *argv],
            env=elsewhere.env,
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2, done.stdout + done.stderr
        assert "may not change the packages of" in done.stdout + done.stderr
        assert "name an environment of yours" in done.stdout + done.stderr
        assert in_folder(tmp_path / "usr" / PACKAGES) == {}


class TestInterpreter:
    @ENGINES
    def test_one_in_no_environment_is_asked_once(
        self, instance: Instance, tmp_path: Path, engine: str, started: list[str]
    ) -> None:
        python = bare_python(tmp_path / "own")
        tasks = f"- ensure_pip_pkg: {{packages: pear, python: {python}, engine: {engine}}}"
        assert instance.good(tasks) == ["changed"]
        assert in_folder(tmp_path / "own" / PACKAGES) == {"apple": "1.1", "pear": "1.0"}
        started.clear()
        assert [result.status for result in instance.run(tasks, witness=False)] == ["ok"]
        assert started == []
        (instance.machine().cache / "interpreters").rename(tmp_path / "aside")
        assert [result.status for result in instance.run(tasks, witness=False)] == ["ok"]
        assert len(started) == 1
        started.clear()
        other = python.with_name("copy")
        shutil.copy(python.resolve(), other)
        os.replace(other, python.resolve())  # the same program in another file
        assert [result.status for result in instance.run(tasks, witness=False)] == ["ok"]
        assert len(started) == 1

    @ENGINES
    def test_what_it_says_counts_and_no_layout(self, instance: Instance, tmp_path: Path, engine: str) -> None:
        """As Debian's Python, this one is patched to have its packages in dist-packages."""
        python = bare_python(tmp_path / "deb")
        library = tmp_path / f"deb/lib/python3.{sys.version_info.minor}"
        folder = (tmp_path / "deb" / PACKAGES).with_name("dist-packages")
        if not folder.exists():
            (tmp_path / "deb" / PACKAGES).rename(folder)
        # site itself is frozen into the program.
        (library / "sitecustomize.py").write_text(f"import site\nsite.addsitedir('{folder}')\n")
        for name in ("sysconfig.py", "sysconfig/__init__.py"):
            source = (Path(sys.base_prefix) / "lib" / library.name / name).resolve()
            if source.exists():
                if "/" in name:
                    (library / "sysconfig").unlink()
                    shutil.copytree(source.parent, library / "sysconfig")
                (library / name).unlink()
                (library / name).write_text(source.read_text().replace("site-packages", "dist-packages"))
        tasks = f"- ensure_pip_pkg: {{packages: pear, python: {python}, engine: {engine}}}"
        assert instance.good(tasks) == ["changed"]
        assert in_folder(folder) == {"apple": "1.1", "pear": "1.0"}
        assert not (library / "site-packages").exists()
        assert instance.good(tasks) == ["ok"]
        assert instance.good(tasks.replace("packages: pear", "packages: pear, state: absent")) == ["changed"]
        assert in_folder(folder) == {"apple": "1.1"}

    def test_what_is_no_python(self, instance: Instance, tmp_path: Path) -> None:
        (tmp_path / "no/bin").mkdir(parents=True)
        (tmp_path / "no/bin/python").write_text("#!/bin/sh\necho hello\n")
        (tmp_path / "no/bin/python").chmod(0o755)
        error = instance.bad(f"- ensure_pip_pkg: {{packages: apple, python: {tmp_path}/no/bin/python}}")
        assert "is not a working Python" in error.message


def in_folder(folder: Path) -> dict[str, str]:
    return {name: " ".join(one.version for one in several) for name, several in distributions.in_folder(folder).items()}


class TestTarget:
    @ENGINES
    def test_a_folder_on_the_volume(self, instance: Instance, engine: str, started: list[str]) -> None:
        folder = instance.volume / "packages"
        tasks = f"- ensure_pip_pkg: {{packages: apple==1.0, env: python3, target: {folder}, engine: {engine}}}"
        (planned,) = instance.run(tasks, check=True)
        assert [(change.action, change.target) for change in planned.changes] == [("install", "apple")]
        assert not folder.exists()
        assert instance.good(tasks) == ["changed"]
        assert in_folder(folder) == {"apple": "1.0"}
        assert (folder / "bin/eat").exists()
        assert versions(instance.anaconda / "envs/python3") == {}
        (again,) = instance.run(tasks)
        assert (again.status, again.proof) == ("ok", "witness")
        started.clear()
        assert [result.status for result in instance.run(tasks, witness=False)] == ["ok"]
        assert started == []

        # What is there and will do stays; half of a namespace package is not lost.
        assert instance.good(tasks.replace("apple==1.0", "pear")) == ["changed"]
        assert in_folder(folder) == {"apple": "1.0", "pear": "1.0"}
        assert {path.name for path in (folder / "orchard").glob("*.py")} == {"apple_tree.py", "pear_tree.py"}
        (upgraded,) = instance.run(tasks.replace("apple==1.0", "apple==1.1"))
        assert [(change.action, change.before, change.after) for change in upgraded.changes] == [
            ("upgrade", "1.0", "1.1")
        ]
        assert in_folder(folder) == {"apple": "1.1", "pear": "1.0"}
        assert "1.1" in (folder / "apple.py").read_text()
        assert {path.name for path in (folder / "orchard").glob("*.py")} == {"apple_tree.py", "pear_tree.py"}

        assert instance.good(tasks.replace("apple==1.0", "[apple, pear], state: absent")) == ["changed"]
        left = {path.name for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}
        assert left <= {name for name in left if name.endswith(".pyc")}

    @ENGINES
    def test_latest(self, instance: Instance, engine: str) -> None:
        folder = instance.volume / "packages"
        tasks = f"- ensure_pip_pkg: {{packages: apple==1.0, env: python3, target: {folder}, engine: {engine}}}"
        instance.good(tasks)
        latest = tasks.replace("apple==1.0", "apple, state: latest")
        assert instance.good(latest) == ["changed"]
        assert in_folder(folder) == {"apple": "2.0"}
        assert [result.status for result in instance.run(latest, witness=False)] == ["ok"]

    @ENGINES
    def test_what_is_harmed_is_put_in_place_anew(self, instance: Instance, engine: str) -> None:
        folder = instance.volume / "packages"
        tasks = (
            f"- ensure_pip_pkg: {{packages: apple==1.0, env: python3, target: {folder}, deep: true, engine: {engine}}}"
        )
        instance.good(tasks)
        (folder / "apple.py").unlink()
        assert instance.good(tasks) == ["changed"]
        assert (folder / "apple.py").exists()
        (folder / "apple-1.0.dist-info/RECORD").unlink()
        assert instance.good(tasks) == ["changed"]
        assert instance.good(tasks) == ["ok"]

    @ENGINES
    def test_for_a_python_that_the_system_manages(self, instance: Instance, tmp_path: Path, engine: str) -> None:
        """Its own packages stay as they are, so that nobody minds."""
        python = bare_python(tmp_path / "usr")
        (tmp_path / f"usr/lib/python3.{sys.version_info.minor}/EXTERNALLY-MANAGED").write_text("[externally-managed]\n")
        tasks = f"- ensure_pip_pkg: {{packages: pear, python: {python}, target: /x, engine: {engine}}}"
        assert instance.good(tasks.replace("/x", str(instance.volume / "lib"))) == ["changed"]
        assert in_folder(instance.volume / "lib") == {"apple": "1.1", "pear": "1.0"}
        assert in_folder(tmp_path / "usr" / PACKAGES) == {}

    def test_an_editable_folder_could_not_be_imported(self, instance: Instance) -> None:
        project = make_project(instance.volume / "project")
        error = instance.bad(f'- ensure_pip_pkg: {{packages: ["-e {project}"], env: python3, target: lib}}')
        assert ".pth file" in error.cause
        assert not (instance.playbook.parent / "lib").exists()

    def test_a_relative_path_begins_at_the_playbook(self, instance: Instance) -> None:
        instance.good("- ensure_pip_pkg: {packages: apple, env: python3, target: lib/here}")
        assert in_folder(instance.playbook.parent / "lib/here") == {"apple": "2.0"}

    def test_for_several_pythons_it_is_refused(self, instance: Instance) -> None:
        with pytest.raises(InvalidPlaybook, match="`target` and `envs` cannot be given together"):
            instance.run("- ensure_pip_pkg: {packages: apple, envs: all, target: /x}")
        with pytest.raises(InvalidPlaybook, match="none of `env`, `envs`, `python` and `system` is given"):
            instance.run("- ensure_pip_pkg: {packages: apple, target: /x}")

    def test_packages_that_are_compiled_for_another_python(self, instance: Instance) -> None:
        folder = instance.volume / "packages"
        tasks = f"- ensure_pip_pkg: {{packages: apple==1.0, env: python3, target: {folder}}}"
        instance.good(tasks)
        wheel = folder / "apple-1.0.dist-info/WHEEL"
        wheel.write_text("Wheel-Version: 1.0\nTag: cp37-cp37m-manylinux2014_x86_64\n")
        error = instance.bad(tasks)
        assert "contains apple 1.0 for another Python" in error.message
        assert "compiled for cp37" in error.cause
        assert "a `target` of its own" in error.cure
        wheel.write_text("Wheel-Version: 1.0\nTag: cp37-abi3-manylinux2014_x86_64\n")
        assert instance.good(tasks) == ["ok"]

    @pytest.mark.kernel
    @pytest.mark.network
    def test_the_kernels_that_ask_for_it_see_it(self, instance: Instance, channel: Channel) -> None:
        """Two kernels of one environment: the one with PYTHONPATH imports what is on the volume, the other does not."""
        folder = instance.volume / "packages"
        tasks = f"""
        - ensure_conda_env:
            name: fraud
            channels: ["{channel.url}"]
            packages: ["python {channel.python}.*", ipykernel]
        - ensure_pip_pkg: {{packages: pear, env: fraud, target: {folder}}}
        - ensure_kernel: {{env: fraud, name: with, environment: {{PYTHONPATH: "{folder}"}}}}
        - ensure_kernel: {{env: fraud, name: without}}
        """
        assert instance.good(tasks) == ["changed"] * 4
        code = "import importlib.util as u\nprint(u.find_spec('pear') is not None)\n"
        assert said_by_kernel("with", code + "import pear, apple; print(apple.version)", instance) == "True\n1.1\n"
        assert said_by_kernel("without", code, instance) == "False\n"
        assert instance.good(tasks) == ["ok"] * 4


def said_by_kernel(name: str, code: str, instance: Instance) -> str:
    program = f"""
import sys
from jupyter_client.manager import start_new_kernel
manager, client = start_new_kernel(kernel_name={name!r}, startup_timeout=300)
client.execute_interactive({json.dumps(code)}, timeout=300,
    output_hook=lambda message: print(message["content"].get("text", message["content"].get("evalue", "")), end=""))
client.stop_channels(); manager.shutdown_kernel(now=True)
"""
    argv = [sys.executable, "-c", program]
    done = subprocess.run(argv, env=instance.env, capture_output=True, text=True, check=False, timeout=400)
    assert done.returncode == 0, done.stderr
    return done.stdout
