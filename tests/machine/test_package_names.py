"""Names that differ between PyPI and conda-forge, and names of imports: the table, and conda's own words for what it lacks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nbprovision.conda import command_attempt
from nbprovision.machine import package_names
from nbprovision.machine.distributions import normalized
from nbprovision.machine.package_names import Where, advice, is_missing
from nbprovision.system.commands import Completed
from tests.support.conda_standin import RECORDINGS


@pytest.mark.parametrize(
    ("name", "where", "meant"),
    [
        ("torch", "conda", "write pytorch, conda-forge's name for what PyPI calls torch; "),
        ("opencv-python", "conda", "write opencv, "),
        ("tables", "conda", "write pytables, "),
        (
            "Redis",
            "conda",
            "write redis-py, conda-forge's name for what PyPI calls Redis; or name the channel that has Redis",
        ),
        ("sklearn", "conda", "write scikit-learn, conda-forge's name for what code imports as sklearn; "),
        ("cv2", "conda", "write opencv, "),
        ("PIL", "conda", "write pillow, "),
        ("pytorch", "pip", "write torch, PyPI's name for what conda-forge calls pytorch; "),
        ("opencv", "pip", "write opencv-python, "),
        ("dask-core", "pip", "write dask, "),
        ("boruta_py", "pip", "write boruta, "),
        ("PIL", "pip", "write pillow, PyPI's name for what code imports as PIL; or name the index that has PIL"),
        ("yaml", "pip", "write pyyaml, "),
        ("bs4", "pip", "write beautifulsoup4, "),
    ],
)
def test_what_is_meant(name: str, where: Where, meant: str) -> None:
    assert advice(name, where).startswith(meant)


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("numpy", "conda"), ("scikit-learn", "conda"), ("pytorch", "conda"), ("torch", "pip"), ("pyyaml", "pip"),
        ("cupy", "pip"), ("onnxruntime", "pip"), ("rdkit", "pip"), ("", "conda"),
    ],
)  # fmt: skip
def test_a_name_that_is_right_gets_no_advice(name: str, where: Where) -> None:
    assert advice(name, where) == ""
    assert not is_missing(name, where)


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("graphviz", "conda"),
        ("docker", "conda"),
        ("yaml", "conda"),
        ("git", "conda"),
        ("docker-py", "pip"),
        ("jwt", "pip"),
    ],
)
def test_a_name_that_is_something_else_there_is_not_missing(name: str, where: Where) -> None:
    assert advice(name, where)
    assert not is_missing(name, where)


def test_the_table_is_sound() -> None:
    """Names stand in it as they are compared, none leads to itself, and what is advised needs no advice."""
    both: tuple[tuple[Where, tuple[dict[str, str], ...]], ...] = (
        ("conda", (package_names._TO_CONDA, package_names._IMPORTED)),
        ("pip", (package_names._TO_PYPI, package_names._IMPORTED)),
    )
    for where, tables in both:
        for table in tables:
            for name in table:
                assert name == normalized(name)
                meant = advice(name, where).removeprefix("write ").partition(":")[0]
                assert normalized(meant) != name
                assert not is_missing(meant.partition("[")[0], where), (name, meant)
    assert package_names._IMPORTED.keys() >= package_names._IN_CONDA
    assert package_names._IMPORTED.keys() | package_names._TO_PYPI.keys() >= package_names._ON_PYPI


def test_a_name_that_condas_channels_lack() -> None:
    """As the real conda once said it."""
    exchange = json.loads((RECORDINGS / "what_cannot_be_is_said-no-package.json").read_text())["exchanges"][0]
    output = exchange["stdout"].replace("alfa", "torch")
    error = command_attempt.failure("no", Completed(1, output, "", 0.1), command_attempt.reply_of(output), Path("/e"))
    assert error.message == "no channel has a package 'torch'"
    assert error.cure.startswith("write pytorch, ")


def test_a_name_that_libmamba_does_not_know() -> None:
    said = (
        "The following package could not be found\n└─ torch >=2 * does not exist (perhaps a typo or a missing channel)."
    )
    output = json.dumps({"exception_name": "LibMambaUnsatisfiableError", "message": said})
    error = command_attempt.failure("no", Completed(1, output, "", 0.1), command_attempt.reply_of(output), Path("/e"))
    assert error.cure.startswith("write pytorch, ")
