"""Whose the folders are that a run is about to write to: files of root's among a user's would lock the user out."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from nbprovision.model.errors import NotTrusted, UsageError
from nbprovision.system import trust


def refuse_foreign(env: Mapping[str, str], user_home: Path, home: Path) -> None:
    """Refuse to work in the home folder of somebody else, and as root to run a tool that somebody else can change.

    Root may write anywhere, and what it writes is root's: in another user's home that user could neither change nor
    remove it, and could have root obey what is there. Anybody else may work where he may write, as in images that give
    one home to any user of a group.

    Args:
        env: The environment variables; sudo tells there who called it.
        user_home: The home folder of the user.
        home: The tool's home folder.

    Raises:
        UsageError: one of them is another user's, or is no place for a home folder at all.

    """
    if not user_home.is_absolute():
        raise UsageError(
            f"HOME is '{user_home}', and a home folder has an absolute path", cure="set HOME to the whole path"
        )
    refuse_foreign_code()
    for name, folder in (("HOME", user_home), ("the tool's home", home)):
        try:
            nearest = _nearest(folder)
        except OSError as error:  # a link that leads to itself, a name that is too long
            raise UsageError(
                f"{name} is {folder}, and no folder can be there",
                cause=str(error.strerror),
                cure="set HOME, or give --home, to a folder",
            ) from error
        if not nearest.is_dir():
            raise UsageError(
                f"{name} is {folder}, and {nearest} is no folder", cure="set HOME, or give --home, to a folder"
            )
        found = trust.fault(folder, shared=True)
        if found is not None:
            raise UsageError(
                f"{name} is {folder}, which {found.reason}, and this runs as root",
                cause=f"{found.path} {found.reason}: what root makes there its owner could neither change nor remove, "
                "and root would obey what others put there",
                cure=_without_root(found, env),
            )
        owner = nearest.stat().st_uid
        if owner != os.geteuid() and name == "HOME" and not os.access(nearest, os.W_OK | os.X_OK):
            own, account = trust.name_of(os.geteuid()), trust.account(os.geteuid())
            login = f"start it as `sudo -iu {account}` or `su - {account}` does, or " if account else ""
            raise UsageError(
                f"HOME is {folder}, where {own} may not write: {nearest} is {trust.name_of(owner)}'s",
                cause="su without -, and sudo without -H or -i, may leave HOME as it was" if owner == 0 else "",
                cure=f"{login}set HOME to a folder of {own}'s",
            )


def refuse_foreign_code() -> None:
    """As root, refuse to be a program that somebody else can change, or one that looks for its code among such.

    Raises:
        UsageError: the tool, its Python, or a place that an environment variable leads to is another user's.

    """
    try:
        trust.obey(Path(__file__).parents[1], "run the nbprovision in")
        trust.environment(sys.prefix, "run the Python in")
        trust.variables(os.environ, os.getcwd(), of_this_process=True)
    except NotTrusted as error:
        raise UsageError(error.message, cause=error.cause, cure=error.cure) from None


def note(env: Mapping[str, str], user_home: Path) -> str | None:
    """What to tell somebody who runs this by sudo, and so for root and not for himself."""
    caller = env.get("SUDO_UID", "")
    if os.geteuid() != 0 or not caller.isdecimal() or int(caller) == 0:
        return None
    name = trust.name_of(int(caller))
    return f"note: run by sudo, this provides for root (in {user_home}), not for {name}; for {name} leave sudo out"


def _nearest(folder: Path) -> Path:
    """The folder, or what is there of those that it lies in."""
    return next(filter(_is_seen, (folder, *folder.parents)), Path("/"))


def _is_seen(place: Path) -> bool:
    try:
        os.stat(place)
    except (PermissionError, FileNotFoundError, NotADirectoryError):
        return False  # where it is not ours to look into, the first one above that can be looked at says whose
    return True


def _without_root(found: trust.Fault, env: Mapping[str, str]) -> str:
    owner = found.status.st_uid
    if owner != 0 and env.get("SUDO_UID") == str(owner):
        return "leave sudo out; to provide for root give sudo -H"
    return f"{trust.cure(found)}; to provide for root set HOME to root's (sudo -H)"
