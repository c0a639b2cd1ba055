"""Starts the built-in engine before the tool's own modules are loaded: in the first run on a machine.

Then both load at the same time, and the first environment need not wait. It is an advantage only: without it, or with
variables of a task that need another process, `rattler` starts its own.
"""

from __future__ import annotations

import os
import stat

from nbprovision.state import witness

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nbprovision.system.early_child import EarlyChild

MODULE = "nbprovision.conda.rattler_child"
_NAMED_BY = b"ensure_conda_env"
_MOST = 1 << 20  # bytes of a playbook
_LIST_ONLY = ("--list-tasks", "--list-tags")
# With these, the engine gets other variables (`rattler.child_environment`), or this process is in no hurry.
_OTHERWISE = ("PYTHONHOME", "PYTHONSTARTUP", "PYTHONINSPECT", "SUDO_UID", "NBPROVISION_BACKGROUND")
_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


def start(argv: list[str]) -> EarlyChild | None:
    """Start the engine if this is a run of a playbook with environments on a machine that has none of ours.

    Args:
        argv: The command line without the program.

    Returns:
        The engine, to be closed after the run; None if it was not started.

    """
    invocation = _first_run(argv)
    if invocation is None:
        return None
    from nbprovision.system.context import current
    from nbprovision.system.early_child import EarlyChild

    early = current(EarlyChild)
    try:
        early.start(MODULE, dict(os.environ), invocation.home + "/journal")
    except OSError:  # the run itself reports it
        return None
    return early


def _first_run(argv: list[str]) -> witness.Invocation | None:
    words = list(argv)
    if "--relay" in words:  # this is the detached process that does the work
        position = words.index("--relay")
        del words[position : position + 2]
    elif any(word.startswith("--deadline") for word in words):
        return None
    invocation = witness.parse(words)
    if invocation is None or any(word in words for word in _LIST_ONLY):
        return None
    env = os.environ
    if any(name in env for name in _OTHERWISE) or ("SSL_CERT_FILE" not in env and any(map(env.get, _BUNDLES))):
        return None
    try:
        if os.listdir(invocation.home + "/envs"):
            return None
    except OSError:  # there is none yet
        pass
    return invocation if _NAMED_BY in _beginning(invocation.playbook) else None


def _beginning(path: str) -> bytes:
    """The beginning of a file; nothing of a pipe, which could keep its reader waiting, nor of what is missing."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(handle, _MOST) if stat.S_ISREG(os.fstat(handle).st_mode) else b""
    except OSError:
        return b""
    finally:
        os.close(handle)
