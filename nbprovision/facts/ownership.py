"""Whose the folders are that a run is about to write to: files of root's among a user's would lock the user out."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from pathlib import Path

from nbprovision.model.errors import UsageError


def refuse_foreign(env: Mapping[str, str], user_home: Path, home: Path) -> None:
    """Refuse to work in the home folder of somebody else.

    Root may write anywhere, and what it writes is root's: in another user's home that user could neither change nor
    remove it. Anybody else may work where he may write, as in images that give one home to any user of a group.

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
        owner = nearest.stat().st_uid
        if os.geteuid() == 0 and owner != 0:
            raise UsageError(
                f"{name} is {folder}, which is {_name(owner)}'s, and this runs as root",
                cause="what root makes there is root's, and its owner could neither change nor remove it",
                cure=_without_root(owner, env),
            )
        if owner != os.geteuid() and name == "HOME" and not os.access(nearest, os.W_OK | os.X_OK):
            own, account = _name(os.geteuid()), _account(os.geteuid())
            login = f"start it as `sudo -iu {account}` or `su - {account}` does, or " if account else ""
            raise UsageError(
                f"HOME is {folder}, where {own} may not write: {nearest} is {_name(owner)}'s",
                cause="su without -, and sudo without -H or -i, may leave HOME as it was" if owner == 0 else "",
                cure=f"{login}set HOME to a folder of {own}'s",
            )


def note(env: Mapping[str, str], user_home: Path) -> str | None:
    """What to tell somebody who runs this by sudo, and so for root and not for himself."""
    caller = env.get("SUDO_UID", "")
    if os.geteuid() != 0 or not caller.isdecimal() or int(caller) == 0:
        return None
    name = _name(int(caller))
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


def _without_root(owner: int, env: Mapping[str, str]) -> str:
    if env.get("SUDO_UID") == str(owner):
        return "leave sudo out; to provide for root give sudo -H"
    account = _account(owner)
    how = f" (runuser -u {account} -- ...)" if account else ""
    return f"run it as that user{how}; to provide for root set HOME to root's (sudo -H)"


def _name(user: int) -> str:
    return _account(user) or f"user {user}"


def _account(user: int) -> str | None:
    """The name to log in with; None for a number that the user database does not know, as containers have it."""
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return None
