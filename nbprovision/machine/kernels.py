"""Jupyter's kernels: their folders, and the files in them.

Sources: https://docs.jupyter.org/en/latest/use/jupyter-directories.html and jupyter_core.paths (the folders, in their
order), https://jupyter-client.readthedocs.io/en/stable/kernels.html and jupyter_client.kernelspec (names, kernel.json).
Neither package is imported: the folders depend on the variables of a `Machine`, not on this process.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from nbprovision.machine.environments import names_in
from nbprovision.system.reading import read_bytes

Scope = Literal["user", "system", "env"]

SPEC = "kernel.json"
# Our own entry under a kernelspec's metadata.
MARK = "nbprovision"
LONGEST_NAME = 200
_LARGEST_FILE = 1_000_000  # bytes; a kernelspec's files are a hundredth of that

# jupyter_client.kernelspec._kernel_name_pat, which ignores case; kernels are found by their lower-case names.
_NAME = re.compile(r"[a-z0-9._\-]+")


class File(msgspec.Struct, frozen=True):
    """One file of a kernel's folder: its bytes (None unless it is a regular file) and permission bits."""

    data: bytes | None
    mode: int


class KernelFolder(msgspec.Struct, frozen=True):
    """The entry at the place of a kernel.

    Attributes:
        mode: Permission bits; None for a link, or anything else that is not a folder.
        files: Every entry but folders, by name.

    """

    mode: int | None
    files: dict[str, File] = {}

    @property
    def spec(self) -> Any:
        """kernel.json as plain data; None if it is missing or unreadable."""
        return decoded(self.files.get(SPEC, File(None, 0)).data)


def normalized(text: str) -> str:
    """The kernel name nearest to ``text``: lower case, every run of other characters a hyphen.

    ``My Env (GPU)`` becomes ``my-env-gpu``; empty if no valid character is left.
    """
    name = re.sub(r"[^a-z0-9._\-]+", "-", text.lower()).strip("-")[:LONGEST_NAME]
    return "" if set(name) <= {"."} else name


def is_valid_name(name: str) -> bool:
    """Whether Jupyter accepts the (lower-case) name; ``.`` and ``..``, which its rule permits, are not names."""
    return bool(_NAME.fullmatch(name)) and not set(name) <= {"."} and len(name) <= LONGEST_NAME


def data_dir(env: Mapping[str, str], user_home: Path) -> Path:
    """The user's own data folder; ``jupyter kernelspec install --user`` writes there."""
    if env.get("JUPYTER_DATA_DIR"):
        return Path(os.path.abspath(env["JUPYTER_DATA_DIR"]))
    return Path(os.path.abspath(env.get("XDG_DATA_HOME") or user_home / ".local/share")) / "jupyter"


def config_dir(env: Mapping[str, str], user_home: Path) -> Path:
    """The folder of the user's own Jupyter configuration."""
    return Path(os.path.abspath(env.get("JUPYTER_CONFIG_DIR") or user_home / ".jupyter"))


def system_dirs(env: Mapping[str, str], root: Path = Path("/")) -> list[Path]:
    """The data folders of all users; kernels are installed into the first."""
    if _is_set(env, "JUPYTER_PLATFORM_DIRS") and env.get("XDG_DATA_DIRS"):
        return [Path(folder) / "jupyter" for folder in env["XDG_DATA_DIRS"].split(os.pathsep) if folder]
    return [root / "usr/local/share/jupyter", root / "usr/share/jupyter"]


def kernel_dirs(
    env: Mapping[str, str], user_home: Path, *, prefix: Path | None = None, root: Path = Path("/")
) -> list[Path]:
    """The folders that a Jupyter server searches for kernels; the first match wins.

    Args:
        env: The server's variables.
        user_home: The server's user's home.
        prefix: The environment that the server runs from; None if it is unknown.
        root: The file system's root; another folder in tests.

    """
    first = [Path(os.path.abspath(part)) for part in env.get("JUPYTER_PATH", "").split(os.pathsep) if part]
    user = [data_dir(env, user_home)]
    if env.get("PYTHONUSERBASE"):
        user.append(Path(os.path.abspath(env["PYTHONUSERBASE"])) / "share/jupyter")
    own = [prefix / "share/jupyter"] if prefix is not None else []
    # If it is not set, Jupyter prefers a virtual or activated environment of its user.
    prefers_own = _is_set(env, "JUPYTER_PREFER_ENV_PATH") if "JUPYTER_PREFER_ENV_PATH" in env else True
    middle = [*own, *user] if prefers_own else [*user, *own]
    ipython = Path(os.path.abspath(env.get("IPYTHONDIR") or user_home / ".ipython"))
    folders = [*(folder / "kernels" for folder in [*first, *middle, *system_dirs(env, root)]), ipython / "kernels"]
    return list(dict.fromkeys(folders))


def folder_of(
    name: str, scope: Scope, env: Mapping[str, str], user_home: Path, *, prefix: Path | None, root: Path = Path("/")
) -> Path:
    """The folder of a kernel that is installed with ``scope``; ``env`` needs a prefix."""
    if scope == "system":
        return system_dirs(env, root)[0] / "kernels" / name
    if scope == "env":
        if prefix is None:
            raise ValueError("a kernel of scope env needs a prefix")
        return prefix / "share/jupyter/kernels" / name
    return data_dir(env, user_home) / "kernels" / name


def installed(dirs: list[Path]) -> dict[str, Path]:
    """Every kernel that Jupyter would list, name to folder; the first of each name wins."""
    kernels: dict[str, Path] = {}
    for folder in dirs:
        for name in names_in(folder):
            if os.path.isfile(folder / name / SPEC):
                kernels.setdefault(name.lower(), folder / name)
    return kernels


def hiding_kernel(folder: Path, dirs: list[Path]) -> Path | None:
    """The kernel of the same name that Jupyter prefers to the one in ``folder``, which lies in one of ``dirs``."""
    before = dirs[: dirs.index(folder.parent)] if folder.parent in dirs else []
    return installed(before).get(folder.name)


def read_folder(folder: Path) -> KernelFolder | None:
    """The entry at ``folder``; None if it is missing. Links are not followed."""
    try:
        own = os.lstat(folder)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not stat.S_ISDIR(own.st_mode):
        return KernelFolder(None)
    return KernelFolder(stat.S_IMODE(own.st_mode), dict(_files(folder)))


def _is_set(env: Mapping[str, str], name: str) -> bool:
    return env.get(name, "0").lower() not in ("no", "n", "false", "off", "0", "0.0")


def _files(folder: Path) -> Iterator[tuple[str, File]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            status = entry.stat(follow_symlinks=False)
            if entry.is_dir(follow_symlinks=False):
                continue
            ordinary = stat.S_ISREG(status.st_mode)
            yield entry.name, File(read_file(Path(entry.path)) if ordinary else None, stat.S_IMODE(status.st_mode))


def read_file(path: Path) -> bytes | None:
    """The bytes of a kernelspec's file; None if it is missing, unreadable or too large."""
    try:
        return read_bytes(path, most=_LARGEST_FILE)
    except OSError:
        return None


def decoded(data: bytes | None) -> Any:
    """A kernel.json as plain data; None if it is missing or not JSON."""
    try:
        return None if data is None else msgspec.json.decode(data)
    except (ValueError, RecursionError):  # msgspec's own errors are ValueErrors
        return None


def added_variables(spec: Any) -> dict[str, str]:
    """The variables that `with_variables` added to a kernel, with their values in kernel.json."""
    try:
        names = spec["metadata"][MARK]["variables"]
        return {name: spec["env"][name] for name in names if isinstance(spec["env"].get(name), str)}
    except (KeyError, TypeError, AttributeError):
        return {}


def with_variables(spec: dict[str, Any], variables: Mapping[str, str], *, present: bool) -> dict[str, Any]:
    """A kernelspec with added variables; or with ``present=False`` without them, if they were added before.

    Its ``metadata`` lists the added variables, so that a later description of the kernel can keep them.
    """
    own, metadata = _mapping(spec, "env"), _mapping(spec, "metadata")
    added = set(added_variables(spec))
    if present:
        names, env = added | set(variables), {**own, **variables}
    else:
        gone = added & set(variables)
        names, env = added - gone, {name: value for name, value in own.items() if name not in gone}
    if env == own and names == added:
        return spec
    mark = {key: value for key, value in _mapping(metadata, MARK).items() if key != "variables"}
    if names:
        mark["variables"] = sorted(names)
    return {**spec, "env": env, "metadata": {**metadata, MARK: mark}}


def encoded(spec: Mapping[str, Any]) -> bytes:
    """The content of a kernel.json."""
    return msgspec.json.format(msgspec.json.encode(spec), indent=1) + b"\n"


def _mapping(data: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = data.get(key)
    return value if isinstance(value, dict) else {}
