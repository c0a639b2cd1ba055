"""TOML as plain data, and the place of a fault, by the parser of the standard library and by tomlkit."""

from __future__ import annotations

import sys

import pytest

from nbprovision.system import toml_document
from nbprovision.system.toml_document import NoToml


@pytest.fixture(params=["this Python's parser", "tomlkit"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "tomlkit":
        monkeypatch.setattr(sys, "version_info", (3, 10, 0))


@pytest.mark.usefixtures("parser")
def test_content_and_faults() -> None:
    assert toml_document.load('\ufeffa = 1\n[b]\nc = ["x"]\n') == {"a": 1, "b": {"c": ["x"]}}
    with pytest.raises(NoToml) as caught:
        toml_document.load("a = 1\nb = !\n")
    assert (caught.value.line, caught.value.column) in {(2, 5), (2, 4)}
    assert "line" not in caught.value.reason
    with pytest.raises(NoToml):
        toml_document.load("a = " + "[" * 100_000)
