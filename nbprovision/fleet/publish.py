"""Publishes a release: everything that instances need lies in the bucket before the first ring points to it."""

from __future__ import annotations

import hashlib
import io
import time
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from functools import partial

import msgspec

from nbprovision.bundle.tool import own_wheel
from nbprovision.fleet import script
from nbprovision.fleet.bucket import WHEELS, Bucket, RingState, Stored, short
from nbprovision.fleet.cloud import Cloud, Conflict, Refused
from nbprovision.fleet.definition import Fleet, Ring
from nbprovision.fleet.pointer import Pointer, plain, utc
from nbprovision.fleet.release import HEAD_BYTES, Release, fleet_of, release_name
from nbprovision.fleet.script import Configuration
from nbprovision.fleet.steps import Step
from nbprovision.lifecycle.render import BOOTSTRAP_NAME, bootstrap
from nbprovision.lifecycle.root_part import RootPart
from nbprovision.model.errors import TaskFailed

_LARGEST_WHEEL = 64 * 1024 * 1024  # bytes


class Publication(msgspec.Struct, frozen=True, kw_only=True):
    """The difference between a release and the bucket.

    Attributes:
        steps: The steps, in order; the pointer is the last.
        state: The pointer of the first ring before them.
        scripts: The rings that get a new script, with its revision.
    """

    steps: tuple[Step, ...]
    state: RingState
    scripts: Mapping[str, int]


def plan(cloud: Cloud, bucket: Bucket, fleet: Fleet, release: Release, root: RootPart | None) -> Publication:
    """Compare a release with the bucket.

    Args:
        cloud: The clients.
        bucket: The fleet's part of the bucket.
        fleet: The fleet.
        release: The release.
        root: Root's part of the scripts.

    Raises:
        TaskFailed: the bucket has another wheel of this version, a pointer is damaged, or AWS refuses a call.
        UsageError: a script cannot be rendered.
    """
    rendered = {ring.name: script.rendered(fleet, ring, root) for ring in fleet.rings}
    listing = bucket.listing()
    state = bucket.states(fleet.rings[:1], listing)[0]
    require_own(bucket, fleet, state)
    steps = list(_uploads(bucket, fleet, listing, rendered, root))
    if not bucket.exists(release.name):
        put = partial(bucket.put, release.name, release.content)
        steps.append(Step(action="upload", target=release.name, detail=f"{len(release.content):,} bytes", work=put))
    newest = script.revisions(listing)
    new_scripts = {}
    for ring in fleet.rings:
        revision = newest.get(ring.name, 0)
        text = rendered[ring.name]
        if revision and bucket.has(listing[script.object_name(ring.name, revision)], text.encode()):
            continue
        configuration = Configuration(name=fleet.configuration(ring, revision + 1), script=text)
        new_scripts[ring.name] = revision + 1
        steps.append(_script_step(cloud, bucket, fleet, ring, revision + 1, configuration))
    if state.pointer is None or state.pointer.release != release.digest:
        steps.append(pointer_step(cloud, bucket, state, release.digest))
    return Publication(steps=tuple(steps), state=state, scripts=new_scripts)


def require_own(bucket: Bucket, fleet: Fleet, state: RingState) -> None:
    """Require that a ring has a release of this fleet, and not of another one with the same `bucket`.

    Raises:
        TaskFailed: it has one of another fleet, whose name its release has, or its pointer is damaged.
    """
    pointer = state.sound
    if pointer is None:
        return
    content = bucket.get(release_name(pointer.release), HEAD_BYTES)
    other = "" if content is None else fleet_of(content.data)
    if other and other != fleet.name:
        raise TaskFailed(
            f"{fleet.url}/rings/{state.ring.name} is a ring of the fleet {plain(other)}, not of {fleet.name}",
            cause="its release names its fleet; both fleet files have the same `bucket`",
            cure=f"give this fleet a place of its own, `bucket: s3://{fleet.bucket}/{fleet.name}`, or correct `fleet`",
        )


def pointer_step(
    cloud: Cloud, bucket: Bucket, state: RingState, digest: str, *, source: RingState | None = None, reason: str = ""
) -> Step:
    """Return the step that points a ring to a release.

    Args:
        cloud: The clients.
        bucket: The fleet's part of the bucket.
        state: The ring's pointer.
        digest: The release.
        source: The pointer of the ring that the release comes from: the step is refused if it has moved since, since
            somebody may have taken a bad release back.
        reason: The reason of a promotion against the rules.
    """

    def point() -> None:
        if source is not None:
            bucket.require_unchanged(source)
        now, by = time.time(), cloud.caller()
        if state.pointer is None:
            new = Pointer(release=digest, since=utc(now), by=plain(by), reason=plain(reason))
        else:
            new = state.pointer.moved_to(digest, now=now, by=by, reason=reason)
        bucket.point(state, new)

    before = "nothing" if state.pointer is None else short(state.pointer.release)
    return Step(action="point", target=f"rings/{state.ring.name}", detail=f"{before} -> {short(digest)}", work=point)


def _uploads(
    bucket: Bucket,
    fleet: Fleet,
    listing: Mapping[str, Stored],
    rendered: Mapping[str, str],
    root: RootPart | None,
) -> Iterator[Step]:
    """Return the steps that put the tool into ``wheels/``.

    Raises:
        TaskFailed: this version is there with another content.
    """
    name, wheel = own_wheel()
    files = {name: wheel, BOOTSTRAP_NAME: bootstrap()}
    if root is not None and any(root.name in text for text in rendered.values()):
        files[root.name] = root.content
    for name, content in files.items():
        stored = listing.get(WHEELS + name)
        if stored is None:
            put = partial(bucket.put, WHEELS + name, content)
            yield Step(action="upload", target=WHEELS + name, detail=f"{len(content):,} bytes", work=put)
        elif not bucket.has(stored, content) and not _same_wheel(bucket, stored, content):
            raise TaskFailed(
                f"{fleet.url}/{stored.name} has another content than this nbprovision",
                cause="all rings take a version of the tool from the same file, so it never changes: a change would "
                "reach every ring at once",
                cure="publish with the nbprovision that was published first, or give this one another version",
            )


def _same_wheel(bucket: Bucket, stored: Stored, wheel: bytes) -> bool:
    """Whether a wheel in the bucket has the same files: each zlib compresses them in its own way."""
    content = bucket.get(stored.name, _LARGEST_WHEEL) if stored.name.endswith(".whl") else None
    return content is not None and _files(content.data) == _files(wheel)


def _files(wheel: bytes) -> dict[str, str] | None:
    try:
        with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
            return {name: hashlib.sha256(archive.read(name)).hexdigest() for name in archive.namelist()}
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError):  # encrypted, an unknown compression
        return None


def _script_step(
    cloud: Cloud, bucket: Bucket, fleet: Fleet, ring: Ring, revision: int, configuration: Configuration
) -> Step:
    """Return the step that creates a lifecycle configuration, and keeps its script in the bucket afterwards."""

    def create() -> None:
        create_configuration(cloud, fleet, configuration)
        bucket.put(script.object_name(ring.name, revision), configuration.script.encode())

    return Step(action="create", target=configuration.name, detail="lifecycle configuration", work=create)


def create_configuration(cloud: Cloud, fleet: Fleet, configuration: Configuration) -> None:
    """Create a lifecycle configuration, unless it exists with the same script.

    Raises:
        Conflict: it exists with another script.
        TaskFailed: AWS refuses the call.
    """
    name = configuration.name
    try:
        cloud.call(
            "sagemaker",
            "create_notebook_instance_lifecycle_config",
            NotebookInstanceLifecycleConfigName=name,
            OnStart=[{"Content": configuration.base64}],
            **({"Tags": [{"Key": key, "Value": value} for key, value in fleet.tags.items()]} if fleet.tags else {}),
        )
    except Refused as refusal:
        try:
            present = cloud.call(
                "sagemaker",
                "describe_notebook_instance_lifecycle_config",
                NotebookInstanceLifecycleConfigName=name,
            )
        except TaskFailed:  # it does not exist, so this is not the reason
            raise refusal from None
        if [hook.get("Content") for hook in present.get("OnStart", [])] != [configuration.base64]:
            raise Conflict(
                f"the lifecycle configuration {name} exists with another script",
                cause="another publisher was faster, or somebody created it by hand",
                cure="run again; if the message stays and no instance has the configuration, delete it: aws sagemaker "
                f"delete-notebook-instance-lifecycle-config --notebook-instance-lifecycle-config-name {name}",
            ) from None
