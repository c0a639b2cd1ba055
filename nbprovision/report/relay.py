"""Relays the reports of a run from the working process to the waiting caller, as JSON lines on a pipe."""

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

_POLL_EVERY = 10  # milliseconds


class Relay:
    """Sends the reports of a run; it is not an error if the reader has exited.

    Args:
        pipe: The file descriptor to write to.
        steps: All steps of the run, in order; their numbers identify them.
    """

    def __init__(self, pipe: int, steps: Sequence[Any]) -> None:
        self._pipe = pipe
        self._lost = False  # whether a message was not read
        self._numbers = {id(step): number for number, step in enumerate(steps)}

    def started(self, step: Any) -> None:
        """Report that the work on a step starts."""
        self._send({"started": self._numbers[id(step)]})

    def progressed(self, step: Any, text: str, done: float, total: float) -> None:
        """Report the progress of long work."""
        self._send({"progressed": self._numbers[id(step)], "text": text, "done": done, "total": total})

    def finished(self, step: Any, result: Result) -> None:
        """Report the result of a step."""
        error = result.error
        message = msgspec.to_builtins(msgspec.structs.replace(result, error=None, values={}))
        if error is not None:
            message["error"] = _as_message(error)
        self._send({"finished": self._numbers[id(step)], "result": message})

    def ended(self, content: dict[str, Any]) -> None:
        """Report the end of the run."""
        self._send({"ended": content})

    def failed(self, error: ProvisionError) -> None:
        """Report that the run failed before its first task."""
        self._send({"failed": _as_message(error)})

    def said(self, text: str) -> None:
        """Send a message for the waiting caller."""
        self._send({"said": text})

    def waits(self, hook: str) -> None:
        """Report that the run waits for the lock; ``hook`` is the lifecycle hook of the holder, if it has one."""
        self._send({"waits": hook})

    def delivered(self) -> bool:
        """Wait until everything is read or the reader has exited; return whether everything was read."""
        poll = select.poll()
        poll.register(self._pipe, 0)
        while self._unread():
            if poll.poll(_POLL_EVERY):
                return False
        return not self._lost

    def _unread(self) -> int:
        """The number of bytes in the pipe (ioctl_pipe(2))."""
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


def _as_message(error: ProvisionError) -> dict[str, Any]:
    return {
        "message": error.message,
        "cause": error.cause,
        "cure": error.cure,
        "position": error.position,
        "status": error.exit_status,
    }


def received_error(message: dict[str, Any]) -> ProvisionError:
    """The error of the other process, with the same exit status."""
    position = Position(*message["position"]) if message["position"] else None
    kind = LockTimeout if message["status"] == LockTimeout.exit_status else TaskFailed
    return kind(message["message"], cause=message["cause"], cure=message["cure"], position=position)


def received(message: dict[str, Any]) -> Result:
    """The result that `Relay.finished` sent."""
    error = message.pop("error", None)
    result = msgspec.convert(message, Result)
    return result if error is None else msgspec.structs.replace(result, error=received_error(error))


class Several:
    """Passes the reports of a run to several listeners."""

    def __init__(self, *listeners: Any) -> None:
        self._listeners = listeners

    def started(self, step: Any) -> None:
        """Call all listeners."""
        for listener in self._listeners:
            listener.started(step)

    def progressed(self, step: Any, text: str, done: float, total: float) -> None:
        """Call all listeners."""
        for listener in self._listeners:
            listener.progressed(step, text, done, total)

    def finished(self, step: Any, result: Result) -> None:
        """Call all listeners."""
        for listener in self._listeners:
            listener.finished(step, result)
