"""`nbprovision diff`: locks, lists, machines and environments; what differs, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import rattler
from rattler import LockChannel, LockFile, LockPlatform, PackageRecord, RepoDataRecord
from rattler.package.build_string import BuildString

from nbprovision.cli import main
from nbprovision.conda.ensure_conda_env import EnsureCondaEnv
from nbprovision.lock.comparison import compare
from nbprovision.lock.contents import Contents, Package
from nbprovision.lock.installed import platform
from nbprovision.machine.machine import Machine
from tests.conftest import Channel
from tests.support.conda_packages import TinyChannel
from tests.support.driver import converge
from tests.support.exporting import by_hand
from tests.support.pip_environment import venv
from tests.support.wheels import make_wheel

FORGE = "https://conda.anaconda.org/conda-forge"
OTHER = "linux-aarch64" if platform() == "linux-64" else "linux-64"


class Ran(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def rows(self) -> list[list[str]]:
        """The cells of the tables, without their heads."""
        lines = [line.split() for line in self.out.splitlines() if line.startswith("  ")]
        return [line for line in lines if line[:2] != ["name", "from"]]


Diff = Callable[..., Ran]


@pytest.fixture
def diff(
    env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Diff:
    """Run the command in a folder of its own."""
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)

    def run(*words: str | Path) -> Ran:
        capsys.readouterr()
        status = main(["diff", *map(str, words)])
        return Ran(status, *capsys.readouterr())

    return run


def pixi_lock(path: Path, environments: dict[str, dict[str, Sequence[str]]], channel: str = FORGE) -> Path:
    """A lock file as py-rattler writes it: packages as ``NAME VERSION BUILD``, by environment and platform."""
    platforms = {name: LockPlatform(name) for name in sorted({p for each in environments.values() for p in each})}
    lock = LockFile(list(platforms.values()))
    for name, by_platform in environments.items():
        lock.set_channels(name, [LockChannel(channel)])
        for subdir, packages in by_platform.items():
            for text in packages:
                package, version, build = text.split()
                record = PackageRecord(package, version, BuildString(build), 0, subdir)
                file = f"{package}-{version}-{build}.conda"
                found = RepoDataRecord(record, file, f"{channel}/{subdir}/{file}", channel)
                lock.add_conda_package(name, platforms[subdir], found)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock.to_path(path)
    return path


def pylock(path: Path, *packages: str) -> Path:
    """A pylock.toml: packages as ``NAME VERSION``, and a marker if there is one."""
    entries = []
    for text in packages:
        name, version, *marker = text.split(" ", 2)
        file = f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
        wheel = f'{{url = "https://files.example.org/{file}", hashes = {{sha256 = "{"0" * 64}"}}}}'
        more = f"marker = {marker[0]!r}\n" if marker else ""
        entries.append(f'[[packages]]\nname = "{name}"\nversion = "{version}"\n{more}wheels = [{wheel}]\n')
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('lock-version = "1.0"\ncreated-by = "uv"\n' + "".join(entries))
    return path


# --------------------------------------------------------------------------------------------------------------- two locks


def test_two_locks(diff: Diff, tmp_path: Path) -> None:
    here = platform()
    pixi_lock(
        tmp_path / "a/pixi.lock",
        {
            "risk": {here: ["pip 24.0 0"]},
            "fraud": {here: ["numpy 1.26.4 py312_0", "pip 24.0 0", "six 1.16 0", "old 1.0 0"]},
            "gone": {here: ["pip 24.0 0"]},
        },
    )
    pixi_lock(
        tmp_path / "b/pixi.lock",
        {
            "risk": {here: ["pip 24.0 0"]},
            "fraud": {here: ["numpy 2.0.1 py312_0", "pip 24.0 1", "six 1.16 0", "new 1.0 0"]},
        },
    )
    ran = diff("a", "b")
    assert ran.status == 3
    assert ran.out.splitlines() == [
        "fraud: 4 differences",
        "  name   from    to      channel",
        "  new    -       1.0     conda-forge",
        "  numpy  1.26.4  2.0.1   conda-forge",
        "  old    1.0     -       conda-forge",
        "  pip    24.0 0  24.0 1  conda-forge",
        "gone: only in a",
        "risk: the same (1 package)",
        "2 of 3 environments differ, in 4 packages",
    ]
    same = diff("a/pixi.lock", "a")
    assert (same.status, same.out.splitlines()[-1]) == (0, "no differences in 3 environments")
    document = json.loads(diff("a", "b", "--format", "json").out)
    assert document["from"] == {"name": "a", "kind": "lock"}
    assert document["same"] is False
    assert [(each["name"], each["status"], each["compared"]) for each in document["environments"]] == [
        ("fraud", "different", 5),
        ("gone", "only_from", 0),
        ("risk", "same", 1),
    ]
    numpy = {"kind": "conda", "build": "py312_0", "channel": "conda-forge", "sha256": None}
    differences = document["environments"][0]["differences"]
    assert differences[0]["from"] is None
    assert differences[1] == {
        "name": "numpy", "from": {**numpy, "version": "1.26.4"}, "to": {**numpy, "version": "2.0.1"},
    }  # fmt: skip
    only = diff("a", "b", "--env", "risk")
    assert (only.status, only.out.splitlines()[0]) == (0, "risk: the same (1 package)")
    missing = diff("a", "b", "--env", "gone")
    assert missing.status == 4
    assert "b has no environment 'gone'" in missing.err
    assert "name one of: fraud, risk" in missing.err


def test_all_platforms_that_both_locks_have_are_compared(diff: Diff, tmp_path: Path) -> None:
    pixi_lock(tmp_path / "a.lock", {"x": {"linux-64": ["six 1.16 0"], "linux-aarch64": ["six 1.16 0"]}})
    pixi_lock(tmp_path / "b.lock", {"x": {"linux-64": ["six 1.16 0"], "linux-aarch64": ["six 1.17 0"]}})
    pixi_lock(tmp_path / "c.lock", {"x": {"linux-aarch64": ["six 1.17 0"]}})
    both = diff("a.lock", "b.lock")
    assert both.out.splitlines()[:2] == ["x (linux-64): the same (1 package)", "x (linux-aarch64): 1 difference"]
    assert diff("a.lock", "b.lock", "--platform", "linux-64").status == 0
    assert diff("a.lock", "b.lock", "--platform", "linux-aarch64").status == 3
    assert diff("b.lock", "c.lock").status == 0, "one platform decides for the other side"
    wrong = diff("a.lock", "b.lock", "--platform", "osx-arm64")
    assert wrong.status == 4
    assert "has packages for linux-64, linux-aarch64" in wrong.err


def test_a_lock_of_version_6(diff: Diff, tmp_path: Path) -> None:
    pixi_lock(tmp_path / "new.lock", {"default": {"linux-64": ["numpy 1.10 py312_0"]}})
    (tmp_path / "old.lock").write_text(
        f"""\
version: 6
environments:
  default:
    channels:
    - url: {FORGE}/
    indexes:
    - https://pypi.org/simple
    packages:
      linux-64:
      - conda: {FORGE}/linux-64/numpy-1.10-py312_0.conda
      - pypi: https://files.example.org/six-1.10-py3-none-any.whl
packages:
- conda: {FORGE}/linux-64/numpy-1.10-py312_0.conda
  sha256: {"0" * 64}
  md5: {"0" * 32}
  depends:
  - python >=3.12
- pypi: https://files.example.org/six-1.10-py3-none-any.whl
  name: six
  version: 1.10
"""
    )
    ran = diff("old.lock", "new.lock")
    assert ran.rows == [["six", "1.10", "-", "pip"]]


ARCHIVE = f"{FORGE}/noarch/six-1.16-py_0.conda"
# A package that is built from sources, as versions 6 and 7 of pixi.lock describe it, and what differs.
SOURCES = {
    "a folder in version 6": (
        6,
        "- conda: ../app",
        "- conda: ../app\n  name: app\n  version: {}",
        ("0.1", "0.2"),
        ["app", "0.1", "0.2", "../app"],
    ),
    "one of two packages of a folder": (
        6,
        "- conda: ../app\n        build: second",
        "- conda: ../app\n  name: app\n  build: first\n- conda: ../app\n  name: app\n  version: {}\n  build: second",
        ("0.1", "0.2"),
        ["app", "0.1", "0.2", "../app"],
    ),
    "a commit in version 6": (
        6,
        "- conda: app",
        "- conda: app\n  name: app\n  version: 1.0\n  package_build_source: {{git: https://h/app, rev: {}}}",
        ("abc1", "abc2"),
        ["app", "1.0", "1.0", "app"],
    ),
    "a folder in version 7": (
        7,
        '- conda_source: "app[12345678] @ ../app"',
        '- conda_source: "app[12345678] @ ../app"\n  version: {}',
        ("0.1", "0.2"),
        ["app", "0.1", "0.2", "../app"],
    ),
    "a commit in version 7": (
        7,
        '- conda_source: "app[12345678] @ git+https://u:pass-word@h/app#{}"',
        '- conda_source: "app[12345678] @ git+https://u:pass-word@h/app#{}"\n  version: 1.0',
        ("abcdef1", "abcdef2"),
        ["app", "1.0", "1.0", "git+https://h/app#abcdef1", "->", "git+https://h/app#abcdef2"],
    ),
    "a commit of a distribution": (
        7,
        "- pypi: git+https://h/app?rev=main#{}",
        "- pypi: git+https://h/app?rev=main#{}\n  name: app",
        ("abcdef1", "abcdef2"),
        ["app", "?", "abcdef1", "?", "abcdef2", "git+https://h/app?rev=main#abcdef1", "->",
         "git+https://h/app?rev=main#abcdef2"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", SOURCES)
def test_packages_that_are_built_from_sources_are_compared(diff: Diff, tmp_path: Path, what: str) -> None:
    version, selected, described, values, row = SOURCES[what]
    for name, value in zip("ab", values, strict=True):
        (tmp_path / f"{name}.lock").write_text(
            f"version: {version}\nenvironments:\n  default:\n    packages:\n      linux-64:\n"
            f"      {selected.format(value)}\npackages:\n{described.format(value)}\n"
        )
    assert diff("a.lock", "b.lock").rows == [row]
    assert diff("a.lock", "a.lock").out.splitlines()[0] == "default: the same (1 package)"


def test_platforms_with_names_of_their_own(diff: Diff, tmp_path: Path) -> None:
    """Two platforms of the same subdir are two lists; the one of another name is what remains to compare with."""

    def written(name: str, **versions: str) -> None:
        names = {"cpu": "linux-64", "new": "linux-64-cuda-12-4", "old": "linux-64-cuda-11"}
        lines = ["version: 7", "platforms:"]
        lines += [f"- name: {names[key]}\n  subdir: linux-64" for key in versions]
        lines += ["environments:", "  default:", "    packages:"]
        archive = f"{FORGE}/linux-64/six-{{}}-0.conda"
        lines += [f"      {names[key]}: [{{conda: {archive.format(value)}}}]" for key, value in versions.items()]
        lines += ["packages:", *(f"- conda: {archive.format(value)}" for value in sorted(set(versions.values())))]
        (tmp_path / name).write_text("\n".join(lines))

    written("a.lock", cpu="1", new="2")
    written("b.lock", cpu="1", new="3")
    written("cpu.lock", cpu="1")
    written("gpu.lock", new="3")
    written("gpus.lock", new="3", old="4")
    assert diff("a.lock", "b.lock").out.splitlines()[:2] == [
        "default (linux-64): the same (1 package)",
        "default (linux-64-cuda-12-4): 1 difference",
    ]
    assert diff("a.lock", "b.lock", "--platform", "linux-64").status == 0
    assert diff("a.lock", "b.lock", "--platform", "linux-64-cuda-12-4").rows == [["six", "2", "3", "conda-forge"]]
    assert diff("cpu.lock", "a.lock").status == 0
    assert diff("a.lock", "gpu.lock").rows == [["six", "2", "3", "conda-forge"]]
    assert diff("cpu.lock", "gpu.lock").rows == [["six", "1", "3", "conda-forge"]]
    unclear = diff("cpu.lock", "gpus.lock")
    assert (unclear.status, unclear.out) == (4, "")
    assert "gpus.lock has several platforms for linux-64" in unclear.err
    assert "they are linux-64-cuda-12-4, linux-64-cuda-11" in unclear.err
    chosen = diff("cpu.lock", "gpus.lock", "--platform", "linux-64-cuda-11")
    assert chosen.rows == [["six", "1", "4", "conda-forge"]]
    assert json.loads(diff("gpu.lock", "gpus.lock", "--format", "json").out)["environments"][0]["status"] == "same"


def test_the_comments_for_pip_in_a_list_of_conda_lock(diff: Diff, tmp_path: Path) -> None:
    for name, version in (("a", "1.0"), ("b", "2.0")):
        pip = f"# pip x_y @ https://h/x_y-{version}-py3-none-any.whl#sha256={'0' * 64}"
        (tmp_path / f"conda-{name}.lock").write_text(f"@EXPLICIT\n{ARCHIVE}\n{pip}\n")
    assert diff("conda-a.lock", "conda-b.lock").rows == [["x-y", "1.0", "2.0", "pip"]]


def test_a_name_that_a_list_has_twice(diff: Diff, tmp_path: Path) -> None:
    lists = {"a": "six==1.0 six==1.0 pip==2.0", "b": "six==2.0 six==1.0 pip==2.0", "c": "six==3.0 six==2.0 pip==2.0"}
    for name, lines in lists.items():
        (tmp_path / f"{name}.txt").write_text(lines.replace(" ", "\n"))
    assert diff("a.txt", "a.txt").out.splitlines()[0] == "environment: the same (2 packages)"
    assert diff("b.txt", "b.txt").status == 0
    assert diff("a.txt", "b.txt").rows == [["six", "-", "2.0"]]
    assert diff("b.txt", "c.txt").rows == [["six", "1.0", "3.0"]]


def test_a_digest_counts_if_both_sides_have_it(diff: Diff, tmp_path: Path) -> None:
    for name, digest in (("a", "0" * 64), ("b", "1" * 64)):
        (tmp_path / f"{name}.txt").write_text(f"@EXPLICIT\n{FORGE}/noarch/six-1.16-0.conda#sha256:{digest}\n")
    (tmp_path / "c.txt").write_text(f"# platform: linux-64\n@EXPLICIT\n{FORGE}/noarch/six-1.16-0.conda#{'2' * 32}\n")
    assert diff("a.txt", "b.txt").rows == [
        ["six", "1.16", "0", "sha256:000000000000", "1.16", "0", "sha256:111111111111", "conda-forge"]
    ]
    assert diff("a.txt", "c.txt").status == 0


def test_pylock_adds_to_the_environment_of_its_name(diff: Diff, tmp_path: Path) -> None:
    for folder, version in (("a", "2.0"), ("b", "2.1")):
        packages = ["python 3.12.1 0", "apple 1.0 0", "jupyter_core 5.0 0"]
        pixi_lock(tmp_path / folder / "pixi.lock", {"fraud": {"linux-64": packages, "linux-aarch64": packages}})
        pylock(
            tmp_path / folder / "pylock.fraud.toml",
            f"apple {version}",
            f"arm {version} platform_machine == 'aarch64'",
            f"old {version} python_version < '3.12'",
        )
        pylock(tmp_path / folder / "pylock.venv.toml", "pear 1.0")
    ran = diff("a", "b")
    assert ran.out.splitlines() == [
        "fraud (linux-64): 1 difference",
        "  name   from  to   channel",
        "  apple  2.0   2.1  pip",
        "fraud (linux-aarch64): 2 differences",
        "  name   from  to   channel",
        "  apple  2.0   2.1  pip",
        "  arm    2.0   2.1  pip",
        "venv: the same (1 package)",
        "2 of 3 environments differ, in 3 packages",
    ]
    assert diff("a/pylock.venv.toml", "b", "--env", "venv").status == 0
    assert diff("a/pylock.fraud.toml", "b/pylock.fraud.toml", "--format", "json").status == 3


def test_the_index_of_a_lock_has_the_names_of_its_environments(diff: Diff, tmp_path: Path) -> None:
    """The name of a file cannot have dots; a lock without packages has no other file."""
    pixi_lock(tmp_path / "a.lock/pixi.lock", {"py3.12": {"linux-64": ["python 3.12.1 0"]}})
    pylock(tmp_path / "a.lock/pylock.py3-12.toml", "apple 1.0")
    pylock(tmp_path / "a.lock/pylock.py3-13.toml", "apple 1.0")
    entries = {name: {"pylock": f"pylock.{name.replace('.', '-')}.toml"} for name in ("py3.12", "py3.13")}
    (tmp_path / "a.lock/index.json").write_text(json.dumps({"environments": entries}))
    assert diff("a.lock", "a.lock").out.splitlines()[:2] == [
        "py3.12 (linux-64): the same (2 packages)",
        "py3.13: the same (1 package)",
    ]
    (tmp_path / "none.lock").mkdir()
    (tmp_path / "none.lock/index.json").write_text("{}")
    assert diff("none.lock", "a.lock").out.splitlines()[:2] == [
        "py3.12 (linux-64): only in a.lock",
        "py3.13: only in a.lock",
    ]


# ------------------------------------------------------------------------------------------------------------- this machine


@pytest.mark.engine
def test_a_lock_and_this_machine(diff: Diff, machine: Machine, tmp_path: Path) -> None:
    channel = TinyChannel(tmp_path / "channel")
    for version in ("1.0", "2.0"):
        channel.add("apple", version)
    for name in ("fraud", "other"):
        converge(EnsureCondaEnv(name=name, packages=["apple=1.0"], channels=[channel.url]), machine)
    lock = pixi_lock(
        tmp_path / "team.lock/pixi.lock",
        {"fraud": {platform(): ["apple 1.0 0"], OTHER: ["apple 3.0 0"]}},
        channel.url,
    )
    same = diff("team.lock", "machine")
    assert (same.status, same.out) == (0, "fraud: the same (1 package)\nno differences in 1 environment\n")
    lock.with_name("old.lock").write_bytes(lock.read_bytes())
    assert diff("team.lock/old.lock", "machine").out == same.out
    converge(EnsureCondaEnv(name="fraud", packages=["apple=2.0"], channels=[channel.url]), machine)
    assert diff("team.lock", "machine").rows == [["apple", "1.0", "2.0", channel.url]]
    assert diff("machine", lock).rows == [["apple", "2.0", "1.0", channel.url]]
    assert diff(lock, "fraud").status == 3
    prefix = machine.prefix_of("other")
    assert diff(lock, prefix).status == 0, "the lock has a single environment, which is compared with this one"
    assert diff("fraud", "other").rows == [["apple", "2.0", "1.0", channel.url]]
    assert diff("other", prefix).status == 0
    pixi_lock(lock, {"fraud": {platform(): ["apple 2.0 0"]}, "new": {platform(): ["apple 2.0 0"]}}, channel.url)
    assert diff("team.lock", "machine").out.splitlines()[1:] == [
        "new: only in team.lock",
        "1 of 2 environments differs",
    ]
    unclear = diff("team.lock", prefix)
    assert unclear.status == 4
    assert "it has fraud, new" in unclear.err
    assert diff("team.lock", prefix, "--env", "fraud").status == 3
    assert diff("team.lock", "machine", "--env", "nowhere").status == 4


@pytest.mark.engine
def test_two_machines(diff: Diff, env: dict[str, str], machine: Machine, tmp_path: Path) -> None:
    """One sends its facts to the other; what `export` writes has the requested packages alone."""
    channel = TinyChannel(tmp_path / "channel")
    for version in ("1.0", "2.0"):
        channel.add("apple", version, depends=["core"])
    channel.add("core", "1.0")
    channel.add("core", "1.1")
    converge(EnsureCondaEnv(name="fraud", packages=["apple=1.0", "core=1.0"], channels=[channel.url]), machine)
    converge(EnsureCondaEnv(name="only", packages=["core=1.0"], channels=[channel.url]), machine)
    told = {}
    for name, words in (
        ("facts.json", ("facts", "--packages", "--format", "json")),
        ("bare.json", ("facts", "--format", "json")),
        ("pinned.yml", ("export", "--pinned", "fraud")),
        ("asked.yml", ("export", "fraud")),
    ):
        command = [sys.executable, "-m", "nbprovision", *words]
        told[name] = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
        (tmp_path / name).write_text(told[name])
    assert diff("facts.json", "machine").status == 0
    assert diff("pinned.yml", "machine").out == "fraud: the same (2 packages)\nno differences in 1 environment\n"
    (other,) = (each for each in json.loads(told["facts.json"])["environments"] if each["name"] == "fraud")
    assert [package["name"] for package in other["packages"]] == ["apple", "core"]
    converge(EnsureCondaEnv(name="fraud", packages=["apple=2.0", "core=1.1"], channels=[channel.url]), machine)
    converge(EnsureCondaEnv(name="new", packages=["core=1.0"], channels=[channel.url]), machine)
    ran = diff("facts.json", "machine")
    assert [row[:3] for row in ran.rows] == [["apple", "1.0", "2.0"], ["core", "1.0", "1.1"]]
    assert ran.out.splitlines()[-3:] == [
        "new: only in machine",
        "only: the same (1 package)",
        "2 of 3 environments differ, in 2 packages",
    ]
    assert diff("pinned.yml", "machine").rows == ran.rows
    bare = diff("bare.json", "machine")
    assert bare.status == 4
    assert "facts --packages --format json" in bare.err
    if "core=" not in told["asked.yml"]:
        asked = diff("asked.yml", "machine")
        assert (asked.status, "export --pinned" in asked.err) == (4, True)


@pytest.mark.engine
@pytest.mark.network
def test_what_pip_replaced_counts_and_not_its_conda_package(
    diff: Diff, env: dict[str, str], machine: Machine, channel: Channel, tmp_path: Path
) -> None:
    six = make_wheel(tmp_path / "wheels", "six", "1.17.0")
    make_wheel(tmp_path / "wheels", "apple", "1.0")
    env["PIP_FIND_LINKS"] = str(six.parent)
    packages = [f"python={channel.python}", "six=1.16.0"]
    converge(EnsureCondaEnv(name="here", packages=packages, channels=[channel.url]), machine)
    converge(EnsureCondaEnv(name="there", packages=packages, channels=[channel.url]), machine)
    assert diff("here", "there").status == 0
    by_hand(env, "uv", machine.prefix_of("there"), "apple", "six==1.17.0")
    ran = diff("here", "there")
    assert [row[:5] for row in ran.rows] == [
        ["apple", "-", "1.0", "pip"],
        ["six", "1.16.0", "(conda)", "1.17.0", "(pip)"],
    ]


@pytest.mark.engine
def test_the_lists_of_pip(diff: Diff, env: dict[str, str], tmp_path: Path) -> None:
    """A virtual environment with what pip itself says of it."""
    wheels = tmp_path / "wheels"
    for name, version in (("apple", "1.0"), ("pear-tree", "2.0")):
        make_wheel(wheels, name, version)
    prefix = venv(tmp_path / "venv")
    env["PIP_FIND_LINKS"] = str(wheels)
    by_hand(env, "uv", prefix, "apple", "pear-tree")
    (tmp_path / "list.json").write_text(
        '[{"name": "apple", "version": "1.0"}, {"name": "Pear_Tree", "version": "2.0"}]'
    )
    (tmp_path / "r.txt").write_text("apple==1.0.0  # the same version\nPear.Tree==2.0\nold==1; python_version < '3'\n")
    assert diff("list.json", prefix).out.splitlines()[0] == "venv: the same (2 packages)"
    assert diff("r.txt", "venv/").status == 0
    assert diff(pylock(tmp_path / "pylock.toml", "apple 1.0", "pear-tree 2.0"), prefix).status == 0
    by_hand(env, "uv", prefix, f"{make_wheel(wheels, 'apple', '1.1')}")
    for file in ("list.json", "r.txt", "pylock.toml"):
        assert [row[0] for row in diff(file, prefix).rows] == ["apple"]
    (tmp_path / "r.txt").write_text("apple==1.1\n")
    assert [row[:2] for row in diff("r.txt", prefix).rows] == [["pear-tree", "-"]]


# ----------------------------------------------------------------------------------------------------------------- lists


CONDA_LIST = json.dumps(
    [
        {
            "base_url": "https://conda.anaconda.org/conda-forge", "build_number": 0, "build_string": "py312_0",
            "channel": "conda-forge", "dist_name": "numpy-1.26.4-py312_0", "name": "numpy", "platform": "linux-64",
            "version": "1.26.4",
        },
        {
            "base_url": "https://conda.anaconda.org/pypi", "build_number": 0, "build_string": "pypi_0",
            "channel": "pypi", "dist_name": "six-1.16.0-pypi_0", "name": "six", "platform": "pypi", "version": "1.16.0",
        },
    ]
)  # fmt: skip
LISTS = {
    "conda.json": CONDA_LIST,
    "pip.json": '[{"name": "numpy", "version": "1.26.4"}, {"name": "six", "version": "1.16.0"}]',
    "full.yml": "name: x\ndependencies: [numpy=1.26.4=py312_0, pip: [six==1.16.0]]\n",
    "asked.yml": "dependencies:\n- conda-forge::numpy=1.26\n- pip: [six==1.16]\n",
    "requirements.txt": "-i https://example.org/simple\nnumpy==1.26.4 \\\n  --hash=sha256:{0}\nsix==1.16.0 --hash=sha256:{0}\n".format(
        "0" * 64
    ),
    "explicit.txt": f"@EXPLICIT\n{FORGE}/linux-64/numpy-1.26.4-py312_0.conda\n{FORGE}/noarch/six-1.16.0-0.tar.bz2\n",
}


@pytest.mark.parametrize("first", LISTS)
@pytest.mark.parametrize("second", LISTS)
def test_lists_of_the_same_packages(diff: Diff, tmp_path: Path, first: str, second: str) -> None:
    for name, text in LISTS.items():
        (tmp_path / name).write_text(text)
    ran = diff(first, second)
    by_conda = [name == "explicit.txt" for name in (first, second)]
    by_pip = [name in ("conda.json", "full.yml", "asked.yml") for name in (first, second)]
    # Only the list of URLs has six from conda.
    expected = ["six"] if (by_conda[0] and by_pip[1]) or (by_pip[0] and by_conda[1]) else []
    assert ([row[0] for row in ran.rows], ran.status) == (expected, 3 if expected else 0), ran.err


# ----------------------------------------------------------------------------------------------------------- the comparison


def of(*packages: str, **more: Any) -> Contents:
    """Packages as ``KIND NAME VERSION BUILD``; ``any`` is of no known kind."""
    made = []
    for text in packages:
        kind, name, version, *build = text.split()
        known: Any = None if kind == "any" else kind
        made.append(Package(name=name, kind=known, version=version, build=build[0] if build else None))
    return Contents(name="x", packages=tuple(made), **more)


@pytest.mark.parametrize(
    ("left", "right", "names"),
    [
        (of("conda a 1 0"), of("conda a 1 0"), []),
        (of("conda a 1 0"), of("conda a 1 1"), ["a"]),
        (of("conda a 1 0"), of("conda a 1"), []),
        (of("conda a 1.0"), of("conda a 1.0.0"), ["a"]),
        (of("pip a 1.0"), of("pip a 1.0.0"), []),
        (of("pip a 1.0rc1"), of("pip a 1.0.rc.1"), []),
        (of("pip a 1.0rc1"), of("pip a 1.0"), ["a"]),
        (of("pip a soon"), of("pip a 1.0"), ["a"]),
        (of("pip a 1.0 0123abc"), of("pip a 1.0 4567def"), ["a"]),
        (of("conda a_b 1"), of("pip a-b 1"), ["a_b"]),
        (of("conda a_b 1"), of("any a-b 1"), []),
        (of("conda a 1 h0", platform="linux-64"), of("conda a 1 h1", platform="linux-aarch64"), []),
        (of("conda a 1 h0", platform="linux-64"), of("conda a 2 h1", platform="linux-aarch64"), ["a"]),
        (of("conda ruamel.yaml 1", "conda ruamel_yaml 2"), of("conda ruamel.yaml 1", "conda ruamel_yaml 2"), []),
        # Of a conda package with another name.
        (of("conda pytorch 2", provided={"torch": "2.0"}), of("any torch 2", scope="distributions"), []),
        (of("pip torch 2.1"), of("conda pytorch 2", provided={"torch": "2.0"}), ["pytorch", "torch"]),
        # The Python of a virtual environment is not a package.
        (of(own_python="3.12.1"), of(own_python="3.12"), []),
        (of(own_python="3.12.1"), of(own_python="3.11.7"), ["python"]),
        (of(own_python="3.12.1"), of("conda python 3.12.1 0"), []),
        (of(own_python="3.12.1"), of("conda python 3.12.2 0", own_python="3.12.2"), ["python"]),
        (
            of("conda python 3.12.1 0", own_python="3.12.1"),
            of("conda python 3.12.1 1", own_python="3.12.1"),
            ["python"],
        ),
        (of("pip a 1"), of("pip a 1", own_python="3.12.1"), []),
        # What a list leaves out.
        (of("conda a 1"), of("conda a 1", "pip b 1"), ["b"]),
        (of("any b 1", scope="distributions"), of("conda a 1", "pip b 1", "pip c 1"), ["c"]),
        (of("pip b 1", scope="added"), of("conda a 1", "pip b 1", "pip c 1"), []),
        (of("pip b 1", scope="added"), of("pip b 1", "pip c 1"), ["c"]),
        (of("pip b 1", scope="named"), of("pip b 1", "pip c 1"), []),
        (of("pip b 1", scope="named"), of("pip c 1"), ["b"]),
    ],
)
def test_what_differs(left: Contents, right: Contents, names: list[str]) -> None:
    forward, back = compare(left, right), compare(right, left)
    assert [each.name for each in forward.differences] == names
    assert len(back.differences) == len(names)
    assert [(each.before, each.after) for each in forward.differences] == sorted(
        ((each.after, each.before) for each in back.differences),
        key=lambda sides: (sides[0] or sides[1]).name,  # type: ignore[union-attr]
    ) or len(names) > 1


# ----------------------------------------------------------------------------------------------------------------- errors


BAD = {
    "not-yaml.lock": ("version: 7\npackages: [\n", "not-yaml.lock:3:1", "is not YAML"),
    "text.lock": ("hello\n", "text.lock:1:1", "is not a pixi.lock"),
    "future.lock": ("version: 9\nenvironments: {}\n", "future.lock:1:1", "has version 9 of the format"),
    "url.lock": (
        "version: 6\nenvironments: {x: {packages: {linux-64: [{conda: ../x}]}}}\n", "url.lock:2:1", "does not describe ../x"
    ),
    "alias.lock": ("version: 6\nenvironments: &a {}\npackages: *a\n", "alias.lock:3:1", "alias"),
    "deep.lock": ("[" * 100_000, "deep.lock:1:", "is not a pixi.lock"),
    "flat.lock": ("- " * 100_000, "flat.lock:1:", "is not a pixi.lock"),
    "pylock.toml": ("created-by = 'x'\nlock-version = '9'\npackages = []\n", "pylock.toml:2:1", "lock files is not supported: 9"),
    "pylock.x.toml": ("x = 1\n[[[", "pylock.x.toml:2:3", "is not TOML"),
    "pylock.y.toml": (
        "lock-version = '1.0'\ncreated-by = 'x'\n[[packages]]\nname = 'y'\ndirectory.path = '.'\nmarker = 'extra == \"z\"'\n",
        "pylock.y.toml:3:1", "the marker of y cannot be evaluated",
    ),
    "unpinned.txt": ("six==1.0\nnumpy>=1\n", "unpinned.txt:2:1", "'numpy>=1' names no version"),
    "empty.txt": ("", "empty.txt:1:1", "has no packages"),
    "comment.txt": ("# pip freeze failed\n", "comment.txt:1:1", "has no packages"),
    "star.txt": ("six==1.*\n", "star.txt:1:1", "names no version"),
    "unpinned.yml": ("dependencies: [numpy]\n", "unpinned.yml:1:1", "names no version of 'numpy'"),
    "explicit.txt": ("@EXPLICIT\n\nhttps://example.org/x\n", "explicit.txt:3:1", "not the URL of a package"),
    "list.json": ('{"a": 1}', "list.json:1:1", "is not a list of packages"),
    "broken.json": ("[" * 100_000, "broken.json:1:1", "is not a list of packages"),
    "binary.lock": ("\x00", "binary.lock:1:1", "is not a pixi.lock"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_file_is_shown_with_its_place(diff: Diff, tmp_path: Path, name: str) -> None:
    text, place, message = BAD[name]
    (tmp_path / name).write_text(text)
    (tmp_path / "good.json").write_text('[{"name": "six", "version": "1"}]')
    ran = diff(name, "good.json")
    assert ran.status == 4
    assert place in ran.err
    assert message in ran.err
    assert "fix: " in ran.err
    assert ran.out == ""


def test_a_word_that_means_nothing(diff: Diff, tmp_path: Path) -> None:
    (tmp_path / "good.json").write_text('[{"name": "six", "version": "1"}]')
    (tmp_path / "folder").mkdir()
    (tmp_path / "latin.txt").write_bytes(b"\xe9")
    for word, message in (
        ("nowhere", "there is no environment 'nowhere'"),
        ("./nowhere", "./nowhere does not exist"),
        ("folder", "folder cannot be compared"),
        (".", ". cannot be compared"),
        ("/dev/null", "/dev/null cannot be compared"),
        ("latin.txt", "latin.txt is not a text"),
    ):
        ran = diff("good.json", word)
        assert (ran.status, ran.out) == (4, "")
        assert message in ran.err
    assert diff("machine", "machine").status == 4, "this machine has no environment"


def test_no_password_is_shown(diff: Diff, tmp_path: Path) -> None:
    for name, version in (("a", "1.0"), ("b", "2.0")):
        url = "https://user:pass-word-1@conda.example.org/t/tk-secret-9/team/noarch"
        (tmp_path / f"{name}.txt").write_text(f"@EXPLICIT\n{url}/six-{version}-0.conda\n")
        (tmp_path / f"r{name}.txt").write_text(f"apple @ https://user:pass-word-1@example.org/apple-{version}.tar.gz\n")
        lock = pylock(tmp_path / name / "pylock.toml", f"six {version}")
        index = 'index = "https://user:pass-word-1@example.org/simple"\n'
        lock.write_text(lock.read_text().replace("wheels =", f"{index}wheels ="))
    for words in (("a.txt", "b.txt"), ("ra.txt", "rb.txt"), ("a/pylock.toml", "b/pylock.toml")):
        for options in ((), ("--format", "json")):
            ran = diff(*words, *options)
            assert ran.status == 3
            assert "pass-word-1" not in ran.out + ran.err
            assert "tk-secret-9" not in ran.out + ran.err
            assert "example.org" in ran.out


def test_reading_starts_nothing_and_writes_nothing(
    diff: Diff, env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    lock = pixi_lock(tmp_path / "pixi.lock", {"x": {platform(): ["six 1.16 0"]}})
    monkeypatch.setattr(subprocess, "Popen", refuse)
    before = sorted(tmp_path.rglob("*"))
    assert diff(lock, "machine").status == 3
    assert sorted(tmp_path.rglob("*")) == before
    assert not Path(env["NBPROVISION_HOME"]).exists()


def test_py_rattler_reads_the_locks_of_these_tests(tmp_path: Path) -> None:
    lock = pixi_lock(tmp_path / "pixi.lock", {"x": {"linux-64": ["six 1.16 0"]}})
    assert [name for name, _ in rattler.LockFile.from_path(lock).environments()] == ["x"]
