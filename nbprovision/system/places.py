"""The tool's folders. Part of the start-up path: imports only modules that the interpreter has loaded already."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

INSTANCE_CONFIG = "/etc/opt/ml/sagemaker-notebook-instance-config.json"
INSTANCE_VOLUME = "/home/ec2-user/SageMaker"
METADATA = "/opt/ml/metadata/resource-metadata.json"


def is_notebook_instance() -> bool:
    """Whether this looks like a SageMaker notebook instance.

    Only notebook instances have the configuration file. Studio has the metadata file too, but not the volume.
    """
    return os.path.exists(INSTANCE_CONFIG) or (os.path.isdir(INSTANCE_VOLUME) and os.path.exists(METADATA))


def user_home(env: dict[str, str] | os._Environ[str]) -> str:
    """The user's home folder: ``HOME``, else that of the user database, else ``/nonexistent``."""
    home = env.get("HOME")
    if home:
        return home
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return "/nonexistent"  # the home of users that have none (Debian policy, 9.2.3)


def tool_home(env: dict[str, str] | os._Environ[str]) -> str:
    """The folder of state, lock, log and caches.

    ``NBPROVISION_HOME`` if set; on a notebook instance a folder on the persistent volume; else the XDG state folder
    (https://specifications.freedesktop.org/basedir-spec/).
    """
    named = env.get("NBPROVISION_HOME")
    if named:
        if named.startswith("~/"):
            named = user_home(env) + named[1:]
        return os.path.abspath(named)
    if is_notebook_instance():
        return INSTANCE_VOLUME + "/.nbprovision"
    state = env.get("XDG_STATE_HOME", "")
    if not os.path.isabs(state):
        state = os.path.join(user_home(env), ".local/state")
    return os.path.join(state, "nbprovision")


def boot_id() -> str:
    """The boot id of the machine (proc(5), ``random/boot_id``); empty if the kernel has none."""
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as stream:
            return stream.read().decode("ascii", "replace").strip()
    except OSError:
        return ""


def this_start() -> str:
    """A text that differs after each start of the machine, or of the container that this is.

    A container has its host's boot id, so the start of its first process is part of the text (proc_pid_stat(5)).
    """
    try:
        with open("/proc/1/stat", "rb") as stream:
            first = stream.read().rpartition(b")")[2].split()[19].decode("ascii", "replace")
    except (OSError, IndexError):  # hidden from this user (hidepid)
        first = ""
    return f"{boot_id()} {first}"


def existing(path: Path, exists: Callable[[Path], bool] = os.path.exists) -> Path:
    """Return ``path``, or the nearest folder above it that this user can see."""
    while not exists(path) and path != path.parent:
        path = path.parent
    return path
