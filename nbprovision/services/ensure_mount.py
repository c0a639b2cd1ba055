"""``ensure_mount``: a file system of the network at /mnt/NAME."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ParameterError, TaskFailed
from nbprovision.model.relations import Needs, Relation
from nbprovision.model.result import Change, Plan
from nbprovision.model.task import Duration, Strings, as_list, parameter, seconds
from nbprovision.services.root_task import REPORT, RootTask, State
from nbprovision.system.files import link_atomically, make_folder

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_OPTION = re.compile(r"[A-Za-z0-9_.=:/@+-]{1,200}")
# Programs of the user's must not become root's by a file system from elsewhere.
_ALWAYS = ("nosuid", "nodev")


class _Type(NamedTuple):
    """A type of file system.

    Attributes:
        mount: Its name for `mount`.
        source: The pattern of a source.
        example: A source, for a message.
        options: The options that its makers recommend.

    """

    mount: str
    source: str
    example: str
    options: tuple[str, ...] = ()


_HOST = r"[A-Za-z0-9][A-Za-z0-9.-]{0,252}"
_EXPORT = r"/[A-Za-z0-9_./@+-]{0,500}"
_NFS = ("nfsvers=4.1", "rsize=1048576", "wsize=1048576", "hard", "timeo=600", "retrans=2", "noresvport")
# https://docs.aws.amazon.com/efs/latest/ug/mounting-fs-nfs-mount-settings.html,
# https://docs.aws.amazon.com/fsx/latest/LustreGuide/mount-fs-auto-mount-onreboot.html,
# https://github.com/awslabs/mountpoint-s3/blob/main/doc/CONFIGURATION.md
_FILE_SYSTEM = rf"fs-[0-9a-f]{{8,40}}:{_EXPORT}"
_TYPES = {
    "efs": _Type("nfs4", rf"{_FILE_SYSTEM}|[a-z0-9-]+\.{_HOST}:{_EXPORT}", "fs-0123456789abcdef0:/", _NFS),
    "nfs4": _Type("nfs4", rf"{_HOST}:{_EXPORT}", "files.example.com:/export", _NFS),
    "lustre": _Type(
        "lustre", rf"{_HOST}@tcp:/[a-z0-9]{{1,8}}", "fs-0123.fsx.eu-west-1.amazonaws.com@tcp:/fsx",
        ("relatime", "flock"),
    ),
    "s3": _Type(
        "mount-s3", r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](?:/[A-Za-z0-9_./=+-]*)?", "s3://bucket/prefix/",
        ("allow-other",),
    ),
}  # fmt: skip
_HELPED = _Type("efs", _FILE_SYSTEM, "fs-0123456789abcdef0:/")  # by the mount helper of EFS


class MountState(State, frozen=True):
    """The differences, and what is at the place of the link: nothing, our link, or something else."""

    link: Literal["missing", "ours", "foreign"] | None = None


class EnsureMount(RootTask[MountState], frozen=True, kw_only=True):
    """Mount a file system of the network at `/mnt/NAME`: EFS, NFS, FSx for Lustre, or a bucket of S3.

    Root's part of the lifecycle script mounts it by a unit of systemd, and gives up after `timeout`: a server that does
    not answer is a warning, and the notebook starts. Nothing is mounted a second time, and no permissions
    are changed. Programs on it get no rights of others (`nosuid`, `nodev`).

    The user's own run makes the link, once the file system is there.
    """

    module: ClassVar[str] = "mount"
    examples: ClassVar[str] = """
- name: The team's files
  ensure_mount:
    name: team
    source: fs-0123456789abcdef0:/
    link: ~/SageMaker/team
- name: The same by an access point, encrypted on its way
  ensure_mount:
    name: models
    source: fs-0123456789abcdef0:/
    access_point: fsap-0123456789abcdef0
    tls: true
- name: Scratch space
  ensure_mount:
    name: scratch
    source: fs-0123456789abcdef0.fsx.eu-west-1.amazonaws.com@tcp:/fsx
    fstype: lustre
    timeout: 20s
"""
    actions: ClassVar[dict[str, str]] = {"link": "The link to the file system was made."}
    habits: ClassVar[dict[str, str]] = {
        "src": "write `source`",
        "path": "write `name`, for /mnt/NAME, and `link` for a path of the user's",
        "opts": "write `options`",
        "fstab": "remove it; a unit of systemd is written",
    }
    relations: ClassVar[tuple[Relation, ...]] = (
        Needs("access_point", ("fstype",), "efs"),
        Needs("tls", ("fstype",), "efs"),
    )

    name: Annotated[str, parameter("The name of the folder below `/mnt`: small letters, digits, `-` and `_`.")]
    source: Annotated[
        str,
        parameter(
            "What to mount: `fs-ID:/` or `fs-ID:/FOLDER` of EFS (in the region of the machine), `HOST:/FOLDER`, "
            "`HOST@tcp:/NAME` of Lustre, `s3://BUCKET/PREFIX/`."
        ),
    ]
    fstype: Annotated[
        Literal["efs", "nfs4", "lustre", "s3"],
        parameter("The type. `lustre` needs the package lustre-client, `s3` mount-s3: see ensure_system_pkg."),
    ] = "efs"
    options: Annotated[
        Strings | None, parameter("Options in place of those that AWS recommends; `nosuid` and `nodev` are kept.")
    ] = None
    access_point: Annotated[
        str | None, parameter("The access point of EFS, `fsap-ID`; needs the package amazon-efs-utils.")
    ] = None
    tls: Annotated[bool, parameter("Encrypt on the way (EFS); needs the package amazon-efs-utils.")] = False
    timeout: Annotated[Duration, parameter("The time after which root's part gives up.")] = "30s"
    link: Annotated[
        str | None,
        parameter("A link to the file system, made by the user's run where nothing else is.", extra={"path": True}),
    ] = None
    state: Annotated[Literal["mounted", "absent"], parameter("`absent` takes away what this task mounted.")] = "mounted"

    def check(self) -> None:
        """Check the parameters; each is part of a file that root obeys."""
        if not _NAME.fullmatch(self.name):
            raise ParameterError(
                "name", f"{self.name!r} is not a name for a mount", cure="small letters, digits, - and _: team-data"
            )
        kind = self._type
        if not re.fullmatch(kind.source, self.source) or "/../" in f"{self.source}/":
            raise ParameterError(
                "source", f"{self.source!r} is not a source of {self.fstype}", cure=f"such as {kind.example}"
            )
        for option in as_list(self.options):
            for word in option.split(","):
                if not _OPTION.fullmatch(word) or word in ("suid", "dev"):
                    raise ParameterError("options", f"{word!r} is not an option that a mount may have")
        if self.access_point is not None and not re.fullmatch(r"fsap-[0-9a-f]{8,40}", self.access_point):
            raise ParameterError("access_point", f"{self.access_point!r} is not an access point", cure="fsap-ID")
        if not 1 <= seconds(self.timeout) <= 200:
            raise ParameterError(
                "timeout", f"{self.timeout} is not between 1s and 200s, within the script's five minutes"
            )

    @property
    def _type(self) -> _Type:
        return _HELPED if self.tls or self.access_point is not None else _TYPES[self.fstype]

    @property
    def subject(self) -> str:
        """What it is about, in a message."""
        return f"/mnt/{self.name}"

    @property
    def limit(self) -> float:
        """Seconds for its work, as root: an old mount may have to go first."""
        return 2 * seconds(self.timeout) + 10

    def wanted(self) -> Mapping[str, Any]:
        """What root's program gets; see `nbprovision.root.mount`."""
        kind = self._type
        own = [word for option in as_list(self.options) for word in option.split(",")] or [*kind.options]
        own += ["tls"] * (self.tls or self.access_point is not None)
        own += [f"accesspoint={self.access_point}"] if self.access_point is not None else []
        return {
            "name": self.name,
            "source": self.source,
            "type": kind.mount,
            "options": [*_ALWAYS, *own],
            "seconds": int(seconds(self.timeout)),
            "state": self.state,
        }

    # ------------------------------------------------------------------------------------------- the user's own half

    def left_to_root(self, machine: Machine) -> bool:
        """Whether there is nothing for the user's run to do: without a link, or before the file system is there."""
        if self.link is None or self.state == "absent":
            return True
        try:
            return bool(self.compared(machine))
        except TaskFailed:  # the comparison says why
            return True

    def read(self, machine: Machine) -> MountState:
        """Compare, and look at the link."""
        differences = self.compared(machine)
        if self.link is None or self.state == "absent":
            return MountState(differences)
        link = machine.path(self.link)
        if not os.path.lexists(link):
            return MountState(differences, link="missing")
        ours = os.path.islink(link) and os.readlink(link) == self.subject
        return MountState(differences, link="ours" if ours else "foreign")

    def plan(self, state: MountState) -> Plan:
        """The differences; where there are none, the link."""
        if state.differences or state.link in (None, "ours"):
            return super().plan(state)
        if state.link == "foreign":
            return Plan(warnings=(f"{self.link} is not a link to {self.subject}, and stays as it is",))
        return Plan(changes=(Change(action="link", target=str(self.link), after=self.subject),), beside=True)

    def apply(self, plan: Any, machine: Machine) -> None:
        """Make the link."""
        link = machine.path(self.link or "")
        make_folder(link.parent)
        link_atomically(link, self.subject)

    def witnesses(self, machine: Machine) -> Iterable[Path]:
        """Root's report of this start, the unit, the link."""
        unit = "mnt-" + self.name.replace("-", "\\x2d") + ".mount"
        return [
            machine.root / str(REPORT)[1:],
            machine.root / "etc/systemd/system" / unit,
            *([machine.path(self.link)] if self.link is not None else []),
        ]

    def ages(self, machine: Machine) -> float | None:
        """Five minutes: no file shows that somebody has unmounted it."""
        return 300.0
