"""Objects of S3, by the machine's ``aws`` command.

https://docs.aws.amazon.com/cli/latest/reference/s3/sync.html and
https://docs.aws.amazon.com/cli/latest/reference/s3api/list-objects-v2.html
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from nbprovision.machine import aws, network
from nbprovision.model.errors import NotBegun, TaskFailed
from nbprovision.system import commands, disk_space

if TYPE_CHECKING:
    from nbprovision.machine.machine import Machine

_SILENT_TIMES = 4  # the command's own time limits are 60 s, and it retries
_PAGE = 5000  # objects of one answer, which is then well below the limit of a command's output
_SKIPPED = 2  # https://docs.aws.amazon.com/cli/latest/topic/return-codes.html: files were skipped
_MISSING = ("(404)", "nosuchkey", "nosuchbucket", "not found")


class Place(NamedTuple):
    """A place in S3: an object, or what the keys of several begin with.

    Attributes:
        bucket: The bucket.
        key: The key of the object, or the beginning with its slash; empty for the whole bucket.
        owner: The account that the bucket must belong to; empty for any.

    """

    bucket: str
    key: str
    owner: str = ""

    @property
    def url(self) -> str:
        """As the `aws` command takes it."""
        return f"s3://{self.bucket}/{self.key}"


class Stored(NamedTuple):
    """An object.

    Attributes:
        key: Its key.
        size: Its bytes.
        modified: The time of its upload, in seconds since the epoch.

    """

    key: str
    size: int
    modified: float


class Head(msgspec.Struct):
    """What S3 says about an object: its bytes, and a text that another content never has."""

    ContentLength: int
    ETag: str = ""


class _Object(msgspec.Struct):
    Key: str
    Size: int
    LastModified: datetime


class _Page(msgspec.Struct):
    Contents: list[_Object] = []
    NextToken: str = ""


def require_owner(machine: Machine, place: Place, failure: str) -> None:
    """Require that the bucket belongs to the expected account, before anything is sent to it or taken from it.

    A bucket whose owner has deleted it can be created again by anybody, under the same name. ``aws s3`` itself cannot
    compare the owner (https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucket-owner-condition.html).

    Raises:
        NetworkFailed: S3 could not be reached.
        TaskFailed: it belongs to another account, does not exist, or may not be read.

    """
    if not place.owner:
        return
    words = ["s3api", "head-bucket", "--bucket", place.bucket, "--expected-bucket-owner", place.owner]
    refused = (
        f"see whose bucket it is, and correct `expected_owner` or `source`; if account {place.owner} owns "
        f"{place.bucket}, allow the notebook's role s3:ListBucket on it"
    )
    with _reaching(place, failure):
        aws.ask(machine, words, failure=failure, cures=((("(403)", *aws.NOT_ALLOWED), refused), *_cures(place, "")))


def list_objects(machine: Machine, place: Place, failure: str) -> Iterator[Stored]:
    """The objects whose keys begin with the one of the place.

    Raises:
        NetworkFailed: S3 could not be reached.
        TaskFailed: the bucket does not exist, access is denied, ...

    """
    words = ["s3api", "list-objects-v2", "--bucket", place.bucket, "--prefix", place.key, "--max-items", str(_PAGE)]
    words += ["--expected-bucket-owner", place.owner] if place.owner else []
    token = ""
    while True:
        more = ["--starting-token", token] if token else []
        with _reaching(place, failure):
            answer = aws.ask(machine, words + more, failure=failure, cures=_cures(place, "s3:ListBucket"))
        try:
            page = msgspec.json.decode(answer or "{}", type=_Page)
        except msgspec.DecodeError:
            raise _unreadable(failure) from None
        for stored in page.Contents:
            yield Stored(stored.Key, stored.Size, stored.LastModified.timestamp())
        token = page.NextToken
        if not token:
            return


def head(machine: Machine, place: Place, failure: str) -> Head | None:
    """What S3 says about an object; None if it does not exist.

    Raises:
        NetworkFailed: S3 could not be reached.
        TaskFailed: access is denied, ...

    """
    words = ["s3api", "head-object", "--bucket", place.bucket, "--key", place.key]
    words += ["--expected-bucket-owner", place.owner] if place.owner else []
    try:
        with _reaching(place, failure):
            return msgspec.json.decode(
                aws.ask(machine, words, failure=failure, cures=_cures(place, "s3:GetObject")), type=Head
            )
    except msgspec.DecodeError:
        raise _unreadable(failure) from None
    except TaskFailed as error:
        if any(word in error.cause.lower() for word in _MISSING):
            return None
        raise


def copy_from_s3(machine: Machine, place: Place, target: Path, failure: str) -> None:
    """Copy an object of S3 into a file; the size is compared with the free space first.

    Raises:
        NetworkFailed: S3 could not be reached.
        NotBegun: the object is larger than the free space.
        TaskFailed: the command or the object does not exist, access is denied, ...

    """
    answer = head(machine, place, failure)
    if answer is None:
        raise TaskFailed(
            failure,
            cause=f"{place.url} does not exist",
            cure="correct the URL: `aws s3 ls` shows the buckets and their objects",
        )
    require_space(target, answer.ContentLength, "the object has", failure)
    machine.progress(f"fetching {place.url}", 0, answer.ContentLength)
    _transfer(machine, ["cp", place.url, str(target)], place, "s3:GetObject", failure)


def copy_to_s3(machine: Machine, file: Path, place: Place, failure: str) -> None:
    """Copy a file into an object of S3, which others see only when it is complete.

    Raises:
        NetworkFailed: S3 could not be reached.
        TaskFailed: the command or the bucket does not exist, access is denied, ...

    """
    machine.progress(f"sending {place.url}", 0, file.stat().st_size)
    _transfer(machine, ["cp", str(file), place.url], place, "s3:PutObject", failure)


def sync(
    machine: Machine, place: Place, folder: Path, failure: str, *, up: bool, delete: bool, exclude: Sequence[str]
) -> str:
    """Transfer the files that differ, and follow no link.

    Args:
        machine: The machine.
        place: The place in S3.
        folder: The local folder.
        failure: The message of an error.
        up: Whether the folder is the source.
        delete: Whether files are removed that the source lacks.
        exclude: Patterns of files that are neither transferred nor removed, relative to both sides.

    Returns:
        The command's words about files that it skipped; empty if it skipped none.

    Raises:
        NetworkFailed: S3 could not be reached.
        TaskFailed: the command or the bucket does not exist, access is denied, ...

    """
    # Without the times, an object with a new content of the same size would count as the old one.
    words = [
        "sync",
        "--no-follow-symlinks",
        *(() if up else ("--exact-timestamps",)),
        *(("--delete",) if delete else ()),
    ]
    words += [f"--exclude={pattern}" for pattern in exclude]
    words += [f"{folder}/", place.url] if up else [place.url, f"{folder}/"]
    return _transfer(machine, words, place, "s3:PutObject" if up else "s3:GetObject", failure)


def require_space(path: Path, need: int, what: str, failure: str) -> None:
    """Require that a file system has space for a number of bytes.

    Raises:
        NotBegun: it has less; ``what`` describes them.

    """
    space = disk_space.free_space(path)
    if need > space.free:
        raise NotBegun(
            failure,
            cause=f"{what} {disk_space.megabytes(need)}, and {disk_space.megabytes(space.free)} are free "
            f"at {space.folder}",
            cure=disk_space.FREE_SOME,
        )


def _transfer(machine: Machine, words: Sequence[str], place: Place, permission: str, failure: str) -> str:
    argv = [aws.find_command(machine, failure), "s3", words[0], "--only-show-errors", "--no-progress", *words[1:]]
    with _reaching(place, failure):
        try:
            done = commands.run(
                argv,
                env=aws.variables(machine),
                silence=network.timeout(machine.env) * _SILENT_TIMES,
                accept=(0, _SKIPPED) if words[0] == "sync" else (0,),
                failure=failure,
            )
        except TaskFailed as error:
            error.cure = aws.cure_of(error, _cures(place, permission))
            raise
    return (done.errors.strip() or "files were skipped") if done.status == _SKIPPED else ""


@contextlib.contextmanager
def _reaching(place: Place, failure: str) -> Iterator[None]:
    """Turn the failure of a command that did not reach S3 into one of the network, which is tried again."""
    try:
        yield
    except TaskFailed as error:
        if isinstance(error, commands.Silent) or any(word in error.cause.lower() for word in aws.NO_CONNECTION):
            server = network.Server("file", place.url)
            raise network.NetworkFailed(failure, "silent", server, url=place.url, said=error.cause) from None
        raise


def _cures(place: Place, permission: str) -> aws.Cures:
    resource = f"arn:aws:s3:::{place.bucket}" + ("" if permission == "s3:ListBucket" else f"/{place.key}*")
    return (
        (("(403)", *aws.NOT_ALLOWED), f"allow the notebook's role {permission} on {resource}"),
        aws.NO_CREDENTIALS,
        (_MISSING, "correct the URL: `aws s3 ls` shows the buckets and their objects"),
        (("region",), "name the region of the bucket: AWS_REGION"),
        (("",), "correct the reported error, and run again"),
    )


def _unreadable(failure: str) -> TaskFailed:
    return TaskFailed(
        failure,
        cause="the `aws` command's answer cannot be read",
        cure="update the `aws` command, or see what `aws s3 ls` prints",
    )
