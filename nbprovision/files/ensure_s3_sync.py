"""``ensure_s3_sync``: a folder that is restored from S3, or sent to it."""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import msgspec

from nbprovision.files import s3_comparison
from nbprovision.files.file_work import FileTask, check_path, check_text
from nbprovision.files.folder_scan import Scanned, excluding, leads_out, scan
from nbprovision.files.s3_comparison import Comparison
from nbprovision.machine import network, s3
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import Blocked, ParameterError, TaskFailed
from nbprovision.model.result import Change, Plan
from nbprovision.model.task import Strings, as_list, parameter
from nbprovision.state.witness import digest
from nbprovision.system import inputs, trust
from nbprovision.system.files import (
    explained,
    make_folder,
    move_into_place,
    remove,
    replacing,
    temporary_folder,
    write_atomically,
)
from nbprovision.system.journal import TEMPORARY_SUFFIX
from nbprovision.system.reading import read_json

FOLDER = "s3"  # of the records, in the tool's home
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
_PLACE = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(?P<key>[^\s]*))?")
_ARCHIVE = (".tar", ".tar.gz", ".tgz")
_ACCOUNT = re.compile(r"[0-9]{12}")
_PATTERN_LETTERS = frozenset("*?[]")
_IN_CALENDAR = msgspec.Meta(ge=0, lt=253_402_300_800)
_SHOWN = 3  # names in a change or a warning


class Record(msgspec.Struct, kw_only=True):
    """The record of a transfer.

    Attributes:
        what: The two sides, for a person who looks at the file.
        began: When the last transfer began, in seconds since the epoch.
        done: When the last transfer ended well; 0 if it did not.
        boot: The start of the machine in which it did.
        etag: Of an archive: what S3 said about it.
        content: Of an archive that was sent: a digest of the names, sizes and times of its files.

    """

    what: str
    began: Annotated[float, _IN_CALENDAR] = 0.0
    done: Annotated[float, _IN_CALENDAR] = 0.0
    boot: str = ""
    etag: str = ""
    content: str = ""


class SyncState(msgspec.Struct, frozen=True, kw_only=True):
    """The differences of the two sides.

    Attributes:
        path: The folder.
        due: Whether a transfer is due; if not, the rest is not known.
        comparison: The differences of the files; None for an archive.
        archive: An archive is to be transferred: its content in words.
        entries: Of an archive to be sent: the entries to pack.
        content: Their digest.
        etag: Of an archive to be restored: what S3 says about it.
        replaces: The folder has files, which the archive's content replaces.
        warnings: What the user should know.

    """

    path: Path
    due: bool = False
    comparison: Comparison | None = None
    archive: str = ""
    entries: tuple[Scanned, ...] = ()
    content: str = ""
    etag: str = ""
    replaces: bool = False
    warnings: tuple[str, ...] = ()


class SyncPlan(Plan, frozen=True, kw_only=True):
    """A transfer.

    Attributes:
        state: The differences.

    """

    state: SyncState


class EnsureS3Sync(FileTask[SyncState], frozen=True, kw_only=True):
    """Restore a folder from S3 with `direction: down`, or send a folder to S3 with `direction: up`.

    The machine's `aws` command transfers the files that differ, with the notebook's role. `once_per` says how often: a
    record in the tool's home shows that a transfer is done, and then no process is started. A killed transfer goes on
    at the next run. No link is followed or replaced, nothing outside of `path` is sent, and only `delete: true` removes
    files on the receiving side. With `direction: down` a file that was changed after its object was stored stays.

    `aws s3 sync` knows no permissions, links and empty folders. With `archive: true` the folder becomes one object that
    has them. It is restored at once and as a whole, into a folder that is missing or empty.
    """

    actions: ClassVar[dict[str, str]] = {
        "download": "files of the folder, or all of it from an archive",
        "upload": "files of the folder, or all of it as an archive",
        "remove": "with `delete`, files on the receiving side that the other one lacks",
    }
    examples: ClassVar[str] = """
- name: What the old instance had, once
  ensure_s3_sync:
    source: s3://acme-notebooks/ada/work
    path: work
    expected_owner: "123456789012"
- name: At each start the work of the last one is sent
  ensure_s3_sync:
    source: s3://acme-notebooks/ada/work
    path: work
    direction: up
    expected_owner: "123456789012"
    exclude: ["*.ckpt", "data/*"]
- name: Scripts and programs, with their modes and links
  ensure_s3_sync:
    source: s3://acme-notebooks/ada/tools.tar.gz
    path: tools
    archive: true
    direction: up
    once_per: run
    expected_owner: "123456789012"
"""
    habits: ClassVar[dict[str, str]] = {
        **dict.fromkeys(("bucket", "key_prefix", "prefix", "object"), "write source: s3://BUCKET/PREFIX"),
        **dict.fromkeys(("file_root", "dest", "folder", "directory"), "write path:"),
        "mode": "write direction: up or down",
        "include": "remove it; write what to leave out into exclude:",
        **dict.fromkeys(
            ("access_key", "secret_key", "session_token", "aws_access_key", "aws_secret_key", "profile"),
            "remove it; the `aws` command has the credentials of the notebook's role",
        ),
        "region": "remove it, or set AWS_REGION",
        **dict.fromkeys(
            ("file_change_strategy", "permission", "storage_class", "cache_control", "mime_map", "retries"), "remove it"
        ),
    }

    source: Annotated[
        str,
        parameter(
            "The place in S3: `s3://BUCKET/PREFIX`, with `archive` the object `s3://BUCKET/NAME.tar.gz` (or `.tar`, "
            "`.tgz`)."
        ),
    ]
    path: Annotated[str, parameter("The folder on this machine.", extra={"path": True})]
    direction: Annotated[
        Literal["down", "up"], parameter("`down` copies from S3 into the folder, `up` sends the folder to S3.")
    ] = "down"
    once_per: Annotated[
        Literal["boot", "run", "ever"] | None,
        parameter(
            "How often it may transfer: once for this home (`ever`), once per start of the machine (`boot`), or in "
            "each run (`run`). Default: `ever` with `direction: down`, as a restore must not change later work, and "
            "`boot` with `direction: up`."
        ),
    ] = None
    exclude: Annotated[
        Strings | None,
        parameter(
            "Patterns of paths in the folder that are neither transferred nor removed: `*.ckpt`, `data/*`. `*` matches "
            "slashes too."
        ),
    ] = None
    expected_owner: Annotated[
        str | None,
        parameter(
            "The account, 12 digits, that the bucket must belong to: otherwise nothing is transferred. A name that its "
            "owner has given up may belong to anybody."
        ),
    ] = None
    archive: Annotated[
        bool, parameter("Transfer one tar archive, which keeps permissions, times, links and empty folders.")
    ] = False
    delete: Annotated[
        bool,
        parameter(
            "Remove files on the receiving side that the other one lacks; with `archive` and `direction: down` the "
            "archive replaces a folder that has files. An empty source removes nothing, and is an error."
        ),
    ] = False

    def check(self) -> None:
        """Check the parameters without looking at the machine."""
        check_text(self, "source", "exclude", "expected_owner")
        check_path("path", self.path)
        self._check_source()
        if self.path.startswith("s3:"):
            raise ParameterError(
                "path",
                "'path' is the folder on this machine",
                cure="write source: s3://BUCKET/PREFIX, path: FOLDER, and direction: up to send the folder",
            )
        if not self.archive and _PATTERN_LETTERS.intersection(self.path):
            raise ParameterError(
                "path",
                f"'{self.path[:80]}' has a letter of {' '.join(sorted(_PATTERN_LETTERS))}",
                cause="`aws s3 sync` takes it for a pattern, so `exclude` would not match",
                cure="rename the folder, or write archive: true",
            )
        for pattern in as_list(self.exclude):
            if not pattern or pattern.startswith(("/", "./", "../")) or "://" in pattern:
                raise ParameterError(
                    "exclude",
                    f"'{pattern[:80]}' matches nothing",
                    cause="patterns are compared with paths that begin in the folder",
                    cure="write it as data/* or *.ckpt",
                )
        if self.expected_owner is not None and not _ACCOUNT.fullmatch(self.expected_owner):
            raise ParameterError(
                "expected_owner",
                f"'{self.expected_owner[:40]}' is not the number of an account",
                cure="write its 12 digits in quotes; `aws sts get-caller-identity` shows those of your account",
            )
        if self.archive and self.delete and self.direction == "up":
            raise ParameterError(
                "delete",
                "`delete` has no meaning for an archive that is sent",
                cause="the new archive replaces the old one",
                cure="leave `delete` out",
            )

    def _check_source(self) -> None:
        match = _PLACE.fullmatch(self.source)
        if match is None:
            cure = "write s3://BUCKET/PREFIX"
            if self.source.startswith(("/", "~", ".")):
                cure = f"write source: s3://BUCKET/PREFIX, path: {self.source}, and direction: up to send the folder"
            raise ParameterError("source", f"'{self.source[:80]}' is not a place in S3", cure=cure)
        key = match["key"] or ""
        if any(part in ("", ".", "..") for part in key.rstrip("/").split("/")) and key.rstrip("/"):
            raise ParameterError(
                "source", f"'{self.source[:80]}' has an empty part, `.` or `..`", cure="write s3://BUCKET/PREFIX"
            )
        if _PATTERN_LETTERS.intersection(key):
            raise ParameterError(
                "source",
                f"'{self.source[:80]}' has a letter of {' '.join(sorted(_PATTERN_LETTERS))}",
                cause="`aws s3 sync` takes it for a pattern",
                cure="choose another prefix",
            )
        if self.archive and not key.endswith(_ARCHIVE):
            raise ParameterError(
                "source",
                f"'{self.source[:80]}' is not the object of an archive",
                cure=f"let it end with {', '.join(_ARCHIVE)}, or leave `archive` out",
            )

    # ---------------------------------------------------------------------------------- its relations to other tasks

    def target(self, machine: Machine) -> Path:
        """The folder."""
        return machine.path(self.path)

    def weight(self, machine: Machine) -> Literal[1, 2]:
        """A transfer may take long."""
        return 2 if self._up or not machine.path(self.path).exists() else 1

    def ages(self, machine: Machine) -> float | None:
        """Each run transfers with `once_per: run`; an empty source may have files tomorrow."""
        return 0.0 if self._how_often == "run" or machine.notes_of(self).get("empty") else None

    def witnesses(self, machine: Machine) -> Iterable[Path]:
        """The record; people work in the folder."""
        yield self._record_file(machine)

    # ------------------------------------------------------------------------------------------------ the four steps

    def read(self, machine: Machine) -> SyncState:
        """Decide by the record whether a transfer is due, and then compare the two sides.

        Raises:
            Blocked: the folder to send is missing.
            TaskFailed: something other than a folder is at the path, or S3 refuses access.

        """
        path = machine.path(self.path)
        exists = self._require_folder(path, machine)
        record = self._record(machine)
        notes = machine.notes_of(self)
        notes["empty"] = False
        if notes.get("transferred") or not self._is_due(record, path, machine, exists=exists):
            return SyncState(path=path)
        if self._up and not exists:
            raise Blocked(path, f"cannot send {path}", cause="the folder does not exist", cure="correct `path`")
        state = network.retry(machine, lambda _offline: self._state(path, record, machine, exists=exists), cached=False)
        if state.comparison is not None and not self._up and state.comparison.source_is_empty:
            notes["empty"] = True
        return state

    def plan(self, state: SyncState) -> Plan:
        """The transfer, if one is due; if nothing differs, only the record is written."""
        if not state.due:
            return Plan(warnings=state.warnings)
        path, url = str(state.path), self._place.url
        target, other = (url, path) if self._up else (path, url)
        action = "upload" if self._up else "download"
        changes: list[Change] = []
        comparison = state.comparison
        if comparison is None:
            if state.archive:
                before = "a folder with files, which is replaced" if state.replaces else None
                changes.append(Change(action, target, before, state.archive))
        else:
            if comparison.transferred:
                changes.append(Change(action, target, after=f"{_some(comparison.transferred)} from {other}"))
            if comparison.removed:
                changes.append(Change("remove", target, before=_some(comparison.removed)))
        return SyncPlan(changes=tuple(changes), warnings=state.warnings, upkeep=True, state=state)

    def apply(self, plan: SyncPlan, machine: Machine) -> None:
        """Transfer what differs, and record that.

        Raises:
            NotBegun: the free space is too small.
            TaskFailed: the bucket is another account's, or the transfer failed.

        """
        state = plan.state
        record = self._record(machine) or Record(what="")
        began = time.time()
        fresh = Record(what=f"{self.direction} {self._place.url} {state.path}", began=began)
        if plan.changes:
            fresh.began = record.began if record.began and not record.done else began
            self._write(fresh, machine)  # a run that is killed from now on has not done it
            network.retry(machine, lambda _offline: self._transfer(state, fresh, machine), cached=False)
        else:
            fresh.etag, fresh.content = state.etag or record.etag, state.content or record.content
        fresh.boot, fresh.done = inputs.start_of_machine(), time.time()
        self._write(fresh, machine)
        machine.notes_of(self)["transferred"] = True

    # ---------------------------------------------------------------------------------------- whether to transfer

    @property
    def _up(self) -> bool:
        return self.direction == "up"

    @property
    def _how_often(self) -> str:
        return self.once_per or ("boot" if self._up else "ever")

    @property
    def _place(self) -> s3.Place:
        match = _PLACE.fullmatch(self.source)
        assert match is not None  # noqa: S101 - see check
        key = (match["key"] or "").rstrip("/")
        return s3.Place(match["bucket"], key if self.archive or not key else f"{key}/", self.expected_owner or "")

    @property
    def _failure(self) -> str:
        return f"cannot send {self.path} to {self.source}" if self._up else f"cannot restore {self.path} from S3"

    def _require_folder(self, path: Path, machine: Machine) -> bool:
        """Return whether the folder exists.

        Raises:
            NotTrusted: this is root's, and somebody else can change what is in it.
            TaskFailed: something else is there.

        """
        trust.write(path)
        if machine.home in (path, *path.parents):
            raise TaskFailed(
                f"{path} is in the tool's own folder", cause=f"it is part of {machine.home}", cure="correct `path`"
            )
        with explained(f"cannot look at {path}"):
            try:
                mode = os.lstat(path).st_mode
            except (FileNotFoundError, NotADirectoryError):
                return False
        if stat.S_ISLNK(mode):
            raise TaskFailed(
                f"{path} is a link",
                cause="whoever created the link would decide which folder is meant",
                cure=f"write path: {os.path.realpath(path)}",
            )
        if not stat.S_ISDIR(mode):
            raise TaskFailed(f"{path} is not a folder", cause="it is kept", cure="correct the path, or move it away")
        trust.tree(path, "send" if self._up else "copy into")
        return True

    def _is_due(self, record: Record | None, path: Path, machine: Machine, *, exists: bool) -> bool:
        """Whether a transfer is due; a restart may have taken a folder that is not on the volume."""
        volume = machine.platform.volume
        lasts = self._up or volume is None or volume in path.parents
        boot = inputs.start_of_machine() if self._how_often == "boot" or not lasts else ""
        if record is None or not record.done or self._how_often == "run" or not (lasts or exists):
            return True
        return self._how_often == "boot" and record.boot != boot

    # ------------------------------------------------------------------------------------------------- the differences

    def _state(self, path: Path, record: Record | None, machine: Machine, *, exists: bool) -> SyncState:
        with inputs.unrecorded():
            patterns = self._patterns(path, machine)
            entries = tuple(scan(path, patterns)) if exists else ()
        if self.archive and self._up:
            return self._archive_to_send(path, entries, record, machine)
        if self.archive:
            return self._archive_to_restore(path, record, machine)
        s3.require_owner(machine, self._place, self._failure)
        comparison = self._compare(entries, patterns, record, machine)
        if self.delete and comparison.source_is_empty:
            raise TaskFailed(
                self._failure,
                cause=f"{path if self._up else self.source} has no file, and with `delete` all files of the other side "
                "would be removed",
                cure="correct `source` or `path`, or leave `delete` out",
            )
        warnings = tuple(self._warnings(path, comparison))
        if comparison.source_is_empty and not self._up:
            return SyncState(path=path, comparison=comparison, warnings=warnings)
        return SyncState(path=path, due=True, comparison=comparison, warnings=warnings)

    def _compare(
        self, entries: Iterable[Scanned], patterns: list[str], record: Record | None, machine: Machine
    ) -> Comparison:
        stored = s3.list_objects(machine, self._place, self._failure)
        if self._up:
            return s3_comparison.compare_up(entries, stored, self._place, patterns, delete=self.delete)
        interrupted = record.began if record is not None and not record.done else 0
        return s3_comparison.compare_down(
            entries, stored, self._place, patterns, self._failure, delete=self.delete, interrupted=interrupted
        )

    def _patterns(self, path: Path, machine: Machine) -> list[str]:
        return [*as_list(self.exclude), *s3_comparison.own_exclusions(path, machine.home, TEMPORARY_SUFFIX)]

    def _warnings(self, path: Path, comparison: Comparison) -> Iterator[str]:
        if comparison.source_is_empty and not self._up:
            yield f"nothing is restored: there is nothing at {self.source}"
        if comparison.newer:
            yield f"{_some(comparison.newer)} in {path} stay, as they are newer than what S3 has"
        if comparison.linked and self._up:
            yield f"{_some(comparison.linked, 'link')} in {path} are not sent; archive: true keeps links"
        elif comparison.linked:
            yield f"{_some(comparison.linked, 'link')} in {path} stay, and nothing is copied to where they lead"
        if comparison.unnamed and self._up:
            names = _some(comparison.unnamed)
            yield f"{names} in {path} are not sent: their names are not UTF-8; archive: true keeps them"

    def _archive_to_send(
        self, path: Path, entries: tuple[Scanned, ...], record: Record | None, machine: Machine
    ) -> SyncState:
        """The entries to pack, unless S3 has an archive of them."""
        out = [entry.name for entry in entries if entry.kind == "link" and leads_out(path, entry.name)]
        special = [entry.name for entry in entries if entry.kind == "other"]
        left_out = {*out, *special}
        packed = tuple(entry for entry in entries if entry.name not in left_out)
        files = [entry for entry in packed if entry.kind == "file"]
        if not files:
            raise TaskFailed(
                self._failure,
                cause=f"{path} has no file, and an empty archive would replace the last one",
                cure="correct `path`",
            )
        warnings = []
        if out:
            warnings.append(f"{_some(out, 'link')} in {path} are not sent, as they lead out of the folder")
        if special:
            warnings.append(f"{_some(special)} in {path} are not sent: they are pipes, sockets or devices")
        content = digest(repr([entry[:5] for entry in packed]))
        state = SyncState(path=path, due=True, entries=packed, content=content, warnings=tuple(warnings))
        s3.require_owner(machine, self._place, self._failure)
        if record is not None and record.content == content and record.etag:
            head = s3.head(machine, self._place, self._failure)
            if head is not None and head.ETag == record.etag:
                return state
        return msgspec.structs.replace(state, archive=f"an archive of {_some([entry.name for entry in files])}")

    def _archive_to_restore(self, path: Path, record: Record | None, machine: Machine) -> SyncState:
        """The archive, unless the folder has files, or is from it."""
        with explained(f"cannot read {path}"):
            filled = path.is_dir() and any(path.iterdir())
        if filled and not self.delete:
            if record is not None and record.done:
                return SyncState(path=path, due=True)
            inputs.file(path)  # it may be moved away
            warning = f"{path} has files and stays: move it away, or write delete: true, which replaces it"
            return SyncState(path=path, warnings=(warning,))
        s3.require_owner(machine, self._place, self._failure)
        head = s3.head(machine, self._place, self._failure)
        if head is None:
            machine.notes_of(self)["empty"] = True
            return SyncState(path=path, warnings=(f"nothing is restored: {self.source} does not exist",))
        if filled and record is not None and record.done and record.etag == head.ETag:
            return SyncState(path=path, due=True, etag=head.ETag)
        return SyncState(
            path=path, due=True, archive=f"the content of {self._place.url}", etag=head.ETag, replaces=filled
        )

    # ----------------------------------------------------------------------------------------------------- the transfer

    def _transfer(self, state: SyncState, record: Record, machine: Machine) -> None:
        s3.require_owner(machine, self._place, self._failure)
        if state.comparison is not None:
            self._sync(state.path, state.comparison, machine)
        elif self._up:
            self._send_archive(state, machine)
            head = s3.head(machine, self._place, self._failure)
            record.etag, record.content = head.ETag if head is not None else "", state.content
        else:
            self._restore_archive(state, machine)
            record.etag = state.etag

    def _sync(self, path: Path, comparison: Comparison, machine: Machine) -> None:
        if not self._up:
            s3.require_space(path, comparison.size, "the files have", self._failure)
            with explained(f"cannot create {path}", path):
                make_folder(path)
            for name in comparison.incomplete:
                remove(path / name)
        patterns = self._patterns(path, machine)
        exclude = s3_comparison.exclusions(comparison, patterns, up=self._up)
        direction = "sending" if self._up else "fetching"
        machine.progress(f"{direction} {len(comparison.transferred)} files", 0, comparison.size)
        skipped = s3.sync(machine, self._place, path, self._failure, up=self._up, delete=self.delete, exclude=exclude)
        if skipped:
            # Also of files that are excluded, as of a folder of root's: the result decides.
            left = self._compare(scan(path, patterns), patterns, None, machine)
            names = [name for name in left.transferred if name in comparison.transferred]
            if names:
                raise TaskFailed(
                    self._failure,
                    cause=f"{_some(names)} were skipped: {skipped}",
                    cure="make them readable, or name them in `exclude`",
                )

    def _send_archive(self, state: SyncState, machine: Machine) -> None:
        from nbprovision.files.tar_backup import pack

        size = sum(entry.size for entry in state.entries)
        folder = machine.home / FOLDER
        s3.require_space(folder, size, "the archive may have", self._failure)
        with temporary_folder(folder / "archive") as temporary:
            archive = temporary / "archive"
            machine.progress(f"packing {state.path}")
            with replacing(archive, mode=0o600, durable=False) as stream:
                compressed = not self._place.key.endswith(".tar")
                pack(state.path, state.entries, stream, self._failure, compressed=compressed)
            s3.copy_to_s3(machine, archive, self._place, self._failure)

    def _restore_archive(self, state: SyncState, machine: Machine) -> None:
        from nbprovision.files.archive import unpack

        path = state.path
        with explained(f"cannot create {path}", path):
            make_folder(path.parent)
        with temporary_folder(path) as temporary:
            archive, content = temporary / "archive", temporary / "content"
            s3.copy_from_s3(machine, self._place, archive, self._failure)
            machine.progress(f"unpacking {self._place.url}")
            make_folder(content)
            unpack(archive, content, self._failure, faithful=True, skips=excluding(as_list(self.exclude)))
            if not any(content.iterdir()):
                raise TaskFailed(
                    self._failure, cause=f"{self._place.url} has no file", cure="correct `source` or `exclude`"
                )
            if path.is_dir() and any(path.iterdir()):
                if not self.delete:
                    raise TaskFailed(self._failure, cause=f"by now {path} has files", cure="move it away")
                move_into_place(path, temporary / "old")
            move_into_place(content, path)

    # ------------------------------------------------------------------------------------------------------- its record

    def _record_file(self, machine: Machine) -> Path:
        identity = (self.direction, self._place.url, self.archive, str(machine.path(self.path)))
        return machine.home / FOLDER / f"{digest(repr(identity))}.json"

    def _record(self, machine: Machine) -> Record | None:
        """The record; None if it is missing, damaged, or another user's."""
        path = self._record_file(machine)
        inputs.file(path)
        try:
            owners = os.geteuid(), os.stat(machine.home).st_uid
            return read_json(path, Record, follow=False) if os.lstat(path).st_uid in owners else None
        except (OSError, msgspec.DecodeError):
            return None

    def _write(self, record: Record, machine: Machine) -> None:
        write_atomically(self._record_file(machine), msgspec.json.encode(record), mode=0o600)


def _some(names: Iterable[str], noun: str = "file") -> str:
    """The number of names, and the first of them."""
    names = list(names)
    shown = ", ".join(name[:80].encode("utf-8", "backslashreplace").decode() for name in names[:_SHOWN])
    more = ", ..." if len(names) > _SHOWN else ""
    return f"{len(names)} {noun}{'s' if len(names) > 1 else ''} ({shown}{more})"
