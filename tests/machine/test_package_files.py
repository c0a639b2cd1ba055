"""What is removed cannot be imported any more, whoever removed it and whatever Python has compiled since."""

from __future__ import annotations

import json
import os
import py_compile
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest

from nbprovision.conda.ensure_conda_pkg import EnsureCondaPkg
from nbprovision.machine.machine import Machine
from nbprovision.pip.ensure_pip_pkg import EnsurePipPkg
from tests.support.conda_environments import env_of, prefix_of
from tests.support.conda_packages import TinyChannel
from tests.support.driver import converge
from tests.support.pip_environment import Task
from tests.support.wheels import make_wheel

pytestmark = pytest.mark.engine

ENGINES = pytest.mark.parametrize("engine", ["uv", "pip"])
FILES = {
    "click/__init__.py": "",
    "click/core.py": "",
    "click/deep/er/__init__.py": "",
    "click/data/only/text.txt": "x",
    "shared/click_part.py": "",
}
OTHER = {"shared/other_part.py": "", "other/__init__.py": ""}
TAG = sys.implementation.cache_tag


def compiled(folder: Path) -> None:
    """As after some use, by this Python and another one, by numba, and by a run that was killed."""
    for source in sorted(folder.rglob("*.py")):
        cache = source.parent / "__pycache__"
        cache.mkdir(exist_ok=True)
        for name in (f"{TAG}.opt-1.pyc", "cpython-39.pyc", f"{TAG}.pyc.140234", "add-3.py312.nbi"):
            (cache / f"{source.stem}.{name}").write_text("")


IMPORT = """
import json, sys
sys.path.insert(0, sys.argv[1])
found = []
for name in sys.argv[2:]:
    try:
        __import__(name)
        found.append(name)
    except ImportError:
        pass
print(json.dumps(found))
"""


def imported(folder: Path, *names: str) -> list[str]:
    """Which of these modules a Python imports that looks into the folder, and into no site-packages of its own."""
    words = [sys.executable, "-I", "-S", "-B", "-c", IMPORT, str(folder), *names]
    found: list[str] = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    return found


def site(prefix: Path) -> Path:
    [folder] = prefix.glob("lib/python3.*/site-packages")
    return folder


def left(folder: Path) -> list[str]:
    """Entries that have to do with what was removed."""
    return sorted(name for path in folder.rglob("*") if "click" in (name := str(path.relative_to(folder))))


@ENGINES
def test_what_pip_or_uv_uninstalled(wheels: Path, task: Task, prefix: Path, machine: Machine, engine: str) -> None:
    make_wheel(wheels, "click", "1.0", files=FILES)
    make_wheel(wheels, "other", "1.0", files=OTHER)
    converge(task("click", "other", engine=engine), machine)
    compiled(site(prefix))
    (site(prefix) / "mine").mkdir()  # a folder of the user's stays
    converge(task("click", state="absent", engine=engine), machine)
    assert left(site(prefix)) == []
    assert imported(site(prefix), "click", "click.core", "shared.click_part") == []
    assert imported(site(prefix), "other", "shared.other_part", "mine") == ["other", "shared.other_part", "mine"]
    if engine == "pip":  # uv itself removes all that is compiled in a folder of the package
        assert list(site(prefix).glob("shared/__pycache__/other_part*")), "those of others stay"


@ENGINES
def test_what_a_newer_version_no_longer_has(
    wheels: Path, task: Task, prefix: Path, machine: Machine, engine: str
) -> None:
    make_wheel(wheels, "click", "1.0", files=FILES)
    make_wheel(wheels, "click", "2.0", files={"click/__init__.py": ""})
    converge(task("click<2", engine=engine), machine)
    compiled(site(prefix))
    converge(task("click>=2", engine=engine), machine)
    assert imported(site(prefix), "click", "click.core", "click.deep", "shared") == ["click"]
    assert not (site(prefix) / "click/deep").exists()


def test_what_was_removed_from_a_folder_of_ones_own(wheels: Path, prefix: Path, machine: Machine, home: Path) -> None:
    """Beside other things, at which nobody looks."""
    make_wheel(wheels, "click", "1.0", files=FILES)
    stale = home / "project/__pycache__/gone.cpython-312.pyc"
    stale.parent.mkdir(parents=True)
    stale.write_text("")
    parameters = {"packages": ["click"], "env": str(prefix), "target": str(home)}
    converge(EnsurePipPkg(**parameters), machine)  # type: ignore[arg-type]
    compiled(home)
    stale.write_text("")
    converge(EnsurePipPkg(**parameters, state="absent"), machine)  # type: ignore[arg-type]
    assert left(home) == []
    assert not (home / "shared").exists()
    assert stale.exists()


def with_python(tiny: TinyChannel) -> list[str]:
    tiny.add("python", "3.12.1", noarch="", files={"bin/python": "#!/bin/sh\n", "lib/python3.12/os.py": ""})
    place = "lib/python3.12/site-packages"
    tiny.add("click", "1.0", files={f"{place}/{name}": text for name, text in FILES.items()}, depends=["python"])
    tiny.add("other", "1.0", files={f"{place}/{name}": text for name, text in OTHER.items()}, depends=["python"])
    return ["python", "click", "other"]


def test_the_new_source_is_imported_though_size_and_time_are_those_of_the_old_one(
    machine: Machine, tiny: TinyChannel
) -> None:
    """As in packages that are built reproducibly, whose files have one time (PEP 552)."""
    tiny.add("python", "3.12.1", noarch="", files={"bin/python": "#!/bin/sh\n", "lib/python3.12/os.py": ""})
    place = "lib/python3.12/site-packages"
    brought = f"{place}/__pycache__/brought.{TAG}.pyc"
    for version in ("1.0", "1.1"):
        files = {f"{place}/one.py": f"version = '{version}'\n", f"{place}/brought.py": "", brought: version}
        tiny.add("one", version, subdir="linux-64", files=files, depends=["python"])
    converge(env_of(tiny, "one=1.0"), machine)
    folder = site(prefix_of(machine))
    (folder / "mine.py").write_text("")
    compiled = [Path(py_compile.compile(str(folder / name), doraise=True)) for name in ("one.py", "mine.py")]
    time_of_old = (folder / "one.py").stat().st_mtime_ns
    converge(env_of(tiny, "one=1.1"), machine)
    assert (folder / "one.py").stat().st_mtime_ns == time_of_old
    words = [sys.executable, "-I", "-S", "-B", "-c", f"import sys; sys.path.insert(0, {str(folder)!r})"]
    words[-1] += "; import one; print(one.version)"
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == "1.1\n"
    assert [path.exists() for path in compiled] == [False, True], "that of others stays"
    assert Path(prefix_of(machine), brought).read_text() == "1.1", "that of the package is the package's"


def test_nothing_is_left_of_a_python_that_another_one_replaces(machine: Machine, tiny: TinyChannel) -> None:
    for minor in ("3.12", "3.13"):
        files = {"bin/python": "#!/bin/sh\n", f"lib/python{minor}/os.py": "", f"lib/python{minor}/json/decoder.py": ""}
        tiny.add("python", f"{minor}.1", noarch="", files=files)
    converge(env_of(tiny, "python=3.12"), machine)
    library = prefix_of(machine) / "lib/python3.12"
    for name in ("os.py", "json/decoder.py"):
        py_compile.compile(str(library / name), doraise=True)
    converge(env_of(tiny, "python=3.13"), machine)
    assert not library.exists()
    assert (prefix_of(machine) / "lib/python3.13/json/decoder.py").exists()


NEEDS_CONDA = pytest.mark.skipif("NBPROVISION_TEST_CONDA" not in os.environ, reason="it names no real conda")


@pytest.mark.parametrize("engine", ["rattler", pytest.param("conda", marks=NEEDS_CONDA)])
@pytest.mark.parametrize("way", ["absent", "exact"])
def test_what_conda_removed(machine: Machine, tiny: TinyChannel, way: str, engine: Literal["rattler", "conda"]) -> None:
    if engine == "conda":
        machine.env["CONDA_EXE"] = os.environ["NBPROVISION_TEST_CONDA"]
    converge(env_of(tiny, *with_python(tiny)), machine)
    folder = site(prefix_of(machine))
    compiled(folder)
    if way == "absent":
        gone = EnsureCondaPkg(env="x", packages=["click"], channels=[tiny.url], state="absent", engine=engine)
        converge(gone, machine)
    else:
        converge(env_of(tiny, "python", "other", exact=True, engine=engine), machine)
    assert imported(folder, "click", "click.core", "shared.click_part") == []
    assert left(folder) == []
    assert imported(folder, "other", "shared.other_part") == ["other", "shared.other_part"]


def test_what_pip_had_installed_and_an_exact_environment_removed(
    machine: Machine, tiny: TinyChannel, wheels: Path, tmp_path: Path
) -> None:
    with_python(tiny)
    converge(env_of(tiny, "python", "other"), machine)
    folder = site(prefix_of(machine))
    subprocess.run(
        [sys.executable, "-m", "zipfile", "-e", str(make_wheel(wheels, "click", "1.0", files=FILES)), str(folder)],
        check=True,
    )
    compiled(folder)
    converge(env_of(tiny, "python", "other", exact=True), machine)
    assert imported(folder, "click", "click.core", "shared.click_part") == []
    assert left(folder) == []
    assert imported(folder, "other", "shared.other_part") == ["other", "shared.other_part"]
