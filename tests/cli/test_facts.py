"""`nbprovision facts`: all that is there, told without a process and without a trace; what is broken is told as such."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nbprovision.cli import facts
from nbprovision.cli.facts import document
from nbprovision.conda.ensure_conda_env import EnsureCondaEnv
from nbprovision.machine.machine import Machine
from nbprovision.report import facts_text
from nbprovision.report.document import masked
from nbprovision.system import unfinished
from nbprovision.system.disk_space import Meter
from tests.support.conda_packages import TinyChannel
from tests.support.driver import converge
from tests.support.provided_conda import Instance

ROOT = Path(__file__).parents[2]

# Says on standard error what was started, and how many files were opened, when the command has ended.
WATCHED = """\
import sys
started, opened = [], []
def hook(event, arguments):
    if event in ("subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.exec", "os.system"):
        started.append(event)
    # A descriptor that is made a stream of was counted when it was opened.
    path = str(arguments[0]) if event == "open" and not isinstance(arguments[0], int) else ""
    if path and not path.endswith((".py", ".so")) and "__pycache__" not in path:
        opened.append(path)
sys.addaudithook(hook)
from nbprovision.__main__ import main
status = main(sys.argv[1:])
print(len(started), len(opened), file=sys.stderr)
sys.exit(status)
"""


def told(env: dict[str, str], *options: str, **more: Any) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", WATCHED, "facts", *options]
    return subprocess.run(words, env=env, cwd=ROOT, capture_output=True, text=True, **more)


def record(prefix: Path, name: str, version: str = "1.0", depends: tuple[str, ...] = ()) -> Path:
    path = prefix / "conda-meta" / f"{name}-{version}-0.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps({"build": "0", "depends": depends, "name": name, "version": version, "files": ["x" * 5000]})
    )
    return path


def environment(prefix: Path) -> Path:
    record(prefix, "python", "3.11.7")
    record(prefix, "pip", "24.0", ("python >=3.8,<3.13.0a0", "__unix"))
    (prefix / "bin").mkdir()
    (prefix / "bin/python").symlink_to(sys.executable)
    (prefix / "lib/python3.11/site-packages").mkdir(parents=True)
    return prefix


def environments(machine: Machine) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in document(machine)["environments"]}


def kernels(machine: Machine) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in document(machine)["kernels"]}


def kernel(folder: Path, argv: list[str], **more: Any) -> None:
    folder.mkdir(parents=True)
    spec = {"argv": argv, "display_name": folder.name.title(), "language": "python", **more}
    (folder / "kernel.json").write_text(json.dumps(spec))


# ------------------------------------------------------------------------------------------------------------ the command


def test_a_bare_machine(env: dict[str, str], tmp_path: Path) -> None:
    for options in ((), ("--format", "json"), ("--sizes",)):
        done = told(env, *options)
        assert done.returncode == 0, done.stderr
        assert done.stderr.split()[0] == "0", "a process was started"
    assert "no environment was found" in done.stdout
    assert not (tmp_path / "nbprovision").exists()
    assert list((tmp_path / "home").iterdir()) == []


def test_twenty_environments_are_told_by_opening_each_record_once(env: dict[str, str]) -> None:
    home = Path(env["NBPROVISION_HOME"])
    for number in range(20):
        environment(home / f"envs/e{number}")
        kernel(Path(env["HOME"]) / f".local/share/jupyter/kernels/k{number}", [f"{home}/envs/e{number}/bin/python"])
    done = told(env, "--format", "json")
    started, opened = map(int, done.stderr.split())
    assert started == 0
    assert opened <= 20 * 3 + 40  # two records and a kernel each
    found = json.loads(done.stdout)
    assert [one["state"] for one in found["environments"]] == ["ready"] * 20
    assert found["environments"][0]["kernels"] == ["k0"]
    assert not (home / "log").exists()


def test_the_document_has_the_keys_that_the_reference_tells_of(instance: Instance, tmp_path: Path) -> None:
    environment(instance.prefix("python3"))
    kernel(Path(instance.env["HOME"]) / ".local/share/jupyter/kernels/k", ["/bin/cat"])
    (instance.machine.home / "cache/pkgs").mkdir(parents=True)
    reference = (ROOT / "docs/reference.md").read_text().partition("### The document of facts")[2].partition("\n## ")[0]
    words = set(re.findall(r"`([a-z_]+)`", reference))

    def keys(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            for key, one in value.items():
                yield key
                yield from keys(one)
        elif isinstance(value, list):
            for one in value:
                yield from keys(one)

    found = document(instance.machine, sizes=True, packages=True)
    assert set(keys(found)) - words == set()
    assert all(found[section] for section in ("environments", "kernels", "indexes", "caches", "space"))


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, to whom not everything is open")
def test_what_is_not_this_users_to_read(env: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "home").mkdir()
        closed = environment(folder / "nbp/envs/closed")
        python = environment(folder / "nbp/envs/open") / "bin/python"
        python.unlink()
        python.symlink_to("/bin/sh")  # which anybody may start
        (folder / "home/.condarc").write_text("channels: [a]")
        (folder / "home/.condarc").chmod(0)
        (folder / "home/.conda").mkdir(mode=0o700)
        (closed / "conda-meta").chmod(0o711)
        # What it may not read of this very Python and its libraries is loaded before.
        load = (
            "import fcntl, os, yaml, configparser, difflib\nfrom nbprovision.cli import facts, main\nmain(['facts'])\n"
        )
        code = f"import sys\nsys.stdout = open('/dev/null', 'w')\n{load}sys.stdout = sys.__stdout__\n"
        code += "os.setgid(65534)\nos.setuid(65534)\n" + WATCHED
        done = subprocess.run(
            [sys.executable, "-c", code, "facts", "--format", "json", "--sizes", "--packages"],
            env={**env, "HOME": f"{folder}/home", "NBPROVISION_HOME": f"{folder}/nbp", "CONDA_ENVS_DIRS": f"{env['HOME']}/x"},
            cwd=ROOT, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
    assert {one["name"]: one["state"] for one in found["environments"]} == {"closed": "unreadable", "open": "ready"}
    assert {one["name"]: one["packages"] is None for one in found["environments"]} == {"closed": True, "open": False}
    assert any(".condarc is ignored" in text for text in found["warnings"])


# -------------------------------------------------------------------------------------------------------- environments


@pytest.fixture
def instance(env: dict[str, str], tmp_path: Path) -> Instance:
    return Instance(env, tmp_path / "root")


def test_who_made_what(instance: Instance) -> None:
    environment(instance.prefix("python3"))
    environment(instance.prefix("JupyterSystemEnv"))
    volume = instance.root / "home/ec2-user/SageMaker"
    ours = environment(volume / "envs/fraud")
    (ours / "conda-meta/nbprovision").touch()
    theirs = environment(volume / "custom-miniconda/miniconda/envs/custom_python")
    record(volume / "custom-miniconda/miniconda", "conda", "4.6.14")
    (volume / "custom-miniconda/miniconda/condabin").mkdir()
    (volume / "project/.venv/bin").mkdir(parents=True)
    (volume / "project/.venv/pyvenv.cfg").write_text("version = 3.10.4\n")
    found = document(instance.machine)
    assert found["platform"]["kind"] == "notebook-instance"
    assert found["platform"]["because"] == str(volume)
    assert found["space"][0]["path"] == str(volume)
    named = {one["name"]: one for one in found["environments"]}
    assert {name: one["made_by"] for name, one in named.items()} == {
        "base": "platform", "python3": "platform", "JupyterSystemEnv": "platform", "fraud": "nbprovision",
        "custom_python": "other", "miniconda": "other", ".venv": "other",
    }  # fmt: skip
    assert named["custom_python"]["prefix"] == str(theirs)
    assert named["JupyterSystemEnv"]["jupyter_server"]
    assert (named[".venv"]["kind"], named[".venv"]["python"]) == ("virtual", "3.10.4")
    assert named[".venv"]["state"] == "broken interpreter"
    assert [one["conda"] for one in found["conda"]["installations"]] == [None, "4.6.14"]


def test_a_space_of_studio(env: dict[str, str], tmp_path: Path) -> None:
    """Its names, and the kernel of the base, which the server lists because it runs from there."""
    root = tmp_path / "root"
    metadata = root / "opt/ml/metadata/resource-metadata.json"
    metadata.parent.mkdir(parents=True)
    names = {"DomainId": "d-1", "SpaceName": "fraud", "AppType": "JupyterLab", "ResourceName": "default"}
    metadata.write_text(json.dumps(names))
    base = environment(root / "opt/conda")
    (base / "bin/jupyter-lab").touch()
    kernel(base / "share/jupyter/kernels/python3", ["python", "-m", "ipykernel_launcher"])
    machine = Machine(env, root=root)
    found = document(machine)
    assert (found["instance"]["domain"], found["instance"]["space"]) == ("d-1", "fraud")
    (shown,) = found["environments"]
    assert (shown["jupyter_server"], list(shown["kernels"])) == (True, ["python3"])
    text = facts_text.text(found)
    assert "instance   name default, domain d-1, space fraud, app type JupyterLab\n" in text
    assert "\npython3 " in text
    assert machine.variables()["kernels"] == ["python3"]


def test_the_states_of_an_environment(machine: Machine) -> None:
    folder = machine.home / "envs"
    names = ("ready", "half", "gone", "lacks", "clashes", "newer", "torn", "doubled")
    made = {name: environment(folder / name) for name in names}
    unfinished.mark(made["half"], "ensure_conda_env")
    (made["gone"] / "bin/python").unlink()
    (made["gone"] / "bin/python").symlink_to("/nowhere/python")
    record(made["lacks"], "numpy", depends=("libblas >=3.9",))
    record(made["clashes"], "old", depends=("python <3.9",))
    record(made["ready"], "new", depends=("python >=3.11,<3.12.0a0", "python >=3.8|<3", "python[version='<3']"))
    record(made["newer"], "old", depends=("python >=3.8,<3.11.0a0",))
    whole = record(made["torn"], "numpy")
    whole.write_text(whole.read_text()[:-9])
    record(made["doubled"], "pip", "23.0")
    found = environments(machine)
    assert {name: (one["state"], one["because"]) for name, one in found.items()} == {
        "ready": ("ready", None),
        "half": ("unfinished", "a run ended in the middle of ensure_conda_env"),
        "gone": ("broken interpreter", f"{folder}/gone/bin/python is missing, or leads nowhere"),
        "lacks": ("inconsistent", "numpy needs libblas, which is missing"),
        "clashes": ("inconsistent", "old needs python <3.9, but 3.11.7 is installed"),
        "newer": ("inconsistent", "old needs python >=3.8,<3.11.0a0, but 3.11.7 is installed"),
        "torn": ("inconsistent", "the record numpy-1.0-0.json is truncated"),
        "doubled": ("inconsistent", "there are two records of pip"),
    }
    assert found["ready"]["python"] == "3.11.7"
    assert found["ready"]["conda_packages"] == 3


def test_what_pip_brought_is_counted_apart(machine: Machine) -> None:
    packages = environment(machine.home / "envs/x") / "lib/python3.11/site-packages"
    for name, installer in (("pip-24.0", "conda"), ("torch-2.0", "conda"), ("requests-2.0", "pip")):
        (packages / f"{name}.dist-info").mkdir()
        (packages / f"{name}.dist-info/INSTALLER").write_text(f"{installer}\n")
    assert environments(machine)["x"]["pip_packages"] == 1


@pytest.mark.engine
def test_a_real_environment_is_ready_and_one_with_a_record_less_is_not(machine: Machine, tmp_path: Path) -> None:
    tiny = TinyChannel(tmp_path / "tiny")
    tiny.add("alpha", "1.0")
    tiny.add("beta", "1.0", depends=["alpha >=1"])
    converge(EnsureCondaEnv(name="x", packages=["beta"], channels=[tiny.url]), machine)
    machine.forget()
    found = environments(machine)["x"]
    assert (found["state"], found["made_by"], found["conda_packages"]) == ("ready", "nbprovision", 2)
    next((machine.home / "envs/x/conda-meta").glob("alpha-*.json")).unlink()
    assert environments(machine)["x"]["because"] == "beta needs alpha, which is missing"


@pytest.mark.engine
def test_the_distance_from_the_image(instance: Instance, tmp_path: Path) -> None:
    tiny = TinyChannel(tmp_path / "tiny")
    for version in ("1.0", "2.0"):
        tiny.add("core", version)
    tiny.add("more", "1.0")
    instance.provide("python3", tiny.url, "core=1.0")
    instance.provide("other", tiny.url, "core=1.0")
    assert environments(instance.machine)["python3"]["distance"] is None
    assert not instance.machine.home.joinpath("baselines").exists()
    task = f"ensure_conda_pkg: {{env: python3, channels: ['{tiny.url}']"
    instance.run(f"- tasks:\n    - {task}, packages: [core=2.0], allow_platform_changes: true}}\n")
    instance.run(f"- tasks:\n    - {task}, packages: [more]}}\n")
    found = environments(instance.machine)
    assert found["python3"]["distance"] == [
        {"kind": "conda", "name": "core", "from": "1.0 0", "to": "2.0 0", "permitted": True},
        {"kind": "conda", "name": "more", "from": None, "to": "1.0 0", "permitted": False},
    ]
    assert found["other"]["distance"] == []
    text = facts_text.text(masked(document(instance.machine)))
    moved = "python3 differs from its image: core 1.0 0 -> 2.0 0 (permitted), more 1.0 0 added"
    assert moved in text.splitlines()


# -------------------------------------------------------------------------------------------------------------- kernels


def test_which_environment_a_kernel_starts(machine: Machine, home: Path, tmp_path: Path) -> None:
    prefix = environment(machine.home / "envs/fraud")
    folder = home / ".local/share/jupyter/kernels"
    python = str(prefix / "bin/python")
    kernel(folder / "plain", [python, "-m", "ipykernel_launcher"])
    kernel(
        folder / "launched", ["/usr/bin/bash", "-p", f"{folder}/launched/activate.sh", str(prefix), "-", "-", python]
    )
    kernel(folder / "by-conda", ["/opt/conda/bin/conda", "run", "-p", str(prefix), "python"])
    kernel(folder / "gone", ["/nowhere/bin/python", "-m", "ipykernel_launcher"])
    kernel(folder / "on-path", ["julia", "{connection_file}"])
    kernel(prefix / "share/jupyter/kernels/python3", ["python", "-m", "ipykernel_launcher"])
    kernel(machine.root / "usr/share/jupyter/kernels/plain", ["/bin/cat"])
    (folder / "broken").mkdir()
    (folder / "broken/kernel.json").write_text("{")
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "pyvenv.cfg").touch()
    (venv / "bin/python3").symlink_to(sys.executable)
    kernel(folder / "virtual", [f"{venv}/bin/python3", "-m", "ipykernel_launcher"])
    found = [(one["name"], one["scope"], one["prefix"], one["program_exists"]) for one in document(machine)["kernels"]]
    assert sorted(found, key=str) == sorted(
        [
            ("plain", "user", str(prefix), True),
            ("launched", "user", str(prefix), True),
            ("by-conda", "user", str(prefix), False),
            ("gone", "user", None, False),
            ("on-path", "user", None, None),
            ("virtual", "user", str(venv), True),
            ("broken", "user", None, None),
            ("python3", "env", str(prefix), True),
            ("plain", "system", None, True),
        ],
        key=str,
    )
    named = environments(machine)
    assert named["fraud"]["kernels"] == ("by-conda", "launched", "plain")
    assert named["venv"]["kernels"] == ("virtual",)
    hidden = [one for one in document(machine)["kernels"] if one["hidden_by"]]
    assert [(one["scope"], one["hidden_by"]) for one in hidden] == [("system", str(folder / "plain"))]


# ------------------------------------------------------------------------------------------------ indexes and secrets


def test_indexes_as_each_tool_sees_them_without_their_passwords(
    env: dict[str, str], home: Path, tmp_path: Path
) -> None:
    for name in [name for name in env if name.startswith(("PIP_", "UV_"))]:
        del env[name]
    (home / ".config/pip").mkdir(parents=True)
    (home / ".config/pip/pip.conf").write_text("[global]\nindex-url = https://me:hunter22@pip.example/simple\n")
    (home / ".config/uv").mkdir()
    (home / ".config/uv/uv.toml").write_text(
        '[[index]]\nurl = "https://me:hunter33@uv.example/simple"\ndefault = true\n'
    )
    (home / ".condarc").write_text("channels: [https://conda.example/t/tk-hunter44/team, conda-forge]\n")
    done = told(env, "--format", "json")
    text = told(env).stdout
    assert "hunter" not in done.stdout + done.stderr + text
    found = json.loads(done.stdout)
    pip, uv = found["indexes"]["pip"]["index_url"], found["indexes"]["uv"]["index_url"]
    assert pip == {"value": "https://me:****@pip.example/simple", "origin": f"{home}/.config/pip/pip.conf [global]"}
    assert uv["value"] == "https://me:****@uv.example/simple"
    channels = found["conda"]["channels"]
    assert [one["urls"] for one in channels] == [
        ["https://conda.example/t/****/team"],
        ["https://conda.anaconda.org/conda-forge"],
    ]
    assert "pip.example" in text


def test_configuration_that_cannot_be_read_is_a_warning(env: dict[str, str], home: Path) -> None:
    for name in [name for name in env if name.startswith(("PIP_", "UV_"))]:
        del env[name]
    (home / ".condarc").write_text("channels: [a\n")
    (home / ".pip").mkdir()
    (home / ".pip/pip.conf").write_text("index-url = nowhere\n")
    done = told(env)
    assert done.returncode == 0
    warnings = [line for line in done.stdout.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 2
    assert f"{home}/.condarc is ignored" in warnings[0]
    assert f"cannot read {home}/.pip/pip.conf" in warnings[1]
    assert "uv " in done.stdout


# ---------------------------------------------------------------------------------------------------- sizes, and the text


def test_what_is_shared_is_counted_once(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    (one / "inner").mkdir(parents=True)
    other.mkdir()
    (one / "own").write_bytes(b"x" * 100_000)
    (one / "shared").write_bytes(b"x" * 200_000)
    os.link(one / "shared", one / "inner/again")
    os.link(one / "shared", other / "too")
    (one / "link").symlink_to(one / "own")
    meter = Meter()
    first, second = meter.usage(one), meter.usage(other)

    def du(*folders: Path) -> int:
        counted = subprocess.run(["du", "-s", "-c", "-B1", *folders], capture_output=True, text=True, check=True)
        return int(counted.stdout.splitlines()[-1].split()[0])

    assert first.size == du(one)
    assert second.size == du(other)
    assert first.shared == second.shared == (one / "shared").stat().st_blocks * 512
    assert meter.together == du(one, other)
    assert (
        Meter().usage(tmp_path, {str(other)}).size == first.size + Meter().usage(tmp_path, {str(one), str(other)}).size
    )
    assert Meter().usage(tmp_path / "not there").size == 0


@pytest.mark.engine
def test_sizes_of_environments_that_share(machine: Machine, tmp_path: Path) -> None:
    tiny = TinyChannel(tmp_path / "tiny")
    tiny.add("big", "1.0", files={"share/big": "x" * 500_000})
    for name in ("a", "b"):
        converge(EnsureCondaEnv(name=name, packages=["big"], channels=[tiny.url]), machine)
    machine.forget()
    found = document(machine, sizes=True)
    sizes = [one["size"] for one in found["environments"]]
    assert all(size > 500_000 for size in sizes)
    assert all(one["shared"] > 400_000 for one in found["environments"])
    assert found["together"] < sum(sizes) + sum(one["size"] for one in found["caches"]) - 500_000
    assert found["home"]["size"] < 500_000, "environments and caches in it are told by themselves"
    header = next(line for line in facts_text.text(found).splitlines() if line.startswith("ENVIRONMENT"))
    assert "NOT SHARED" in header


def test_the_text_is_aligned_and_rules_no_terminal(machine: Machine, home: Path) -> None:
    for name in ("short", "a-rather-long-name"):
        environment(machine.home / "envs" / name)
    kernel(home / ".local/share/jupyter/kernels/k", ["/bin/cat"], display_name="\x1b[2J\nred")
    text = facts_text.text(masked(document(machine)))
    assert "\x1b" not in text
    assert "?[2J?red" in text
    lines = text.splitlines()
    header = next(line for line in lines if line.startswith("ENVIRONMENT"))
    for name in ("short", "a-rather-long-name"):
        row = next(line for line in lines if line.startswith(name + " "))
        assert row.index("3.11.7") == header.index("PYTHON")
        assert row.index(str(machine.home)) == header.index("PREFIX")


def test_a_name_that_is_no_utf_8(env: dict[str, str]) -> None:
    environment(Path(env["NBPROVISION_HOME"]) / "envs" / os.fsdecode(b"caf\xe9"))
    for options in ((), ("--format", "json")):
        done = told(env, *options)
        assert done.returncode == 0, done.stderr
        assert "caf?" in done.stdout


def test_the_home_is_chosen(env: dict[str, str], tmp_path: Path) -> None:
    environment(tmp_path / "elsewhere/envs/mine")
    found = json.loads(told(env, "--home", str(tmp_path / "elsewhere"), "--format", "json").stdout)
    assert [one["name"] for one in found["environments"]] == ["mine"]
    assert found["home"] == {"path": f"{tmp_path}/elsewhere", "exists": True}
    shutil.rmtree(tmp_path / "elsewhere")
    assert facts.document(Machine(env, home=tmp_path / "elsewhere", root=tmp_path))["environments"] == []


def test_no_engine_and_no_lock_is_loaded_for_them(env: dict[str, str]) -> None:
    """They are for prompts and scripts, and the imports would take as long as the rest."""
    code = (
        "import sys; from nbprovision.cli import main; main(['facts']);"
        "print([name for name in sys.modules if name.startswith(('nbprovision.engine.', 'nbprovision.lock.folder'))],"
        " file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "[]"
