"""Owners of the folders that a run writes to: root's files in a user's folder would lock the user out."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from nbprovision.model.errors import NotTrusted, UsageError
from nbprovision.system import trust
from nbprovision.system.places import existing


def refuse_foreign(env: Mapping[str, str], user_home: Path, home: Path) -> None:
    """Refuse to work in another user's home folder, and as root to run a tool that another user can change.

    Root may write anywhere, and its files belong to root. In another user's home that user could neither change nor
    remove them, and could make root obey other files there. Any other user may work in every writable folder: some
    images give one home to all users of a group.

    Args:
        env: The environment variables; those of sudo name its caller.
        user_home: The home folder of the user.
        home: The tool's home folder.

    Raises:
        UsageError: one of the folders belongs to another user, or cannot be a home folder.

    """
    if not user_home.is_absolute():
        raise UsageError(
            f"HOME is '{user_home}', and a home folder has an absolute path", cure="set HOME to the absolute path"
        )
    refuse_foreign_code()
    for name, folder in (("HOME", user_home), ("the tool's home", home)):
        try:
            nearest = existing(folder, _is_seen)
        except OSError as error:  # a link that leads to itself, a name that is too long
            raise UsageError(
                f"{name} is {folder}, which cannot be a folder",
                cause=str(error.strerror),
                cure="set HOME or --home to a folder",
            ) from error
        if not nearest.is_dir():
            raise UsageError(
                f"{name} is {folder}, and {nearest} is not a folder", cure="set HOME or --home to a folder"
            )
        fault = trust.fault(folder, shared=True)
        if fault is not None:
            raise UsageError(
                f"{name} is {folder}, which {fault.reason}, and this runs as root",
                cause=f"{fault.path} {fault.reason}: its owner could neither change nor remove root's files there, "
                "and root would obey files of other users",
                cure=_without_root(fault, env),
            )
        owner = nearest.stat().st_uid
        if owner != os.geteuid() and name == "HOME" and not os.access(nearest, os.W_OK | os.X_OK):
            own, account = trust.name_of(os.geteuid()), trust.account(os.geteuid())
            login = f"start it as `sudo -iu {account}` or `su - {account}` does, or " if account else ""
            raise UsageError(
                f"HOME is {folder}, where {own} may not write: {nearest} is {trust.name_of(owner)}'s",
                cause="su without -, and sudo without -H or -i, may keep the caller's HOME" if owner == 0 else "",
                cure=f"{login}set HOME to a folder of {own}'s",
            )


def refuse_foreign_code() -> None:
    """As root, refuse to run code that another user can change.

    Raises:
        UsageError: the tool, its Python, or a place in an environment variable belongs to another user.

    """
    try:
        trust.obey(Path(__file__).parents[1], "run the nbprovision in")
        trust.environment(sys.prefix, "run the Python in")
        trust.variables(os.environ, os.getcwd(), of_this_process=True)
    except NotTrusted as error:
        raise UsageError(error.message, cause=error.cause, cure=error.cure) from None


def note(env: Mapping[str, str], user_home: Path) -> str | None:
    """The note for a user who runs this by sudo, and so for root; None otherwise."""
    caller = env.get("SUDO_UID", "")
    if os.geteuid() != 0 or not caller.isdecimal() or int(caller) == 0:
        return None
    name = trust.name_of(int(caller))
    return f"note: run by sudo, this provides for root (in {user_home}), not for {name}; for {name} omit sudo"


def _is_seen(place: Path) -> bool:
    try:
        os.stat(place)
    except (PermissionError, FileNotFoundError, NotADirectoryError):
        return False  # the owner of an unreadable folder shows in the first readable one above it
    return True


def _without_root(fault: trust.Fault, env: Mapping[str, str]) -> str:
    owner = fault.status.st_uid
    if owner != 0 and env.get("SUDO_UID") == str(owner):
        return "omit sudo; to provide for root use sudo -H"
    return f"{trust.cure(fault)}; to provide for root set HOME to root's (sudo -H)"
