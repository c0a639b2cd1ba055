"""conda's configuration as conda reads it: files in its search order, then ``CONDA_*`` variables."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from nbprovision.machine import condarc_text
from nbprovision.machine.condarc_text import Value
from nbprovision.system import inputs, trust
from nbprovision.system.reading import read_bytes
from nbprovision.system.yaml_document import MAX_BYTES

# conda.base.constants.SEARCH_PATH; a later place wins. Each may hold .condarc, condarc and condarc.d/.
_SYSTEM = ("etc/conda", "var/lib/conda")
_NAMES = (".condarc", "condarc", "condarc.d")
_YAML = (".yml", ".yaml")  # the files that count in condarc.d

ALIAS = "https://conda.anaconda.org"
DEFAULTS = ("https://repo.anaconda.com/pkgs/main", "https://repo.anaconda.com/pkgs/r")
# If nothing is configured, conda itself takes `defaults`, whose terms of service stop an unattended run.
FALLBACK_CHANNEL = "conda-forge"

# Other names that conda accepts for a setting.
ALIASES = {
    "channel": "channels",
    "envs_path": "envs_dirs",
    "verify_ssl": "ssl_verify",
    "whitelist_channels": "allowlist_channels",
}
_LISTS = (
    "channels",
    "default_channels",
    "envs_dirs",
    "pkgs_dirs",
    "pinned_packages",
    "allowlist_channels",
    "denylist_channels",
)
_MAPS = ("custom_channels", "custom_multichannels", "proxy_servers", "plugins")
_FLAGS = ("offline", "register_envs", "ignore_pinned", "override_channels_enabled")
_TEXTS = ("channel_alias", "ssl_verify")
# The separators of lists in variables: ``string_delimiter`` in conda.base.context; the others have a comma.
_SEPARATORS = {"envs_dirs": os.pathsep, "pinned_packages": "&"}
_NOT_EXPANDED = ("pinned_packages", "plugins", *_FLAGS)

# This channel of an environment.yml means that the channels of the configuration are not added.
NO_DEFAULTS = "nodefaults"


class Condarc(msgspec.Struct, frozen=True):
    """The settings that this tool uses, merged as conda merges them; in lists the nearest file's entries come first.

    ``pinned_by`` maps each of ``pinned_packages`` to its file or variable. ``final_channels_by`` is the file with
    channels that are ``#!final``.
    """

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
    pinned_packages: tuple[str, ...] = ()
    pinned_by: dict[str, str] = {}
    ignore_pinned: bool = False
    proxy_servers: dict[str, str] = {}
    allowlist_channels: tuple[str, ...] = ()
    denylist_channels: tuple[str, ...] = ()
    override_channels_enabled: bool = True
    final_channels_by: str | None = None
    warnings: tuple[str, ...] = ()

    def urls(self, channel: str) -> list[str]:
        """The URLs of a channel: several for ``defaults`` and other multichannels.

        Args:
            channel: A URL, a path (``/``, ``~``, ``./``), or a name as conda resolves it.

        """
        if "://" in channel:
            return [channel.rstrip("/")]
        if channel.startswith(("/", "~", "./", "../")):
            return [Path(os.path.abspath(os.path.expanduser(channel))).as_uri()]
        default = self.default_channels if channel == "defaults" else (channel,)
        return [self._named(member) for member in self.custom_multichannels.get(channel, default)]

    def forbidden(self, urls: Iterable[str]) -> tuple[str, str] | None:
        """The first of some channels that an administrator does not allow, and the reason.

        Args:
            urls: Channels to solve from.

        """
        listed = {
            key: self._places(getattr(self, key)) for key in ("channels", "allowlist_channels", "denylist_channels")
        }
        for url in urls:
            place = _bare(url)
            if place in listed["denylist_channels"]:
                return url, "`denylist_channels` in conda's configuration names it"
            if listed["allowlist_channels"] and place not in listed["allowlist_channels"]:
                return url, "`allowlist_channels` in conda's configuration does not name it"
            if self.final_channels_by is not None and place not in listed["channels"]:
                return url, f"the channels in {self.final_channels_by} are `#!final`"
            if not self.override_channels_enabled and listed["channels"] and place not in listed["channels"]:
                return url, "conda's configuration says `override_channels_enabled: false`"
        return None

    def _places(self, channels: Iterable[str]) -> set[str]:
        return {_bare(url) for channel in channels for url in self.urls(channel)}

    @property
    def places(self) -> tuple[str, ...]:
        """Every URL of a channel or of a place of channels in the configuration; some have credentials."""
        several = (url for urls in self.custom_multichannels.values() for url in urls)
        urls = (self.channel_alias, *self.default_channels, *self.custom_channels.values(), *several)
        return tuple(url for url in urls if "://" in url)

    def name_of(self, url: str) -> str:
        """The canonical name of the channel with that URL, as in conda's history and lists."""
        url = _bare(url)
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
        """The URLs of members of ``defaults`` and other multichannels, by conda's names for them: ``pkgs/main``."""
        members: dict[str, str] = {}
        for url in (*self.default_channels, *(url for urls in self.custom_multichannels.values() for url in urls)):
            if "://" in url:
                path = re.sub(r"^/t/[^/]+", "", urlsplit(url).path).strip("/")
                members[path.removeprefix("conda/")] = url.rstrip("/")
        return members


def _bare(url: str) -> str:
    """A channel's URL without token, user and password."""
    url = re.sub(r"/t/[^/]+/", "/", url.rstrip("/"))
    return re.sub(r"^([a-z]+://)[^/@]*@", r"\1", url)


def read_condarc(
    env: Mapping[str, str],
    user_home: Path,
    base: Path | None,
    root: Path = Path("/"),
    instead: Mapping[Path, str | None] | None = None,
) -> Condarc:
    """Read and merge the configuration; an unreadable file becomes a warning.

    Args:
        env: The environment variables.
        user_home: The user's home folder.
        base: The conda installation in use.
        root: The file system's root; another folder in tests.
        instead: Future contents of files, None for a missing file.

    """
    warnings: list[str] = []
    layers = [
        (str(path), _by_name(_parse(path, warnings, instead or {})))
        for path in condarc_files(env, user_home, base, root, instead or {})
    ]
    layers += [(f"${name}", settings) for name, settings in _variables(env)]
    merged: dict[str, Any] = {}
    for key in (*_LISTS, *_MAPS, *_FLAGS, *_TEXTS):
        matches = [settings[key] for _, settings in layers if key in settings]
        if matches:
            value = condarc_text.merged(matches).plain
            merged[key] = value if key in _NOT_EXPANDED else _all_expanded(value, env)
    return Condarc(
        **_typed(merged),
        pinned_by={
            str(entry.plain): origin
            for origin, settings in layers
            for entry in settings.get("pinned_packages", Value(())).data
        },
        final_channels_by=next(
            (origin for origin, settings in layers if settings.get("channels", Value(())).flag == "final"), None
        ),
        warnings=tuple(warnings),
    )


def condarc_files(
    env: Mapping[str, str],
    user_home: Path,
    base: Path | None,
    root: Path = Path("/"),
    instead: Mapping[Path, str | None] | None = None,
) -> Iterator[Path]:
    """The existing files, and those of ``instead``, in an order in which a later one wins."""
    instead = instead or {}
    for place in condarc_places(env, user_home, base, root):
        inputs.file(place)
        if place in instead:
            if instead[place] is not None:
                yield place
        elif os.path.isfile(place):  # unlike pathlib's it treats an unreadable folder as an empty one
            yield place
        elif os.path.isdir(place) and place.name.endswith(".d") and os.access(place, os.R_OK):
            yield from sorted(path for path in place.iterdir() if path.suffix in _YAML)


def condarc_places(env: Mapping[str, str], user_home: Path, base: Path | None, root: Path = Path("/")) -> list[Path]:
    """Every place of a file or of a folder of files; a later one wins."""
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
    """The user's file; ``conda config`` writes to it."""
    return user_home / ".condarc"


def system_condarc(root: Path = Path("/")) -> Path:
    """The file for every conda of the machine."""
    return root / _SYSTEM[0] / ".condarc"


def _parse(path: Path, warnings: list[str], instead: Mapping[Path, str | None]) -> dict[str, Value]:
    distrusted = trust.fault(path)
    if distrusted is not None:
        warnings.append(
            f"{path} is ignored: root does not obey files that others can change "
            f"({distrusted.path} {distrusted.reason})"
        )
        return {}
    try:
        content = instead[path] or "" if path in instead else read_bytes(path, most=MAX_BYTES).decode("utf-8-sig")
        document = condarc_text.parse(content)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        warnings.append(f"{path} is ignored: it cannot be read as YAML ({reason})")
        return {}
    if document is not None and not isinstance(document, dict):
        warnings.append(f"{path} is ignored: it is not a mapping of settings")
    return document if isinstance(document, dict) else {}


def _by_name(document: Mapping[str, Value]) -> dict[str, Value]:
    """The used settings by conda's own names, without those that have no value or one of the wrong kind."""
    settings: dict[str, Value] = {}
    for name in sorted(document, key=lambda name: name not in ALIASES):
        key, value = ALIASES.get(name, name), document[name]
        if value.data is None:
            continue
        if key in _LISTS:
            settings[key] = _list(value)
        elif key == "custom_multichannels" and isinstance(value.data, dict):
            settings[key] = value._replace(data={entry: _list(each) for entry, each in value.data.items()})
        elif isinstance(value.data, dict) if key in _MAPS else not isinstance(value.data, tuple | dict):
            settings[key] = value
    return settings


def _list(value: Value) -> Value:
    entries = (
        value.data if isinstance(value.data, tuple) else (Value(value.data),) if isinstance(value.data, str) else ()
    )
    texts = (entry._replace(data=str(entry.data)) for entry in entries if not isinstance(entry.data, dict | tuple))
    return value._replace(data=tuple(entry for entry in texts if entry.data not in ("", "None")))


def _variables(env: Mapping[str, str]) -> Iterator[tuple[str, dict[str, Value]]]:
    """Settings in variables, such as ``CONDA_CHANNELS=a,b``; they win over all files but ``#!final`` ones."""
    for name, text in env.items():
        key = ALIASES.get(name[6:].lower(), name[6:].lower())
        if not name.startswith("CONDA_") or not text:
            continue
        if key in _LISTS:
            words = (word.strip() for word in text.split(_SEPARATORS.get(key, ",")))
            yield name, {key: Value(tuple(Value(word) for word in words if word))}
        elif key in _FLAGS + _TEXTS:
            yield name, {key: Value(text)}
        elif key == "plugins_auto_accept_tos":
            yield name, {"plugins": Value({"auto_accept_tos": Value(text)})}


def _typed(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings with the types of `Condarc`'s fields."""
    typed: dict[str, Any] = {}
    for key, value in settings.items():
        if key in _LISTS:
            typed[key] = tuple(entry for entry in value if key != "channels" or entry != NO_DEFAULTS)
        elif key in _FLAGS:
            typed[key] = _truth(value)
        elif key == "plugins":
            typed["auto_accept_tos"] = _truth(value.get("auto_accept_tos", False))
        elif key in ("custom_channels", "proxy_servers"):
            typed[key] = {name: str(entry) for name, entry in value.items() if isinstance(entry, str | int)}
        elif key == "ssl_verify":
            typed[key] = value if isinstance(value, bool) else TRUTHS.get(str(value).lower(), str(value))
        else:
            typed[key] = str(value) if key == "channel_alias" else value
    return typed


def _all_expanded(value: Any, env: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: _all_expanded(entry, env) for name, entry in value.items()}
    if isinstance(value, list):
        return list(dict.fromkeys(expanded(entry, env) for entry in value))
    return expanded(value, env) if isinstance(value, str) else value


# Words that conda reads as booleans.
TRUTHS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def _truth(value: Any) -> bool:
    return value if isinstance(value, bool) else TRUTHS.get(str(value).lower(), False)


def expanded(text: str, env: Mapping[str, str]) -> str:
    """The text with ``$NAME`` and ``${NAME}`` replaced if the variable is set, as conda does for these settings."""
    if "$" not in text:
        return text
    return re.sub(r"\$\{?(\w+)\}?", lambda match: env.get(match[1], match[0]), text)
