"""Names and marks that templates know: which texts are templates, and which names variables may have."""

from __future__ import annotations

import re
from typing import Any

OMIT = "__nbprovision_omit__"  # the value of the variable `omit`; a parameter with it is left out

FACTS = "nb"  # the variable with the machine's facts

_MARKS = ("{{", "{%", "{#")
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RESERVED = frozenset(
    (
        *(FACTS, "playbook_dir", "lookup", "query", "omit", "range", "dict", "namespace", "self", "loop"),
        *("and", "or", "not", "in", "is", "if", "else", "true", "false", "none", "True", "False", "None"),
    )
)


def has_template(text: str) -> bool:
    """Whether ``text`` has a template of Jinja2."""
    return any(mark in text for mark in _MARKS)


def variable_problem(name: Any) -> str:
    """Return the reason why ``name`` cannot be the name of a variable, or nothing."""
    if not isinstance(name, str) or not _VARIABLE_NAME.fullmatch(name):
        return f"'{name}' is not a name for a variable: letters, digits and _, no digit first"
    return f"the name '{name}' is taken: templates know something else by it" if name in _RESERVED else ""
