"""A name that PyPI and conda do not share, asked of the wrong one: each engine's error says the right one."""

from __future__ import annotations

from pathlib import Path

import pytest

from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ProvisionError
from tests.support.conda_environments import env_of
from tests.support.conda_packages import TinyChannel
from tests.support.driver import planned
from tests.support.pip_environment import ENGINES, Task, carried_out
from tests.support.wheels import make_refusing_sdist, make_wheel

pytestmark = pytest.mark.engine


def test_rattler(machine: Machine, tiny: TinyChannel) -> None:
    tiny.add("pytorch", "2.0")
    with pytest.raises(ProvisionError) as caught:
        planned(env_of(tiny, "torch>=2"), machine)
    assert caught.value.message == "no channel has a package 'torch'"
    assert caught.value.cure.startswith("write pytorch, conda-forge's name for what PyPI calls torch")


def test_a_channel_that_has_the_name_is_right(machine: Machine, tiny: TinyChannel) -> None:
    tiny.add("torch", "2.0")
    assert planned(env_of(tiny, "torch"), machine)


@ENGINES
def test_pip(task: Task, machine: Machine, engine: str) -> None:
    for name, meant in (("pytorch", "torch"), ("opencv", "opencv-python"), ("sklearn", "scikit-learn")):
        error = carried_out(task(f"{name}>=1", engine=engine), machine).error
        assert error is not None
        assert error.cure.startswith(f"write {meant}, PyPI's name for "), error.cure


@ENGINES
def test_a_placeholder_that_cannot_be_built(task: Task, machine: Machine, wheels: Path, engine: str) -> None:
    """As PyPI has of `sklearn`; one of a name that is nobody's placeholder is for its author to mend."""
    for name in ("sklearn", "plain"):
        make_refusing_sdist(wheels, name, "0.0", "use 'scikit-learn' instead")
    error = carried_out(task("sklearn", engine=engine), machine).error
    assert error is not None
    assert "use 'scikit-learn' instead" in error.cause
    assert error.cure.startswith("write scikit-learn, ")
    error = carried_out(task("plain", engine=engine), machine).error
    assert error is not None
    assert error.cure.startswith("no wheel fits, and building one failed")


@ENGINES
def test_an_index_that_has_the_name_is_right(task: Task, machine: Machine, wheels: Path, engine: str) -> None:
    make_wheel(wheels, "pytorch", "1.0")
    assert carried_out(task("pytorch", engine=engine), machine).error is None


def test_a_place_where_conda_built_a_package(task: Task, machine: Machine, tmp_path: Path) -> None:
    """`pip freeze` in an environment of conda's writes down such lines."""
    (tmp_path / "r.txt").write_text(
        "apple\nsix @ file:///home/conda/feedstock_root/build_artifacts/six_1620240208055/work\n"
    )
    error = carried_out(task(requirements=str(tmp_path / "r.txt")), machine).error
    assert error is not None
    assert error.cure.startswith("conda's package was built there, on another machine: write `six` with a version; ")
    assert error.position == (str(tmp_path / "r.txt"), 2, 1)
