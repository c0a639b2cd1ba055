"""Several .condarc files are merged as conda merges them: real conda's answers were recorded by `tests.support.record_condarc`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from nbprovision.machine.condarc import read_condarc
from tests.support.record_condarc import PUBLISHED, VARIABLES, cases

RECORDED: list[dict[str, Any]] = json.loads((Path(__file__).parents[1] / "data/condarc-merge.json").read_text())


def read(files: list[str], variables: dict[str, str], folder: Path) -> dict[str, Any]:
    """What we make of the files, the one that wins last, in a folder of conda's search path."""
    place = folder / "etc/conda/condarc.d"
    place.mkdir(parents=True)
    for number, text in enumerate(files):
        (place / f"{number}.yml").write_text(text)
    found = read_condarc({**VARIABLES, **variables}, folder / "home", None, folder)
    assert found.warnings == ()
    fields = msgspec.structs.asdict(found)
    return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}


def test_the_record_is_of_these_cases() -> None:
    assert [{key: case[key] for key in ("files", "variables")} for case in RECORDED] == cases()
    assert len(RECORDED) > len(PUBLISHED)


@pytest.mark.parametrize("number", range(len(RECORDED)))
def test_files_are_merged_as_conda_merges_them(number: int, tmp_path: Path) -> None:
    case = RECORDED[number]
    found = read(case["files"], case["variables"], tmp_path)
    said = "".join(case["files"])
    for name, expected in case["conda"].items():
        if f"{name}:" not in said and f"CONDA_{name.upper()}" not in case["variables"]:
            continue  # each has its own default
        if name == "channels":
            expected = [channel for channel in expected if channel != "nodefaults"]  # noqa: PLW2901
        assert found[name] == expected, (name, said)


def test_an_administrators_channels_are_not_bypassed(tmp_path: Path) -> None:
    """The reproduction of the fault: the user's channel, and the one of a variable, were preferred."""
    files = ["channels: #!final\n  - https://admin.example/main\n", "channels: [conda-forge]\n"]
    assert read(files, {"CONDA_CHANNELS": "defaults"}, tmp_path)["channels"] == ["https://admin.example/main"]


def test_nodefaults_is_not_a_channel(tmp_path: Path) -> None:
    assert read(["channels: [nodefaults, a]\n"], {}, tmp_path)["channels"] == ["a"]


def test_a_pin_tells_where_it_stands(tmp_path: Path) -> None:
    found = read(["pinned_packages: [a 1, b]\n", "x: 1\n"], {"CONDA_PINNED_PACKAGES": "c=1&d"}, tmp_path)
    first = str(tmp_path / "etc/conda/condarc.d/0.yml")
    variable = "$CONDA_PINNED_PACKAGES"
    assert found["pinned_by"] == {"a 1": first, "b": first, "c=1": variable, "d": variable}
    assert found["pinned_packages"] == ["c=1", "d", "a 1", "b"]
