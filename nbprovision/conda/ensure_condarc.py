"""``ensure_condarc``: conda's configuration, merged into what the user has written there."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from nbprovision.conda import terms
from nbprovision.conda.condarc_state import CHANNELS, FOLDERS, CondarcPlan, CondarcState, merged, same, taken_out
from nbprovision.conda.work import check_channels
from nbprovision.files import yaml_text
from nbprovision.files.config_file import SECRET_MODE
from nbprovision.files.configured import ConfigurationFile, read_configured
from nbprovision.indexes import url as index_url
from nbprovision.machine.condarc import ALIASES, NO_DEFAULTS, TRUTHS, expanded, system_condarc, user_condarc
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ParameterError, ProvisionError, TaskFailed, UnsetVariable
from nbprovision.model.relations import Needs, Requires
from nbprovision.model.result import Change
from nbprovision.model.task import Input, Resource, Strings, Task, as_list, by_path, parameter
from nbprovision.system import room, secrets
from nbprovision.system.files import remove, write_atomically

_OWN_FIELDS = (
    "channels", "channel_alias", "channel_priority", "default_channels", "custom_channels", "custom_multichannels",
    "envs_dirs", "pkgs_dirs", "ssl_verify",
)  # fmt: skip
_STRONGER = "another file or a CONDA_ variable is stronger"


class EnsureCondarc(Task[CondarcState], frozen=True, kw_only=True):
    """What conda, mamba and nbprovision itself go by: channels, mirrors, where environments and packages lie.

    Merged into `.condarc`: what the task does not name stays as it is, to the last byte, comments included. Of a
    list, the entries asked for come first, in the order given, and those of the user behind them, unless ``exact``.
    A link in the file's place is followed within the home folder and the volume, and refused where it leads
    elsewhere. Environments that the playbook makes by name, before or after this task, go to the first of
    ``envs_dirs`` that can be written (on a notebook instance: that lies on its volume too), packages to the first
    of ``pkgs_dirs``; on one file system the two share files by hard links.

    A file that gets a channel with a password or token becomes 0600; such a file is never written to the volume that
    survives restarts, into an environment, or for the whole machine.
    """

    relations = (
        Needs("env", ("scope",), "env"),
        Requires("scope", "env", ("env",)),
    )
    actions = {
        "create": "the file",
        "change": "what it says",
        "change password": "a password or token in it, which is not shown",
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
    scope: Annotated[
        Literal["user", "system", "env"],
        parameter("Whom it is for: this user (`~/.condarc`), every conda of the machine (`/etc/conda`), or who has "
                  "activated `env`."),
    ] = "user"  # fmt: skip
    env: Annotated[str | None, parameter("The environment (name or path) for `scope: env`.")] = None
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
                        key, f"`{key}: {folder}` is no absolute path", cure="begin it with / or ~ or a $VARIABLE"
                    )
        if self.channel_alias is not None and "://" not in self.channel_alias:
            raise ParameterError(
                "channel_alias",
                f"'{secrets.mask(self.channel_alias)}' is not a URL",
                cure="write https://... or file://...",
            )
        if self.state == "present":  # what is wrong in the file may be taken out of it
            self._check_places()
        if self._secret and self.scope != "user" and self.state == "present":
            place = "a file of the environment, which is cloned, packed and shared"
            if self.scope == "system":
                place = "a file that every user of the machine can read"
            raise ParameterError(
                "scope",
                f"a channel with a password or token cannot be set with `scope: {self.scope}`",
                cause=f"it would have to stand in {place}",
                cure="use `scope: user`, whose file is readable by its owner only",
            )

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
                f"`ssl_verify: {authorities}` is no absolute path",
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

    def requires(self, machine: Machine) -> frozenset[Resource]:
        """The environment, where it is for one."""
        return frozenset({Resource("environment", str(machine.prefix_of(self.env)))} if self.env is not None else ())

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

    def weight(self, machine: Machine) -> Literal[0]:
        """A small file."""
        return 0

    def witnesses(self, machine: Machine) -> Iterable[Path]:
        """The file; a link to it is looked at as well."""
        return [self._path(machine)]

    def _path(self, machine: Machine) -> Path:
        if self.env is not None:
            return machine.prefix_of(self.env) / ".condarc"
        return system_condarc(machine.root) if self.scope == "system" else user_condarc(machine.user_home)

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
        prefix = path.parent if self.scope == "env" else None
        file = read_configured(path)
        wanted = self._edited(path, file.text, machine)
        return CondarcState(
            file=file,
            wanted=wanted,
            place=Path(os.path.realpath(path)),
            volume=machine.platform.volume,
            leads_out=file.link is not None and not self._is_own(Path(os.path.realpath(path)), machine),
            missing=prefix if prefix and not prefix.is_dir() and prefix not in machine.declared.values() else None,
            warnings=tuple(self._doubts(machine, settled=wanted == file.text)) if self.state == "present" else (),
        )

    def plan(self, state: CondarcState) -> CondarcPlan:
        """Compare the file with what it is to say.

        Raises:
            TaskFailed: there is no such environment, a password would get onto the persistent volume, or this user may
                not write the file.

        """
        file, present = state.file, self.state == "present"
        if present and state.missing is not None:
            raise TaskFailed(
                f"there is no environment at {state.missing}",
                cause="there is no such folder",
                cure="make it by ensure_conda_env, or correct the path",
            )
        if state.leads_out:
            raise TaskFailed(
                f"{file.path} is a link that leads elsewhere, and is not followed",
                cause=f"it names {state.place}, which is neither in the home folder nor on the volume",
                cure="put the file itself in the place of the link",
            )
        mode = file.mode if file.text is not None else 0o644
        if present and self._secret:
            mode = file.mode & SECRET_MODE if file.text is not None else SECRET_MODE
            _refuse_persistent(file, state)
        if state.wanted == file.text and (mode == file.mode or file.text is None):
            return CondarcPlan(warnings=state.warnings, beside=True)
        if not file.writable:
            system = self.scope == "system"
            cause, cure = room.unwritable(file.path)
            raise TaskFailed(f"cannot write {file.path}", cause=cause, cure="use `scope: user`" if system else cure)
        return CondarcPlan(
            changes=tuple(_changes(file, state.wanted, mode)),
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
        prefix = machine.prefix_of(self.env) if self.env is not None else None
        if prefix is not None and not prefix.is_dir():
            raise TaskFailed(
                f"there is no environment at {prefix}",
                cause="there is no such folder",
                cure="make it by ensure_conda_env",
            )
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
            yield from terms.notes(machine, [url for name in as_list(self.channels) for url in condarc.urls(name)])
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


def _refuse_persistent(file: ConfigurationFile, state: CondarcState) -> None:
    volume = Path(os.path.realpath(state.volume)) if state.volume is not None else None
    if volume is not None and volume in state.place.parents:
        raise TaskFailed(
            f"a channel with a password or token cannot be written to {file.path}",
            cause=f"{state.place} is on {state.volume}, which survives a restart, and a password must not stay there",
            cure="leave it out of the URL; the built-in engine finds it in the file that RATTLER_AUTH_FILE names",
        )


def _changes(file: ConfigurationFile, text: str | None, mode: int) -> Iterable[Change]:
    target = str(file.path)
    if text != file.text:
        before, after = _shown(file.text), _shown(text)
        action = "create" if before is None else "remove" if after is None else "change"
        yield Change(action if before != after else "change password", target, before, after, kind="file")
    if text is not None and file.text is not None and mode != file.mode:
        yield Change("change mode", target, f"{file.mode:04o}", f"{mode:04o}")


def _shown(text: str | None) -> str | None:
    return None if text is None else secrets.mask(text).encode("utf-8", "replace").decode()
