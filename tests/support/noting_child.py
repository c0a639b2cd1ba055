"""A child process for tests: names a temporary file beside the path that a request is."""

from collections.abc import Callable
from pathlib import Path

from nbprovision.system.files import temporary_beside
from nbprovision.system.process import answer


def work(request: str, tell: Callable[..., None]) -> str:
    """Name it, as a module does that is about to write it."""
    return str(temporary_beside(Path(request)))


if __name__ == "__main__":
    answer(work)
