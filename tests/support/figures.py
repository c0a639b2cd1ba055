"""What a drill measures is recorded, not asserted: a busy machine is slower, and no defect.

A test takes the fixture ``record_figure``. The summary prints the figures of the run, and ``figures.json`` in the shared
cache (``.test-cache``) has the last value of each.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

RecordFigure = Callable[..., None]

_PROPERTY = "figure"
_figures = pytest.StashKey[list["Figure"]]()


class Figure(NamedTuple):
    """One measurement.

    Attributes:
        name: What was measured.
        value: The measurement.
        unit: Its unit.
        aim: The value that it should be near to or below, in the same unit; None where nothing is promised.
    """

    name: str
    value: float
    unit: str
    aim: float | None

    def __str__(self) -> str:
        aim = "" if self.aim is None else f" (aim: {self.aim:g} {self.unit})"
        return f"{self.name}: {self.value:.4g} {self.unit}{aim}"


@pytest.fixture
def record_figure(request: pytest.FixtureRequest) -> RecordFigure:
    """``record_figure(name, value, unit="s", aim=None)`` records a measurement of this test."""

    def record(name: str, value: float, unit: str = "s", aim: float | None = None) -> None:
        # A test's properties reach the process that writes the summary, from xdist's workers as well.
        request.node.user_properties.append((_PROPERTY, list(Figure(name, round(value, 3), unit, aim))))

    return record


def pytest_configure(config: pytest.Config) -> None:
    figures: list[Figure] = []
    config.stash[_figures] = figures
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Collector(figures), "figures-collector")


class _Collector:
    """Gathers the figures from the reports of the tests."""

    def __init__(self, figures: list[Figure]) -> None:
        self._figures = figures

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "teardown":  # each report of a test has the properties so far
            self._figures += [Figure(*value) for name, value in report.user_properties if name == _PROPERTY]  # type: ignore[misc]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the figures and keep them."""
    figures = config.stash[_figures]
    if not figures:
        return
    terminalreporter.section("figures")
    for figure in sorted(figures):
        terminalreporter.write_line(str(figure))
    keep(figures, Path(os.environ.get("NBPROVISION_TEST_CACHE") or config.rootpath / ".test-cache") / "figures.json")


def keep(figures: list[Figure], path: Path) -> None:
    """Put the figures beside those that earlier runs have kept."""
    try:
        kept = json.loads(path.read_text())
    except (OSError, ValueError):
        kept = {}
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    for figure in figures:
        kept[figure.name] = {"value": figure.value, "unit": figure.unit, "aim": figure.aim, "recorded": now}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")
    partial.replace(path)
