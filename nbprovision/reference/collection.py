"""The Ansible collection's documentation of the tasks, and its routing of their modules to one action plugin.

The modules have nothing but documentation: `ansible/plugins/action/task.py` hands their arguments to
``nbprovision task``, which checks them with the words of a playbook. An argument_spec would convert values before that:
``list`` splits ``a>=1,<2`` at the comma, and ``str`` turns 420 into text.

Sources:
    https://docs.ansible.com/ansible/latest/dev_guide/developing_modules_documenting.html
    https://docs.ansible.com/ansible/latest/dev_guide/developing_collections_structure.html#meta-directory-and-runtime-yml
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from nbprovision.model.task import Task
from nbprovision.playbook import parameters
from nbprovision.reference.definition import Definition, Parameter, define

NAMESPACE = "nbprovision.notebook"
_FRAGMENT = f"{NAMESPACE}.tool"
_OTHERS = ("playbook", "task")  # modules that no task defines; their actions have the same names
_FOLDER = Path("/home/ec2-user/SageMaker")  # of the examples: a module has no playbook to begin at
_WIDTH = 118
# Ansible's names of the types that need no conversion; any other type is passed on as it is.
_TYPES = {
    "a string": {"type": "str"},
    "true or false": {"type": "bool"},
    "a whole number": {"type": "int"},
    "a mapping": {"type": "dict"},
    "a list of strings": {"type": "list", "elements": "str"},
}
_MODULE = """\
#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright: Contributors to nbprovision
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt) or Apache License 2.0
# SPDX-License-Identifier: GPL-3.0-or-later OR Apache-2.0
# Generated from nbprovision's definition of the task by `python -m tests.ansible.test_generated`.

from __future__ import annotations

DOCUMENTATION = r\"\"\"
{documentation}\"\"\"

EXAMPLES = r\"\"\"
{examples}\"\"\"

RETURN = r\"\"\"
{results}\"\"\"
"""
_RUNTIME = "# Generated from nbprovision's tasks by `python -m tests.ansible.test_generated`.\n---\n"


def files(catalogue: Mapping[str, type[Task[Any]]], added: Mapping[str, str]) -> dict[str, str]:
    """The generated files of the collection: their paths in it, and their texts.

    Args:
        catalogue: Every kind of task.
        added: The first version of the collection with each kind.

    """
    kinds = [kind for kind in catalogue if catalogue[kind].in_root != "always"]
    return {
        "meta/runtime.yml": _RUNTIME + _yaml(_runtime(kinds)),
        **{f"plugins/modules/{kind}.py": _module(catalogue[kind], added[kind]) for kind in kinds},
    }


def _runtime(kinds: list[str]) -> dict[str, Any]:
    route = {"action_plugin": f"{NAMESPACE}.task"}
    return {
        "requires_ansible": ">=2.17.0",
        "action_groups": {"all": [*kinds, *_OTHERS]},  # for module_defaults
        "plugin_routing": {"modules": {kind: dict(route) for kind in kinds}},
    }


def _module(kind: type[Task[Any]], added: str) -> str:
    definition = define(kind)
    documentation = {
        "module": definition.kind,
        "short_description": _plain(definition.summary).rstrip("."),
        "version_added": added,
        "description": [*_paragraphs(definition.text), *_paragraphs("\n\n".join(definition.relations))],
        "options": {each.name: _option(each) for each in (*definition.parameters, *definition.shared)},
        "extends_documentation_fragment": [_FRAGMENT],
        "author": ["Contributors to nbprovision (@nbprovision)"],
    }
    return _MODULE.format(
        documentation=_yaml(documentation), examples=_examples(kind, definition), results=_yaml(_results(definition))
    )


def _option(parameter: Parameter) -> dict[str, Any]:
    option: dict[str, Any] = {"description": [_plain(parameter.description)]}
    type_ = _TYPES.get(parameter.takes, {"type": "raw"})
    if parameter.choices:
        option |= {"type": "str", "choices": list(parameter.choices)}
    else:
        option |= type_
        if type_["type"] == "raw":
            option["description"].append(f"Takes {parameter.takes}.")
    if parameter.required:
        option["required"] = True
    elif parameter.default:
        option["default"] = _typed(parameter.default, option["type"])
    return option


def _typed(text: str, type_: str) -> Any:
    """A default as YAML has it."""
    return yaml.safe_load(text) if type_ in ("bool", "int") else text


def _examples(kind: type[Task[Any]], definition: Definition) -> str:
    """The examples with the module's full name, and with absolute paths."""
    tasks = []
    for task in yaml.safe_load(definition.examples):
        values = parameters.located(kind, task[definition.kind], _FOLDER)
        tasks.append({"name": task["name"], f"{NAMESPACE}.{definition.kind}": values})
    return "\n".join(_yaml([task]) for task in tasks)


def _results(definition: Definition) -> dict[str, Any]:
    actions = [f"{action}: {_plain(meaning)}." for action, meaning in definition.actions.items()]
    return {
        "status": {
            "description": ["V(ok), V(changed), V(skipped) or V(failed)."],
            "returned": "always",
            "type": "str",
            "sample": "changed",
        },
        "changes": {
            "description": ["What was changed, or would be in check mode; action says how.", *actions],
            "returned": "always",
            "type": "list",
            "elements": "dict",
            "sample": [{"action": next(iter(definition.actions)), "target": "...", "before": None, "after": "..."}],
        },
    }


def _paragraphs(text: str) -> list[str]:
    return [" ".join(_plain(paragraph).split()) for paragraph in text.split("\n\n") if paragraph]


def _plain(text: str) -> str:
    """A text in Ansible's markup, where code with parentheses or backslashes would have to be escaped."""
    return re.sub(r"`([^`]*)`", _code, text)


def _code(match: re.Match[str]) -> str:
    code = match[1]
    return f"V({code})" if re.fullmatch(r"[\w./~:=<>* -]+", code) else f"'{code}'"


class _Dumper(yaml.SafeDumper):
    """Indents lists in mappings, and writes texts of several lines as such."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def _yaml(content: Any) -> str:
    return str(yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=False, width=_WIDTH))
