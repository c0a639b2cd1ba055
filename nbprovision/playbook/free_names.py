"""The variables that a template certainly asks for: found without evaluating it."""

from __future__ import annotations

from collections.abc import Iterator

from jinja2 import nodes

_FORGIVING_FILTERS = ("default", "d")
_FORGIVING_TESTS = ("defined", "undefined")
_OWN = frozenset(("loop", "self", "caller", "varargs", "kwargs"))  # Jinja2's, in loops and macros


def free_names(tree: nodes.Node) -> set[str]:
    """Names that ``tree`` reads and nowhere sets, but for those that it asks whether they are there.

    A name in a branch (``x if x is defined else y``, ``x is defined and x``) is left out, as it may never be read.
    """
    stored = {name.name for name in tree.find_all(nodes.Name) if name.ctx != "load"}
    return set(_read(tree)) - stored - _OWN


def _read(node: nodes.Node) -> Iterator[str]:
    if isinstance(node, nodes.Name):
        if node.ctx == "load":
            yield node.name
        return
    if isinstance(node, nodes.Filter) and node.name in _FORGIVING_FILTERS:
        return
    if isinstance(node, nodes.Test) and node.name in _FORGIVING_TESTS:
        return
    if isinstance(node, nodes.CondExpr | nodes.If):
        yield from _read(node.test)
        return
    if isinstance(node, nodes.And | nodes.Or):
        yield from _read(node.left)
        return
    for child in node.iter_child_nodes():
        yield from _read(child)
