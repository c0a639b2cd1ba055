"""A full disk, no inodes, a read-only volume: what was there stays as it is, the message says why, a later run converges.

Each step leaves a little more room than the one before: the work is refused before it begins, fails in the middle of
fetching or linking, or is done.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import nbprovision.machine.machine
from nbprovision.cli import inventory
from nbprovision.system import unfinished
from nbprovision.system.disk_space import megabytes
from tests.conftest import Channel, registry_settings
from tests.reliability.volume import MB, Volume, content, make_packages, make_wheels, mounted, run
from tests.reliability.world import Ran
from tests.support.faulty_server import serving_index

pytestmark = [pytest.mark.engine, pytest.mark.proof, pytest.mark.sampled(2)]

SHORT = (0.4, 20.0, 60.0)  # MB left
LONG = [0.0, 0.25, 0.5, 1.0, 2.0, 3.0, *map(float, range(5, 70, 5)), *map(float, range(80, 201, 20))]

CONDA = """
- tasks:
    - name: environment
      ensure_conda_env:
        name: demo
        channels: [{packages}, {channel}]
        packages: [python, ipykernel, "loose={{{{ v }}}}", "dense={{{{ v }}}}", "small={{{{ v }}}}"]
    - name: kernel
      ensure_kernel: {{env: demo, validate: false}}
"""
PIP = """
- tasks:
    - name: packages
      ensure_pip_pkg: {{env: demo, packages: ["apple=={{{{ v }}}}"]}}
"""
INDEX = """
- tasks:
    - name: index
      ensure_pip_index: {{url: "https://v{{{{ v }}}}.example/simple"}}
"""
CLONE = """
- tasks:
    - name: copy
      ensure_conda_env: {{name: "copy-{{{{ v }}}}", clone: demo}}
"""
CHANNEL = """
- tasks:
    - name: local channel
      ensure_conda_channel: {{path: {volume}/local, pypi: ["apple=={{{{ v }}}}"]}}
"""


class Machine:
    """A machine whose homes are on the volume; channels and wheels are elsewhere."""

    def __init__(self, root: Path, channel: Channel, volume: Volume) -> None:
        self.volume = volume
        self.tool = volume.path / "tool"
        self.home = volume.path / "home"
        self.prefix = self.tool / "envs/demo"
        self.kernels = self.home / ".local/share/jupyter/kernels"
        self.home.mkdir()
        make_packages(root / "packages")
        make_wheels(root / "wheels")
        reached = {name: value for name, value in registry_settings().items() if not name.startswith(("PIP_", "UV_"))}
        self.env = {
            **reached,
            "HOME": str(self.home),
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "TMPDIR": os.environ.get("TMPDIR", "/tmp"),
            "NBPROVISION_HOME": str(self.tool),
            "NBPROVISION_CACHE_LIMIT": "10MB",  # what is not in use goes at the end of a run, so that steps are alike
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(root / "wheels"),
        }
        self._root = root
        self._values = {"packages": (root / "packages").as_uri(), "channel": channel.url, "volume": str(volume.path)}

    def run(self, playbook: str, version: str, *options: str) -> Ran:
        path = self._root / "playbook.yml"
        path.write_text(playbook.format(**self._values))
        return run(self.env, path, "-e", f"v={version}", *options)

    def content(self) -> dict[str, str]:
        """All that may not change where a run fails: environments, kernels, configuration."""
        return content(self.tool / "envs", self.kernels, self.home / ".config", self.home / ".conda")

    def marked(self) -> list[str]:
        return [path.parent.name for path in (self.tool / "envs").glob(f"*/{unfinished.MARK}")]


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Volume]:
    # Not below "/t/", where a channel's token would be looked for.
    path = tmp_path / "volume"
    reason = mounted(path, size=450 * MB)
    if reason:
        pytest.skip(reason)
    try:
        yield Volume(path)
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


@pytest.fixture
def machine(tmp_path: Path, channel: Channel, volume: Volume) -> Machine:
    return Machine(tmp_path, channel, volume)


def told_well(ran: Ran, *, about: str = "free") -> None:
    """A failure of three parts, with the room in it, and no traceback."""
    assert ran.status == 2, ran.errors
    errors = [task["error"]["message"] for task in ran.document["tasks"] if task["error"]]
    assert len(errors) == 1
    message, cause, *_, cure = errors[0].split("\n")
    assert message
    assert about in cause
    assert "clean --dry-run" in cure or "mount" in cure
    assert "Traceback" not in errors[0] + ran.errors
    assert "panicked" not in errors[0]


def converges(machine: Machine, playbook: str, version: str) -> None:
    machine.volume.empty()
    ran = machine.run(playbook, version)
    assert ran.status == 0, ran.document or ran.errors
    assert machine.marked() == []
    assert machine.run(playbook, version).all_ok
    assert list(machine.volume.path.rglob("*.nbprovision-tmp")) == []


def update(machine: Machine, playbook: str, leaves: tuple[float, ...] | list[float]) -> list[str]:
    """From version 1.0 to 2.0 with each room; back in between. Tells how each step ended."""
    assert machine.run(playbook, "1.0").status == 0
    ended = []
    for leave in leaves:
        before = machine.content()
        machine.volume.fill(int(leave * MB))
        ran = machine.run(playbook, "2.0")
        if ran.status == 0:
            ended.append("done")
        else:
            told_well(ran)
            assert machine.marked() == [], f"with {leave} MB"
            assert machine.content() == before, f"with {leave} MB"
            ended.append("refused" if "at least" in str(ran.document) else "failed")
            assert machine.run(playbook, "1.0").status == 0, "what was there is still as it was described"
        converges(machine, playbook, "2.0")
        assert machine.run(playbook, "1.0").status == 0
    return ended


def test_update_of_conda_packages(machine: Machine) -> None:
    assert set(update(machine, CONDA, SHORT)) == {"refused", "failed", "done"}


def test_update_of_pip_packages(machine: Machine) -> None:
    assert machine.run(CONDA, "1.0").status == 0
    assert set(update(machine, PIP, (0.4, 10.0, 60.0))) == {"failed", "done"}


def compressed(wheel: Path) -> int:
    """Compress a wheel; its size then."""
    with zipfile.ZipFile(wheel) as old:
        content = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as new:
        for name, data in content.items():
            new.writestr(name, data)
    return wheel.stat().st_size


def test_what_pip_packages_need_is_told(machine: Machine) -> None:
    """Where the index tells how large its files are; what is in the cache needs no room."""
    assert machine.run(CONDA, "1.0").status == 0
    before = machine.content()
    with serving_index(Path(machine.env.pop("PIP_FIND_LINKS")), sizes=True) as server:
        machine.env["PIP_INDEX_URL"] = f"{server.url}/simple"
        del machine.env["PIP_NO_INDEX"], machine.env["NBPROVISION_CACHE_LIMIT"]
        size = compressed(next(server.folder.glob("apple-1.0-*")))
        machine.volume.fill(5 * MB)
        ran = machine.run(PIP, "1.0")
        told_well(ran)
        assert f"the packages need at least {megabytes(size)}" in str(ran.document)
        machine.volume.fill(int(size * 1.2))
        ran = machine.run(PIP, "1.0")
        told_well(ran)
        assert f"it takes more than {megabytes(size)}" in str(ran.document)
        assert machine.content() == before
        converges(machine, PIP, "1.0")
        uninstalled = PIP.replace("packages: [", "state: absent, packages: [")
        assert machine.run(uninstalled, "1.0").status == 0
        machine.volume.fill(5 * MB)
        assert machine.run(PIP, "1.0").status == 0


@pytest.mark.parametrize("engine", ["uv", "pip"])
def test_a_new_pip_package(machine: Machine, engine: str) -> None:
    """pip writes until the disk is full, and leaves it so."""
    assert machine.run(CONDA, "1.0").status == 0
    before = machine.content()
    playbook = PIP.replace("{{env", f"{{{{engine: {engine}, env")
    for leave in (1.0, 10.0):
        machine.volume.fill(int(leave * MB))
        told_well(machine.run(playbook, "1.0"))
        assert machine.content() == before, f"with {leave} MB"
    converges(machine, playbook, "1.0")


def test_change_of_an_index(machine: Machine) -> None:
    assert set(update(machine, INDEX, (0.0, 2.0))) == {"failed", "done"}


def first(machine: Machine, leaves: tuple[float, ...] | list[float]) -> list[str]:
    """A first run with each room, on a machine with nothing on it."""
    ended = []
    for leave in leaves:
        shutil.rmtree(machine.tool, ignore_errors=True)
        shutil.rmtree(machine.home)
        machine.home.mkdir()
        machine.volume.fill(int(leave * MB))
        ran = machine.run(CONDA, "1.0")
        ended.append("done" if ran.status == 0 else "failed")
        if ran.status != 0 and ran.document:
            told_well(ran)
            assert not (machine.kernels / "demo/kernel.json").exists(), "a kernel of a half-made environment"
        elif ran.status != 0:
            assert "clean --dry-run" in ran.errors
            assert "Traceback" not in ran.errors
        converges(machine, CONDA, "1.0")
    return ended


def test_first_run(machine: Machine) -> None:
    assert first(machine, (0.0, 30.0, 120.0)) == ["failed", "failed", "done"]


def copy(machine: Machine, leaves: tuple[float, ...] | list[float]) -> list[str]:
    assert machine.run(CONDA, "1.0").status == 0
    ended = []
    for number, leave in enumerate(leaves):
        before = machine.content()
        machine.volume.fill(int(leave * MB))
        ran = machine.run(CLONE, str(number))
        ended.append("done" if ran.status == 0 else "failed")
        if ran.status != 0:
            told_well(ran)
            assert machine.content() == before, f"with {leave} MB"
        converges(machine, CLONE, str(number))
        shutil.rmtree(machine.tool / f"envs/copy-{number}")
    return ended


def test_copy_of_an_environment(machine: Machine) -> None:
    assert copy(machine, (0.2, 40.0, 200.0)) == ["failed", "failed", "done"]


def build(machine: Machine, leaves: tuple[float, ...] | list[float]) -> list[str]:
    """A channel that is there is added to: with too little room it goes on to serve what it had."""
    local = machine.volume.path / "local"
    assert machine.run(CHANNEL, "1.0").status == 0
    shutil.copytree(local, local.with_name("kept"))
    ended = []
    for leave in leaves:
        before = content(local)
        machine.volume.fill(int(leave * MB))
        ran = machine.run(CHANNEL, "2.0")
        ended.append("done" if ran.status == 0 else "failed")
        if ran.status != 0:
            told_well(ran)
            after = content(local)
            assert {path: after.get(path) for path in before} == before, f"with {leave} MB"
        converges(machine, CHANNEL, "2.0")
        shutil.rmtree(local)
        shutil.copytree(local.with_name("kept"), local)
        shutil.rmtree(machine.tool / "cache/wheels", ignore_errors=True)
    return ended


def test_build_of_a_channel(machine: Machine) -> None:
    assert set(build(machine, (0.3, 12.0, 100.0))) == {"failed", "done"}


def test_no_inodes(machine: Machine) -> None:
    assert machine.run(CONDA, "1.0").status == 0
    before = machine.content()
    for leave in (0, 40):
        machine.volume.use_inodes(leave)
        ran = machine.run(CONDA, "2.0")
        told_well(ran, about="inodes")
        assert machine.content() == before
        assert machine.marked() == []
        assert machine.run(CONDA, "1.0", "--no-witness").status == 0
        machine.volume.empty()
    converges(machine, CONDA, "2.0")


def test_a_volume_that_is_read_only(machine: Machine) -> None:
    """What is in place is found so, by witnesses and by a look; what is not is told; nothing else stops working."""
    assert machine.run(CONDA, "1.0").status == 0
    with machine.volume.read_only():
        assert machine.run(CONDA, "1.0").proofs == {"witness"}
        looked = machine.run(CONDA, "1.0", "--no-witness")
        assert looked.status == 0
        assert "warning: cannot keep the proofs" in looked.errors
        told_well(machine.run(CONDA, "2.0", "--check", "--exit-code"), about="read-only")  # as the run itself
        for playbook in (CONDA, INDEX, CLONE):
            told_well(machine.run(playbook, "2.0"), about="read-only")
        for command in ("status", "facts", "clean"):
            subprocess.run(
                [*_program(), command], env={**machine.env, "PYTHONPATH": str(_ROOT)}, check=True, capture_output=True
            )
    converges(machine, CONDA, "2.0")


def test_a_full_volume_keeps_no_notebook_from_starting(machine: Machine) -> None:
    assert machine.run(CONDA, "1.0").status == 0
    machine.volume.fill(0)
    (machine.volume.path / "last").write_bytes(b"x" * machine.volume.free)
    assert machine.run(CONDA, "1.0").proofs == {"witness"}
    looked = machine.run(CONDA, "1.0", "--no-witness")
    assert looked.status == 0
    assert "warning: cannot keep the proofs" in looked.errors


def test_caches_lie_on_the_file_system_of_the_environment(tmp_path: Path, channel: Channel, volume: Volume) -> None:
    """An environment on another file system than the home shares a cache beside it, which `clean` knows as well."""
    machine = Machine(tmp_path, channel, volume)
    elsewhere = tmp_path / "tool"
    machine.env["NBPROVISION_HOME"] = str(elsewhere)
    prefix = volume.path / "work/demo"
    playbook = CONDA.replace("name: demo", f"prefix: {prefix}").replace("env: demo", f"env: {prefix}, name: demo")
    assert machine.run(playbook, "1.0").status == 0
    cache = volume.path / "work/.nbprovision-cache/pkgs"
    assert os.path.samefile(cache / "dense-1.0-0/share/dense.bin", prefix / "share/dense.bin")
    assert not (elsewhere / "cache/pkgs").exists()
    assert machine.run(playbook + PIP.replace("env: demo", f"env: {prefix}"), "1.0").status == 0
    data = next(prefix.glob("lib/python*/site-packages/apple_data/data.txt"))
    assert data.stat().st_nlink == 2
    environment = {name: value for name, value in machine.env.items() if name in ("HOME", "NBPROVISION_HOME")}
    found = inventory.caches(nbprovision.machine.machine.Machine(environment, root=tmp_path))
    assert str(cache.parent) in [one.path for one in found]
    assert machine.run(playbook, "2.0").status == 0
    told = subprocess.run(
        [*_program(), "clean", "--format", "json"],
        env={**machine.env, "PYTHONPATH": str(_ROOT)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert not (cache / "dense-1.0-0").exists(), told.stdout
    assert (cache / "dense-2.0-0").exists()


_ROOT = Path(__file__).parents[2]


def _program() -> list[str]:
    import sys

    return [sys.executable, "-m", "nbprovision"]


@pytest.mark.campaign
@pytest.mark.parametrize("work", ["conda", "pip", "index", "first", "copy", "channel"])
def test_every_step_from_0_to_200_mb(machine: Machine, work: str) -> None:
    ended = {
        "conda": lambda: update(machine, CONDA, LONG),
        "pip": lambda: (machine.run(CONDA, "1.0"), update(machine, PIP, LONG))[1],
        "index": lambda: update(machine, INDEX, LONG),
        "first": lambda: first(machine, LONG),
        "copy": lambda: copy(machine, LONG),
        "channel": lambda: build(machine, LONG),
    }[work]()
    counted = {how: ended.count(how) for how in sorted(set(ended))}
    print(f"{work}: {len(ended)} steps: {counted}")
    assert "done" in counted
    assert len(counted) > 1
