"""``ensure_condarc``: conda's configuration, merged into what the user has written there."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping
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
_STRONGER = "another file or a CONDA_ variable is stronger"


class CondarcState(msgspec.Struct, frozen=True, kw_only=True):
    """A .condarc, and its future content.

    Attributes:
        file: How it stands.
        wanted: Its text with what is asked for, None for no file.
        place: The file itself, all links followed.
        volume: What survives a restart, None where there is no such difference.
        leads_out: Whether a link in its place leads where the tool has no business.
        missing: The environment, if it does not exist and no earlier task of the playbook creates it.
        warnings: What is stronger than the file, and what is seldom meant.

    """

    file: ConfigurationFile
    wanted: str | None
    place: Path
    volume: Path | None = None
    leads_out: bool = False
    missing: Path | None = None
    warnings: tuple[str, ...] = ()


class CondarcPlan(Plan, frozen=True, kw_only=True):
    """The changes, and the file as it is to be; no text for no file."""

    path: Path = Path()
    text: str | None = None
    mode: int = 0o644


class EnsureCondarc(ConfigScope[CondarcState], frozen=True, kw_only=True):
    """What conda, mamba and nbprovision itself go by: channels, mirrors, where environments and packages lie.

    Merged into `.condarc` (the user's in the home folder, the machine's in `/etc/conda`). Everything that the task does
    not name stays as it is, to the last byte, comments included. The entries that the task names come first in a list,
    in the given order, and the user's behind them, unless ``exact``.
    A link in the file's place is followed within the home folder and the volume, and refused where it leads
    elsewhere. Environments that the playbook makes by name, before or after this task, go to the first of
    ``envs_dirs`` that can be written (on a notebook instance: that lies on its volume too), packages to the first
    of ``pkgs_dirs``; on one file system the two share files by hard links.

    A file that gets a channel with a password or token becomes 0600; such a file is never written to the volume that
    survives restarts, into an environment, or for the whole machine.
    """

    actions = {
        "create": "the file",
        "change": "what it says",
        OTHER_PASSWORD: "a password or token in it, which is not shown",
        "change mode": "who may read it",
        "remove": "the file, as it says nothing any more",
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

    - name: Settings of conda that have no parameter of their own
      ensure_condarc:
        settings: {remote_max_retries: 5, auto_activate_base: false}

    - name: A proxy, and packages that conda holds to
      ensure_condarc:
        settings:
          proxy_servers: {http: "http://proxy.example.com:3128", https: "http://proxy.example.com:3128"}
          pinned_packages: [python 3.12.*]

    - name: A channel that is not wanted any more
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
        str | None, parameter("The URL that stands before every channel given by name: a mirror of anaconda.org.")
    ] = None
    channel_priority: Annotated[
        Literal["strict", "flexible", "disabled"] | None,
        parameter("How conda chooses between channels; the built-in engine is always `strict`."),
    ] = None
    default_channels: Annotated[
        Strings | None,
        parameter("What `defaults` stands for: a mirror of the main repository.", extra={"path": "if-dot"}),
    ] = None
    custom_channels: Annotated[
        dict[str, str] | None, parameter("Channels that lie elsewhere: a name to the URL before it.")
    ] = None
    custom_multichannels: Annotated[
        dict[str, list[str]] | None, parameter("Names that stand for several channels.")
    ] = None
    envs_dirs: Annotated[
        Strings | None,
        parameter("Folders of environments: absolute, or with `~` or `$NAME`. The first is where new ones are made."),
    ] = None
    pkgs_dirs: Annotated[Strings | None, parameter("Folders of packages, as `envs_dirs`.")] = None
    ssl_verify: Annotated[
        bool | str | None, parameter("Whether certificates are checked; a file of authorities, or `truststore`.")
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
        bool, parameter("Lists and mappings hold what is asked for and nothing else.")
    ] = False  # fmt: skip
    state: Annotated[
        Literal["present", "absent"],
        parameter("`absent` takes out the entries and values that the task names; others stay."),
    ] = "present"

    def check(self) -> None:
        """Check what can be known without looking at the machine."""
        if not self._asked():
            raise ParameterError(
                "", "ensure_condarc names no setting", cure="give one of: " + ", ".join([*_OWN_FIELDS, "settings"])
            )
        for key in self.settings or {}:
            if key in _OWN_FIELDS or key in ALIASES:
                raise ParameterError(
                    "settings", f"'{key}' is a parameter of its own", cure="write it beside `settings`"
                )
        for key, value in (self.settings or {}).items():
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
                    cause="in an environment.yml it says that no configured channels are added; conda would look for a "
                    "channel of that name",
                    cure=f"remove it: only the channels in `{key}` count, and `defaults` only if it is one of them",
                )
        for key, text in self._texts():
            if not text.strip() or not text.isprintable():
                raise ParameterError(
                    key, f"`{key}` holds an empty entry, or one with a line break or control character"
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
        if self.state == "present":  # what is wrong in the file may be taken out of it
            self._check_places()
        if self._secret and self.state == "present":
            self.refuse_exposed("scope", "a channel with a password or token")

    def _check_places(self) -> None:
        """Channels and paths; of those with a ``$VARIABLE`` in them conda alone knows where they lead."""
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

    def _asked(self) -> dict[str, Any]:
        """Settings by conda's names; lists as lists."""
        asked: dict[str, Any] = {}
        for name in _OWN_FIELDS:
            value = getattr(self, name)
            if value is not None:
                asked[name] = list(dict.fromkeys(as_list(value))) if name in CHANNELS + FOLDERS else value
        return {**asked, **(self.settings or {})}

    def _texts(self) -> Iterable[tuple[str, str]]:
        for key, value in self._asked().items():
            name = key if key in _OWN_FIELDS else "settings"
            for entry in _flat(value):
                yield name, entry

    def _refuse_unset(self, env: Mapping[str, str]) -> None:
        """Refuse ``${NAME}`` of a variable that is not set: conda would take the text itself for a value."""
        for key, text in self._texts() if self.state == "present" else ():
            for name in re.findall(r"\$\{?([A-Za-z_]\w*)\}?", text):
                if name not in env:
                    raise UnsetVariable(
                        f"ensure_condarc: the environment variable {name} of '{key}' is not set",
                        cause="conda replaces it where it is set, and takes the text as it stands where it is not",
                        cure="set it for the run and for conda, or write the value",
                    )

    @property
    def _secret(self) -> bool:
        """Whether a password or token is among the values; each one is masked from now on."""
        found = [_remember(text) for _, text in self._texts()]
        return any(found)

    # ------------------------------------------------------------------------------------ its place among other tasks

    def provides(self, machine: Machine) -> frozenset[Resource]:
        """The configuration, by its file."""
        return frozenset({Resource("condarc", str(self._path(machine)))})

    def configures(self, machine: Machine) -> dict[Path, str | None]:
        """The file as it will be; what cannot be worked out is told by the task itself, when its turn comes."""
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
        """The file; a link to it is looked at as well."""
        return [self._path(machine)]

    def _path(self, machine: Machine) -> Path:
        return self.file(machine, ".condarc", user=user_condarc(machine.user_home), system=system_condarc(machine.root))

    def _is_own(self, place: Path, machine: Machine) -> bool:
        """Whether a link may lead there: what the user keeps in the home folder or on the volume."""
        if self.scope == "system":
            return False
        own = [self._path(machine).parent] if self.env is not None else [machine.user_home, machine.platform.volume]
        return any(Path(os.path.realpath(folder)) in place.parents for folder in own if folder is not None)

    # ------------------------------------------------------------------------------------------------ the four steps

    def read(self, machine: Machine) -> CondarcState:
        """The file as it stands, and what would overrule it.

        Raises:
            TaskFailed: it cannot be read, or is not YAML.
            UnsetVariable: a value names a variable that is not set.

        """
        self._refuse_unset(machine.env)
        path = self._path(machine)
        file = read_configured(path)
        wanted = self._edited(path, file.text, machine)
        return CondarcState(
            file=file,
            wanted=wanted,
            place=Path(os.path.realpath(path)),
            volume=machine.platform.volume,
            leads_out=file.link is not None and not self._is_own(Path(os.path.realpath(path)), machine),
            missing=self.missing(machine),
            warnings=tuple(self._doubts(machine, settled=wanted == file.text)) if self.state == "present" else (),
        )

    def plan(self, state: CondarcState) -> CondarcPlan:
        """Compare the file with what it is to say.

        Raises:
            TaskFailed: there is no such environment, a password would get onto the persistent volume, or this user may
                not write the file.

        """
        file, present = state.file, self.state == "present"
        if present:
            refuse_missing(state.missing)
        if state.leads_out:
            raise TaskFailed(
                f"{file.path} is a link that leads elsewhere, and is not followed",
                cause=f"it names {state.place}, which is neither in the home folder nor on the volume",
                cure="put the file itself in the place of the link",
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
        """Write the file, or what the link in its place names.

        Raises:
            TaskFailed: the environment is not there, or the file cannot be written.

        """
        refuse_missing(self.prefix(machine))
        if plan.text is None:
            remove(plan.path)
        else:
            write_atomically(plan.path, plan.text, mode=plan.mode)

    def _edited(self, path: Path, text: str | None, machine: Machine) -> str | None:
        before = yaml_text.settings(path, text)
        home = str(machine.user_home)
        asked = self._asked()
        if self.state == "present":
            wanted = merged(before, asked, exact=self.exact, env=machine.env, home=home)
        else:
            wanted = taken_out(before, asked, env=machine.env, home=home)
        return yaml_text.edited(path, text, wanted)

    def _doubts(self, machine: Machine, *, settled: bool) -> Iterable[str]:
        """What is allowed and yet seldom meant, and what is stronger than the file."""
        condarc = machine.conda.condarc
        if self.channels is not None:
            yield from anaconda_terms.notes(
                machine, [url for name in as_list(self.channels) for url in condarc.urls(name)]
            )
        if isinstance(self.ssl_verify, str) and self.ssl_verify != "truststore":
            bundle = machine.path(expanded(self.ssl_verify, machine.env))
            if not bundle.exists():
                yield f"there is no {bundle} (`ssl_verify`): conda fails until it is there"
        if not settled or self.scope == "env":
            return
        for key in ("channels", "default_channels", "envs_dirs", "pkgs_dirs"):
            first = as_list(getattr(self, key))[:1]
            found = getattr(condarc, key)[:1]
            if first and found and not _equal(key, first[0], found[0], machine):
                yield f"`{key}` begins with {secrets.mask(found[0])} all the same: {_STRONGER}"
        for key in ("channel_alias", "ssl_verify"):
            wanted = getattr(self, key)
            if wanted is not None and "$" not in str(wanted) and wanted != getattr(condarc, key):
                yield f"`{key}` is {secrets.mask(str(getattr(condarc, key)))} all the same: {_STRONGER}"


def _equal(key: str, one: str, other: str, machine: Machine) -> bool:
    return same(key, one, machine.env, str(machine.user_home)) == same(key, other, machine.env, str(machine.user_home))


def _unfit(value: Any) -> str:
    """What is wrong with a value of a setting, empty for nothing."""
    if isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
        return ""
    if isinstance(value, list):
        return next(filter(None, map(_unfit, value)), "")
    if isinstance(value, dict):
        if not all(isinstance(name, str) for name in value):
            return "has a name in it that is not text"
        return next(filter(None, map(_unfit, value.values())), "")
    return "has no value" if value is None else f"has a value of a kind unknown to conda ({type(value).__name__})"


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
    """Whether a channel's URL has a password or token in it, masked from now on."""
    if "://" not in text:
        return False
    index_url.remember(text)
    token = text.partition("/t/")[2].partition("/")[0]
    if token:
        secrets.remember(token)
    return bool(token or index_url.secret_of(text))


def merged(
    before: Mapping[str, Any], asked: Mapping[str, Any], *, exact: bool, env: Mapping[str, str], home: str
) -> dict[str, Any]:
    """The settings that ``asked`` leads to, by the names that the file uses for them.

    Args:
        before: What the file says.
        asked: What is asked for.
        exact: Whether the user's own entries of lists and mappings go.
        env: The environment variables, for folders that are given by one.
        home: The user's home folder.

    """
    wanted: dict[str, Any] = {}
    for key, value in asked.items():
        name = _name(before, key)
        there = before.get(name)
        if key in CHANNELS + FOLDERS:
            own = [] if exact else _strings(there)
            wanted[name] = _joined(key, value, own, env, home)
        elif isinstance(value, Mapping):
            wanted[name] = _united(there if isinstance(there, Mapping) and not exact else {}, value)
        else:
            wanted[name] = value
    return wanted


def taken_out(
    before: Mapping[str, Any], asked: Mapping[str, Any], *, env: Mapping[str, str], home: str
) -> dict[str, Any]:
    """The settings without what ``asked`` names; None for a setting that goes as a whole."""
    wanted: dict[str, Any] = {}
    for key, value in asked.items():
        name = _name(before, key)
        if name not in before:
            continue
        there = before[name]
        if key in CHANNELS + FOLDERS:
            gone = {same(key, entry, env, home) for entry in value}
            wanted[name] = [entry for entry in _strings(there) if same(key, entry, env, home) not in gone] or None
        elif isinstance(value, Mapping) and isinstance(there, Mapping):
            wanted[name] = _reduced(there, value) or None
        elif there == value:
            wanted[name] = None
    return wanted


def _united(there: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping with what is asked for in it, at every depth."""
    united = dict(there)
    for name, value in asked.items():
        old = there.get(name)
        united[name] = _united(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return united


def _reduced(there: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping without the entries that have the values asked for."""
    reduced: dict[str, Any] = {}
    for name, old in there.items():
        value = asked.get(name)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            left = _reduced(old, value)
            if left:
                reduced[name] = left
        elif name not in asked or value != old:
            reduced[name] = old
    return reduced


def same(key: str, entry: str, env: Mapping[str, str], home: str) -> str:
    """What two spellings of one channel or one folder have in common; passwords and tokens come and go."""
    if key not in FOLDERS:
        return re.sub(r"^([a-z]+://)(?:[^/]*@)?([^/]*)(?:/t/[^/]+)?(/|$)", r"\1\2\3", entry).rstrip("/")
    entry = re.sub(r"\$\{?(\w+)\}?", lambda match: env.get(match[1], match[0]), entry)
    return os.path.normpath(home + entry[1:] if entry == "~" or entry.startswith("~/") else entry)


def _name(before: Mapping[str, Any], key: str) -> str:
    """The name under which the file has the setting; conda refuses a file that has it under two."""
    others = [alias for alias, name in ALIASES.items() if name == key and alias in before]
    return others[0] if others and key not in before else key


def _joined(key: str, asked: list[str], own: list[str], env: Mapping[str, str], home: str) -> list[str]:
    """The entries asked for, then the user's own; an entry that the user has keeps its spelling, but for a password."""
    first = {same(key, entry, env, home): entry for entry in asked}
    there: dict[str, str] = {}
    for entry in own:
        there.setdefault(same(key, entry, env, home), entry)
    for name, entry in first.items():
        if key in FOLDERS or there.get(name, "").rstrip("/") == entry.rstrip("/"):
            first[name] = there.get(name, entry)
    return [*first.values(), *(entry for name, entry in there.items() if name not in first)]


def _strings(value: Any) -> list[str]:
    if isinstance(value, list):
        return [str(entry) for entry in value if entry is not None]
    return [value] if isinstance(value, str) else []
