"""conda's configuration as conda reads it: files in its search order, then ``CONDA_*`` variables."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

# conda.base.constants.SEARCH_PATH; a later place wins. Each stands for .condarc, condarc and condarc.d/ in it.
_SYSTEM = ("etc/conda", "var/lib/conda")
_NAMES = (".condarc", "condarc", "condarc.d")
_YAML = (".yml", ".yaml")  # what counts in condarc.d

ALIAS = "https://conda.anaconda.org"
DEFAULTS = ("https://repo.anaconda.com/pkgs/main", "https://repo.anaconda.com/pkgs/r")
# Without configuration conda itself takes `defaults`, whose terms of service stop a run that nobody watches.
FALLBACK_CHANNEL = "conda-forge"

# Other names that conda accepts for a setting.
ALIASES = {"channel": "channels", "envs_path": "envs_dirs", "verify_ssl": "ssl_verify"}
_LISTS = ("channels", "default_channels", "envs_dirs", "pkgs_dirs")
_MAPS = ("custom_channels", "custom_multichannels")
_FLAGS = ("offline", "register_envs")
_TEXTS = ("channel_alias", "ssl_verify")


class Condarc(msgspec.Struct, frozen=True):
    """The settings that matter here, merged as conda merges them; in lists the nearest file's entries come first."""

    channels: tuple[str, ...] = ()
    channel_alias: str = ALIAS
    default_channels: tuple[str, ...] = DEFAULTS
    custom_channels: dict[str, str] = {}
    custom_multichannels: dict[str, list[str]] = {}
    envs_dirs: tuple[str, ...] = ()
    pkgs_dirs: tuple[str, ...] = ()
    ssl_verify: bool | str = True
    offline: bool = False
    register_envs: bool = True
    auto_accept_tos: bool = False
    warnings: tuple[str, ...] = ()

    def urls(self, channel: str) -> list[str]:
        """The URLs that a channel stands for: several for ``defaults`` and other multichannels.

        Args:
            channel: A URL, a path (``/``, ``~``, ``./``), or a name as conda resolves it.

        """
        if "://" in channel:
            return [channel.rstrip("/")]
        if channel.startswith(("/", "~", "./", "../")):
            return [Path(os.path.abspath(os.path.expanduser(channel))).as_uri()]
        if channel in self.custom_multichannels:
            return [self._named(entry) for entry in self.custom_multichannels[channel]]
        if channel == "defaults":
            return [self._named(entry) for entry in self.default_channels]
        return [self._named(channel)]

    def name_of(self, url: str) -> str:
        """What conda calls the channel with that URL in its history and its lists: its canonical name."""
        url = re.sub(r"/t/[^/]+/", "/", url.rstrip("/"))
        url = re.sub(r"^([a-z]+://)[^/@]*@", r"\1", url)
        for name in ("defaults", *self.custom_multichannels):
            if url in self.urls(name):
                return name
        for name in self.custom_channels:
            base = self._named(name)
            if url == base or url.startswith(base + "/"):
                return name + url[len(base) :]
        alias = self.channel_alias.rstrip("/") + "/"
        return url.removeprefix(alias)

    def _named(self, channel: str) -> str:
        if "://" in channel:
            return channel.rstrip("/")
        # conda looks for the whole name, then strips one segment after the other.
        name, members = channel, self._members()
        while name:
            if name in self.custom_channels:
                place = self.custom_channels[name]
                location = place if "://" in place else self.channel_alias.rstrip("/") + "/" + place.strip("/")
                return f"{location.rstrip('/')}/{channel}"
            if name in members:
                return members[name] + channel[len(name) :]
            name = name.rpartition("/")[0]
        return f"{self.channel_alias.rstrip('/')}/{channel.strip('/')}"

    def _members(self) -> dict[str, str]:
        """What conda calls the members of ``defaults`` and other multichannels that are URLs: ``pkgs/main``."""
        found: dict[str, str] = {}
        for url in (*self.default_channels, *(url for urls in self.custom_multichannels.values() for url in urls)):
            if "://" in url:
                path = re.sub(r"^/t/[^/]+", "", urlsplit(url).path).strip("/")
                found[path.removeprefix("conda/")] = url.rstrip("/")
        return found


def read_condarc(
    env: Mapping[str, str],
    user_home: Path,
    base: Path | None,
    root: Path = Path("/"),
    instead: Mapping[Path, str | None] | None = None,
) -> Condarc:
    """Read and merge the configuration; what cannot be read becomes a warning.

    Args:
        env: The environment variables.
        user_home: The user's home folder.
        base: The conda installation in use.
        root: The file system's root; another folder in tests.
        instead: Texts to take for files, None for absent: to know what would be.

    """
    merged: dict[str, Any] = {}
    warnings: list[str] = []
    for path in condarc_files(env, user_home, base, root, instead or {}):
        document = _parse(path, warnings, instead or {})
        for key, value in document.items():
            _merge(merged, ALIASES.get(str(key), str(key)), value, env)
    for name, value in env.items():
        if name.startswith("CONDA_") and value:
            _merge_variable(merged, name[6:].lower(), value, env)
    return Condarc(**merged, warnings=tuple(warnings))


def condarc_files(
    env: Mapping[str, str],
    user_home: Path,
    base: Path | None,
    root: Path = Path("/"),
    instead: Mapping[Path, str | None] | None = None,
) -> Iterator[Path]:
    """The files that there are (with ``instead``: would be), in the order in which a later one wins."""
    instead = instead or {}
    for place in condarc_places(env, user_home, base, root):
        if place in instead:
            if instead[place] is not None:
                yield place
        elif os.path.isfile(place):  # unlike pathlib's it takes a folder that cannot be read for an empty one
            yield place
        elif os.path.isdir(place) and place.name.endswith(".d") and os.access(place, os.R_OK):
            yield from sorted(path for path in place.iterdir() if path.suffix in _YAML)


def condarc_places(env: Mapping[str, str], user_home: Path, base: Path | None, root: Path = Path("/")) -> list[Path]:
    """Every place where a file, or a folder of files, would count; a later one wins."""
    folders = [root / place for place in _SYSTEM]
    if base is not None:
        folders.append(base)
    if env.get("XDG_CONFIG_HOME"):
        folders.append(Path(env["XDG_CONFIG_HOME"]) / "conda")
    folders += [user_home / ".config/conda", user_home / ".conda"]
    places = [folder / name for folder in folders for name in _NAMES]
    places.append(user_condarc(user_home))
    if os.path.isabs(env.get("CONDA_PREFIX", "")) and Path(env["CONDA_PREFIX"]) != base:
        places += [Path(env["CONDA_PREFIX"]) / name for name in _NAMES]
    if env.get("CONDARC"):
        places.append(Path(env["CONDARC"]))
    return list(dict.fromkeys(places))


def user_condarc(user_home: Path) -> Path:
    """The user's file, to which ``conda config`` writes."""
    return user_home / ".condarc"


def system_condarc(root: Path = Path("/")) -> Path:
    """The file for every conda of the machine."""
    return root / _SYSTEM[0] / ".condarc"


def _parse(path: Path, warnings: list[str], instead: Mapping[Path, str | None]) -> dict[str, Any]:
    from nbprovision.facts import yaml_document

    try:
        document = yaml_document.load(instead[path] or "") if path in instead else yaml_document.read(path)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        warnings.append(f"{path} is left out: it cannot be read as YAML ({reason})")
        return {}
    if document is not None and not isinstance(document, dict):
        warnings.append(f"{path} is left out: it is no mapping of settings")
    return document if isinstance(document, dict) else {}


def _merge(merged: dict[str, Any], key: str, value: Any, env: Mapping[str, str]) -> None:
    if value is None:
        return
    if key in _LISTS:
        entries = [value] if isinstance(value, str) else value if isinstance(value, list) else []
        nearer = tuple(_expanded(str(entry), env) for entry in entries if entry)
        merged[key] = tuple(dict.fromkeys((*nearer, *merged.get(key, ()))))
    elif key in _MAPS and isinstance(value, dict):
        merged[key] = {
            **merged.get(key, {}),
            **{str(name): _map_value(key, entry, env) for name, entry in value.items()},
        }
    elif key in _FLAGS:
        merged[key] = _truth(value)
    elif key == "channel_alias":
        merged[key] = _expanded(str(value), env)
    elif key == "plugins" and isinstance(value, dict) and "auto_accept_tos" in value:
        merged["auto_accept_tos"] = _truth(value["auto_accept_tos"])
    elif key == "ssl_verify":
        truth = value if isinstance(value, bool) else _TRUTHS.get(str(value).lower())
        merged[key] = _expanded(str(value), env) if truth is None else truth


def _merge_variable(merged: dict[str, Any], key: str, value: str, env: Mapping[str, str]) -> None:
    """``CONDA_CHANNELS=a,b``; folders of environments are separated as in PATH. A variable wins over all files."""
    key = ALIASES.get(key, key)
    if key in _LISTS:
        separator = os.pathsep if key == "envs_dirs" else ","
        _merge(merged, key, [word.strip() for word in value.split(separator)], env)
    elif key in _FLAGS + _TEXTS:
        _merge(merged, key, value, env)
    elif key == "plugins_auto_accept_tos":
        _merge(merged, "plugins", {"auto_accept_tos": value}, env)


def _map_value(key: str, entry: Any, env: Mapping[str, str]) -> Any:
    if key == "custom_channels":
        return _expanded(str(entry), env)
    return [_expanded(str(one), env) for one in (entry if isinstance(entry, list) else [entry])]


_TRUTHS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def _truth(value: Any) -> bool:
    return value if isinstance(value, bool) else _TRUTHS.get(str(value).lower(), False)


def _expanded(text: str, env: Mapping[str, str]) -> str:
    """``$NAME`` and ``${NAME}`` replaced where the variable is set, as conda does for these settings."""
    if "$" not in text:
        return text
    return re.sub(r"\$\{?(\w+)\}?", lambda match: env.get(match[1], match[0]), text)
