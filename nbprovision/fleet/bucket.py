"""The fleet's part of a bucket: objects with their ETags, written only if nobody else has changed them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

import msgspec

from nbprovision.fleet import pointer
from nbprovision.fleet.cloud import Cloud, Conflict, Missing, server_time
from nbprovision.fleet.definition import Fleet, Ring
from nbprovision.fleet.pointer import Pointer
from nbprovision.model.errors import TaskFailed
from nbprovision.system.context import in_parallel

RELEASES = "releases/"
RINGS = "rings/"
SCRIPTS = "scripts/"
REPORTS = "reports/"
WHEELS = "wheels/"


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """An object.

    Attributes:
        name: Its key below the fleet's prefix.
        etag: The mark of its content.
        size: Its bytes.
        modified: The time of its upload by the clock of S3, in seconds since the epoch.
    """

    name: str
    etag: str
    size: int
    modified: float


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """The content of an object.

    Attributes:
        data: Its bytes.
        etag: The mark of its content.
        modified: The time of its upload by the clock of S3, in seconds since the epoch.
        now: The time of the answer by the same clock.
    """

    data: bytes
    etag: str
    modified: float
    now: float


class RingState(msgspec.Struct, frozen=True, kw_only=True):
    """The pointer of a ring as it is in the bucket.

    Attributes:
        ring: The ring.
        pointer: Its pointer; None if it has none yet, or if that is damaged.
        damage: The error of a damaged pointer; None for any other.
        etag: The mark of its content; empty if it has none.
        modified: The time of the last change by the clock of S3.
        now: The time of the answer by the same clock.
    """

    ring: Ring
    pointer: Pointer | None
    damage: TaskFailed | None = None
    etag: str = ""
    modified: float = 0
    now: float = 0

    @property
    def sound(self) -> Pointer | None:
        """Its pointer, for whoever moves it.

        Raises:
            TaskFailed: it is damaged.
        """
        if self.damage is not None:
            raise self.damage
        return self.pointer


class _Listed(msgspec.Struct, frozen=True):
    Key: str
    ETag: str
    Size: int
    LastModified: datetime


class Bucket:
    """The objects of a fleet.

    Args:
        cloud: The clients.
        fleet: The fleet.
    """

    def __init__(self, cloud: Cloud, fleet: Fleet) -> None:
        self._cloud = cloud
        self._fleet = fleet
        self.now = 0.0  # of the last list, by the clock of S3

    def listed(self, folder: str, **options: str) -> Iterator[Stored]:
        """Return the objects of a folder; raises as `Cloud.call` does."""
        prefix = self._key(folder)
        pages = self._cloud.pages("s3", "list_objects_v2", Bucket=self._fleet.bucket, Prefix=prefix, **options)
        for page in pages:
            self.now = server_time(page)
            for item in msgspec.convert(page.get("Contents", []), list[_Listed]):
                name = item.Key.removeprefix(self._fleet.prefix)
                yield Stored(name=name, etag=item.ETag, size=item.Size, modified=item.LastModified.timestamp())

    def listing(self) -> dict[str, Stored]:
        """Return the objects of ``rings/``, ``scripts/`` and ``wheels/`` by name: one call, as they are few.

        S3 denies a request for a missing object, unless the caller may list the whole bucket: so it is not asked.
        """
        every = self.listed("", StartAfter=self._key(RINGS.rstrip("/")))
        return {stored.name: stored for stored in every if stored.name.startswith((RINGS, SCRIPTS, WHEELS))}

    def exists(self, name: str) -> bool:
        """Whether an object exists."""
        return any(stored.name == name for stored in self.listed(name))

    def states(self, rings: Sequence[Ring], listing: Mapping[str, Stored]) -> list[RingState]:
        """Return the pointers of rings, in their order."""
        return in_parallel(
            lambda ring: self.ring(ring) if f"{RINGS}{ring.name}" in listing else RingState(ring=ring, pointer=None),
            rings,
        )

    def get(self, name: str, most: int) -> Content | None:
        """Return the first ``most`` bytes of an object; None if it does not exist."""
        try:
            answer = self._cloud.call("s3", "get_object", Bucket=self._fleet.bucket, Key=self._key(name))
        except Missing:
            return None
        return Content(
            data=answer["Body"].read(most),
            etag=answer["ETag"],
            modified=answer["LastModified"].timestamp(),
            now=server_time(answer),
        )

    def has(self, stored: Stored | None, data: bytes) -> bool:
        """Whether a listed object has this content."""
        if stored is None or stored.size != len(data):
            return False
        if stored.etag.strip('"') == hashlib.md5(data, usedforsecurity=False).hexdigest():
            return True
        content = self.get(stored.name, len(data) + 1)  # the mark of an encrypted object is another one
        return content is not None and content.data == data

    def put(self, name: str, data: bytes, *, etag: str = "") -> None:
        """Write an object, unless it differs from the expected state.

        Args:
            name: Its key below the fleet's prefix.
            data: Its content.
            etag: The mark of the content that it replaces; empty for a new object.

        Raises:
            Conflict: the object has another content. If it has this one already, a repeated call has succeeded.
        """
        condition = {"IfMatch": etag} if etag else {"IfNoneMatch": "*"}
        try:
            self._cloud.call("s3", "put_object", Bucket=self._fleet.bucket, Key=self._key(name), Body=data, **condition)
        except (Conflict, Missing) as error:  # a replaced object that is missing answers NoSuchKey
            present = self.get(name, len(data) + 1)
            if present is None or present.data != data:
                raise error if isinstance(error, Conflict) else Conflict(error.message, cure="run again") from None

    def ring(self, ring: Ring) -> RingState:
        """Return the pointer of a ring; see `RingState.sound`."""
        name = f"{RINGS}{ring.name}"
        content = self.get(name, pointer.LARGEST + 1)
        if content is None:
            return RingState(ring=ring, pointer=None)
        try:
            parsed = pointer.parse(content.data)
        except ValueError as error:
            damage = TaskFailed(
                f"the pointer {self._fleet.url}/{name} is damaged",
                cause=str(error),
                cure="restore its last version (aws s3api list-object-versions), or remove it and publish again; "
                "instances keep the release that they have",
            )
            return RingState(ring=ring, pointer=None, damage=damage, etag=content.etag)
        return RingState(ring=ring, pointer=parsed, etag=content.etag, modified=content.modified, now=content.now)

    def require_unchanged(self, state: RingState) -> None:
        """Require that the pointer of a ring is still as it was read.

        Raises:
            Conflict: it is not; the message names who changed it, and when.
        """
        now = self.ring(state.ring)
        if now.etag != state.etag:
            raise _moved(state.ring, now.pointer)

    def point(self, state: RingState, new: Pointer) -> None:
        """Write the pointer of a ring, unless somebody has set another release since ``state`` was read.

        Raises:
            Conflict: it has changed; the message names who did it, and when.
        """
        try:
            self.put(f"{RINGS}{state.ring.name}", new.dump(), etag=state.etag)
        except Conflict:
            now = self.ring(state.ring).pointer
            if now is None or now.release != new.release:
                raise _moved(state.ring, now) from None

    def _key(self, name: str) -> str:
        return f"{self._fleet.prefix}{name}"


def _moved(ring: Ring, now: Pointer | None) -> Conflict:
    """Return the error of a pointer that somebody else has moved."""
    cause = "it was removed"
    if now is not None:
        cause = f"{now.by or 'somebody'} set it to {short(now.release)} at {now.since}"
    return Conflict(
        f"the pointer of the ring {ring.name} has changed meanwhile",
        cause=cause,
        cure="see `nbprovision fleet status`, then run again if it is still what you want",
    )


def short(digest: str) -> str:
    """Return the first digits of a digest, for people."""
    return digest[:12]
