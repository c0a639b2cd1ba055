"""``ensure_service``: a service of systemd, and one drop-in of settings for it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ParameterError
from nbprovision.model.task import Duration, Setting, parameter, seconds
from nbprovision.root.service import JUPYTER
from nbprovision.services.root_task import REPORT, RootTask, State
from nbprovision.system.plain_secrets import secret_as

Word = str | int | bool

# https://www.freedesktop.org/software/systemd/man/latest/systemd.unit.html#Description
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}(?:@[A-Za-z0-9_.-]{1,64})?")
_OTHER_UNITS = (".socket", ".timer", ".path", ".mount", ".target", ".slice", ".device", ".swap", ".automount", ".scope")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_KEY = re.compile(r"(?:X-)?[A-Z][A-Za-z0-9]{1,63}")
_PERCENT = re.compile(r"(?<![0-9])[0-9]{1,5}%(?![A-Za-z%0-9])")
# Places where others than root can write: a service of root's must not take programs or settings from there.
_OF_OTHERS = re.compile(r"(?:^|[\s\"'=:@!+|-])/(?:home|tmp|var/tmp|dev/shm|run/user|mnt)(?:/|$|[\s\"':])")
_PLACES = frozenset(("WorkingDirectory", "ReadWritePaths", "ReadOnlyPaths", "InaccessiblePaths", "RequiresMountsFor"))
_LOADED = re.compile(
    r"PATH|LD_[A-Z_]+|PYTHON[A-Z]*|PERL5LIB|PERL5OPT|NODE_[A-Z]+|BASH_ENV|ENV|GCONV_PATH|.*_(?:CONFIG|CONF|RC)"
)


class EnsureService(RootTask[State], frozen=True, kw_only=True):
    """Start, stop, enable, disable or mask a service of systemd, and give it environment variables and settings.

    Root's part of the lifecycle script does it. `environment` and `settings` are the drop-in
    `/etc/systemd/system/NAME.service.d/nbprovision.conf`, which this task owns as a whole; the service's own files stay
    as they are. A service that runs is restarted when the drop-in changes. systemd ignores settings whose names begin
    with `X-`; with such a one a change of something else, such as the value in a file, restarts the service.

    For `jupyter-server` only the drop-in can be set, since the platform starts it. On-start usually runs before Jupyter
    does. If Jupyter runs already, it is restarted when the script has ended.

    A secret is refused: everybody on the machine, and everybody who may read the script, can read the drop-in.
    """

    module: ClassVar[str] = "service"
    examples: ClassVar[str] = """
- name: Docker with a limit, running now and after each boot
  ensure_service:
    name: docker
    state: started
    enabled: true
    settings: {Service: {LimitNOFILE: 65536}}
- name: A proxy for the agent of CloudWatch
  ensure_service:
    name: amazon-cloudwatch-agent
    environment: {HTTPS_PROXY: "http://proxy.example.com:3128"}
- name: No remote sessions by the Systems Manager
  ensure_service:
    name: amazon-ssm-agent
    state: stopped
    enabled: false
    masked: true
"""
    habits: ClassVar[dict[str, str]] = {
        "daemon_reload": "remove it; systemd reads its files again after each change",
        "scope": "remove it; it is the system's",
        "no_block": "remove it, or write `timeout`",
        "unit": "write `name`",
        "service": "write `name`",
        "sleep": "remove it",
        "pattern": "remove it",
        "enable": "write `enabled`",
    }
    name: Annotated[str, parameter("The name of the service, with or without `.service`.")]
    state: Annotated[Literal["started", "stopped"] | None, parameter("Whether it runs.")] = None
    enabled: Annotated[bool | None, parameter("Whether the machine's boot starts it.")] = None
    masked: Annotated[
        bool | None, parameter("Whether nothing can start it. One that runs goes on, unless `stopped`.")
    ] = None
    environment: Annotated[
        dict[str, Word] | None, parameter("Environment variables of the service. No secrets, as others can read them.")
    ] = None
    settings: Annotated[
        dict[Literal["Unit", "Service"], dict[str, Word | list[Word]]] | None,
        parameter(
            "Settings by section and name, as systemd.unit(5), systemd.service(5) and systemd.exec(5) have them; a "
            "list repeats the name. `{}` for this and `environment` removes the drop-in."
        ),
    ] = None
    timeout: Annotated[Duration, parameter("The time for a start, a stop or a restart.")] = "30s"

    def check(self) -> None:
        """Check the parameters; each is part of a file or a command of root's."""
        self._check_name()
        if (self.state, self.enabled, self.masked, self.environment, self.settings) == (None,) * 5:
            raise ParameterError("", "nothing is wanted of the service", cure="write `state`, `enabled` or `settings`")
        for name, value in (self.environment or {}).items():
            self._check_variable(name, value)
        for keys in (self.settings or {}).values():
            for key, values in keys.items():
                for value in values if isinstance(values, list) else [values]:
                    self._check_setting(key, value)
        if self.masked and (self.state == "started" or self.enabled):
            raise ParameterError(
                "masked", "a masked service can neither start nor be enabled", cure="write one of them"
            )
        if not 1 <= seconds(self.timeout) <= 200:
            raise ParameterError(
                "timeout", f"{self.timeout} is not between 1s and 200s, within the script's five minutes"
            )

    def _check_name(self) -> None:
        name = self.name.removesuffix(".service")
        if not _NAME.fullmatch(name) or ".." in name:
            raise ParameterError("name", f"{self.name[:100]!r} is not the name of a service", cure="such as docker")
        if name.endswith(_OTHER_UNITS):
            raise ParameterError("name", f"{name} is not a service", cause="other units of systemd are not supported")
        if self.unit == JUPYTER and (self.state, self.enabled, self.masked) != (None, None, None):
            raise ParameterError(
                "name",
                "jupyter-server is started by the platform, and a notebook cannot be opened without it",
                cure="set its `environment` and `settings` only",
            )

    def _check_variable(self, name: str, value: Word) -> None:
        text = _text(value)
        if not _VARIABLE.fullmatch(name):
            raise ParameterError(
                "environment", f"{name[:60]!r} is not the name of a variable", cure="letters, digits and underscores"
            )
        if any(not letter.isprintable() and letter not in "\n\t" for letter in text):
            raise ParameterError("environment", f"the value of {name} has a character that no unit can hold")
        secret = secret_as(name, text)
        if secret is not None:
            raise ParameterError(
                "environment",
                f"{secret.what} would be readable for everybody on the machine, and for all who may read the script",
                cure="let the service fetch it, such as from AWS Secrets Manager, and pass the secret's name",
            )
        if self.unit != JUPYTER and _LOADED.fullmatch(name) and _OF_OTHERS.search(text):
            raise ParameterError("environment", f"{name} leads to a folder of others than root", cause=_WHY)

    def _check_setting(self, key: str, value: Word) -> None:
        text = _text(value)
        if not _KEY.fullmatch(key):
            raise ParameterError("settings", f"{key[:60]!r} is not the name of a setting", cure="such as LimitNOFILE")
        if key in ("Environment", "PassEnvironment", "UnsetEnvironment"):
            raise ParameterError("settings", f"{key} is not a setting here", cure="write `environment`")
        if not text.isprintable() or text.endswith("\\"):
            raise ParameterError("settings", f"the value of {key} is not one line of text")
        if "%" in _PERCENT.sub("", text):
            raise ParameterError(
                "settings",
                f"the value of {key} has a % that systemd would fill in on the machine",
                cure="write the value itself; a percentage such as 50% is possible",
            )
        if _OF_OTHERS.search(text) and key not in _PLACES and not key.startswith("X-"):
            raise ParameterError("settings", f"{key} leads to a folder of others than root", cause=_WHY)
        secret = secret_as(key, text)
        if secret is not None:
            raise ParameterError("settings", f"{secret.what} would be readable for everybody on the machine")

    @property
    def unit(self) -> str:
        """Its name for systemd."""
        return self.name.removesuffix(".service") + ".service"

    @property
    def subject(self) -> str:
        """What it is about, in a message."""
        return f"service {self.unit.removesuffix('.service')}"

    @property
    def limit(self) -> float:
        """Seconds for its work, as root: a stop, a restart and the short commands."""
        return 2 * seconds(self.timeout) + 30

    def wanted(self) -> Mapping[str, Any]:
        """What root's program gets; see `nbprovision.root.service`."""
        return {
            "unit": self.unit,
            "state": self.state,
            "enabled": self.enabled,
            "masked": self.masked,
            "drop_in": self._drop_in(),
            "seconds": int(seconds(self.timeout)),
        }

    def _drop_in(self) -> str | None:
        """The text of the drop-in: empty for none, None if nothing is wanted of it."""
        if self.environment is None and self.settings is None:
            return None
        sections: dict[str, list[str]] = {}
        for section, keys in (self.settings or {}).items():
            for key, values in keys.items():
                for value in values if isinstance(values, list) else [values]:
                    sections.setdefault(section, []).append(f"{key}={_text(value)}")
        for name, value in (self.environment or {}).items():
            sections.setdefault("Service", []).append(f"Environment={_quoted(f'{name}={_text(value)}')}")
        lines = [line for section in sorted(sections) for line in (f"[{section}]", *sections[section])]
        return "\n".join(["# Written by nbprovision.", *lines, ""]) if lines else ""

    def shared_values(self, machine: Machine) -> Iterator[Setting]:
        """What two tasks may not want otherwise of one service."""
        wanted = self.wanted()
        for key in ("state", "enabled", "masked", "drop_in"):
            if wanted[key] is not None:
                yield Setting(f"of the service {self.unit}", (key,), wanted[key])

    def witnesses(self, machine: Machine) -> Iterable[Path]:
        """Root's report of this start, what systemd's commands and this task write, and the control group."""
        units = machine.root / "etc/systemd/system"
        paths = [units / self.unit, units / f"{self.unit}.d/nbprovision.conf", units / "multi-user.target.wants"]
        groups = [machine.root / f"sys/fs/cgroup/{version}system.slice" / self.unit for version in ("", "systemd/")]
        return [machine.root / str(REPORT)[1:], *paths, *groups]

    def ages(self, machine: Machine) -> float | None:
        """Five minutes, unless only the drop-in is wanted: no file shows that somebody has stopped or started it."""
        return None if (self.state, self.enabled, self.masked) == (None, None, None) else 300.0


_WHY = "root, or a service, would run or obey what others can write there"


def _text(value: Word) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _quoted(text: str) -> str:
    """Quote an assignment for a unit file (systemd.exec(5), Environment=; systemd.syntax(7), Quoting)."""
    for character, written in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\t", "\\t"), ("%", "%%")):
        text = text.replace(character, written)
    return f'"{text}"'
