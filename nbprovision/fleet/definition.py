"""The file of a fleet, ``fleet.yml``: its bucket, its playbook, its rings, and when a release stops."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from nbprovision.lifecycle import addresses
from nbprovision.lifecycle.render import DEFAULT_SECONDS, LEAST_SECONDS, MOST_SECONDS, ScriptRequest, render
from nbprovision.lifecycle.root_part import RootPart
from nbprovision.model.errors import InvalidPlaybook, Position, ProvisionError, UsageError, nearest
from nbprovision.playbook.faults import Faults
from nbprovision.playbook.values import kind_of
from nbprovision.playbook.written import text_of
from nbprovision.playbook.yaml_nodes import ListNode, MapNode, Node, Scalar, read_nodes

Value = TypeVar("Value")
Restart = Literal["never", "stopped", "all"]

# Names of the platform's configurations; ARNs have them in lowercase.
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_KEY = re.compile(r"[A-Za-z0-9._/-]*")
_LONGEST = 63  # characters of a configuration's name
_REVISION = 5  # characters of -rN that stay free: -r999
_DURATION = re.compile(r"(\d{1,6})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_Tag.html
_TAG = re.compile(r"[\w .:/=+@-]{1,256}")
_TAG_KEY = 128
_SHARE = re.compile(r"(\d{1,3}(?:\.\d{1,3})?)%")


class Ring(msgspec.Struct, frozen=True, kw_only=True):
    """A ring of instances.

    Attributes:
        name: Its name.
        tags: The tags of its instances; None if others decide.
        share: Its part of the instances by the hash of their names, from 0 to 1; None if others decide.
        soak: The seconds that a release stays here before it may go to the next ring.
        need: The number of good reports that the next ring waits for.
    """

    name: str
    tags: Mapping[str, str] | None = None
    share: float | None = None
    soak: float = 0
    need: int = 1


class StopWhen(msgspec.Struct, frozen=True):
    """The state of a ring in which its release goes no further.

    Attributes:
        failed: This number of instances has failed.
        silent: An instance has been in service for more seconds than this, without a report of this start.
    """

    failed: int = 1
    silent: float = 1800


class ScriptOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of ``nbprovision lifecycle render`` for the scripts of all rings."""

    deadline: int = DEFAULT_SECONDS
    env: Mapping[str, str] = {}
    index_url: str | None = None
    user_playbook: str | None = None
    on_finish: str | None = None

    def request(self, ring: str, wheels: str, root: RootPart | None = None) -> ScriptRequest:
        """Return the request for a script.

        Args:
            ring: The URL of the ring's pointer.
            wheels: The URL of the folder of wheels.
            root: Root's part, of the playbook's ``root_tasks``; the script fetches a large one from ``wheels``.
        """
        return ScriptRequest(
            ring=ring,
            tool=wheels,
            assets_url=None if root is None else wheels,
            root=root,
            index_url=self.index_url,
            seconds=self.deadline,
            environment=self.env,
            user_playbook=self.user_playbook,
            on_finish=self.on_finish,
        )


class Fleet(msgspec.Struct, frozen=True, kw_only=True):
    """A fleet.

    Attributes:
        name: Its name, with which the names of its lifecycle configurations begin.
        bucket: The name of the bucket.
        prefix: What the keys begin with: empty, or with a slash at its end.
        region: The region; None for that of the environment.
        tags: The tags of all its instances, which its lifecycle configurations get as well.
        playbook: The playbook's file.
        rings: Its rings, in the order in which a release goes through them.
        stop_when: When a release stops.
        restart: The instances that get a new script at once: none, those that are stopped, or all.
        script: The options of the scripts.
    """

    name: str
    bucket: str
    prefix: str
    region: str | None = None
    tags: Mapping[str, str] = {}
    playbook: Path
    rings: tuple[Ring, ...]
    stop_when: StopWhen = StopWhen()
    restart: Restart = "never"
    script: ScriptOptions = ScriptOptions()

    @property
    def url(self) -> str:
        """The place of the fleet in S3, without a slash at its end."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def ring(self, name: str) -> Ring:
        """Return a ring.

        Raises:
            UsageError: it does not exist.
        """
        ring = next((ring for ring in self.rings if ring.name == name), None)
        if ring is None:
            names = [ring.name for ring in self.rings]
            raise UsageError(
                f"the fleet {self.name} has no ring '{name[:_LONGEST]}'{nearest(name, names)}",
                cure=f"it has: {', '.join(names)}",
            )
        return ring

    def configuration(self, ring: Ring, revision: int) -> str:
        """Return the name of a ring's lifecycle configuration."""
        return f"{self.name}-{ring.name}-r{revision}"

    def membership(self, configuration: str) -> tuple[Ring, int] | None:
        """Return the ring and the revision of a lifecycle configuration; None if it is not the fleet's."""
        for ring in self.rings:
            revision = self.revision(ring.name, configuration)
            if revision:
                return ring, revision
        return None

    def revision(self, ring: str, configuration: str) -> int:
        """Return the revision of a lifecycle configuration; 0 if it is not that of the ring of this name."""
        match = re.fullmatch(rf"{self.name}-{ring}-r([1-9]\d{{0,8}})", configuration)
        return 0 if match is None else int(match[1])


def read(path: Path) -> Fleet:
    """Read the file of a fleet.

    Raises:
        InvalidPlaybook: it is missing, not YAML, or wrong; each fault has its position.
    """
    node = read_nodes(path, "fleet file")
    if not isinstance(node, MapNode):
        raise InvalidPlaybook(
            f"a fleet file is a mapping, not {kind_of(node)}",
            cure="begin with: fleet: NAME",
            position=node.position if node is not None else Position(str(path), 1, 1),
        )
    reader = _Reader(path.parent)
    fleet = reader.fleet(node)
    reader.faults.raise_any()
    assert fleet is not None  # noqa: S101 - set unless there is a fault
    return fleet


class _Reader:
    """Reads the nodes of a fleet file, and collects their faults."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.faults = Faults()

    def fleet(self, node: MapNode) -> Fleet | None:
        """Return the fleet; None if something is wrong."""
        readers: dict[str, Callable[[Node], Any]] = {
            "fleet": self._name,
            "bucket": self._bucket,
            "region": self._text,
            "match": self._match,
            "playbook": self._playbook,
            "rings": self._rings,
            "stop_when": self._stop_when,
            "restart": self._restart,
            "script": self._script,
        }
        values = self._mapping(node, "a fleet file", readers, required=("fleet", "bucket", "playbook", "rings"))
        if len(self.faults):
            return None
        bucket, prefix = values.pop("bucket")
        fleet = Fleet(name=values.pop("fleet"), bucket=bucket, prefix=prefix, tags=values.pop("match", {}), **values)
        for ring, ring_node in zip(fleet.rings, self._items(node, "rings"), strict=True):
            longest = _LONGEST - _REVISION - len(fleet.name) - 1
            if len(ring.name) > longest:
                self._fault(
                    f"the ring's name has {len(ring.name)} characters",
                    ring_node,
                    cause=f"its configurations are called {fleet.configuration(ring, 1)}, and a name of the platform "
                    f"has {_LONGEST} characters at most",
                    cure=f"shorten it to {longest}, or the fleet's name",
                )
        return fleet

    def _mapping(
        self, node: Node, where: str, readers: Mapping[str, Callable[[Node], Any]], required: tuple[str, ...] = ()
    ) -> dict[str, Any]:
        """Return the values of a mapping, each by its reader."""
        if not isinstance(node, MapNode):
            self._fault(f"{where} is a mapping, not {kind_of(node)}", node, cure=f"it has: {', '.join(readers)}")
            return {}
        values: dict[str, Any] = {}
        for key, value in node.pairs:
            reader = readers.get(key.value) if isinstance(key.value, str) else None
            if reader is None:
                near = nearest(key.text[:40], readers)
                cure = "" if near else f"it has: {', '.join(readers)}"
                self._fault(f"{where} has no key '{key.text[:40]}'{near}", key, cure=cure)
                continue
            with self.faults.gathered():
                values[key.value] = reader(value)
        for name in required:
            if node.get(name) is None:
                self._fault(f"{where} needs '{name}'", node, cure=f"write: {name}: ...")
        return values

    def _fault(self, message: str, node: Node, cure: str = "", cause: str = "") -> None:
        self.faults.add(InvalidPlaybook(message, cause=cause, cure=cure, position=node.position))

    def _text(self, node: Node) -> str:
        value = node.value if isinstance(node, Scalar) else None
        if value is None or isinstance(value, bool) or not text_of(value):
            raise _misfit(node, "text", "write it in quotes")
        return text_of(value)

    def _name(self, node: Node) -> str:
        text = self._text(node)
        if not _NAME.fullmatch(text):
            raise InvalidPlaybook(
                f"'{text[:_LONGEST]}' cannot be a name here",
                cause="names of lifecycle configurations are made of it, and their ARNs are in lowercase",
                cure="write lowercase letters, digits, and single hyphens between them",
                position=node.position,
            )
        return text

    def _bucket(self, node: Node) -> tuple[str, str]:
        text = self._text(node)
        try:
            bucket, _, key = addresses.bucket("bucket:", text).removeprefix("s3://").partition("/")
        except ProvisionError as error:
            raise InvalidPlaybook(error.message, cause=error.cause, cure=error.cure, position=node.position) from None
        key = key.strip("/")
        if not _KEY.fullmatch(key) or "//" in key:
            raise InvalidPlaybook(
                f"the prefix '{key[:_LONGEST]}' cannot be used",
                cause="it becomes part of lifecycle scripts and policies",
                cure="write letters, digits, dots, hyphens and underscores, with single slashes between them",
                position=node.position,
            )
        return bucket, f"{key}/" if key else ""

    def _playbook(self, node: Node) -> Path:
        text = self._text(node)
        if text.startswith("~") or "://" in text:
            raise InvalidPlaybook(
                f"'{text[:_LONGEST]}' is not a path of this machine",
                cause="the playbook is packed here, with all files that it names",
                cure="write a path that begins at the fleet file's folder, such as team.yml",
                position=node.position,
            )
        return self._folder / text

    def _match(self, node: Node) -> dict[str, str]:
        values = self._mapping(node, "match", {"tags": self._tags}, required=("tags",))
        tags: dict[str, str] = values.get("tags", {})
        return tags

    def _tags(self, node: Node) -> dict[str, str]:
        tags = self._texts(node)
        for key, value in tags.items():
            if key.startswith("aws:") or not _TAG.fullmatch(key) or len(key) > _TAG_KEY or not _TAG.fullmatch(value):
                raise InvalidPlaybook(
                    f"'{key[:_LONGEST]}: {value[:_LONGEST]}' cannot be a tag of AWS",
                    cause="a key has 1 to 128 characters and does not begin with aws:, a value has 256 at most; both "
                    "have letters, digits, spaces and _ . : / = + - @",
                    cure="write the tag as the instances have it",
                    position=node.position,
                )
        return tags

    def _texts(self, node: Node) -> dict[str, str]:
        if not isinstance(node, MapNode) or not node.pairs:
            raise _misfit(node, "a mapping of names to texts", "write: {NAME: VALUE}")
        return {key.text: self._text(value) for key, value in node.pairs}

    def _items(self, node: MapNode, key: str) -> tuple[Node, ...]:
        value = node.get(key)
        return value.items if isinstance(value, ListNode) else ()

    def _rings(self, node: Node) -> tuple[Ring, ...]:
        if not isinstance(node, ListNode) or not node.items:
            raise _misfit(node, "a list of rings", "write: [{name: canary, ...}, {name: stable}]")
        rings = [ring for item in node.items if (ring := self._ring(item)) is not None]
        names = [ring.name for ring in rings]
        for number, item in enumerate(node.items[: len(rings)] if len(rings) == len(node.items) else ()):
            if names[number] in names[:number]:
                self._fault(f"the ring '{names[number]}' is a duplicate", item, cure="give it another name")
        total = sum(ring.share or 0 for ring in rings)
        if total > 1:
            self._fault(f"the shares of the rings add up to {total * 100:g}%", node, cure="write at most 100% in all")
        rests = [number for number, ring in enumerate(rings) if ring.tags is None and ring.share is None]
        if rests and rests[0] < len(node.items) - 1 and len(rings) == len(node.items):
            self._fault(
                f"the ring '{names[rests[0]]}' has neither 'match' nor 'share', and is not the last",
                node.items[rests[0]],
                cause="it takes every instance that no ring above it takes, so the rings below it stay empty",
                cure="give it one of them, or put it at the end",
            )
        return tuple(rings)

    def _ring(self, node: Node) -> Ring | None:
        readers: dict[str, Callable[[Node], Any]] = {
            "name": self._name,
            "match": self._match,
            "share": self._share,
            "soak": self._duration,
            "need": self._count,
        }
        before = len(self.faults)
        values = self._mapping(node, "a ring", readers, required=("name",))
        if "match" in values and "share" in values:
            self._fault("a ring has 'match' or 'share', not both", node, cure="remove one of them")
        if len(self.faults) > before:
            return None
        return Ring(tags=values.pop("match", None), **values)

    def _stop_when(self, node: Node) -> StopWhen:
        readers: dict[str, Callable[[Node], Any]] = {
            "failed": lambda value: self._count(value, least=1),
            "silent": self._duration,
        }
        return StopWhen(**self._mapping(node, "stop_when", readers))

    def _restart(self, node: Node) -> str:
        text = self._text(node)
        choices = ("never", "stopped", "all")
        if text not in choices:
            raise InvalidPlaybook(
                f"'restart' cannot be '{text[:40]}'{nearest(text[:40], choices)}",
                cure=f"write one of: {', '.join(choices)}",
                position=node.position,
            )
        return text

    def _script(self, node: Node) -> ScriptOptions:
        readers: dict[str, Callable[[Node], Any]] = {
            "deadline": lambda value: self._count(value, least=LEAST_SECONDS, most=MOST_SECONDS),
            "env": self._texts,
            "index_url": self._text,
            "user_playbook": self._text,
            "on_finish": self._text,
        }
        values = self._mapping(node, "script", readers)
        for key, option in node.pairs if isinstance(node, MapNode) else ():
            if key.value not in values:
                continue
            try:  # each alone, for its place
                render(ScriptOptions(**{key.value: values[key.value]}).request("s3://abc/rings/a", "s3://abc/wheels"))
            except ProvisionError as error:
                self._fault(error.message, option, cause=error.cause, cure=error.cure)
        return ScriptOptions(**values)

    def _share(self, node: Node) -> float:
        text = text_of(node.value) if isinstance(node, Scalar) else ""
        match = _SHARE.fullmatch(text)
        if match is None or not 0 < float(match[1]) <= 100:
            raise _misfit(node, "a percentage, more than 0% and at most 100%", "write it with its sign: 10%")
        return float(match[1]) / 100

    def _duration(self, node: Node) -> float:
        text = text_of(node.value) if isinstance(node, Scalar) else ""
        match = _DURATION.fullmatch(text)
        if match is None:
            raise _misfit(node, "a duration", "write a whole number with its unit: 90s, 30m, 2h or 1d")
        return int(match[1]) * _SECONDS[match[2]]

    def _count(self, node: Node, least: int = 0, most: int = 1_000_000) -> int:
        value = node.value if isinstance(node, Scalar) else None
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise _misfit(node, f"a whole number from {least:,} to {most:,}", "")
        return int(value)


def _misfit(node: Node, wanted: str, cure: str) -> InvalidPlaybook:
    given = f"'{text_of(node.value)[:40]}'" if isinstance(node, Scalar) and node.value is not None else kind_of(node)
    return InvalidPlaybook(f"{wanted} is needed here, not {given}", cure=cure, position=node.position)
