"""Variables and templates: evaluates the strings of a playbook."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from nbprovision.model.errors import InvalidPlaybook, Position
from nbprovision.playbook.outside import Outside
from nbprovision.playbook.template_names import has_template
from nbprovision.playbook.written import FormLost, passed_on
from nbprovision.playbook.yaml_nodes import Files, ListNode, MapNode, Node, Scalar
from nbprovision.system.secrets import remember_if_secret

if TYPE_CHECKING:
    from nbprovision.playbook.sandbox import Sandbox

UNRESOLVED = "unresolved-template"  # the rule of lint for errors of templates

_NESTED = 30  # levels of variables that refer to variables


class Known(msgspec.Struct, frozen=True):
    """A value that is never evaluated as a template: a result, an entry of a loop."""

    value: Any


class Unknown(msgspec.Struct, frozen=True, eq=False):
    """A value that is not known yet: the result of ``task``, which has not run yet, or has failed for good."""

    task: str


class Deferred(msgspec.Struct, frozen=True):
    """A value that is evaluated with the variables of its definition, not of its use: ``vars`` of an include."""

    node: Node
    scope: Scope


class NotYetKnown(InvalidPlaybook):
    """A template uses a value that is not known yet."""

    def __init__(self, name: str, unknown: Unknown) -> None:
        super().__init__(
            f"variable '{name}' is only known after '{unknown.task}' has run",
            cure="use a value that is known before the run",
        )
        self.unknown = unknown


class Scope:
    """The variables of a task. Each value is evaluated once, at its first use.

    Args:
        templates: Evaluates them.
        layers: Name to node, `Known`, `Unknown`, `Deferred` or plain data; later layers win.
        facts: Values that are never evaluated as templates.
        results: The registered results, for deferred variables.
    """

    def __init__(
        self,
        templates: Templates,
        layers: Iterable[Mapping[str, Any]],
        facts: Mapping[str, Any] | None = None,
        results: Mapping[str, Any] | None = None,
    ) -> None:
        self._templates = templates
        self._facts = dict(facts or {})
        self._results = results or {}
        self._written: dict[str, Any] = {}
        for layer in layers:
            self._written |= layer
        self._values: dict[str, Any] = {}
        self._open: list[str] = []  # the variables that are being evaluated

    def extended(self, layer: Mapping[str, Any], *, over: Mapping[str, Any]) -> Scope:
        """Return the scope with ``layer`` over it, and ``over`` (the variables of the command line) over both."""
        return Scope(self._templates, (self._written, layer, over), self._facts, self._results) if layer else self

    def knowing(self, results: Mapping[str, Any], *, over: Mapping[str, Any]) -> Scope:
        """Return the scope with results (`Known` or `Unknown`) over it, and ``over`` over both."""
        values = {**self._results, **results}
        return Scope(self._templates, (self._written, results, over), self._facts, values) if results else self

    def settled(self) -> Scope:
        """Return the scope without unknown values."""
        values = {name: value for name, value in self._written.items() if not isinstance(value, Unknown)}
        results = {name: value for name, value in self._results.items() if not isinstance(value, Unknown)}
        return Scope(self._templates, (values,), self._facts, results)

    def apart(self, templates: Templates, facts: Mapping[str, Any]) -> Scope:
        """Return a scope with the same variables, which other templates evaluate with other facts."""
        return Scope(templates, (self._written,), facts)

    def written(self, name: str) -> Any:
        """Return the definition of a variable."""
        return self._written[name]

    def has(self, name: str) -> bool:
        """Whether a variable is defined."""
        return name in self._written or name in self._facts

    def names(self) -> set[str]:
        """Return the names of all variables."""
        return {*self._written, *self._facts}

    def get(self, name: str) -> Any:
        """Return the value of a variable.

        Raises:
            InvalidPlaybook: it refers to itself or to an undefined variable, or its template is wrong.
        """
        if name not in self._written:
            return self._facts[name]
        if name in self._values:
            return self._values[name]
        written = self._written[name]
        position = written.position if isinstance(written, Scalar | ListNode | MapNode) else None
        if name in self._open:
            chain = " -> ".join([*self._open[self._open.index(name) :], name])
            raise InvalidPlaybook(f"variable '{name}' refers to itself: {chain}", position=position)
        if len(self._open) >= _NESTED:
            message = f"variable '{name}' refers to variables more than {_NESTED} levels deep"
            raise InvalidPlaybook(message, position=position)
        if isinstance(written, Unknown):
            raise NotYetKnown(name, written)
        self._open.append(name)
        try:
            if isinstance(written, Known):
                value = written.value
            elif isinstance(written, Deferred):
                value = self._templates.render(written.node, written.scope.knowing(self._results, over={}))
            else:
                value = self._templates.render(written, self)
        finally:
            self._open.pop()
        remember_if_secret(name, value)
        self._values[name] = value
        return value


class Templates:
    """Evaluates the templates of one playbook.

    Args:
        folder: The folder where relative paths begin.
        env: The environment variables for ``lookup('env', NAME)``.
        files: Reads the files of the playbook, and records them; by default from the disk.
        outside: Reads the machine for templates, and records what it read.
    """

    def __init__(
        self,
        folder: Path,
        env: Mapping[str, str],
        files: Files | None = None,
        outside: type[Outside] = Outside,
    ) -> None:
        self.folder = folder
        self.outside = outside(folder, env)
        self.files = Files() if files is None else files

    @cached_property
    def _sandbox(self) -> Sandbox:
        from nbprovision.playbook.sandbox import (
            Sandbox,
        )  # importing Jinja2 takes as long as importing all other modules

        return Sandbox(self.outside)

    def render(self, value: Any, scope: Scope) -> Any:
        """Replace every template in a node or in plain data by its value.

        Raises:
            InvalidPlaybook: a template is wrong; with the position of its string.
        """
        if isinstance(value, Scalar):
            if isinstance(value.value, str) and has_template(value.value):
                return self._evaluate(value.value, scope, value.position)
            return value.value
        if isinstance(value, MapNode):
            return {key.value: self.render(entry, scope) for key, entry in value.pairs}
        if isinstance(value, ListNode):
            return [self.render(entry, scope) for entry in value.items]
        if isinstance(value, str) and has_template(value):
            return self._evaluate(value, scope, None)
        if isinstance(value, Mapping):
            return {key: self.render(entry, scope) for key, entry in value.items()}
        if isinstance(value, list | tuple):
            return [self.render(entry, scope) for entry in value]
        return value

    def render_file(self, path: Path, scope: Scope) -> str:
        """Evaluate a template file.

        Raises:
            InvalidPlaybook: it cannot be read, is larger than 1 MiB, or a template in it is wrong; with its line.
        """
        self.files.judge(path)
        text = self.outside.read(path, "template")
        if not has_template(text):
            return text
        try:
            # With the prefix, even a single expression gives text.
            rendered = str(self._sandbox.evaluate("{{ '' }}" + text, scope))
        except InvalidPlaybook as error:
            line = getattr(error.__context__, "lineno", None)  # Jinja2 sets it on errors of compilation
            if line is not None:
                error.at(Position(str(path), line, 1))
            elif error.position is None:
                error.cause = "; ".join(part for part in (error.cause, f"it is in the template {path}") if part)
            raise
        return rendered.replace("\n", "\r\n") if "\r\n" in text else rendered

    def check(self, value: Any, scope: Scope, *, condition: bool = False) -> None:
        """Check templates with unknown values: their syntax and the names of their variables.

        Raises:
            InvalidPlaybook: a template is wrong; with the position of its string.
        """
        if isinstance(value, MapNode):
            for _, entry in value.pairs:
                self.check(entry, scope)
        elif isinstance(value, ListNode):
            for entry in value.items:
                self.check(entry, scope, condition=condition)
        elif isinstance(value, Scalar) and isinstance(value.value, str) and (condition or has_template(value.value)):
            try:
                self._sandbox.check(value.value.strip() if condition else value.value, scope, condition=condition)
            except InvalidPlaybook as error:
                error.rule = UNRESOLVED
                error.at(value.position)
                raise

    def condition(self, node: Node, scope: Scope, keyword: str = "when") -> bool:
        """Whether a condition is true: an expression, ``true`` or ``false``, or a list in which all must be true.

        As in Ansible, empty text, lists and mappings, 0 and none are false. Text that reads as a boolean is an error,
        since ``-e flag=false`` would be true otherwise.

        Args:
            node: The value of the keyword.
            scope: The variables.
            keyword: The keyword, for messages.

        Raises:
            InvalidPlaybook: the condition is wrong; with its position.
        """
        if isinstance(node, ListNode):
            return all(self.condition(entry, scope, keyword) for entry in node.items)
        if isinstance(node, MapNode):
            raise InvalidPlaybook(
                f"'{keyword}' takes an expression or a list of them, not a mapping",
                cure="write an expression with ': ' in it, or { at its beginning, in quotes",
                position=node.position,
            )
        if node.value is not None and not isinstance(node.value, str):
            return bool(node.value)
        source = (node.value or "").strip()
        if not source:
            cure = "write an expression, or remove it"
            raise InvalidPlaybook(f"'{keyword}' is empty", cure=cure, position=node.position)
        value = self._evaluate(source, scope, node.position, condition=True)
        if isinstance(value, str) and value.strip().lower() in ("true", "false", "yes", "no", "on", "off", "0", "1"):
            raise InvalidPlaybook(
                f"the condition '{source}' gives the text '{value}', neither true nor false",
                cure=f"write: {source} | bool" if not has_template(source) else "put `| bool` behind it",
                position=node.position,
            )
        return bool(value)

    def _evaluate(self, source: str, scope: Scope, position: Position | None, *, condition: bool = False) -> Any:
        try:
            return passed_on(self._sandbox.evaluate(source, scope, condition=condition))
        except FormLost as error:
            if position is not None and position != error.position:
                error.cause = error.cause or f"text is made of it in {position}"
            raise
        except InvalidPlaybook as error:
            error.rule = UNRESOLVED
            error.at(position)
            raise
