"""``ensure_system_pkg``: packages of the system, by dnf or apt."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ParameterError
from nbprovision.model.task import Duration, Setting, Strings, as_list, parameter, seconds
from nbprovision.services.root_task import REPORT, RootTask, State

# Of both kinds (https://www.debian.org/doc/debian-policy/ch-controlfields.html#source,
# https://rpm-software-management.github.io/rpm/manual/spec.html), without what apt-get and dnf take for something else.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._-]{0,126}[A-Za-z0-9+]")
_DATABASES = ("/var/lib/dpkg/status", "/var/lib/rpm/rpmdb.sqlite", "/var/lib/rpm/rpmdb.sqlite-wal")


class EnsureSystemPkg(RootTask[State], frozen=True, kw_only=True):
    """Install or remove packages of the system, by dnf (Amazon Linux) or apt (Debian, Ubuntu, Studio).

    Root's part of the lifecycle script does it, within `timeout`. The package database alone says what is installed, so
    that a start with nothing to do runs neither dnf nor apt. Recommended packages are not installed, and no package is
    removed that the task does not name. A removed package's own scripts stop its service first. The next start
    completes an installation that was killed.
    """

    module: ClassVar[str] = "packages"
    examples: ClassVar[str] = """
- name: Programs with which nbconvert makes PDFs
  ensure_system_pkg:
    packages: [pandoc, texlive-xetex]
    timeout: 110s
- name: No remote sessions by the Systems Manager
  ensure_system_pkg:
    packages: amazon-ssm-agent
    state: absent
"""
    habits: ClassVar[dict[str, str]] = {
        **dict.fromkeys(("name", "pkg", "package"), "write `packages`"),
        "update_cache": "remove it; the lists are fetched where they are needed",
        "install_recommends": "remove it; recommended packages are never installed",
        "purge": "remove it; files of settings stay, and do nothing",
        "deb": "upload the package to a repository of yours, and write its name in `packages`",
        "lock_timeout": "write `timeout`",
        "enablerepo": "enable the repository by a file: ensure_ini: {path: /etc/yum.repos.d/..., scope: system}",
    }

    packages: Annotated[
        Strings, parameter("Names of packages, without versions: a name, or a list. No file, URL or group.")
    ]
    state: Annotated[
        Literal["present", "absent"],
        parameter("`absent` removes them, unless others need them; files of settings may stay."),
    ] = "present"
    timeout: Annotated[
        Duration,
        parameter("The time after which root's part gives up; it has half of the script's time for all tasks."),
    ] = "100s"

    def check(self) -> None:
        """Check the parameters; each name becomes a word of a command of root's."""
        if not as_list(self.packages):
            raise ParameterError("packages", "'packages' is empty", cure="name a package")
        for name in as_list(self.packages):
            if not _NAME.fullmatch(name) or ".." in name:
                raise ParameterError(
                    "packages",
                    f"{name[:100]!r} is not the name of a package",
                    cause="a name has letters, digits and + - . _, and neither a version nor a path",
                    cure="write the name alone: pandoc",
                )
            if name.endswith((".rpm", ".deb")):
                raise ParameterError(
                    "packages",
                    f"{name[:100]!r} is a file",
                    cause="root installs only what the machine's repositories vouch for",
                    cure="write the name of the package",
                )
        if not 5 <= seconds(self.timeout) <= 280:
            raise ParameterError(
                "timeout", f"{self.timeout} is not between 5s and 280s, within the script's five minutes"
            )

    @property
    def subject(self) -> str:
        """What it is about, in a message."""
        return "system packages"

    @property
    def limit(self) -> float:
        """Seconds for its work, as root; a program that was killed at `timeout` has to end."""
        return seconds(self.timeout) + 5

    def wanted(self) -> Mapping[str, Any]:
        """What root's program gets; see `nbprovision.root.packages`."""
        names = list(dict.fromkeys(as_list(self.packages)))
        return {"packages": names, "state": self.state, "seconds": int(seconds(self.timeout))}

    def shared_values(self, machine: Machine) -> Iterator[Setting]:
        """The state of each package, which two tasks may not want otherwise."""
        for name in as_list(self.packages):
            yield Setting("of the system's packages", (name,), self.state)

    def witnesses(self, machine: Machine) -> Iterable[Path]:
        """Root's report of this start, and the package database."""
        return [machine.root / path[1:] for path in (str(REPORT), *_DATABASES)]
