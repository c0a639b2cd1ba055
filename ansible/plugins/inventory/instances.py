# Copyright: Contributors to nbprovision
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt) or Apache License 2.0
# SPDX-License-Identifier: GPL-3.0-or-later OR Apache-2.0
"""The inventory of SageMaker's notebook instances."""

from __future__ import annotations

DOCUMENTATION = r"""
name: instances
short_description: Notebook instances of SageMaker by their tags
version_added: 0.1.0
description:
  - Each notebook instance is a host, with its data in the variable C(notebook), in the group C(notebook_instances).
  - Nothing reaches such an instance over the network, so these hosts have no C(ansible_host). They are the instances of
    the module M(nbprovision.notebook.wave), which runs on the controller.
  - The name of the file ends in C(notebook_instances.yml) or C(notebook_instances.yaml).
  - The actions C(sagemaker:ListNotebookInstances) and C(sagemaker:ListTags) must be allowed.
options:
  plugin:
    description:
      - The name of this plugin.
    type: str
    required: true
    choices:
      - nbprovision.notebook.instances
  regions:
    description:
      - The regions. By default that of the profile or the environment.
      - The names of instances in several regions must differ.
    type: list
    elements: str
    default: []
    aliases:
      - region
  profile:
    description:
      - The profile of AWS's settings.
    type: str
  filters:
    description:
      - Leave out all other instances.
      - V(status) is a status or a list of them, such as V(InService), V(Stopped) or V(Failed).
      - V(name_contains) and V(lifecycle_config_contains) are parts of names.
    type: dict
    default: {}
  tags:
    description:
      - Leave out instances without these tags.
      - The value is a text, a list of which one must match, or null for any value.
    type: dict
    default: {}
  fleet:
    description:
      - The name of a fleet. Instances with one of its lifecycle configs, C(FLEET-RING-rN), get C(notebook.ring) and
        C(notebook.revision).
    type: str
requirements:
  - boto3 on the controller, in the environment of Ansible
extends_documentation_fragment:
  - ansible.builtin.constructed
  - ansible.builtin.inventory_cache
author:
  - Contributors to nbprovision (@nbprovision)
"""

EXAMPLES = r"""
# fraud.notebook_instances.yml: all instances of a team, with a group for each value of the tag "ring"
plugin: nbprovision.notebook.instances
region: eu-west-1
tags:
  team: fraud
keyed_groups:
  - key: notebook.tags.ring
    prefix: ring

---
# bad.notebook_instances.yml: the instances of a fleet that failed to start, by ring
plugin: nbprovision.notebook.instances
fleet: fraud
filters:
  status: Failed
  lifecycle_config_contains: fraud
keyed_groups:
  - key: notebook.ring
    prefix: ring

---
# all.notebook_instances.yml: two regions, and variables and groups from expressions; the list is kept for 10 minutes
plugin: nbprovision.notebook.instances
regions:
  - eu-west-1
  - us-east-1
profile: notebooks
tags:
  team:
    - fraud
    - risk
  owner: null
compose:
  team: notebook.tags.team
groups:
  gpu: notebook.instance_type is match('ml[.][gp]')
strict: true
cache: true
cache_plugin: ansible.builtin.jsonfile
cache_connection: /tmp/notebook-inventory
cache_timeout: 600
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleError, AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable
from ansible_collections.nbprovision.notebook.plugins.plugin_utils.notebook_instances import NotebookInstances

GROUP = "notebook_instances"
_FILES = tuple(f"{GROUP}.{ending}" for ending in ("yml", "yaml"))
_FILTERS = {
    "name_contains": "NameContains",
    "lifecycle_config_contains": "NotebookInstanceLifecycleConfigNameContains",
}


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):
    """Lists notebook instances."""

    NAME = "nbprovision.notebook.instances"

    def verify_file(self, path: str) -> bool:
        """Tell whether the file has a name for this plugin."""
        return bool(super().verify_file(path)) and path.endswith(_FILES)

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        """Add the hosts.

        Raises:
            AnsibleParserError: The file is invalid, or AWS refuses.

        """
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        try:
            instances = self._kept(path, cache)
        except AnsibleParserError:
            raise
        except AnsibleError as error:
            raise AnsibleParserError(str(error)) from error
        self.inventory.add_group(GROUP)
        for instance in instances:
            if _has_tags(instance["tags"], self.get_option("tags")):
                self._add(instance)

    def _add(self, instance: dict[str, Any]) -> None:
        name, strict = instance["name"], self.get_option("strict")
        other = self.inventory.get_host(name)
        if other is not None and "notebook" in other.vars:
            regions = " and ".join((other.vars["notebook"]["region"], instance["region"]))
            raise AnsibleParserError(f"the instance {name} exists in {regions}: write a file for each region")
        fleet = re.escape(self.get_option("fleet") or "")
        match = re.fullmatch(rf"{fleet}-(.+)-r(\d+)", instance["lifecycle_config"]) if fleet else None
        data = instance | ({"ring": match[1], "revision": int(match[2])} if match else {})
        self.inventory.add_host(name, group=GROUP)
        self.inventory.set_variable(name, "notebook", data)
        self._set_composite_vars(self.get_option("compose"), {"notebook": data}, name, strict=strict)
        self._add_host_to_composed_groups(self.get_option("groups"), {"notebook": data}, name, strict=strict)
        self._add_host_to_keyed_groups(self.get_option("keyed_groups"), {"notebook": data}, name, strict=strict)

    def _kept(self, path: str, cache: bool) -> list[dict[str, Any]]:
        """Return the instances from the cache, or else from AWS.

        What is asked is part of the key, so that a changed file is obeyed at once.
        """
        questions = [self._question(region) for region in self.get_option("regions") or [None]]
        if not self.get_option("cache"):
            return _asked(questions)
        digest = hashlib.sha256(json.dumps(questions, sort_keys=True).encode()).hexdigest()
        key = f"{self.get_cache_key(path)}_{digest[:8]}"
        if cache and key in self._cache:
            kept: list[dict[str, Any]] = self._cache[key]
            return kept
        self._cache[key] = _asked(questions)
        return list(self._cache[key])

    def _question(self, region: str | None) -> dict[str, Any]:
        filters = dict(self.get_option("filters"))
        statuses = filters.pop("status", [])
        unknown = sorted(str(name) for name in filters.keys() - _FILTERS.keys())
        if unknown:
            known = ", ".join(("status", *_FILTERS))
            raise AnsibleParserError(f"unknown filter {unknown[0]}; the filters are: {known}")
        return {
            "region": region,
            "profile": self.get_option("profile"),
            "filters": {_FILTERS[name]: str(value) for name, value in filters.items()},
            "statuses": [statuses] if isinstance(statuses, str) else list(statuses),
        }


def _asked(questions: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what AWS lists."""
    answers = []
    for question in questions:
        service = NotebookInstances(question["region"], question["profile"])
        listed = [
            each
            for each in service.listed(**question["filters"])
            if not question["statuses"] or each["NotebookInstanceStatus"] in question["statuses"]
        ]
        tags = service.tags([each["NotebookInstanceArn"] for each in listed])
        answers += [_data(each, own, service.region) for each, own in zip(listed, tags, strict=True)]
    return answers


def _data(listed: dict[str, Any], tags: dict[str, str], region: str) -> dict[str, Any]:
    return {
        "name": listed["NotebookInstanceName"],
        "arn": listed["NotebookInstanceArn"],
        "region": region,
        "status": listed["NotebookInstanceStatus"],
        "lifecycle_config": listed.get("NotebookInstanceLifecycleConfigName") or "",
        "instance_type": listed["InstanceType"],
        "url": listed.get("Url") or "",
        "created": listed["CreationTime"].isoformat(),
        "modified": listed["LastModifiedTime"].isoformat(),
        "tags": tags,
    }


def _has_tags(tags: Mapping[str, str], wanted: Mapping[str, Any]) -> bool:
    return all(
        name in tags and (value is None or tags[name] in (map(str, value) if isinstance(value, list) else [str(value)]))
        for name, value in wanted.items()
    )
