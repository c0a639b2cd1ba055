"""Packs root's program: the tasks of ``root_tasks`` as data, and the modules of `nbprovision.root` that they need.

It is one file of Python. It is reproducible, and has neither comments nor docstrings nor annotations, so that it is
small enough for the script; the modules themselves have them.
"""

from __future__ import annotations

import ast
import base64
import hashlib
import json
import re
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from nbprovision import root
from nbprovision.lifecycle.secret_text import refuse_in_file
from nbprovision.playbook.calls import TaskCall

_HERE = Path(root.__file__).parent
_TEMPLATE = """\
import json, os, sys, types
for name, source in (
@MODULES@):
    module = sys.modules[name] = types.ModuleType(name)
    package, _, last = name.rpartition('.')
    if package:
        setattr(sys.modules[package], last, module)
    exec(compile(source, name, 'exec'), module.__dict__)
os.umask(0o022)
sys.exit(sys.modules['nbprovision.root.main'].main(sys.argv, json.loads(@TASKS@)))
"""


class RootPart(msgspec.Struct, frozen=True):
    """Root's program.

    Attributes:
        content: The file.
        kinds: The kinds of its tasks, for messages.

    """

    content: bytes
    kinds: tuple[str, ...]

    @property
    def packed(self) -> str:
        """The file as it stands in a script: base85 of its compressed form, in lines."""
        text = base64.b85encode(zlib.compress(self.content, 9)).decode("ascii")
        return "\n".join(text[at : at + 120] for at in range(0, len(text), 120))

    @property
    def sha256(self) -> str:
        """The digest by which the script knows it."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def name(self) -> str:
        """The name of its file, beside the tool's wheels."""
        return f"root-{self.sha256}"


def root_part(calls: Iterable[TaskCall]) -> RootPart | None:
    """Pack the tasks of a playbook for root; None without any.

    Raises:
        InvalidPlaybook: they hold a secret, which all who may read the script would see.

    """
    orders = [{"name": call.name, **call.task.root_order()} for call in calls if call.task is not None]
    if not orders:
        return None
    modules = _with_needed(["main", *(order["module"] for order in orders)])
    sources = [
        ("nbprovision", ""),
        ("nbprovision.root", ""),
        *((f"nbprovision.root.{name}", _bare(name)) for name in modules),
    ]
    parts = {"MODULES": "".join(quoted(name, source) for name, source in sources)}
    tasks = json.dumps(orders, separators=(",", ":"), sort_keys=True)
    refuse_in_file("root_tasks", tasks)
    parts["TASKS"] = repr(tasks)
    text = re.sub("@([A-Z]+)@", lambda match: parts[match[1]], _TEMPLATE)
    return RootPart(text.encode("ascii", "backslashreplace"), tuple(dict.fromkeys(order["kind"] for order in orders)))


def quoted(name: str, source: str) -> str:
    """Return a module's entry in the program: its source as it is, which compresses better than with escapes."""
    return f"({name!r}, r'''{source}\n'''),\n"


def _with_needed(names: Iterable[str]) -> list[str]:
    """Return the modules with those that they import, each after those that it imports."""
    needed: list[str] = []

    def add(name: str) -> None:
        for node in ast.walk(_tree(name)):
            if isinstance(node, ast.ImportFrom) and node.module == root.__name__:
                for alias in node.names:
                    add(alias.name)
        if name not in needed:
            needed.append(name)

    for name in names:
        add(name)
    return needed


def _tree(name: str) -> ast.Module:
    return ast.parse((_HERE / f"{name}.py").read_text("utf-8"))


class _Bare(ast.NodeTransformer):
    """Leaves out what only readers and type checkers need."""

    def visit(self, node: ast.AST) -> Any:
        """Visit the nodes below it first."""
        self.generic_visit(node)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        if isinstance(node, ast.FunctionDef):
            node.returns = None
        if isinstance(node, ast.arg):
            node.annotation = None
        if isinstance(node, ast.ImportFrom) and node.module in ("__future__", "collections.abc"):
            return None
        return node


def _bare(name: str) -> str:
    """Return a module's source without all that; `unparse` writes no text over several lines."""
    text = ast.unparse(_Bare().visit(_tree(name)))
    return re.sub(r"^ +", lambda match: " " * (len(match[0]) // 4), text, flags=re.MULTILINE)
