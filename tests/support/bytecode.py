"""Once a worker has its tests, Python writes no byte code in it: what a test imports first differs with their order.

Some tests hear of every file that their process writes. A module that was not compiled yet, as in a fresh clone, would
be one of these for whichever test comes first to it. Processes that tests start are left as they are.
"""

from __future__ import annotations

import sys


def pytest_collection_finish() -> None:
    """The test files are compiled by now, which is what makes the next run of the tests begin sooner."""
    sys.dont_write_bytecode = True
