"""``ensure_download``: a file from the web or S3 with a known digest, or the content of such an archive."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, ClassVar, Literal
from urllib.parse import urlsplit

import msgspec

from nbprovision.files import file_work
from nbprovision.files.download_source import HOW_TO_DIGEST, check_sha256, check_url, fetch
from nbprovision.files.file_work import FileTask, check_mode, check_path, check_text, resolve_mode
from nbprovision.machine.digests import digest_of
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ParameterError, TaskFailed
from nbprovision.model.result import Change, Plan
from nbprovision.model.task import parameter
from nbprovision.system import inputs
from nbprovision.system.files import (
    explained,
    make_folder,
    move_into_place,
    set_mode,
    temporary_folder,
    tree,
    write_atomically,
)
from nbprovision.system.reading import read_bytes

# In an unpacked folder: the digest of the archive, and of each of its files.
RECORD = ".nbprovision-download"


class Unpacked(msgspec.Struct, frozen=True, kw_only=True):
    """The record of an unpacked folder: digests by path, that of a link being its target behind ``->``."""

    sha256: str
    files: dict[str, str]


class DownloadState(msgspec.Struct, frozen=True, kw_only=True):
    """The state of the path.

    Attributes:
        path: The path.
        kind: Its kind.
        mode: The permission bits of a file.
        sha256: The digest of the file, or of the archive that the folder is from; empty for another folder.
        changed: The first path in the folder that is not as the archive has it, if that was compared.
        added: The first path in the folder that is not from an archive.

    """

    path: Path
    kind: Literal["nothing", "file", "folder"] = "nothing"
    mode: int = 0
    sha256: str = ""
    changed: str = ""
    added: str = ""


class EnsureDownload(FileTask[DownloadState], frozen=True, kw_only=True):
    """Fetch a file from the web or S3, check its SHA-256, and put it in place, unpacked if wanted.

    Only a file with the right digest is put in place, at once and as a whole. If it is there already, no network is
    needed. With `unpack` the archive (tar, tar.gz, tar.bz2, tar.xz or zip) becomes the folder `path`. Another `sha256`
    replaces the folder, unless somebody has changed it: then the task fails and the folder stays. `deep: true` compares
    the content of the unpacked files too.
    """

    actions: ClassVar[dict[str, str]] = {
        "download": "the file",
        "unpack": "the folder, from the archive",
        "set mode": "the permissions of the file",
        "repair": "with `deep`, files of the folder that differ from those of the archive",
    }
    examples: ClassVar[str] = """
- name: A model
  ensure_download:
    url: https://downloads.example.com/model.bin
    path: project/model.bin
    sha256: ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad
- name: A program
  ensure_download:
    url: https://downloads.example.com/tool
    path: project/bin/tool
    sha256: ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad
    mode: "0755"
- name: The content of an archive
  ensure_download:
    url: https://downloads.example.com/data.zip
    path: project/data
    sha256: 8739c76e681f900923b900c9df0ef75cf421d39cabb54650c4b9ad19b6a76d85
    unpack: true
"""
    habits: ClassVar[dict[str, str]] = {
        **file_work.HABITS,
        **dict.fromkeys(("src", "source"), "write url:"),
        "checksum": "write sha256: and the 64 digits alone",
        **dict.fromkeys(("md5", "sha1", "sha512", "checksum_algorithm"), "write the SHA-256 of the file: sha256:"),
        **dict.fromkeys(("url_username", "url_password", "headers", "force_basic_auth"), "write it into ~/.netrc"),
        **dict.fromkeys(("validate_certs", "ca_path"), "remove it; ensure_ca_cert adds an authority"),
        **dict.fromkeys(("timeout", "use_proxy", "http_agent", "tmp_dest", "force", "backup"), "remove it"),
        "creates": "remove it; the folder is unpacked once for each sha256",
        **dict.fromkeys(("extra_opts", "exclude", "include", "keep_newer", "list_files", "copy"),
                        "remove it; the whole archive becomes the folder `path`"),
    }  # fmt: skip

    url: Annotated[str, parameter("The file: `https://HOST/PATH` or `s3://BUCKET/KEY`.")]
    path: Annotated[str, parameter("The path of the file, with `unpack` that of the folder.", extra={"path": True})]
    sha256: Annotated[
        str,
        parameter(
            "The SHA-256 of the file, 64 hexadecimal digits, as its publisher names it. For a file that you trust, "
            f"{HOW_TO_DIGEST} prints it."
        ),
    ]
    unpack: Annotated[bool, parameter("Unpack the archive into the folder `path`.")] = False
    mode: Annotated[
        str | None,
        parameter("The mode of the file, `'0644'` or `u=rw,go=r`. Default: that of an existing file, else 0644."),
    ] = None

    def check(self) -> None:
        """Check the parameters without looking at the machine."""
        check_text(self, "url", "sha256", "mode")
        check_path("path", self.path)
        check_url(self.url)
        check_sha256(self.sha256)
        check_mode("mode", self.mode)
        if self.unpack and self.mode is not None:
            raise ParameterError(
                "mode",
                "`mode` is for a file, not for an unpacked folder",
                cause="the files of an archive get 0755 if it has them executable, else 0644",
                cure="leave `mode` out",
            )

    # ---------------------------------------------------------------------------------- its relations to other tasks

    def target(self, machine: Machine) -> Path:
        """The file or folder."""
        return machine.path(self.path)

    def weight(self, machine: Machine) -> Literal[1, 2]:
        """A download may take long."""
        return 1 if machine.path(self.path).exists() else 2

    def witnesses(self, machine: Machine) -> Iterable[Path]:
        """The file, or the record in the folder; other programs may write into the folder."""
        path = machine.path(self.path)
        yield path / RECORD if self.unpack else path

    # ------------------------------------------------------------------------------------------------ the four steps

    def read(self, machine: Machine) -> DownloadState:
        """The digest of the file, or the record of the folder.

        Raises:
            TaskFailed: something else is at the path.

        """
        path = machine.path(self.path)
        inputs.file(path / RECORD if self.unpack else path)
        with explained(f"cannot read {path}"):
            try:
                status = os.lstat(path)
            except (FileNotFoundError, NotADirectoryError):
                return DownloadState(path=path)
            if stat.S_ISLNK(status.st_mode):
                raise TaskFailed(
                    f"{path} is a link",
                    cause="whoever created the link would decide what is replaced",
                    cure=f"write path: {os.path.realpath(path)}",
                )
            if stat.S_ISDIR(status.st_mode):
                return _folder_state(path, compare=self.deep)
            if not stat.S_ISREG(status.st_mode):
                raise TaskFailed(f"{path} is not a file", cause="it is kept", cure="correct the path, or remove it")
            digest = machine.digests.of(path, status)
        return DownloadState(path=path, kind="file", mode=stat.S_IMODE(status.st_mode), sha256=digest)

    def plan(self, state: DownloadState) -> Plan:
        """Compare digest and mode.

        Raises:
            TaskFailed: a folder is where the file belongs, or another folder or a file where the folder belongs.

        """
        path = str(state.path)
        after = f"{self.url} (sha256 {self.sha256.lower()[:12]}...)"
        before = f"sha256 {state.sha256[:12]}..." if state.sha256 else None
        if self.unpack:
            if state.kind == "file" or (state.kind == "folder" and not state.sha256 and state.added):
                raise TaskFailed(
                    f"{path} is not from this task",
                    cause="it is a file" if state.kind == "file" else "it is a folder with other files; they are kept",
                    cure="choose another `path`, or move it away",
                )
            if state.sha256 == self.sha256.lower():
                repaired = (Change("repair", f"{path}/{state.changed}"),) if state.changed else ()
                return Plan(changes=repaired)
            return Plan(changes=(Change("unpack", path, before, after),))
        if state.kind == "folder":
            raise TaskFailed(
                f"{path} is a folder, not a file",
                cause="it is kept",
                cure=f"write path: {path}/{os.path.basename(urlsplit(self.url).path)}, or unpack: true for an archive",
            )
        bits = state.mode if state.kind == "file" else file_work.FILE_MODE
        if self.mode is not None:
            bits = resolve_mode(self.mode, bits, folder=False)
        if state.sha256 != self.sha256.lower():
            return Plan(changes=(Change("download", path, before, after),))
        if bits != state.mode:
            return Plan(changes=(Change("set mode", path, f"{state.mode:04o}", f"{bits:04o}"),))
        return Plan()

    def apply(self, plan: Plan, machine: Machine) -> None:
        """Fetch, check, unpack, and put in place.

        Raises:
            TaskFailed: it could not be fetched or unpacked; the path is as it was.

        """
        path = machine.path(self.path)
        state = self.read(machine)
        bits = state.mode if state.kind == "file" else file_work.FILE_MODE
        if self.mode is not None:
            bits = resolve_mode(self.mode, bits, folder=False)
        if plan.changes[0].action == "set mode":
            set_mode(path, bits)
            return
        repaired = plan.changes[0].action == "repair"
        if state.kind == "folder" and state.sha256 and not repaired:
            self._require_unchanged(path)
        with explained(f"cannot create {path}", path):
            make_folder(path.parent)
        with temporary_folder(path) as folder:
            file = folder / "download"
            fetch(self.url, self.sha256, file, machine)
            if not self.unpack:
                set_mode(file, bits)
                move_into_place(file, path)
                return
            self._unpack(file, folder / "unpacked", machine)
            if repaired:
                _repair(folder / "unpacked", path)
                return
            if state.kind == "folder" and any(path.iterdir()):
                self._require_unchanged(path)
                move_into_place(path, folder / "old")
            move_into_place(folder / "unpacked", path)

    # --------------------------------------------------------------------------------------------------- the execution

    def _unpack(self, archive: Path, folder: Path, machine: Machine) -> None:
        from nbprovision.files.archive import unpack

        machine.progress(f"unpacking {os.path.basename(urlsplit(self.url).path)}")
        make_folder(folder)
        unpack(archive, folder, f"cannot unpack {self.url}")
        record = Unpacked(sha256=self.sha256.lower(), files=_digests(folder))
        write_atomically(folder / RECORD, msgspec.json.encode(record))

    def _require_unchanged(self, path: Path) -> None:
        """Require that the folder is as its archive was, so that nothing of the user's is lost.

        Raises:
            TaskFailed: a file was added, changed or removed.

        """
        state = _folder_state(path, compare=True)
        changed = state.changed or state.added
        if changed:
            raise TaskFailed(
                f"{path} is not replaced by another version",
                cause=f"{changed} is not as it was unpacked, so the folder may contain somebody's work",
                cure=f"move {path} away, or choose another `path` for this version",
            )


def _folder_state(path: Path, *, compare: bool) -> DownloadState:
    """The state of a folder, with `compare` of each of its files too."""
    if not os.path.lexists(path / RECORD):
        with os.scandir(path) as entries:
            first = next(entries, None)
        return DownloadState(path=path, kind="folder", added=first.name if first is not None else "")
    try:
        record = msgspec.json.decode(read_bytes(path / RECORD), type=Unpacked)
    except (msgspec.DecodeError, OSError):
        return DownloadState(path=path, kind="folder", added=RECORD)
    actual = _digests(path) if compare else record.files
    changed = (name for name, digest in record.files.items() if actual.get(name) != digest)
    added = (name for name in actual if name not in record.files)
    return DownloadState(
        path=path,
        kind="folder",
        sha256=record.sha256,
        changed=min(changed, default=""),
        added=min(added, default=""),
    )


def _repair(source: Path, path: Path) -> None:
    """Move the files of a fresh copy to where the folder has others or none; what was added stays.

    Raises:
        TaskFailed: a link leads out of the folder, or something else is in the way.

    """
    wanted, actual = _digests(source), _digests(path)
    for name in tree(source):
        key = os.fsencode(name).decode("utf-8", "backslashreplace")
        if key not in wanted or wanted[key] == actual.get(key):
            continue
        target = path / name
        make_folder(target.parent)
        if not f"{os.path.realpath(target.parent)}/".startswith(f"{os.path.realpath(path)}/"):
            raise TaskFailed(
                f"cannot repair {target}",
                cause="a link leads out of the folder",
                cure=f"see where it leads: ls -l {target.parent}, and remove it",
            )
        move_into_place(source / name, target)


def _digests(folder: Path) -> dict[str, str]:
    """The digest of each file, and the target of each link, by its path in a form that JSON can hold."""
    digests = {}
    with inputs.unrecorded():
        for name in tree(folder):
            path = folder / name
            key = os.fsencode(name).decode("utf-8", "backslashreplace")
            if name == RECORD or (path.is_dir() and not path.is_symlink()):
                continue
            if path.is_symlink():
                digests[key] = f"->{os.readlink(path)}".encode("utf-8", "backslashreplace").decode()
            else:
                digests[key] = digest_of(path) if path.is_file() else "special"
    return digests
