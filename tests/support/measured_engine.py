"""Does what the engine's child does, in a process that can be measured: in its main thread, one request after another.

Not in the tests' own process, which py-rattler may crash when it ends; and not with the child's threads, as to trace them
has crashed it.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import msgspec

from nbprovision.conda.query import Request
from nbprovision.model.errors import TaskFailed


class MeasuredEngine:
    """Hands requests to the process.

    Attributes:
        told: What was said on the way of the last request.

    """

    def __init__(self, pipes: subprocess.Popen[str]) -> None:
        self._pipes = pipes
        self.told: list[dict[str, Any]] = []

    def work(self, request: Request) -> Any:
        """What it answers.

        Raises:
            TaskFailed: as it did there.

        """
        requests, replies = self._pipes.stdin, self._pipes.stdout
        assert requests is not None
        assert replies is not None
        requests.write(msgspec.json.encode(request).decode() + "\n")
        requests.flush()
        reply = json.loads(replies.readline())
        self.told = reply["told"]
        if "error" in reply:
            raise TaskFailed(**reply["error"])
        return reply["result"]


@contextlib.contextmanager
def measured_engine(env: Mapping[str, str]) -> Iterator[MeasuredEngine]:
    """An engine with these environment variables besides, until the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.measured_engine"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **env},
        cwd=Path(__file__).parents[2],
        text=True,
    )
    with process:
        yield MeasuredEngine(process)


def _serve(requests: IO[str], replies: IO[str]) -> None:
    from nbprovision.conda.rattler_child import work

    for line in requests:
        told: list[dict[str, Any]] = []
        reply: dict[str, Any] = {"told": told}
        try:
            reply["result"] = work(json.loads(line), lambda **fields: told.append(fields))  # noqa: B023 - until it is done
        except TaskFailed as error:
            reply["error"] = {"message": error.message, "cause": error.cause, "cure": error.cure}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


if __name__ == "__main__":
    _serve(sys.stdin, sys.stdout)
    os._exit(0)
