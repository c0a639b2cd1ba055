"""The reports of a run, from the process that does the work to the waiting caller, as JSON lines on a pipe."""

from __future__ import annotations

import array
import fcntl
import os
import select
import termios
from collections.abc import Sequence
from typing import Any

import msgspec

from nbprovision.model.errors import LockTimeout, Position, ProvisionError, TaskFailed
from nbprovision.model.result import Result
from nbprovision.system.secrets import masked

_ASK_EVERY = 10  # milliseconds


class Relay:
    """Sends what it hears; a listener that has gone is not an error.

    Args:
        pipe: A file descriptor to write to.
        steps: All of the run, in order; their numbers identify them.
    """

    def __init__(self, pipe: int, steps: Sequence[Any]) -> None:
        self._pipe = pipe
        self._lost = False  # something that nobody read
        self._numbers = {id(step): number for number, step in enumerate(steps)}

    def started(self, step: Any) -> None:
        """A step takes the full path."""
        self._send({"started": self._numbers[id(step)]})

    def progressed(self, step: Any, text: str, done: float, total: float) -> None:
        """Long work goes on."""
        self._send({"progressed": self._numbers[id(step)], "text": text, "done": done, "total": total})

    def finished(self, step: Any, result: Result) -> None:
        """A step has its result."""
        error = result.error
        message = msgspec.to_builtins(msgspec.structs.replace(result, error=None, values={}))
        if error is not None:
            message["error"] = _told(error)
        self._send({"finished": self._numbers[id(step)], "result": message})

    def ended(self, content: dict[str, Any]) -> None:
        """The whole run is over."""
        self._send({"ended": content})

    def failed(self, error: ProvisionError) -> None:
        """It ended before any task began."""
        self._send({"failed": _told(error)})

    def said(self, text: str) -> None:
        """A message for the waiting caller."""
        self._send({"said": text})

    def waits(self, hook: str) -> None:
        """The lock must be waited for; ``hook`` is the lifecycle script whose work holds it, empty for other work."""
        self._send({"waits": hook})

    def delivered(self) -> bool:
        """Whether all that was sent has been read; waits until it is, or until nobody reads any more."""
        asking = select.poll()
        asking.register(self._pipe, 0)
        while self._unread():
            if asking.poll(_ASK_EVERY):
                return False
        return not self._lost

    def _unread(self) -> int:
        """Bytes that are in the pipe (ioctl_pipe(2))."""
        count = array.array("i", [0])
        fcntl.ioctl(self._pipe, termios.FIONREAD, count)
        return count[0]

    def _send(self, message: dict[str, Any]) -> None:
        line = msgspec.json.encode(masked(message)) + b"\n"
        try:
            while line:
                line = line[os.write(self._pipe, line) :]
        except OSError:
            self._lost = True


def _told(error: ProvisionError) -> dict[str, Any]:
    return {
        "message": error.message,
        "cause": error.cause,
        "cure": error.cure,
        "position": error.position,
        "status": error.exit_status,
    }


def received_error(message: dict[str, Any]) -> ProvisionError:
    """The error that the other process met; the exit status is that of its kind."""
    position = Position(*message["position"]) if message["position"] else None
    kind = LockTimeout if message["status"] == LockTimeout.exit_status else TaskFailed
    return kind(message["message"], cause=message["cause"], cure=message["cure"], position=position)


def received(message: dict[str, Any]) -> Result:
    """The result that `Relay.finished` sent."""
    error = message.pop("error", None)
    result = msgspec.convert(message, Result)
    return result if error is None else msgspec.structs.replace(result, error=received_error(error))


class Several:
    """Several listeners as one."""

    def __init__(self, *listeners: Any) -> None:
        self._listeners = listeners

    def started(self, step: Any) -> None:
        """Tell all."""
        for listener in self._listeners:
            listener.started(step)

    def progressed(self, step: Any, text: str, done: float, total: float) -> None:
        """Tell all."""
        for listener in self._listeners:
            listener.progressed(step, text, done, total)

    def finished(self, step: Any, result: Result) -> None:
        """Tell all."""
        for listener in self._listeners:
            listener.finished(step, result)
