"""Compares the ring that each instance should have, by the fleet file, with its lifecycle configuration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Literal

import msgspec

from nbprovision.fleet import instances
from nbprovision.fleet.cloud import Cloud
from nbprovision.fleet.definition import Fleet, Ring
from nbprovision.fleet.instances import Instance
from nbprovision.fleet.steps import Step

Difference = Literal[
    "none", "other script", "other ring", "other configuration", "no configuration", "leaves", "no ring"
]


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """An instance and its ring.

    Attributes:
        instance: The instance.
        ring: The name of the ring by the fleet file; empty if no ring takes it.
        configuration: The configuration that it should have; empty if it should have none of the fleet's, or if the
            ring has no script yet.
        difference: What is different.
    """

    instance: Instance
    ring: str
    configuration: str
    difference: Difference

    def document(self) -> dict[str, Any]:
        """The same as plain data."""
        return {
            "name": self.instance.name,
            "status": self.instance.status,
            "ring": self.ring or None,
            "configuration": self.instance.configuration or None,
            "wanted": self.configuration or None,
            "difference": self.difference,
        }

    @property
    def line(self) -> str:
        """The same for people."""
        present = self.instance.configuration or "none"
        if self.difference == "no ring":
            return f"{self.instance.name} ({self.instance.status}): it has the fleet's tags, and no ring takes it"
        if self.difference == "leaves":
            return f"{self.instance.name}: {present}, and no ring takes it"
        wanted = self.configuration or f"the first script of {self.ring}, which is not published yet"
        return f"{self.instance.name} ({self.instance.status}): {self.difference}: {present} -> {wanted}"


def placed(cloud: Cloud, fleet: Fleet, newest: Mapping[str, int]) -> list[Placement]:
    """Place every instance of the account and region that belongs to the fleet, or has a configuration of it.

    Args:
        cloud: The clients.
        fleet: The fleet.
        newest: The newest revision of each ring's script.

    Raises:
        TaskFailed: AWS refuses a call.
    """
    every = list(instances.listed(cloud))
    # Without tags in the fleet file, their values decide nothing.
    asks = bool(fleet.tags) or any(ring.tags is not None for ring in fleet.rings)
    tags = instances.tags_of(cloud, every) if asks else {}
    places = (_place(fleet, newest, instance, tags.get(instance.name, {})) for instance in every)
    return sorted((place for place in places if place is not None), key=lambda place: place.instance.name)


def _place(fleet: Fleet, newest: Mapping[str, int], instance: Instance, tags: Mapping[str, str]) -> Placement | None:
    ring = instances.ring_for(fleet, instance.name, tags)
    member = fleet.membership(instance.configuration)
    if ring is None:
        has_tags = bool(fleet.tags) and instances.has(tags, fleet.tags)
        if member is None and not has_tags:
            return None
        reason: Difference = "no ring" if member is None else "leaves"
        return Placement(instance=instance, ring="", configuration="", difference=reason)
    revision = newest.get(ring.name, 0)
    wanted = fleet.configuration(ring, revision) if revision else ""
    difference: Difference = "none"
    if not instance.configuration:
        difference = "no configuration"
    elif member is None:
        difference = "other configuration"
    elif member[0] != ring:
        difference = "other ring"
    elif member[1] != revision:
        difference = "other script"
    return Placement(instance=instance, ring=ring.name, configuration=wanted, difference=difference)


def lines(fleet: Fleet, places: Iterable[Placement]) -> list[str]:
    """Write placements for people: the number of each ring, then every difference."""
    places = list(places)
    text = []
    for ring in fleet.rings:
        members = [place for place in places if place.ring == ring.name]
        right = sum(1 for place in members if place.difference == "none")
        text.append(f"{ring.name}: {len(members)} instances, {right} with its newest script")
    differences = [place for place in places if place.difference != "none"]
    if not places:
        text.append("no instance belongs to the fleet: see `match` in the fleet file")
    text += [f"  {place.line}" for place in differences]
    if any(place.configuration for place in differences):
        text.append(how_to_move())
    return text


def update_steps(cloud: Cloud, fleet: Fleet, ring: Ring, outdated: Iterable[Instance], revision: int) -> list[Step]:
    """Return the steps that give the stopped ones of these instances a newer script, for their next start."""
    name = fleet.configuration(ring, revision)
    return [
        Step(
            action="update",
            target=instance.name,
            detail=f"{instance.configuration} -> {name}",
            work=partial(
                cloud.call,
                "sagemaker",
                "update_notebook_instance",
                NotebookInstanceName=instance.name,
                LifecycleConfigName=name,
            ),
        )
        for instance in outdated
        if instance.status == "Stopped"
    ]


def how_to_move() -> str:
    """Return the ways to give an instance its configuration."""
    return (
        "move them batch by batch, with the module `wave` of the Ansible collection (docs/fleet.md), or each by hand "
        "while it is stopped: aws sagemaker update-notebook-instance --notebook-instance-name NAME "
        "--lifecycle-config-name CONFIGURATION"
    )
