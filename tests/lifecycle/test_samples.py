"""The playbooks that take the place of AWS's sample scripts, on a notebook instance in a folder, over restarts and images.

The scripts: persistent-conda-ebs and add-pypi-repository of
https://github.com/aws-samples/amazon-sagemaker-notebook-instance-lifecycle-config-samples
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nbprovision.catalogue import Catalogue
from nbprovision.engine.session import Request, Session
from nbprovision.indexes.index_settings import effective
from nbprovision.machine.environments import installed
from nbprovision.machine.machine import Machine
from nbprovision.model.result import Result
from nbprovision.report.document import Silent
from tests.conftest import Channel
from tests.support.conda_packages import TinyChannel
from tests.support.provided import Instance
from tests.support.wheels import make_wheel

pytestmark = pytest.mark.engine
jupyter_client = pytest.importorskip("jupyter_client")

ROOT = Path(__file__).parents[2]
SPECS = """
import json
from jupyter_client.kernelspec import KernelSpecManager
specs = KernelSpecManager().get_all_specs()
print(json.dumps({name: specs[name]["spec"]["display_name"] for name in specs}))
"""
COMPUTE = """
import sys
from jupyter_client.manager import start_new_kernel
manager, client = start_new_kernel(kernel_name=sys.argv[1], startup_timeout=300)
client.execute_interactive("import sys, six, mine; print(sys.prefix, mine.version)", timeout=300,
    output_hook=lambda message: print(message["content"].get("text", ""), end=""))
client.stop_channels(); manager.shutdown_kernel(now=True)
"""


class Sample:
    """A notebook instance on which a playbook of the repository is run at every start."""

    def __init__(self, folder: Path, env: dict[str, str], playbook: str, variables: dict[str, Any]) -> None:
        self.instance = Instance(folder, env)
        self.home = Path(env["HOME"])
        # As on an instance the home is new at each start, and the tool's own home is not.
        self.env = {**self.instance.env, "NBPROVISION_HOME": str(self.instance.volume / ".nbprovision")}
        self.playbook, self.variables = ROOT / "playbooks" / playbook, variables

    def image(self, *names: str) -> None:
        """Start with an image that brings these environments; all but the volume is new."""
        shutil.rmtree(self.home)
        self.home.mkdir()
        shutil.rmtree(self.instance.anaconda / "envs", ignore_errors=True)
        for name in names:
            self.instance.provide(name)

    def machine(self) -> Machine:
        return Machine(self.env, root=self.instance.root)

    def run(self, **more: Any) -> dict[str, Result]:
        variables = {**self.variables, **more}
        request = Request(playbook=self.playbook, extra_vars=variables, selection=(json.dumps(variables),))
        results, _ = Session(request, self.machine(), Catalogue()).perform(Silent(), lambda _text: None)
        assert not (failed := [(one.name, one.error.text) for one in results if one.error]), failed
        return {one.name: one for one in results}

    def python(self, code: str, *words: str) -> str:
        env = {"HOME": str(self.home), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
        done = subprocess.run(
            [sys.executable, "-c", code, *words], env=env, capture_output=True, text=True, timeout=400
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def kernels(self) -> dict[str, str]:
        found: dict[str, str] = json.loads(self.python(SPECS))
        return {name: shown for name, shown in found.items() if shown.startswith("Custom")}


@pytest.fixture
def persistent(env: dict[str, str], tmp_path: Path, channel: Channel) -> Sample:
    tiny = TinyChannel(tmp_path / "tiny")
    tiny.add("conda", "26.7.1", files={"bin/conda.sh": "#!/bin/sh\necho stand-in\n"})
    make_wheel(tmp_path / "wheels", "mine", "1.0")
    sample = Sample(tmp_path, env, "persistent-conda.yml", {})
    working_dir = sample.instance.volume / "custom-miniconda"
    sample.variables = {
        "working_dir": str(working_dir),
        "channel": channel.url,
        "python": channel.python,
        "own_conda": "false",
        "conda_packages": ["six"],
        "pip_packages": ["mine"],
    }
    return sample


@pytest.mark.kernel
def test_persistent_conda(persistent: Sample) -> None:
    """Made once, left alone by a second run, put back after a restart, whatever the image is called and brings."""
    persistent.image("JupyterSystemEnv", "python3", "pytorch_p310")
    working_dir = Path(persistent.variables["working_dir"])
    envs = working_dir / "miniconda/envs"
    first = persistent.run()
    assert {one.status for one in first.values()} == {"changed", "skipped"}
    assert "six" in {record.name for record in installed(envs / "custom_python")}
    assert "six" not in {record.name for record in installed(envs / "custom_second")}
    assert persistent.kernels() == {
        "custom_python": "Custom (custom_python)",
        "custom_second": "Custom (custom_second)",
    }
    assert persistent.python(COMPUTE, "custom_python").split() == [str(envs / "custom_python"), "1.0"]
    assert {one.status for one in persistent.run().values()} == {"ok", "skipped"}

    # An environment that somebody makes there by hand has its kernel with the next run.
    shutil.copytree(envs / "custom_second", envs / "by_hand", symlinks=True)
    assert [name for name, one in persistent.run().items() if one.status == "changed"] == [
        "A kernel for every environment that lies there"
    ]
    assert "by_hand" in persistent.kernels()
    shutil.rmtree(envs / "by_hand")

    history = {path: path.read_bytes() for path in envs.glob("*/conda-meta/*")}
    persistent.image("JupyterSystemEnv", "python3", "pytorch")
    assert persistent.kernels() == {}
    restarted = persistent.run()
    assert {name for name, one in restarted.items() if one.status == "changed"} >= {
        "Where conda finds environments and keeps packages",
        "A kernel for every environment that lies there",
    }
    assert not [change for one in restarted.values() for change in one.changes if change.kind == "package"]
    assert {path: path.read_bytes() for path in envs.glob("*/conda-meta/*")} == history
    assert persistent.kernels() == {
        "custom_python": "Custom (custom_python)",
        "custom_second": "Custom (custom_second)",
    }
    assert persistent.python(COMPUTE, "custom_python").split() == [str(envs / "custom_python"), "1.0"]
    assert {one.status for one in persistent.run().values()} == {"ok", "skipped"}

    # One that the scripts have made: no trace of this tool in it, and ipykernel's own kernel by its name.
    (envs / "custom_python/conda-meta/nbprovision").unlink()
    spec = persistent.home / ".local/share/jupyter/kernels/custom_python/kernel.json"
    argv = [str(envs / "custom_python/bin/python"), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec.write_text(json.dumps({"argv": argv, "display_name": "Custom (custom_python)", "language": "python"}))
    adopted = persistent.run()
    assert not [change for one in adopted.values() for change in one.changes if change.kind == "package"]
    assert persistent.python(COMPUTE, "custom_python").split() == [str(envs / "custom_python"), "1.0"]
    assert "activate.sh" in spec.read_text()
    anaconda = persistent.instance.anaconda / "envs"
    assert {path.name for path in anaconda.iterdir()} == {"JupyterSystemEnv", "python3", "pytorch"}


def test_a_conda_of_its_own(persistent: Sample, tmp_path: Path) -> None:
    """A made-up package in place of the real conda: what is shown is where it goes."""
    persistent.image("python3")
    persistent.variables["channel"] = (tmp_path / "tiny").as_uri()
    request = Request(
        playbook=persistent.playbook,
        extra_vars={**persistent.variables, "own_conda": "true"},
        start_at="A conda of one's own",
        tags=(),
    )
    session = Session(request, persistent.machine(), Catalogue())
    results, _ = session.perform(Silent(), lambda _text: None)
    assert results[0].status == "changed", results[0].error
    assert (persistent.instance.volume / "custom-miniconda/conda/bin/conda.sh").exists()


def test_the_command_says_what_persistent_conda_would_do(env: dict[str, str], channel: Channel, tmp_path: Path) -> None:
    """Through the command line, as a lifecycle script calls it."""
    words = ["-e", f"working_dir={tmp_path}/volume", "-e", f"channel={channel.url}", "-e", f"python={channel.python}"]
    words += ["-e", "own_conda=false", "--check", "--format", "json"]
    (tmp_path / "vars.yml").write_text("conda_packages: [six]\npip_packages: [mine]\n")
    argv = [sys.executable, "-m", "nbprovision", "run", str(ROOT / "playbooks/persistent-conda.yml"), *words]
    done = subprocess.run(
        [*argv, "-e", f"@{tmp_path}/vars.yml"], env={**env, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    counts = json.loads(done.stdout)["counts"]
    assert (counts["changed"], counts["skipped"]) == (5, 1)
    assert not (tmp_path / "volume").exists()


# ------------------------------------------------------------------------------------------------ add-pypi-repository

SECRET = "can4ry-word"
URL = f"https://reader:{SECRET}@pypi.acme.example:8443/team/simple"


@pytest.fixture
def repository(env: dict[str, str], tmp_path: Path) -> Sample:
    sample = Sample(tmp_path, env, "pypi-repository.yml", {"pypi_url": URL})
    (tmp_path / "xdg").mkdir()
    sample.env = {name: text for name, text in sample.env.items() if not name.startswith("PIP_")}
    sample.env["XDG_CONFIG_DIRS"] = str(tmp_path / "xdg")
    return sample


@pytest.mark.parametrize("disable_pypi", ["false", "true"])
@pytest.mark.parametrize("add_trust", ["false", "true"])
def test_pypi_repository(repository: Sample, disable_pypi: str, add_trust: str) -> None:
    """What pip and uv go by in every environment, twice, and after a restart with another image."""
    options = {"disable_pypi": disable_pypi, "add_trust": add_trust}
    for names in (("python3", "pytorch_p310"), ("python3", "pytorch")):
        repository.image(*names)
        older = repository.home / ".pip/pip.conf"  # the script's place; its `mkdir` fails where the folder is there
        older.parent.mkdir()
        older.write_text("[global]\ntimeout = 60\n")
        (task,) = repository.run(**options).values()
        assert task.status == "changed"
        assert SECRET not in json.dumps([change.as_json() for change in task.changes])
        (again,) = repository.run(**options).values()
        assert again.status == "ok"
        pip_conf = repository.home / ".config/pip/pip.conf"
        assert stat.S_IMODE(pip_conf.stat().st_mode) == 0o600
        machine = repository.machine()
        for name in names:
            prefix = repository.instance.anaconda / "envs" / name
            found = effective(machine.env, machine.user_home, prefix, root=machine.root)
            assert found.index_url == (URL if disable_pypi == "true" else "https://pypi.org/simple")
            assert found.extra_urls == (() if disable_pypi == "true" else (URL,))
            assert found.trusted_hosts == (("pypi.acme.example",) if add_trust == "true" else ())
            assert found.timeout == "60"
            asked = subprocess.run(
                [sys.executable, "-m", "pip", "config", "list"],
                env=repository.env, capture_output=True, text=True, check=True,
            ).stdout  # fmt: skip
            assert URL in asked
        written = [path for path in repository.instance.volume.rglob("*") if path.is_file()]
        assert not [path for path in written if SECRET.encode() in path.read_bytes()]
    assert {one.status for one in repository.run(**options, state="absent").values()} == {"changed"}
    assert not pip_conf.exists()


def test_pypi_repository_through_the_command(repository: Sample) -> None:
    """The URL from a variable of the environment, so that it stands in no file."""
    env = {**repository.env, "PYTHONPATH": str(ROOT), "PYPI_URL": URL}
    argv = [sys.executable, "-m", "nbprovision", "run", str(ROOT / "playbooks/pypi-repository.yml")]
    for expected in ("changed=1", "changed=0"):
        done = subprocess.run(argv, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        assert expected in done.stdout
        assert SECRET not in done.stdout + done.stderr
    del env["PYPI_URL"]
    done = subprocess.run(argv, env=env, capture_output=True, text=True)
    assert done.returncode == 4, done.stdout + done.stderr
    assert os.path.exists(repository.home / ".config/pip/pip.conf")
