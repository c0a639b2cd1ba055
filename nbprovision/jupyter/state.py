"""What `ensure_kernel` finds, as plain data, and how it is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from nbprovision.machine import kernels
from nbprovision.model.errors import TaskFailed


class KernelState(msgspec.Struct, frozen=True, kw_only=True):
    """What is there of a kernel and of the environment that it is for.

    Attributes:
        folder: The kernel's folder.
        found: What stands there, None for nothing.
        prefix: The environment, None for a kernel by ``argv`` or one that is to be absent.
        there: Whether the environment is.
        awaited: Whether an earlier task of the playbook makes it.
        unfinished: What left the environment half done, empty where nothing did.
        python: Whether its interpreter is alive; for ``argv`` whether its program is there.
        ipykernel: Version of ipykernel in it, None where it is missing.
        lacking: Distributions that ipykernel needs and that are not whole; looked for with ``deep``, and where an
            install of it may have been cut off.
        says: ipykernel's own kernelspec.
        logos: The pictures that belong there, by file name.
        launcher: The launcher's text.
        shell: The command that runs the launcher.
        conda: The machine's conda, empty where there is none.
        argv: The command of a program, with the user's home folder for ``~``.
        doubt: What speaks against its starting; only the server's own PATH tells.
        hidden_by: A kernel of the same name that Jupyter finds first.
        by_argv: The kernel is a program that needs no ipykernel of the environment's.
        foreseen: It is what earlier tasks will leave, and known as a whole.

    """

    folder: Path
    found: kernels.KernelFolder | None = None
    prefix: Path | None = None
    there: bool = True
    awaited: bool = False
    unfinished: str = ""
    python: bool = True
    ipykernel: str | None = None
    lacking: tuple[str, ...] = ()
    says: dict[str, Any] = {}
    logos: dict[str, bytes] = {}
    launcher: bytes = b""
    shell: tuple[str, ...] = ()
    conda: str = ""
    hidden_by: Path | None = None
    argv: tuple[str, ...] = ()
    doubt: str = ""
    by_argv: bool = False
    foreseen: bool = False

    @property
    def lacks_ipykernel(self) -> bool:
        """Whether the environment is there and cannot run a kernel yet."""
        if self.by_argv:
            return False
        return self.prefix is not None and self.there and (self.ipykernel is None or bool(self.lacking))


def not_whole(prefix: Path, lacking: str) -> TaskFailed:
    """The error where an install of ipykernel leaves it broken."""
    return TaskFailed(
        f"ipykernel in {prefix} is not whole",
        cause=f"after its install: no {lacking}",
        cure="make the environment anew: remove it (`state: absent`), and run once more",
    )
