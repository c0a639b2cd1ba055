"""The processes of one test in three are measured, and always those of the same tests."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.support import measuring


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Of a run with ``--cov``."""
    monkeypatch.setenv("COVERAGE_PROCESS_CONFIG", "settings")
    made = SimpleNamespace(stash=pytest.Stash())
    measuring.pytest_configure(cast("pytest.Config", made))
    return made


def test_one_in_three(config: Any) -> None:
    seen = {}
    for name in [f"tests/test_{number}.py::test_it" for number in range(1000)] * 2:
        measuring.pytest_runtest_setup(cast("pytest.Item", SimpleNamespace(config=config, nodeid=name)))
        measured = os.environ.get("COVERAGE_PROCESS_CONFIG") == "settings"
        assert seen.setdefault(name, measured) == measured
    assert 270 < sum(seen.values()) < 400


def test_without_a_measurement_nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
    made = SimpleNamespace(stash=pytest.Stash())
    measuring.pytest_configure(cast("pytest.Config", made))
    for number in range(20):
        measuring.pytest_runtest_setup(cast("pytest.Item", SimpleNamespace(config=made, nodeid=str(number))))
        assert "COVERAGE_PROCESS_CONFIG" not in os.environ
