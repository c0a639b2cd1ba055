"""Reads the values of keywords."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from nbprovision.model.errors import InvalidPlaybook, nearest
from nbprovision.playbook import keywords
from nbprovision.playbook.faults import Faults
from nbprovision.playbook.template import NotYetKnown, Scope, Templates
from nbprovision.playbook.template_names import variable_problem
from nbprovision.playbook.written import text_of
from nbprovision.playbook.yaml_nodes import ListNode, MapNode, Node, Scalar


class Values:
    """Reads the values of keywords, and collects their faults.

    Args:
        templates: Evaluates templates.
        faults: Collects the faults.

    """

    def __init__(self, templates: Templates, faults: Faults) -> None:
        self.templates = templates
        self.faults = faults

    def fault(self, message: str, node: Node | None, cure: str = "", cause: str = "") -> None:
        """Add a fault."""
        self.faults.add(InvalidPlaybook(message, cause=cause, cure=cure, position=node.position if node else None))

    def keywords(self, node: MapNode, allowed: Mapping[str, str], where: str, but: Collection[Any] = ()) -> None:
        """Add a fault for every key that is not ``allowed``, except those in ``but``."""
        for key, _ in node.pairs:
            if key.value not in but:
                fault = keywords.unknown(str(key.value), allowed, where, key.position)
                if fault:
                    self.faults.add(fault)

    def variables(self, node: Node | None, keyword: str = "vars") -> dict[str, Node]:
        """Return names and values, with templates."""
        if is_nothing(node):
            return {}
        if not isinstance(node, MapNode):
            self.fault(f"'{keyword}' takes a mapping of names to values, not {kind_of(node)}", node)
            return {}
        values = {}
        for key, value in node.pairs:
            problem = variable_problem(key.value)
            if problem:
                self.fault(problem, key)
            else:
                values[key.text] = value
        return values

    def variable_name(self, node: Node | None, keyword: str) -> str:
        """Return the value of a keyword that takes the name of a variable; empty if it is missing or wrong."""
        if node is None:
            return ""
        name = node.value if isinstance(node, Scalar) else None
        problem = variable_problem(name) if isinstance(name, str) else f"'{keyword}' takes the name of a variable"
        if problem:
            self.fault(problem, node)
            return ""
        return str(name)

    def strings(self, node: Node | None, keyword: str, scope: Scope) -> Iterator[str]:
        """Return the values of a keyword that takes a string or a list of strings."""
        if node is None:
            return
        with self.faults.gathered():
            value = self.templates.render(node, scope)
            for entry in value if isinstance(value, list) else [value]:
                if isinstance(entry, str | int | float) and not isinstance(entry, bool):
                    yield text_of(entry)
                else:
                    self.fault(f"'{keyword}' takes a string or a list of strings", node)

    def words(self, node: Node | None, keyword: str, scope: Scope) -> tuple[str, ...]:
        """Return the same, with each string split at commas."""
        words = (word.strip() for text in self.strings(node, keyword, scope) for word in text.split(","))
        return tuple(word for word in words if word)

    def name(self, node: MapNode, scope: Scope, *, forgiving: bool = False) -> str:
        """Return the value of ``name``; if it cannot be evaluated and ``forgiving`` is set, as written."""
        given = node.get("name")
        if given is None:
            return ""
        if not isinstance(given, Scalar) or not isinstance(given.value, str):
            self.fault(f"'name' takes a string, not {kind_of(given)}", given, cure="write it in quotes")
            return ""
        try:
            return str(self.templates.render(given, scope))
        except NotYetKnown:
            pass
        except InvalidPlaybook as fault:
            if not forgiving:
                self.faults.add(fault)
        return given.text

    def boolean(self, node: MapNode, keyword: str, scope: Scope) -> bool | None:
        """Return the value of a keyword that takes true or false; None if it is missing or wrong."""
        given = node.get(keyword)
        if given is None:
            return None
        with self.faults.gathered():
            value = self.templates.render(given, scope)
            if isinstance(value, bool):
                return value
            self.fault(f"'{keyword}' is true or false", given)
        return None

    def number(self, node: MapNode, keyword: str, scope: Scope, *, whole: bool) -> float | None:
        """Return the value of a keyword that takes a number; None if it is missing or wrong."""
        given = node.get(keyword)
        if given is None:
            return None
        with self.faults.gathered():
            value = self.templates.render(given, scope)
            text = value.strip() if isinstance(value, str) else ""
            if text.replace(".", "", 1).isdecimal() and len(text) < 10:
                value = float(text)
            right = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e9
            if right and (not whole or float(value) == int(value)):
                return float(value)
            self.fault(f"'{keyword}' takes a {'whole ' if whole else ''}number, 0 or more", given)
        return None

    def one_of(self, node: MapNode, keyword: str, choices: tuple[str, ...]) -> None:
        """Check a keyword that takes one of some words."""
        given = node.get(keyword)
        if given is None:
            return
        value = text_of(given.value) if isinstance(given, Scalar) else kind_of(given)
        if value not in choices:
            shown = value[:40]
            self.fault(f"'{keyword}' is {' or '.join(choices)}, not '{shown}'{nearest(shown, choices)}", given)

    def listed(self, node: Node | None, keyword: str) -> tuple[Node, ...]:
        """Return the entries of a keyword that takes a list of tasks."""
        if is_nothing(node):
            return ()
        if isinstance(node, ListNode):
            return node.items
        self.fault(f"'{keyword}' takes a list, not {kind_of(node)}", node, cure="begin each task with '- '")
        return ()

    def file_of_variables(self, path: Path, node: Node) -> dict[str, Node]:
        """Return the variables of a file of ``vars_files``."""
        content = None
        with self.faults.gathered():
            try:
                content = self.templates.files.nodes(path, "file of variables")
            except InvalidPlaybook as error:  # a file that cannot be opened has no position of its own
                error.at(node.position)
                raise
        if content is not None and not isinstance(content, MapNode):
            self.fault(f"a file of variables is a mapping of names to values, not {kind_of(content)}", content)
            return {}
        return self.variables(content)


def without(node: MapNode, *keys: str) -> MapNode:
    """Return a mapping without some of its keys."""
    return MapNode(node.position, tuple(pair for pair in node.pairs if pair[0].value not in keys))


def is_nothing(node: Node | None) -> bool:
    """Whether a key is missing or has no value."""
    return node is None or (isinstance(node, Scalar) and node.value is None)


def kind_of(node: Node | None) -> str:
    """Describe the kind of a node in words."""
    if isinstance(node, MapNode):
        return "a mapping"
    if isinstance(node, ListNode):
        return "a list"
    if node is None or node.value is None:
        return "nothing"
    return "text" if isinstance(node.value, str) else f"'{node.text[:40]}'"
