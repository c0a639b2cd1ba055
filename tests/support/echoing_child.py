"""A child process for tests: tells its process id; or waits until it is told to be quick."""

import os
import threading
from collections.abc import Callable

from nbprovision.system.process import answer

_quick = threading.Event()


def work(request: str, tell: Callable[..., None]) -> int:
    """Do what the request says."""
    if request == "slow":
        tell(text="at work")
        _quick.wait()
    if request == "be quick":
        _quick.set()
    return os.getpid()


if __name__ == "__main__":
    answer(work)
