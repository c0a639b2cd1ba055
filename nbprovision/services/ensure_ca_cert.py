"""``ensure_ca_cert``: the certificate of an authority, for every program of the user or of the machine."""

from __future__ import annotations

import hashlib
import os
import re
import ssl
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

import msgspec

from nbprovision.files import file_work
from nbprovision.files.download_source import check_sha256, check_url, fetch
from nbprovision.files.file_work import FilePlan, FileStep, Follow, ManagedPath, check_path
from nbprovision.machine import authorities
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import InvalidPlaybook, ParameterError, TaskFailed
from nbprovision.model.relations import Needs, OneOf, Relation
from nbprovision.model.result import Change, Plan
from nbprovision.model.task import Duration, Input, Resource, Setting, Task, parameter, seconds
from nbprovision.root import ca_cert, ca_file
from nbprovision.services import ca_bundle
from nbprovision.services.root_task import REPORT, RootTask, State
from nbprovision.system import trust
from nbprovision.system.files import make_folder, remove_if_empty, temporary_folder
from nbprovision.system.reading import read_bytes

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
# Root's curl gets it as one word, and neither user nor password.
_URL = re.compile(r"https://[A-Za-z0-9][A-Za-z0-9.-]{0,252}(?::\d{1,5})?/[A-Za-z0-9._~/?&=%+,-]{1,1000}")


class AuthorityState(State, frozen=True):
    """The files below the user's home.

    Attributes:
        file: Our copy of the author's file; None for root's tasks.
        data: The author's file; None if it has to be fetched first, or for `state: absent`.
        bundle: The bundle.
        content: The bundle's wanted content; None if it has to be fetched first, or for no bundle.
        settings: The tasks that write the settings of programs, each with the state that it has read.
        warnings: What is strange about the certificates.

    """

    file: ManagedPath | None = None
    data: bytes | None = None
    bundle: ManagedPath | None = None
    content: bytes | None = None
    settings: tuple[tuple[Task[Any], Any], ...] = ()
    warnings: tuple[str, ...] = ()


class AuthorityPlan(Plan, frozen=True, kw_only=True):
    """The changes.

    Attributes:
        fetch: Whether the file has to be fetched; the rest is planned when it is there.
        files: The steps for our copy and for the bundle.
        settings: The tasks with something to do, each with its plan.

    """

    fetch: bool = False
    files: FilePlan = FilePlan()
    settings: tuple[tuple[Task[Any], Any], ...] = ()


class EnsureCaCert(RootTask[AuthorityState], frozen=True, kw_only=True):
    """Have programs trust a certificate authority, such as that of a company's proxy or package index.

    With `scope: user` there is one bundle, `~/.local/share/nbprovision/ca-bundle.pem`, of the machine's public
    authorities and the user's own. pip, conda, git and the aws command read it by their configuration. uv, curl,
    Python, requests, boto3, node and R read it by variables of the user's shells and of the Jupyter server, which all
    kernels inherit; the server reads them when it starts (`restart_jupyter`). Later tasks of the same run use it too.
    When the public authorities change, the bundle is made again.

    With `scope: system` the task stands under `root_tasks`. Root's part of the lifecycle script puts the certificates
    where the distribution wants them, and runs `update-ca-trust` (Amazon Linux) or `update-ca-certificates` (Debian).

    The file is PEM, with any number of certificates, or DER. A file with anything else in it, such as a private key, is
    refused. `state: absent` takes back the certificates, and with the last one the bundle and each setting that names
    it.
    """

    in_root: ClassVar[Literal["always", "may", "never"]] = "may"
    module: ClassVar[str] = "ca_file"
    actions: ClassVar[dict[str, str]] = {
        "download": "the file of the certificate",
        **file_work.FILE_ACTIONS,
        "change": "settings of conda",
        "change mode": "the permissions of conda's settings",
    }
    examples: ClassVar[str] = """
- name: The company's authority, from a file beside the playbook
  ensure_ca_cert:
    path: company-ca.pem
- name: An authority that is fetched
  ensure_ca_cert:
    name: lab
    url: https://downloads.example.com/ca.crt
    sha256: 94f7195cfbd8547125b2ea0d226b6f5317beb242d5c270d0e030e0eab600fb59
- name: An old authority
  ensure_ca_cert:
    name: old-lab
    state: absent
"""
    habits: ClassVar[dict[str, str]] = {
        **dict.fromkeys(("src", "content", "dest"), "write path: with the file of the certificate"),
        "checksum": "write sha256: and the 64 digits alone",
        "update_ca_trust": "remove it; the system's command runs after a change",
    }
    relations: ClassVar[tuple[Relation, ...]] = (
        OneOf(("path", "url"), required=False),
        Needs("sha256", ("url",)),
    )

    name: Annotated[
        str | None,
        parameter("The name of the certificate: letters, digits, `-` and `_`. Default: that of the file."),
    ] = None
    path: Annotated[str | None, parameter("The file of the certificate.", extra={"path": True})] = None
    url: Annotated[str | None, parameter("The file in the web or in S3: `https://HOST/PATH` or `s3://BUCKET/KEY`.")] = (
        None
    )
    sha256: Annotated[str | None, parameter("The SHA-256 of the file behind `url`.")] = None
    scope: Annotated[
        Literal["user", "system"],
        parameter("For the programs of the user, or of the whole machine: then it belongs under `root_tasks`."),
    ] = "user"
    timeout: Annotated[Duration, parameter("With `scope: system`, the time after which root's part gives up.")] = "60s"
    state: Annotated[Literal["present", "absent"], parameter("Whether it is trusted.")] = "present"
    follow: Follow = False

    def check(self) -> None:
        """Check the parameters; those of root's tasks are part of files and commands of root's."""
        check_path("path", self.path)
        if self.state == "present" and self.path is None and self.url is None:
            raise ParameterError(
                "", "`path` or `url` is required", cure="name the file of the certificate: path: ca.pem"
            )
        if self.url is not None:
            if self.sha256 is None:
                raise ParameterError(
                    "url", "`url` needs `sha256`", cure="write the SHA-256 of the file as its publisher names it"
                )
            check_url(self.url)
            check_sha256(self.sha256)
        if not _NAME.fullmatch(self.label):
            given = "name" if self.name is not None else "path" if self.path is not None else "url"
            raise ParameterError(
                given if self.label else "name",
                f"{self.label[:60]!r} is not a name for a certificate" if self.label else "`name` is required",
                cure="write name: with letters, digits, - and _",
            )
        if self.scope == "user":
            return
        if self.url is not None and not _URL.fullmatch(self.url):
            raise ParameterError("url", f"root does not fetch {self.url[:80]!r}", cure="write https://HOST/PATH")
        if self.path is not None and self.path.startswith("~"):
            raise ParameterError(
                "path", f"root has another home than {self.path}", cure="put the file beside the playbook: path: ca.pem"
            )
        if not 5 <= seconds(self.timeout) <= 200:
            raise ParameterError("timeout", f"{self.timeout} is not between 5s and 200s")

    @property
    def label(self) -> str:
        """The name, by default that of the file without its suffix."""
        if self.name is not None:
            return self.name
        stem = os.path.splitext(os.path.basename(self.path or urlsplit(self.url or "").path))[0]
        return re.sub(r"[. ]", "-", stem)

    # ------------------------------------------------------------------------------------------------- root's part

    def of_root(self) -> bool:
        """Whether it is for the whole machine."""
        return self.scope == "system"

    @property
    def subject(self) -> str:
        """The certificate, for a message."""
        return f"the certificate {self.label}"

    def wanted(self) -> Mapping[str, Any]:
        """The data for root's program; see `nbprovision.root.ca_cert`. A missing file is compared by its name alone."""
        certificates = None
        if self.path is not None and self.state == "present" and os.path.exists(self.path):
            certificates = self._certificates(self._author_file(Path(self.path)))
        return {
            "name": self.label,
            "state": self.state,
            "sha256": (self.sha256 or "").lower(),
            "certificates": certificates,
            "seconds": int(seconds(self.timeout)),
            **({} if self.url is None else {"url": self.url}),
        }

    def root_order(self) -> Mapping[str, Any]:
        """The entry for root's program, with the certificates of a file in it.

        Raises:
            InvalidPlaybook: the file is missing where the script is rendered.
            TaskFailed: it is not a certificate.

        """
        order = dict(super().root_order())
        if self.url is None or self.state == "absent":
            order["module"] = "ca_cert"  # a smaller program will do
        if self.path is not None and self.state == "present" and order["wanted"]["certificates"] is None:
            raise InvalidPlaybook(
                f"{self.path} does not exist",
                cause="the certificate becomes a part of the script",
                cure="correct `path`, or put the file there",
            )
        return order

    # ------------------------------------------------------------------------------------------- the user's own half

    def _settings(self, machine: Machine) -> tuple[Task[Any], ...]:
        """The tasks on the settings of programs; none while other certificates remain."""
        if self.state == "present":
            return ca_bundle.settings(machine, follow=self.follow)
        return () if self._others(machine) else tuple(ca_bundle.withdrawn(machine, follow=self.follow))

    def _named(self, machine: Machine) -> tuple[Task[Any], ...]:
        """The tasks on the settings, for the relations to other tasks."""
        wants = self.scope == "user" and self.state == "present"
        return ca_bundle.settings(machine, follow=self.follow) if wants else ()

    def _file(self, machine: Machine) -> Path:
        return ca_bundle.folder_of(machine) / f"{self.label}.crt"

    def _others(self, machine: Machine) -> dict[str, bytes]:
        """The files of the other certificates."""
        folder = ca_bundle.folder_of(machine)
        names = os.listdir(folder) if folder.is_dir() else []
        own = self._file(machine).name
        return {
            name: read_bytes(folder / name, follow=False) for name in names if name.endswith(".crt") and name != own
        }

    def provides(self, machine: Machine) -> frozenset[Resource]:
        """Our copy, the bundle, and the files of settings."""
        if self.of_root():
            return frozenset()
        files = [Resource("file", str(path)) for path in (self._file(machine), ca_bundle.path_of(machine))]
        return frozenset(files).union(*(task.provides(machine) for task in self._named(machine)))

    def configures(self, machine: Machine) -> dict[Path, str | None]:
        """The future configuration of conda."""
        return {path: text for task in self._named(machine) for path, text in task.configures(machine).items()}

    def shared_values(self, machine: Machine) -> Iterator[Setting]:
        """The settings, and the name, which stands for one file."""
        for task in self._named(machine):
            yield from task.shared_values(machine)
        if self.scope == "user":
            wanted = None if self.state == "absent" else self.sha256 or str(machine.path(self.path or ""))
            yield Setting(str(self._file(machine)), (), wanted)

    def inputs(self, machine: Machine) -> Iterable[Input]:
        """The author's file. Root's part contains its own, and a run without the file compares by the name."""
        if self.scope == "user" and self.state == "present" and self.path is not None:
            yield Input(machine.path(self.path), "path")

    def barrier(self, machine: Machine) -> bool:
        """Whatever reaches a server after it may need the certificate."""
        return self.scope == "user"

    def weight(self, machine: Machine) -> Literal[0]:
        """Small files, which later tasks need."""
        return 0

    def witnesses(self, machine: Machine) -> Iterable[Path]:
        """The files that it writes, those that it is made of, and for root's tasks the distribution's."""
        if self.of_root():
            yield machine.root / str(REPORT)[1:]
            for system in ca_cert.SYSTEMS:
                yield machine.root / system[0][1:]
                yield machine.root / system[2][1:]
            if self.path is not None:
                yield machine.path(self.path)
            return
        yield from (self._file(machine), ca_bundle.folder_of(machine), ca_bundle.path_of(machine))
        yield from (path for path in (authorities.public_bundle(machine.root),) if path is not None)
        if self.path is not None:
            yield machine.path(self.path)
        for task in ca_bundle.settings(machine, follow=self.follow):
            yield from task.witnesses(machine)

    # ------------------------------------------------------------------------------------------------ the four steps

    def read(self, machine: Machine) -> AuthorityState:
        """Compare as root's program does, or look at the bundle and at the settings.

        Raises:
            TaskFailed: the file is not a certificate, or something cannot be read.

        """
        if self.of_root():
            return AuthorityState(self.compared(machine), warnings=self._unseen(machine))
        file = file_work.read_state(self._file(machine), follow=False)
        data = self._wanted_data(file, machine)
        files = self._others(machine)
        if data is not None:
            self._certificates(data)
            files[file.path.name] = data
        path = ca_bundle.path_of(machine)
        return AuthorityState(
            file=file,
            data=data,
            bundle=file_work.read_state(path, follow=False),
            content=ca_bundle.content(machine, files) if files else None,
            settings=tuple((task, task.read(machine)) for task in self._settings(machine)),
            warnings=tuple(self._doubts(data)) if data is not None else (),
        )

    def plan(self, state: AuthorityState) -> Plan:
        """Compare; a file that has to be fetched comes first.

        Raises:
            TaskFailed: a file of settings cannot be edited.

        """
        if state.file is None or state.bundle is None:
            return msgspec.structs.replace(super().plan(state), warnings=state.warnings)
        plans = [(task, task.plan(own)) for task, own in state.settings]
        plan = AuthorityPlan(
            settings=tuple((task, own) for task, own in plans if own), warnings=state.warnings, beside=True
        )
        changes = tuple(change for _, own in plans for change in own.changes)
        if self.state == "present" and state.data is None:
            source = f"{self.url} (sha256 {self.sha256})"
            written = "create" if state.bundle.entry.kind == "nothing" else "write"
            fetched = (
                Change("download", str(state.file.path), None, source), Change(written, str(state.bundle.path)),
            )  # fmt: skip
            return msgspec.structs.replace(plan, changes=(*fetched, *changes), fetch=True)
        files = file_work.join_plans((_planned(state.file, state.data), _planned(state.bundle, state.content)))
        if not files:  # while the bundle is missing, the tasks warn of settings that name it
            doubts = (warning for _, own in plans for warning in own.warnings)
            plan = msgspec.structs.replace(plan, warnings=(*state.warnings, *dict.fromkeys(doubts)))
        return msgspec.structs.replace(plan, changes=(*files.changes, *changes), files=files)

    def apply(self, plan: Any, machine: Machine) -> None:
        """Write the bundle before the settings that name it, and remove it after them.

        Raises:
            TaskFailed: the file cannot be fetched, is not a certificate, or a file cannot be written.

        """
        if self.of_root():
            super().apply(plan, machine)
        if plan.fetch:
            self._fetch(machine)
            machine.forget()
            plan = self.plan(self.read(machine))
        self._carry_out(plan, machine)

    def _carry_out(self, plan: Any, machine: Machine) -> None:
        if self.state == "present":
            file_work.carry_out(plan.files, machine)
        for task, own in plan.settings:
            task.apply(own, machine)
        if self.state == "absent":
            file_work.carry_out(plan.files, machine)
            folder = ca_bundle.folder_of(machine)
            remove_if_empty(folder)
            remove_if_empty(folder.parent)

    def _fetch(self, machine: Machine) -> None:
        """Put the file behind the URL in place, once it is known to be a certificate."""
        target = self._file(machine)
        make_folder(target.parent)
        with temporary_folder(target) as folder:
            file = folder / "download"
            fetch(self.url or "", self.sha256 or "", file, machine)
            data = read_bytes(file)
        self._certificates(data)
        state = file_work.read_state(target, follow=False)
        file_work.carry_out(file_work.plan_file(state, data=data), machine)

    def _wanted_data(self, file: ManagedPath, machine: Machine) -> bytes | None:
        """The author's file; None for none, and for one that has to be fetched."""
        if self.state == "absent":
            return None
        if self.path is not None:
            return self._author_file(machine.path(self.path))
        data = file.entry.data
        fetched = data is not None and hashlib.sha256(data).hexdigest() == (self.sha256 or "").lower()
        return data if fetched else None

    def _author_file(self, path: Path) -> bytes:
        trust.obey(path, "obey")
        try:
            return read_bytes(path, most=ca_file.MOST)
        except OSError as error:
            raise TaskFailed(
                f"cannot read {path}", cause=error.strerror or str(error), cure="correct `path`, or its owner and mode"
            ) from None

    def _certificates(self, data: bytes) -> list[str]:
        cure = "give a file with certificates alone: openssl x509 -in FILE -out ca.pem writes one"
        return ca_bundle.certificates(data, self.path or self.url or self.label, cure)

    def _unseen(self, machine: Machine) -> tuple[str, ...]:
        """A warning where the file that root's part was made of is not here to be compared."""
        if self.state == "absent" or self.path is None or os.path.exists(self.path):
            return ()
        return (f"{self.path} is not on this machine: {self.subject} is compared by its name alone",)

    def _doubts(self, data: bytes) -> Iterator[str]:
        """Warnings about certificates that programs will not accept as authorities."""
        for number, pem in enumerate(ca_file.certificates(data), 1):
            which = f"certificate {number} of {self.label}"
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.load_verify_locations(cadata=pem)
            authority = next(iter(context.get_ca_certs()), None)
            if authority is None:
                yield f"{which} is not of an authority (basicConstraints): programs may ignore it"
                continue
            end = str(authority["notAfter"])
            if ssl.cert_time_to_seconds(end) < time.time():
                yield f"{which} expired on {end}"


def _planned(state: ManagedPath, data: bytes | None) -> FilePlan:
    """Plan a file with a content, or without one its absence."""
    if data is not None:
        large = state.entry.kind == "file" and state.entry.data is None
        return file_work.plan_file(state, data=data, same=read_bytes(state.place) == data if large else None)
    if state.entry.kind == "nothing":
        return FilePlan()
    if state.entry.kind == "folder":
        raise file_work.in_the_way(state, "a file", "remove it by hand")
    change = Change("remove", str(state.path))
    return FilePlan(changes=(change,), steps=(FileStep(path=state.path, do="remove"),))
