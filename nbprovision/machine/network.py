"""How long the network may take, and what is done when it fails: wait, ask again, do with what is cached.

The engines ask again themselves, a few times and quickly, for each file that they fetch. What is here begins where they
give up: a server that restarts, a network that a starting machine does not have yet. Nothing else of the tool waits for
a network.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

from nbprovision.machine.network_fault import NetworkFailed
from nbprovision.model.errors import TaskFailed
from nbprovision.system.log import event

if TYPE_CHECKING:
    from nbprovision.machine.machine import Machine

T = TypeVar("T")

TIMEOUT = 15.0  # seconds without a byte after which an answer is given up; pip's default
PATIENCE = 60.0  # seconds that all tasks of a run together may lose to a network; a start script has 300
QUICK_RETRIES = 3  # the usual number of uv and py-rattler
_LONGEST_PAUSE = 16.0
# What a server has wrong stays wrong, and a name that is not there does not come to be there.
_FEW_TRIES = {"garbled": 2, "portal": 2, "dns": 2}


def timeout(env: Mapping[str, str]) -> float:
    """Seconds of silence after which an answer is given up: ``NBPROVISION_NETWORK_TIMEOUT``.

    Raises:
        TaskFailed: the variable is no number.

    """
    return max(_number("NBPROVISION_NETWORK_TIMEOUT", env, TIMEOUT), 1.0)


class Patience:
    """The seconds that a run may still lose to failed attempts, and to waiting between them."""

    def __init__(self, seconds: float) -> None:
        self._left = seconds
        self._lock = threading.Lock()

    @property
    def over(self) -> bool:
        """Whether nothing is left."""
        return self._left <= 0

    def spend(self, lost: float, wait: float) -> bool:
        """Whether there is room to wait after ``lost`` seconds have gone."""
        with self._lock:
            self._left -= lost
            if self._left < wait:
                return False
            self._left -= wait
            return True


def patience(machine: Machine) -> Patience:
    """What is left of the run's patience, which begins with ``NBPROVISION_NETWORK_PATIENCE`` seconds.

    Raises:
        TaskFailed: the variable is no number.

    """
    known = machine.notes.get("network patience")
    if known is None:
        fresh = Patience(_number("NBPROVISION_NETWORK_PATIENCE", machine.env, PATIENCE))
        known = machine.notes.setdefault("network patience", fresh)
    assert isinstance(known, Patience)  # noqa: S101
    return known


def quick_retries(machine: Machine) -> int:
    """How often an engine may ask again itself, for each file, where nothing else is said: not where all is lost."""
    return 0 if patience(machine).over else QUICK_RETRIES


def persistently(machine: Machine, work: Callable[[bool], T], *, cached: bool = True) -> T:
    """Do work that needs a network; where it fails in a way that may pass, again, as long as patience lasts.

    Between attempts there is a pause, each twice as long as the one before and a little at random, as many machines may
    have started together. Where the server stays away, the work is done once more from the engine's caches alone, and
    the result says so: a notebook always starts.

    Args:
        machine: Hears what is waited for.
        work: Told whether to do without the network. To be done as often as wanted.
        cached: Whether it can do without.

    Raises:
        NetworkFailed: the last one, with the number of attempts.
        TaskFailed: whatever else goes wrong.

    """
    began = time.monotonic()
    tries, pause, kinds = 0, 1.0, Counter[str]()
    while True:
        started = time.monotonic()
        try:
            return work(False)
        except NetworkFailed as error:
            tries += 1
            wait = pause * random.uniform(0.75, 1.25)  # noqa: S311 - no secret
            lost = time.monotonic() - started
            if error.kind != "silent":  # most of it may have been work
                lost = min(lost, timeout(machine.env))
            kinds[error.kind] += 1
            again = error.passing and kinds[error.kind] < _FEW_TRIES.get(error.kind, tries + 1)
            again = patience(machine).spend(lost, wait) and again
            event("network", cause=error.reason, tries=tries, wait=round(wait, 1) if again else None)
            if not again:
                return _without_network(machine, work, error, tries, time.monotonic() - began, cached=cached)
            machine.progress(f"{error.reason}; asked again in {wait:.0f} s")
            time.sleep(wait)
            pause = min(pause * 2, _LONGEST_PAUSE)


def _without_network(
    machine: Machine, work: Callable[[bool], T], error: NetworkFailed, tries: int, seconds: float, *, cached: bool
) -> T:
    if cached and error.absent:
        try:
            done = work(True)
        except TaskFailed:
            pass
        else:
            machine.note(f"{error.reason}: what is in the cache was used")
            return done
    if tries > 1:
        error.cause = f"{error.cause}\nasked {tries} times in {seconds:.0f} s"
    raise error


def _number(name: str, env: Mapping[str, str], default: float) -> float:
    text = env.get(name, "")
    if not text:
        return default
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < 86400:
        raise TaskFailed(
            f"{name} is no number of seconds", cause=f"it is '{text}'", cure=f"give it a number, such as {default:.0f}"
        )
    return number
