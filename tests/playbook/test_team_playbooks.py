"""The playbooks of teams, each on a notebook instance in a folder: a check, two runs, a restart with another run.

The image's environments are real, as are both engines; packages that the local channel does not have are made up. R, AWS
and a GPU cannot be had here: a script stands for the first, `tests.support.codeartifact` for the second.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nbprovision.catalogue import Catalogue
from nbprovision.engine.session import Request, Session
from nbprovision.machine.environments import installed
from nbprovision.machine.machine import Machine
from nbprovision.model.result import Result
from nbprovision.report.document import Silent
from tests.conftest import Channel, copy_tree, registry_settings
from tests.engine.test_check_agrees import disagreements
from tests.support.codeartifact import aws_command, page, serving
from tests.support.conda_packages import TinyChannel
from tests.support.provided import bring, conda_environment, content, versions
from tests.support.provided_conda import Instance
from tests.support.wheels import make_wheel

pytestmark = [pytest.mark.engine, pytest.mark.proof]

ROOT = Path(__file__).parents[2]
# What `R --slave -e CODE` does, as far as the playbook asks for it.
R = """#!/bin/sh
library="$CONDA_PREFIX/lib/R/library"
case "$3" in
  install.packages*) name=${3#*\\'}; mkdir -p "$library/${name%%\\'*}" && echo "$3" >>"$library/installed" ;;
  write.csv*) file=${3%\\'*}; ls "$library" >"${file##*\\'}" ;;
  IRkernel*) echo "$CONDA_PREFIX $5" ;;
esac
"""


class Notebook:
    """A notebook instance on which a playbook of the repository is run at every start.

    Args:
        folder: For all of it.
        channel: The local channel.

    """

    def __init__(self, folder: Path, channel: Channel) -> None:
        self.root, self.home, self.wheels = folder / "root", folder / "home", folder / "wheels"
        self.volume = self.root / "home/ec2-user/SageMaker"
        self.provided = self.root / "home/ec2-user/anaconda3/envs"
        self.pristine = folder / "pytorch"
        self.variables: dict[str, Any] = {}
        (folder / "xdg").mkdir()
        self.plain = {
            "HOME": str(self.home),
            "PATH": "/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "XDG_CONFIG_DIRS": str(folder / "xdg"),
            "UV_CACHE_DIR": str(folder / "uv"),
            "NBPROVISION_HOME": str(self.volume / ".nbprovision"),
            "NBPROVISION_PHASE": "on-start",
        }
        self.env: dict[str, str] = {}
        self.tiny = TinyChannel(folder / "tiny")
        for name in (
            "pandas",
            "pyarrow",
            "matplotlib",
            "scikit-learn",
            "r-irkernel",
            "r-dplyr",
            "r-ggplot2",
            "r-arrow",
        ):
            self.tiny.add(name, "1.0")
        self.tiny.add("r-base", "4.4", files={"bin/R": R, "lib/R/library/base/DESCRIPTION": "Package: base\n"})
        self.channels = [self.tiny.url, channel.url]
        instance = Instance({**self.plain, **registry_settings()}, self.root)
        for name in ("python3", "pytorch"):
            instance.provide(name, channel.url, f"python={channel.python}", "pip", "ipykernel")
        bring(folder / "brought", instance.prefix("pytorch"), "torch", "2.7.0", requires=("sympy>=1.13",))
        bring(folder / "brought", instance.prefix("pytorch"), "sympy", "1.13")
        conda_environment(instance.prefix("JupyterSystemEnv"))
        copy_tree(instance.prefix("pytorch"), self.pristine)

    def new(self, **variables: Any) -> None:
        """An instance that nobody has used, for a playbook with these variables."""
        cache, kept = self.volume / ".nbprovision/cache", self.volume.with_name("cache")
        cache.rename(kept)  # only to save time
        shutil.rmtree(self.volume)
        cache.parent.mkdir(parents=True)
        kept.rename(cache)
        self.variables = variables
        self.env = {**self.plain, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.wheels)}
        self.restart()

    def restart(self, *, image: bool = False) -> None:
        """All but the volume is as the image brings it; its environments only if they were changed, to save time."""
        shutil.rmtree(self.home, ignore_errors=True)
        self.home.mkdir()
        if image:
            shutil.rmtree(self.provided / "pytorch")
            copy_tree(self.pristine, self.provided / "pytorch")

    def prefix(self, name: str) -> Path:
        return self.volume / "envs" / name

    def run(self, playbook: str, *, check: bool = False, witness: bool = True) -> list[Result]:
        request = Request(
            playbook=ROOT / "playbooks" / playbook,
            extra_vars=self.variables,
            selection=(json.dumps(self.variables),),
            check=check,
            witness=witness,
        )
        session = Session(request, Machine(self.env, root=self.root), Catalogue())
        results, _ = session.perform(Silent(), lambda _text: None)
        return results

    def good(self, playbook: str) -> dict[str, Result]:
        """A run in which nothing fails, and what the check before it said."""
        said = [one.as_json() for one in self.run(playbook, check=True) if one.status != "skipped"]
        results = self.run(playbook)
        assert not disagreements(said, [one.as_json() for one in results if one.status != "skipped"])
        assert not (failed := [(one.name, one.error.text) for one in results if one.error]), failed
        return {one.name: one for one in results}

    def start(self, playbook: str) -> dict[str, Result]:
        """The first start: a check, which writes nothing of the user's and tells the truth; a run; one with nothing to do."""
        before = self._users()
        checked = {one.name: one for one in self.run(playbook, check=True)}
        assert not [one.error for one in checked.values() if one.error]
        assert self._users() == before
        first = self.good(playbook)
        assert changed(first) <= changed(checked)
        for name in changed(checked):
            # What turns on a result that is only planned is said to; a variable goes into kernels that are planned too.
            assert _told(checked[name]) <= _told(first[name]) or "after '" in str(checked[name].changes), name
        self.nothing_to_do(playbook)
        return first

    def nothing_to_do(self, playbook: str) -> None:
        again = self.good(playbook)
        assert not [(name, one.changes) for name, one in again.items() if one.status not in ("ok", "skipped")]

    def kernel(self, name: str) -> dict[str, Any]:
        spec: dict[str, Any] = json.loads((self.home / f".local/share/jupyter/kernels/{name}/kernel.json").read_text())
        return spec

    def _users(self) -> dict[str, bytes]:
        folders = [
            self.home,
            *(path for path in self.volume.iterdir() if path.is_dir() and path.name != ".nbprovision"),
        ]
        return {path: data for folder in folders for path, data in content(folder).items()}


def _told(result: Result) -> set[str]:
    return {change.target for change in result.changes}


def changed(results: dict[str, Result]) -> set[str]:
    return {name for name, one in results.items() if one.status == "changed"}


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory, channel: Channel) -> Notebook:
    return Notebook(tmp_path_factory.mktemp("teams"), channel)


def test_data_science(notebook: Notebook, channel: Channel) -> None:
    for name in ("great-tables", "mlflow-skinny", "shap"):
        make_wheel(notebook.wheels, name, "1.0")
    lab = {"jupyterlab_git-1.0.data/data/share/jupyter/labextensions/@jupyterlab/git/package.json": "{}"}
    make_wheel(notebook.wheels, "jupyterlab-git", "1.0", files=lab)
    notebook.new(channels=notebook.channels, python=channel.python)
    first = notebook.start("data-science.yml")
    assert first["restart_jupyter"].status in ("ok", "skipped")
    assert {record.name for record in installed(notebook.prefix("models"))} >= {"scikit-learn", "pandas", "ipykernel"}
    assert versions(notebook.prefix("analysis"))["great-tables"] == "1.0"
    data = notebook.volume / "data"
    assert "mlflow-skinny==1.0" in (data / "models.txt").read_text()
    assert notebook.kernel("models")["display_name"] == f"Models (Python {channel.python})"
    assert notebook.kernel("analysis")["env"]["DATA_DIR"] == str(data)
    listed = (data / "models.txt").stat()

    notebook.restart()
    restarted = notebook.good("data-science.yml")
    assert not [one for one in restarted.values() for change in one.changes if change.target == "pandas"]
    assert changed(restarted) >= {"Kernels (item=models)", "Variables of kernels and terminals"}
    assert (data / "models.txt").stat().st_mtime_ns >= listed.st_mtime_ns
    assert "export HISTSIZE=100000" in (notebook.home / ".bashrc").read_text()
    notebook.nothing_to_do("data-science.yml")


def test_gpu(notebook: Notebook) -> None:
    for name in ("lightning", "torchmetrics", "tensorboard"):
        make_wheel(notebook.wheels, name, "2.0", requires=("torch",) if name == "lightning" else ())
    notebook.new()
    provided = notebook.provided / "pytorch"
    first = notebook.start("gpu-pytorch.yml")
    assert versions(provided)["lightning"] == "2.0"
    assert notebook.kernel("team-pytorch")["env"]["HF_HOME"] == str(notebook.volume / "models/huggingface")
    assert "A copy of the environment" not in changed(first)
    assert not (notebook.volume / "envs").exists()

    notebook.restart(image=True)
    assert "lightning" not in versions(provided)
    assert changed(notebook.good("gpu-pytorch.yml")) == {
        "Packages around what the image brought",
        "A kernel with the team's variables",
    }
    assert (versions(provided)["lightning"], versions(provided)["sympy"]) == ("2.0", "1.13")
    notebook.nothing_to_do("gpu-pytorch.yml")


def test_gpu_with_packages_that_do_not_go_with_the_image(notebook: Notebook) -> None:
    make_wheel(notebook.wheels, "symbolic", "1.0", requires=("sympy<1.13",))
    make_wheel(notebook.wheels, "sympy", "1.12")
    make_wheel(notebook.wheels, "torch", "2.7.0", requires=("sympy>=1.12",))
    notebook.new(packages=["symbolic"])
    results = {one.name: one for one in notebook.run("gpu-pytorch.yml")}
    assert results["Packages around what the image brought"].error is not None
    assert results["A copy of the environment"].status == "changed", results["A copy of the environment"].error
    assert results["Packages in the copy"].status == "changed", results["Packages in the copy"].error
    assert versions(notebook.prefix("team-pytorch"))["sympy"] == "1.12"
    assert versions(notebook.provided / "pytorch")["sympy"] == "1.13"
    assert notebook.kernel("team-pytorch")["display_name"] == "PyTorch (team, own copy)"
    assert "sympy" in (notebook.volume / "models/why-a-copy.txt").read_text()
    again = notebook.run("gpu-pytorch.yml")
    assert not [(one.name, one.changes) for one in again if one.changed]


@pytest.fixture
def endpoint(notebook: Notebook, tmp_path: Path) -> Iterator[str]:
    """CodeArtifact's endpoint in the VPC."""
    index = tmp_path / "served/pypi/python/simple"
    for name in ("xgboost", "shap"):
        page(index, name, [make_wheel(index / name, name, "1.0")])
    accepted = {"t0ken"}
    (tmp_path / "answer").write_text(json.dumps({"token": "t0ken", "version": 2}))
    aws_command(tmp_path, tmp_path)
    with serving(tmp_path / "served", accepted) as url:
        notebook.new(endpoint=url)
        notebook.env = {**notebook.plain, "PATH": f"{tmp_path}:/usr/bin:/bin", "NO_PROXY": "127.0.0.1"}
        yield url


def test_vpc(notebook: Notebook, endpoint: str) -> None:
    first = notebook.start("vpc-codeartifact.yml")
    assert versions(notebook.prefix("risk"))["xgboost"] == "1.0"
    assert "t0ken" in (notebook.home / ".config/pip/pip.conf").read_text()
    written = [path for path in notebook.volume.rglob("*") if path.is_file() and not path.is_symlink()]
    assert not [path for path in written if b"t0ken" in path.read_bytes()]
    told = json.loads((notebook.volume / "risk-installed.json").read_text())
    assert {one["target"] for one in told} >= {"xgboost", "shap"}
    assert "t0ken" not in json.dumps([change.as_json() for one in first.values() for change in one.changes])

    notebook.restart()
    assert changed(notebook.good("vpc-codeartifact.yml")) == {
        "CodeArtifact for pip and uv",
        "conda asks nobody",
        "A copy of what the image brings",  # its entry in conda's list
        "A kernel",
    }
    notebook.nothing_to_do("vpc-codeartifact.yml")


def test_r_and_python(notebook: Notebook, channel: Channel) -> None:
    notebook.new(channels=notebook.channels, python=channel.python)
    notebook.start("r-and-python.yml")
    library = notebook.prefix("r-stats") / "lib/R/library"
    assert (library / "fixest").is_dir()
    assert "fixest" in (notebook.volume / "exchange/r-packages.csv").read_text()
    spec = notebook.kernel("r-stats")
    assert (spec["language"], spec["env"]["EXCHANGE"]) == ("R", str(notebook.volume / "exchange"))
    argv = [word.replace("{connection_file}", "/connection.json") for word in spec["argv"]]
    said = subprocess.run(argv, env=notebook.plain, capture_output=True, text=True, check=True).stdout
    assert said.split() == [str(notebook.prefix("r-stats")), "/connection.json"]

    notebook.restart()
    restarted = notebook.good("r-and-python.yml")
    assert {"A kernel for R", "A kernel for Python", "Where R fetches packages from", "Both know it"} <= changed(
        restarted
    )
    assert "Packages from CRAN (item=fixest)" not in changed(restarted)
    assert len((library / "installed").read_text().splitlines()) == 1
    notebook.nothing_to_do("r-and-python.yml")


def test_class(notebook: Notebook) -> None:
    for name, version in (("statsmodels", "0.14.4"), ("seaborn", "0.13.2"), ("seaborn", "0.14")):
        make_wheel(notebook.wheels, name, version)
    notebook.new()
    notebook.env["STUDENT"] = "Ada Lovelace"
    notebook.start("class.yml")
    prefix, work = notebook.prefix("stats101"), notebook.volume / "stats101"
    assert versions(prefix)["seaborn"] == "0.13.2"
    assert "ipykernel" in versions(prefix)
    assert "seaborn" not in versions(notebook.provided / "python3")
    assert (work / "NEW.md").read_text() == "- 01-first-steps.ipynb\n- 02-distributions.ipynb\n"
    assert "Hello Ada Lovelace." in (work / "README.md").read_text()
    assert "name = Ada Lovelace" in (notebook.home / ".gitconfig").read_text()

    # A student works, loses one notebook, and the instance is stopped for the night.
    (work / "01-first-steps.ipynb").write_text("my own work\n")
    (work / "02-distributions.ipynb").unlink()
    notebook.restart()
    assert changed(notebook.good("class.yml")) == {
        "The course's environment",  # its entry in conda's list
        "The course's kernel",
        "Notebooks (item=02-distributions.ipynb)",
        "What is new",
        "Who hands in",
    }
    assert (work / "01-first-steps.ipynb").read_text() == "my own work\n"
    assert (work / "NEW.md").read_text() == "- 02-distributions.ipynb\n"
    notebook.nothing_to_do("class.yml")
