"""How kernels and commands are started in an activated environment: by a script of ours, in a shell."""

from __future__ import annotations

from pathlib import Path

LAUNCHER = "activate.sh"
LAUNCHER_SOURCE = Path(__file__).parent / LAUNCHER
_SHELLS = ("bin/bash", "usr/bin/bash", "usr/local/bin/bash")


def launcher() -> bytes:
    """The script that activates an environment and becomes the program (same process, so that signals reach it)."""
    return LAUNCHER_SOURCE.read_bytes()


def shell(root: Path = Path("/")) -> list[str]:
    """The command that runs a script: bash, for which conda's packages write theirs, else the POSIX shell.

    ``-p`` keeps ``BASH_ENV``, exported functions and ``SHELLOPTS`` of whoever starts the kernel out of it.
    """
    for place in _SHELLS:
        if (root / place).exists():
            return [f"/{place}", "-p"]
    return ["/bin/sh"]
