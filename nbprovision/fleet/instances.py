"""Notebook instances as SageMaker lists them, their rings, and the ring that each should have."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

import msgspec

from nbprovision.fleet.cloud import Cloud
from nbprovision.fleet.definition import Fleet, Ring
from nbprovision.system.context import in_parallel

_PAGE = 100  # the most that SageMaker lists at once
_HASHED = 1 << 64


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """A notebook instance.

    Attributes:
        name: Its name.
        arn: Its ARN.
        status: ``InService``, ``Stopped``, ``Failed``, ``Pending``, ``Stopping``, ``Updating``, ...
        configuration: The name of its lifecycle configuration; empty without one.
        modified: The time of its last change of status, in seconds since the epoch.
    """

    name: str
    arn: str
    status: str
    configuration: str = ""
    modified: float = 0


class _Listed(msgspec.Struct, frozen=True):
    NotebookInstanceName: str
    NotebookInstanceArn: str
    NotebookInstanceStatus: str
    LastModifiedTime: datetime
    NotebookInstanceLifecycleConfigName: str | None = None


def listed(cloud: Cloud, **filters: str) -> Iterator[Instance]:
    """Return the instances of the account and region; ``filters`` are those of ListNotebookInstances."""
    for page in cloud.pages("sagemaker", "list_notebook_instances", MaxResults=_PAGE, **filters):
        for item in msgspec.convert(page.get("NotebookInstances", []), list[_Listed]):
            yield Instance(
                name=item.NotebookInstanceName,
                arn=item.NotebookInstanceArn,
                status=item.NotebookInstanceStatus,
                configuration=item.NotebookInstanceLifecycleConfigName or "",
                modified=item.LastModifiedTime.timestamp(),
            )


def members(cloud: Cloud, fleet: Fleet) -> list[Instance]:
    """Return the instances with a lifecycle configuration of the fleet, also one of a ring that no longer exists."""
    start = f"{fleet.name}-"
    # SageMaker takes no hyphen at the end of this filter.
    every = listed(cloud, NotebookInstanceLifecycleConfigNameContains=fleet.name)
    return [instance for instance in every if instance.configuration.startswith(start)]


def of_ring(fleet: Fleet, ring: Ring, every: Iterable[Instance]) -> list[tuple[Instance, int]]:
    """Return the instances of a ring with the revisions of their scripts."""
    pairs = ((instance, fleet.membership(instance.configuration)) for instance in every)
    return [(instance, member[1]) for instance, member in pairs if member is not None and member[0] == ring]


def tags_of(cloud: Cloud, every: list[Instance]) -> dict[str, dict[str, str]]:
    """Return the tags of instances by their names: one call for each."""

    def tags(instance: Instance) -> dict[str, str]:
        pages = cloud.pages("sagemaker", "list_tags", ResourceArn=instance.arn)
        return {tag["Key"]: tag["Value"] for page in pages for tag in page.get("Tags", [])}

    return dict(zip((instance.name for instance in every), in_parallel(tags, every), strict=True))


def ring_for(fleet: Fleet, name: str, tags: Mapping[str, str]) -> Ring | None:
    """Return the ring that an instance should have by the fleet file; None if it does not belong to the fleet.

    The first ring that takes it counts. A share takes instances by the hash of their names, after the shares above it:
    if a share grows, no instance leaves its ring for an earlier release.
    """
    if not has(tags, fleet.tags):
        return None
    taken = 0.0
    for ring in fleet.rings:
        if ring.tags is not None:
            if has(tags, ring.tags):
                return ring
        elif ring.share is None:
            return ring
        else:
            taken += ring.share
            if position(fleet.name, name) < taken:
                return ring
    return None


def position(fleet: str, name: str) -> float:
    """Return the place of an instance among all, from 0 to 1, by the hash of its name."""
    digest = hashlib.sha256(f"{fleet}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / _HASHED


def has(tags: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Whether tags have all wanted ones."""
    return all(tags.get(key) == value for key, value in wanted.items())
