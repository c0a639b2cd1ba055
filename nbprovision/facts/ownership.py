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
        nearest = _nearest(folder)
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
            own = _name(os.geteuid())
            raise UsageError(
                f"HOME is {folder}, where {own} may not write: {nearest} is {_name(owner)}'s",
                cause="su without -, and sudo without -H or -i, may leave HOME as it was" if owner == 0 else "",
                cure=f"start it as `sudo -iu {own}` or `su - {own}` does, or set HOME to a folder of {own}'s",
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
    for place in (folder, *folder.parents):
        try:
            os.stat(place)
        except PermissionError:  # not ours to look into: the first one above that can be looked at says whose
            continue
        except (FileNotFoundError, NotADirectoryError):
            continue
        return place
    return Path("/")


def _without_root(owner: int, env: Mapping[str, str]) -> str:
    name = _name(owner)
    if env.get("SUDO_UID") == str(owner):
        return "leave sudo out; to provide for root give sudo -H"
    return f"run it as that user (runuser -u {name} -- ...); to provide for root set HOME to root's (sudo -H)"


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"
