"""With ``--cov``, the processes that tests start are measured for one test in three.

To start the measurement takes as long as most of these processes. The branches that only a process runs are run by many
tests. In their own process all tests are measured.
"""

from __future__ import annotations

import os
import zlib

import pytest

_VARIABLE = "COVERAGE_PROCESS_CONFIG"  # coverage's own: https://coverage.readthedocs.io/en/latest/subprocess.html
_ONE_IN = 3
_setting = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    """Keep what coverage has set for the processes."""
    if _VARIABLE in os.environ:
        config.stash[_setting] = os.environ[_VARIABLE]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Measure the processes of this test, or not."""
    setting = item.config.stash.get(_setting, None)
    if setting is not None and is_measured(item.nodeid):
        os.environ[_VARIABLE] = setting
    else:
        os.environ.pop(_VARIABLE, None)


def is_measured(name: str) -> bool:
    """Whether the processes of the test of that name are measured; always the same ones."""
    return zlib.crc32(name.encode()) % _ONE_IN == 0
