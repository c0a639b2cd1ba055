"""``ensure_condarc``: settings of conda, merged into the user's configuration file."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from nbprovision.conda import anaconda_terms
from nbprovision.conda.specs import check_channels
from nbprovision.files import yaml_text
from nbprovision.files.config_file import (
    OTHER_PASSWORD,
    SECRET_MODE,
    ConfigScope,
    ConfigurationFile,
    changes_of,
    read_configured,
    refuse_missing,
    refuse_persistent,
)
from nbprovision.indexes import index_url
from nbprovision.machine.condarc import ALIASES, NO_DEFAULTS, TRUTHS, expanded, system_condarc, user_condarc
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ParameterError, ProvisionError, TaskFailed, UnsetVariable
from nbprovision.model.result import Plan
from nbprovision.model.task import Input, Resource, Strings, as_list, by_path, parameter
from nbprovision.system import secrets
from nbprovision.system.files import remove, write_atomically

_OWN_FIELDS = (
    "channels", "channel_alias", "channel_priority", "default_channels", "custom_channels", "custom_multichannels",
    "envs_dirs", "pkgs_dirs", "ssl_verify",
)  # fmt: skip
CHANNELS = ("channels", "default_channels")
FOLDERS = ("envs_dirs", "pkgs_dirs")
Normalizer = Callable[[str, str], str]
_STRONGER = "another file or a CONDA_ variable is stronger"


class CondarcState(msgspec.Struct, frozen=True, kw_only=True):
    """A .condarc, and its future content.

    Attributes:
        file: The present file.
        wanted: Its text with the requested settings, None for no file.
        place: The file itself, all links followed.
        volume: The volume that survives a restart, None on other machines.
        leads_out: Whether the file is a link that leads out of the user's folders.
        missing: The environment, if it does not exist and no earlier task of the playbook creates it.
        warnings: Settings that are stronger than the file, and probable mistakes.

    """

    file: ConfigurationFile
    wanted: str | None
    place: Path
    volume: Path | None = None
    leads_out: bool = False
    missing: Path | None = None
    warnings: tuple[str, ...] = ()


class CondarcPlan(Plan, frozen=True, kw_only=True):
    """The changes, and the future file; no text for no file."""

    path: Path = Path()
    text: str | None = None
    mode: int = 0o644


class EnsureCondarc(ConfigScope[CondarcState], frozen=True, kw_only=True):
    """Set channels, mirrors and folders of environments and packages for conda, mamba and nbprovision.

    The settings are merged into `.condarc` (the user's in the home folder, the machine's in `/etc/conda`). All other
    settings stay unchanged to the last byte, including comments. In lists, the entries of the task come first in the
    given order, then the user's entries, unless ``exact``.
    A link in the file's place is followed within the home folder and the volume, and refused if it leads elsewhere.
    Environments that the playbook creates by name, before or after this task, go to the first writable folder of
    ``envs_dirs`` (on a notebook instance: one on its volume). Packages go to the first writable folder of
    ``pkgs_dirs``. On one file system environments and packages share files by hard links.

    A file with a channel that has a password or token gets the mode 0600. It is never written to the volume that
    survives restarts, into an environment, or for the whole machine.
    """

    actions = {
        "create": "the file",
        "change": "its settings",
        OTHER_PASSWORD: "a password or token in it, which is not shown",
        "change mode": "its permissions",
        "remove": "the file, which has no more settings",
    }
    examples = """
    - name: Channels, and a mirror of anaconda.org
      ensure_condarc:
        channels: [conda-forge]
        channel_alias: https://conda.example.com
        channel_priority: strict

    - name: Environments and packages on the volume
      ensure_condarc:
        envs_dirs: ~/SageMaker/envs
        pkgs_dirs: ~/SageMaker/pkgs

    - name: Settings of conda without a parameter of their own
      ensure_condarc:
        settings: {remote_max_retries: 5, auto_activate_base: false}

    - name: A proxy, and pinned packages
      ensure_condarc:
        settings:
          proxy_servers: {http: "http://proxy.example.com:3128", https: "http://proxy.example.com:3128"}
          pinned_packages: [python 3.12.*]

    - name: A channel to remove
      ensure_condarc:
        channels: [defaults]
        state: absent
    """

    channels: Annotated[
        Strings | None,
        parameter(
            "Channels by name, URL or path, the preferred one first. `defaults` is Anaconda's main repository, to "
            "which its terms of service apply.",
            extra={"path": "if-dot"},
        ),
    ] = None
    channel_alias: Annotated[
        str | None, parameter("The URL before each channel that is given by name: a mirror of anaconda.org.")
    ] = None
    channel_priority: Annotated[
        Literal["strict", "flexible", "disabled"] | None,
        parameter("How conda chooses between channels; the built-in engine is always `strict`."),
    ] = None
    default_channels: Annotated[
        Strings | None,
        parameter(
            "The channels that `defaults` stands for: a mirror of the main repository.", extra={"path": "if-dot"}
        ),
    ] = None
    custom_channels: Annotated[
        dict[str, str] | None, parameter("Channels on other servers: a name to the URL before it.")
    ] = None
    custom_multichannels: Annotated[
        dict[str, list[str]] | None, parameter("Names that stand for several channels.")
    ] = None
    envs_dirs: Annotated[
        Strings | None,
        parameter("Folders of environments: absolute, or with `~` or `$NAME`. New ones are created in the first."),
    ] = None
    pkgs_dirs: Annotated[Strings | None, parameter("Folders of packages, written like `envs_dirs`.")] = None
    ssl_verify: Annotated[
        bool | str | None, parameter("Check certificates: true, false, a file of authorities, or `truststore`.")
    ] = None
    settings: Annotated[
        dict[str, Any] | None,
        parameter(
            "Other settings of conda by their names, such as `proxy_servers: {https: http://proxy:3128}`. A "
            "mapping is merged into an existing one; a list replaces it.",
            extra={"numbers": True},
        ),
    ] = None
    exact: Annotated[
        bool, parameter("Remove all other entries from the lists and mappings that the task names.")
    ] = False  # fmt: skip
    state: Annotated[
        Literal["present", "absent"],
        parameter("`absent` removes the entries and values that the task names; others stay."),
    ] = "present"

    def check(self) -> None:
        """Check the parameters without looking at the machine."""
        if not self._requested():
            raise ParameterError(
                "", "ensure_condarc names no setting", cure="give one of: " + ", ".join([*_OWN_FIELDS, "settings"])
            )
        for key, value in (self.settings or {}).items():
            if key in _OWN_FIELDS or key in ALIASES:
                raise ParameterError(
                    "settings", f"'{key}' is a parameter of its own", cure="write it beside `settings`"
                )
            problem = _unfit(value)
            if problem:
                raise ParameterError(
                    "settings",
                    f"`{key}` {problem}",
                    cure="give text, a number, true or false, or lists and mappings of them",
                )
        for key in CHANNELS:
            if NO_DEFAULTS in as_list(getattr(self, key)) and self.state == "present":
                raise ParameterError(
                    key,
                    f"`{NO_DEFAULTS}` is not a channel",
                    cause="in an environment.yml it excludes the configured channels; here it would be a channel",
                    cure=f"remove it: only the channels in `{key}` count, and `defaults` only if it is one of them",
                )
        for key, text in self._texts():
            if not text.strip() or not text.isprintable():
                raise ParameterError(
                    key, f"`{key}` contains an empty entry, or one with a line break or control character"
                )
        for key in FOLDERS:
            for folder in as_list(getattr(self, key)):
                if not folder.startswith(("/", "~", "$")):
                    raise ParameterError(
                        key, f"`{key}: {folder}` is not an absolute path", cure="begin it with / or ~ or a $VARIABLE"
                    )
        if self.channel_alias is not None and "://" not in self.channel_alias:
            raise ParameterError(
                "channel_alias",
                f"'{secrets.mask(self.channel_alias)}' is not a URL",
                cure="write https://... or file://...",
            )
        secret = self._secret
        if self.state == "present":  # invalid entries of the file may be removed
            self._check_places()
            if secret:
                self.refuse_exposed("scope", "a channel with a password or token")

    def _check_places(self) -> None:
        """Check channels and paths, except those with a ``$VARIABLE``, which only conda can resolve."""
        multichannels = (self.custom_multichannels or {}).values()
        for key, texts in (
            ("channels", as_list(self.channels)),
            ("default_channels", as_list(self.default_channels)),
            ("channel_alias", as_list(self.channel_alias)),
            ("custom_channels", list((self.custom_channels or {}).values())),
            ("custom_multichannels", [text for channels in multichannels for text in channels]),
        ):
            check_channels(key, (text for text in texts if "$" not in text))
        authorities = self.ssl_verify
        words = (*TRUTHS, "truststore")
        if isinstance(authorities, str) and authorities.lower() not in words and authorities[:1] not in "/~$":
            raise ParameterError(
                "ssl_verify",
                f"`ssl_verify: {authorities}` is not an absolute path",
                cure="begin it with / or ~/ or a $VARIABLE; or write true, false or truststore",
            )

    def _requested(self) -> dict[str, Any]:
        """Settings by conda's names; lists as lists."""
        values = {name: getattr(self, name) for name in _OWN_FIELDS}
        for name in CHANNELS + FOLDERS:
            if values[name] is not None:
                values[name] = list(dict.fromkeys(as_list(values[name])))
        own = {name: value for name, value in values.items() if value is not None}
        return {**own, **(self.settings or {})}

    def _texts(self) -> Iterable[tuple[str, str]]:
        for key, value in self._requested().items():
            name = key if key in _OWN_FIELDS else "settings"
            for entry in _flat(value):
                yield name, entry

    def _refuse_unset(self, env: Mapping[str, str]) -> None:
        """Refuse ``${NAME}`` of an unset variable: conda would take the text itself as the value."""
        for key, text in self._texts() if self.state == "present" else ():
            for name in re.findall(r"\$\{?([A-Za-z_]\w*)\}?", text):
                if name not in env:
                    raise UnsetVariable(
                        f"ensure_condarc: the environment variable {name} of '{key}' is not set",
                        cause="conda replaces a variable only if it is set, and else keeps the text",
                        cure="set it for the run and for conda, or write the value",
                    )

    @property
    def _secret(self) -> bool:
        """Whether the values contain a password or token; each is masked from now on."""
        flags = [_remember(text) for _, text in self._texts()]
        return any(flags)

    # ------------------------------------------------------------------------------------ its place among other tasks

    def provides(self, machine: Machine) -> frozenset[Resource]:
        """The configuration file."""
        return frozenset({Resource("condarc", str(self._path(machine)))})

    def configures(self, machine: Machine) -> dict[Path, str | None]:
        """The future file; the task itself reports later why there is none."""
        self._refuse_unset(machine.env)
        if self.scope == "env":
            return {}
        path = self._path(machine)
        try:
            text = machine.expected[path] if path in machine.expected else read_configured(path).text
            return {path: self._edited(path, text, machine)}
        except ProvisionError:
            return {}

    def inputs(self, machine: Machine) -> Iterable[Input]:
        """Channels given by path."""
        yield from (Input(path, "channels") for path in by_path(self.channels))
        yield from (Input(path, "default_channels") for path in by_path(self.default_channels))

    def witnesses(self, machine: Machine) -> Iterable[Path]:
        """The file, including a link to it."""
        return [self._path(machine)]

    def _path(self, machine: Machine) -> Path:
        return self.file(machine, ".condarc", user=user_condarc(machine.user_home), system=system_condarc(machine.root))

    def _is_own(self, place: Path, machine: Machine) -> bool:
        """Whether a link may lead to a place: one in the home folder or on the volume."""
        if self.scope == "system":
            return False
        own = [self._path(machine).parent] if self.env is not None else [machine.user_home, machine.platform.volume]
        return any(Path(os.path.realpath(folder)) in place.parents for folder in own if folder is not None)

    # ------------------------------------------------------------------------------------------------ the four steps

    def read(self, machine: Machine) -> CondarcState:
        """The present file, and the settings that overrule it.

        Raises:
            TaskFailed: it cannot be read, or is not YAML.
            UnsetVariable: a value contains a variable that is not set.

        """
        self._refuse_unset(machine.env)
        path = self._path(machine)
        file = read_configured(path)
        wanted = self._edited(path, file.text, machine)
        place = Path(os.path.realpath(path))
        return CondarcState(
            file=file,
            wanted=wanted,
            place=place,
            volume=machine.platform.volume,
            leads_out=file.link is not None and not self._is_own(place, machine),
            missing=self.missing(machine),
            warnings=tuple(self._doubts(machine, settled=wanted == file.text)) if self.state == "present" else (),
        )

    def plan(self, state: CondarcState) -> CondarcPlan:
        """Compare the present file with the future one.

        Raises:
            TaskFailed: the environment does not exist, a password would get onto the persistent volume, or this user
                may not write the file.

        """
        file, present = state.file, self.state == "present"
        if present:
            refuse_missing(state.missing)
        if state.leads_out:
            raise TaskFailed(
                f"{file.path} is a link that leads elsewhere, and is not followed",
                cause=f"it names {state.place}, which is neither in the home folder nor on the volume",
                cure="replace the link by the file itself",
            )
        mode = file.mode if file.text is not None else 0o644
        if present and self._secret:
            mode = file.mode & SECRET_MODE if file.text is not None else SECRET_MODE
            refuse_persistent(
                file,
                state.place,
                state.volume,
                what="a channel with a password or token",
                cure="leave it out of the URL; the built-in engine finds it in the file that RATTLER_AUTH_FILE names",
            )
        if state.wanted == file.text and (mode == file.mode or file.text is None):
            return CondarcPlan(warnings=state.warnings, beside=True)
        self.refuse_unwritable(file)
        return CondarcPlan(
            changes=tuple(changes_of(file, state.wanted, mode)),
            warnings=state.warnings,
            path=state.place,
            text=state.wanted,
            mode=mode,
        )

    def apply(self, plan: CondarcPlan, machine: Machine) -> None:
        """Write the file, or the file that a link in its place names.

        Raises:
            TaskFailed: the environment does not exist, or the file cannot be written.

        """
        refuse_missing(self.prefix(machine))
        if plan.text is None:
            remove(plan.path)
        else:
            write_atomically(plan.path, plan.text, mode=plan.mode)

    def _edited(self, path: Path, text: str | None, machine: Machine) -> str | None:
        before = yaml_text.settings(path, text)
        normalized = _normalizer(machine)
        if self.state == "present":
            wanted = _merged(before, self._requested(), normalized, exact=self.exact)
        else:
            wanted = _removed(before, self._requested(), normalized)
        return yaml_text.edited(path, text, wanted)

    def _doubts(self, machine: Machine, *, settled: bool) -> Iterable[str]:
        """Warnings about probable mistakes, and about settings that are stronger than the file."""
        condarc = machine.conda.condarc
        if self.channels is not None:
            urls = [url for name in as_list(self.channels) for url in condarc.urls(name)]
            yield from anaconda_terms.notes(machine, urls)
        if isinstance(self.ssl_verify, str) and self.ssl_verify != "truststore":
            bundle = machine.path(expanded(self.ssl_verify, machine.env))
            if not bundle.exists():
                yield f"{bundle} (`ssl_verify`) does not exist: conda fails until it does"
        if not settled or self.scope == "env":
            return
        normalized = _normalizer(machine)
        for key in CHANNELS + FOLDERS:
            wanted, effective = as_list(getattr(self, key))[:1], getattr(condarc, key)[:1]
            if wanted and effective and normalized(key, wanted[0]) != normalized(key, effective[0]):
                yield f"`{key}` begins with {secrets.mask(effective[0])} all the same: {_STRONGER}"
        for key in ("channel_alias", "ssl_verify"):
            value = getattr(self, key)
            if value is not None and "$" not in str(value) and value != getattr(condarc, key):
                yield f"`{key}` is {secrets.mask(str(getattr(condarc, key)))} all the same: {_STRONGER}"


def _normalizer(machine: Machine) -> Normalizer:
    """A function from a key and an entry to a form that all spellings of the same channel or folder share."""
    home = str(machine.user_home)

    def normalized(key: str, entry: str) -> str:
        if key not in FOLDERS:  # passwords and tokens change
            return re.sub(r"^([a-z]+://)(?:[^/]*@)?([^/]*)(?:/t/[^/]+)?(/|$)", r"\1\2\3", entry).rstrip("/")
        entry = re.sub(r"\$\{?(\w+)\}?", lambda match: machine.env.get(match[1], match[0]), entry)
        return os.path.normpath(home + entry[1:] if entry == "~" or entry.startswith("~/") else entry)

    return normalized


def _unfit(value: Any) -> str:
    """The problem of a setting's value, empty if there is none."""
    if isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
        return ""
    if isinstance(value, list):
        return next(filter(None, map(_unfit, value)), "")
    if isinstance(value, dict):
        if not all(isinstance(name, str) for name in value):
            return "contains a name that is not text"
        return next(filter(None, map(_unfit, value.values())), "")
    return "has no value" if value is None else f"has a value of a type unknown to conda ({type(value).__name__})"


def _flat(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, entry in value.items():
            yield name
            yield from _flat(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from _flat(entry)


def _remember(text: str) -> bool:
    """Whether a channel's URL contains a password or token, which is masked from now on."""
    if "://" not in text:
        return False
    index_url.remember(text)
    token = text.partition("/t/")[2].partition("/")[0]
    if token:
        secrets.remember(token)
    return bool(token or index_url.secret_of(text))


def _merged(
    before: Mapping[str, Any], requested: Mapping[str, Any], normalized: Normalizer, *, exact: bool
) -> dict[str, Any]:
    """The future values of the requested settings, by the names that the file uses for them.

    Args:
        before: The settings of the file.
        requested: The settings of the task.
        normalized: See `_normalizer`.
        exact: Remove the user's own entries of lists and mappings.

    """
    wanted: dict[str, Any] = {}
    for key, value in requested.items():
        name = _name(before, key)
        own = None if exact else before.get(name)
        if key in CHANNELS + FOLDERS:
            wanted[name] = _joined(key, value, _strings(own), normalized)
        elif isinstance(value, Mapping):
            wanted[name] = _united(own if isinstance(own, Mapping) else {}, value)
        else:
            wanted[name] = value
    return wanted


def _removed(before: Mapping[str, Any], requested: Mapping[str, Any], normalized: Normalizer) -> dict[str, Any]:
    """The settings without the requested values; None for a setting to remove."""
    wanted: dict[str, Any] = {}
    for key, value in requested.items():
        name = _name(before, key)
        if name not in before:
            continue
        own = before[name]
        if key in CHANNELS + FOLDERS:
            gone = {normalized(key, entry) for entry in value}
            wanted[name] = [entry for entry in _strings(own) if normalized(key, entry) not in gone] or None
        elif isinstance(value, Mapping) and isinstance(own, Mapping):
            wanted[name] = _reduced(own, value) or None
        elif own == value:
            wanted[name] = None
    return wanted


def _united(own: Mapping[str, Any], requested: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping with the requested entries, at every depth."""
    united = dict(own)
    for name, value in requested.items():
        old = own.get(name)
        united[name] = _united(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return united


def _reduced(own: Mapping[str, Any], requested: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping without the requested entries, at every depth."""
    reduced: dict[str, Any] = {}
    for name, old in own.items():
        value = requested.get(name)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            left = _reduced(old, value)
            if left:
                reduced[name] = left
        elif name not in requested or value != old:
            reduced[name] = old
    return reduced


def _name(before: Mapping[str, Any], key: str) -> str:
    """The name that the file uses for a setting; conda refuses a file that uses two."""
    others = [alias for alias, name in ALIASES.items() if name == key and alias in before]
    return others[0] if others and key not in before else key


def _joined(key: str, requested: list[str], own: list[str], normalized: Normalizer) -> list[str]:
    """The requested entries, then the user's other ones; a user's entry keeps its spelling, except for a password."""
    first = {normalized(key, entry): entry for entry in requested}
    others: dict[str, str] = {}
    for entry in own:
        others.setdefault(normalized(key, entry), entry)
    for name, entry in first.items():
        if key in FOLDERS or others.get(name, "").rstrip("/") == entry.rstrip("/"):
            first[name] = others.get(name, entry)
    return [*first.values(), *(entry for name, entry in others.items() if name not in first)]


def _strings(value: Any) -> list[str]:
    if isinstance(value, list):
        return [str(entry) for entry in value if entry is not None]
    return [value] if isinstance(value, str) else []
