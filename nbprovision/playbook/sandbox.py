"""Jinja2 for playbooks: sandboxed, and undefined variables are errors.

Imported only when a string has a template. The language is Jinja2's (https://jinja.palletsprojects.com), with the
additions of Ansible: a string that is one ``{{ expression }}`` gives the value itself, whatever its type; ``omit``;
``default`` may replace undefined variables at any depth; None is printed as nothing.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context, StrictUndefined, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import missing
from jinja2.visitor import NodeTransformer

from nbprovision.model.errors import InvalidPlaybook, nearest
from nbprovision.playbook import ansible, filters, value_tests
from nbprovision.playbook.list_filters import fail
from nbprovision.playbook.outside import Unset, stands_for_a_secret
from nbprovision.playbook.template_names import OMIT, has_template

if TYPE_CHECKING:
    from nbprovision.playbook.outside import Outside
    from nbprovision.playbook.template import Scope

_PASSED = (Context, nodes.EvalContext, jinja2.Environment)  # Jinja2 itself passes them to a filter, before the value
_MAX_DEPTH = 50  # of lists and mappings in a value, since callers recurse into it
_INTERNAL = ("gi_", "cr_", "ag_")  # attributes of generators and coroutines
_SCOPE = "@scope"  # a template cannot write this name
_RESULT = "nbprovision_result"
_FORGIVING_FILTERS = ("default", "d")
_FORGIVING_TESTS = ("defined", "undefined")
_OWN_NAMES = frozenset(("loop", "self", "caller", "varargs", "kwargs"))  # Jinja2's, in loops and macros
_LOSSY = re.compile(r"[0-9]+\.[0-9]*[1-9]0+|[0-9]+\.00+")


class UndefinedVariable(InvalidPlaybook):
    """A variable, or an entry of a variable, is missing."""


class _Missing(StrictUndefined):
    """Undefined at any depth (``a.b.c | default('x')``, as in Ansible), with an error that suggests a name."""

    __slots__ = ()

    @property
    def _undefined_message(self) -> str:
        if self._undefined_hint or self._undefined_obj is missing:
            return self._undefined_hint or f"variable '{self._undefined_name}' is not defined"
        name, owner = self._undefined_name, self._undefined_obj
        if isinstance(owner, Mapping):
            keys = sorted(str(key) for key in owner)
            return f"the mapping has no '{name}' (it has: {', '.join(keys[:20]) or 'nothing'})" + nearest(
                str(name), keys
            )
        if isinstance(name, int):
            return f"the {_word(owner)} has no entry {name}"
        return f"a {_word(owner)} has no '{name}'"

    def __getattr__(self, name: str) -> Any:
        if name[:2] == "__":
            raise AttributeError(name)
        return self

    def __getitem__(self, key: Any) -> Any:
        return self


class _Context(Context):
    """Takes the variables of a template from the scope."""

    def resolve_or_missing(self, key: str) -> Any:
        value = super().resolve_or_missing(key)
        if value is not missing:
            return value
        scope: Scope = self.parent[_SCOPE]
        try:
            if scope.has(key):
                return scope.get(key)
        except UndefinedVariable as error:  # it refers to an undefined variable; `default` may still replace it
            cause = error
            return _Missing(name=key, exc=lambda _message: cause)  # type: ignore[arg-type]
        return _Missing(name=key, exc=lambda _message: _not_defined(key, scope))  # type: ignore[arg-type]


def _defined(value: Any) -> Any:
    """Replace unset environment variables in the result of a lookup by undefined values."""
    if isinstance(value, list):
        return [_defined(entry) for entry in value]
    if not isinstance(value, Unset):
        return value
    name = value.name[:80]
    error = UndefinedVariable(
        f"the environment variable {name} is not set",
        cure=f"set it for the run, or write lookup('env', '{name}') | default('...')",
    )
    return _Missing(name=name, exc=lambda _message: error)  # type: ignore[arg-type]


def _not_defined(name: str, scope: Scope) -> UndefinedVariable:
    instead = ansible.variable(name)
    near = nearest(name, scope.names()) if len(name) > 2 and not instead else ""
    return UndefinedVariable(
        f"variable '{name}' is not defined{near}",
        cure=instead or ("" if near else f"define it under vars, or hand it over: -e {name}=VALUE"),
    )


class _Concatenating(NodeTransformer):
    """Makes ``~`` print its operands as in Ansible: nothing for None."""

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802 - Jinja2's name
        self.generic_visit(node)
        parts = nodes.List(node.nodes, lineno=node.lineno)
        return nodes.Filter(parts, "@concatenated", [], [], None, None, lineno=node.lineno)


class Sandbox(ImmutableSandboxedEnvironment):
    """Evaluates templates and conditions.

    Args:
        outside: Reads the machine for templates.
    """

    def __init__(self, outside: Outside) -> None:
        super().__init__(
            undefined=_Missing, keep_trailing_newline=True, trim_blocks=True, cache_size=0, finalize=_printed
        )
        self.context_class = _Context
        self._outside = outside
        self.globals = {
            "range": range,
            "dict": dict,
            "namespace": self.globals["namespace"],
            "lookup": self._lookup,
            "query": self._query,
            "omit": OMIT,
        }
        self.filters = self._offered(self.filters, filters.filters(outside), ansible.FILTERS)
        self.tests = self._offered(self.tests, value_tests.tests(outside), ansible.TESTS)
        self.filters["@concatenated"] = _concatenated
        self._compiled: dict[tuple[str, bool], tuple[jinja2.Template, bool]] = {}

    def _lookup(self, kind: str, *terms: Any, **options: Any) -> Any:
        return _defined(self._outside.lookup(kind, *terms, **options))

    def _query(self, kind: str, *terms: Any, **options: Any) -> Any:
        return _defined(self._outside.query(kind, *terms, **options))

    def _offered(
        self, of_jinja: dict[str, Any], of_ansible: dict[str, Any], refused: Collection[str]
    ) -> dict[str, Any]:
        """Return the filters or tests by name, Ansible's by their long names too."""
        both = {name: function for name, function in of_jinja.items() if name not in refused} | of_ansible
        offered = {name: _aware_of_secrets(function) for name, function in both.items()}
        return offered | {f"ansible.builtin.{name}": offered[name] for name in of_ansible}

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Whether a template may read ``obj.attr``; Jinja2 alone allows some internal attributes of generators."""
        return not attr.startswith(_INTERNAL) and super().is_safe_attribute(obj, attr, value)

    def evaluate(self, source: str, scope: Scope, *, condition: bool = False) -> Any:
        """Evaluate a template, or with ``condition`` an expression without braces.

        Raises:
            InvalidPlaybook: the template is wrong, fails, or uses an undefined variable.
        """
        with self._explained(condition=condition):
            template, native = self._template_of(source, condition)
            context = template.new_context({_SCOPE: scope, **self.globals}, shared=True)
            text = "".join(template.root_render_func(context))
            return _settled(context.vars[_RESULT] if native else text)

    def check(self, source: str, scope: Scope, *, condition: bool = False) -> None:
        """Check a template without evaluating it.

        Raises:
            InvalidPlaybook: its syntax is wrong, or it certainly uses an undefined variable.
        """
        with self._explained(condition=condition):
            self._template_of(source, condition)
            tree = self.parse("{{ " + source + " }}" if condition and not has_template(source) else source)
            for name in sorted(_free_names(tree)):
                if name not in self.globals and not scope.has(name):
                    raise _not_defined(name, scope)

    @contextlib.contextmanager
    def _explained(self, *, condition: bool) -> Iterator[None]:
        """Raise every error of the body as a fault of the playbook."""
        try:
            yield
        except InvalidPlaybook:
            raise
        except jinja2.UndefinedError as error:
            raise UndefinedVariable(str(error)) from None
        except jinja2.TemplateSyntaxError as error:
            raise self._syntax_fault(error, condition=condition) from None
        except SecurityError as error:
            raise InvalidPlaybook("the template uses something that templates may not use", cause=str(error)) from None
        except RecursionError:
            raise InvalidPlaybook("the template fails", cause="it is nested too deep") from None
        except MemoryError:
            raise InvalidPlaybook("the template fails", cause="it needs too much memory") from None
        except Exception as error:  # noqa: BLE001 - a user's expression can fail in any way
            raise InvalidPlaybook("the template fails", cause=f"{type(error).__name__}: {error}"[:300]) from None

    def _syntax_fault(self, error: jinja2.TemplateSyntaxError, *, condition: bool) -> InvalidPlaybook:
        what, end = ("condition", "the end of the condition") if condition else ("template", "'}}'")
        return InvalidPlaybook(f"the {what} is wrong", cause=_syntax_cause(error, end), cure=self._syntax_cure(error))

    def _syntax_cure(self, error: jinja2.TemplateSyntaxError) -> str:
        if "got '='" in (error.message or ""):
            return "write == to compare"
        match = re.search(r"No (filter|test) named '([^']*)'", error.message or "")
        if match is None:
            return ""
        kind, name = match[1], match[2].removeprefix("ansible.builtin.")
        supported, refused = (self.filters, ansible.FILTERS) if kind == "filter" else (self.tests, ansible.TESTS)
        if name in refused:
            return f"{refused[name].why}; {refused[name].fix}"
        near = nearest(name, (offered for offered in supported if not offered.startswith(("@", "ansible."))))
        return near.removeprefix("; ") or f"the reference lists every {kind}"

    def handle_exception(self, source: str | None = None) -> NoReturn:
        """Raise the current error. Jinja2 would rewrite tracebacks at every level, which nobody sees."""
        raise  # noqa: PLE0704 - called while an exception is handled

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Return ``obj.attribute``; each attribute of a secret's placeholder is the placeholder."""
        if stands_for_a_secret(obj) and not hasattr(obj, attribute):
            return obj
        return super().getattr(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Return ``obj[argument]``; likewise for a placeholder."""
        if stands_for_a_secret(obj) and isinstance(argument, str):
            return obj
        return super().getitem(obj, argument)

    def _template_of(self, source: str, condition: bool) -> tuple[jinja2.Template, bool]:
        """Return the template, and whether its result is a value rather than text."""
        key = source, condition
        if key not in self._compiled:
            bare = condition and not has_template(source)
            self._refuse_lossy("{{ " + source + " }}" if bare else source)
            tree = self.parse("{{ " + source + " }}" if bare else source)
            tree = _Concatenating().visit(tree)
            only = tree.body[0] if len(tree.body) == 1 else None
            native = isinstance(only, nodes.Output) and len(only.nodes) == 1
            if condition and not native:
                raise InvalidPlaybook("a condition is one expression", cure="write it without {{ }}")
            if native and isinstance(only, nodes.Output):
                target = nodes.Name(_RESULT, "store", lineno=1)
                tree = nodes.Template([nodes.Assign(target, only.nodes[0], lineno=1)], lineno=1)
                tree.set_environment(self)
            self._compiled[key] = self.from_string(tree), native
        return self._compiled[key]

    def _refuse_lossy(self, source: str) -> None:
        """Refuse ``3.10`` in a template: there it is 3.1, but the author may mean a version."""
        if not _LOSSY.search(source):
            return
        for _, kind, text in self.lex(source):
            if kind == "float" and _LOSSY.fullmatch(text):
                raise InvalidPlaybook(
                    f"{text} in a template is the number {float(text)}",
                    cure=f"write '{text}' in quotes if it is text, {float(text)} if it is a number",
                )


def _aware_of_secrets(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a filter or test return the placeholder of a secret unchanged, if it fails on it."""

    @functools.wraps(function)  # copies the attributes that make Jinja2 pass a context
    def aware(*args: Any, **kwargs: Any) -> Any:
        try:
            result = function(*args, **kwargs)
        except InvalidPlaybook:
            value = next((given for given in (*args, *kwargs.values()) if not isinstance(given, _PASSED)), None)
            if stands_for_a_secret(value):
                return value  # only a run can check the secret itself
            raise
        return _defined(result) if isinstance(result, Unset) else result

    return aware


def _concatenated(values: list[Any]) -> str:
    return "".join(str(_printed(value)) for value in values)


def _printed(value: Any) -> Any:
    """Return the printed form of ``value``; as in Ansible, nothing for None.

    Other objects become plain data: they would print their address in memory, which differs each time.
    """
    if value is None:
        return ""
    return value if isinstance(value, str | Mapping | list | Undefined) else _settled(value)


def _settled(value: Any, depth: int = 0) -> Any:
    """Return a value as plain data: text, numbers, lists, mappings."""
    if depth > _MAX_DEPTH:
        raise InvalidPlaybook(f"the template gives a value that is nested more than {_MAX_DEPTH} deep")
    if isinstance(value, Undefined):
        fail(value)
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        format(value, "d")  # raises for a number that is too long for text
        return value
    if isinstance(value, str):
        return str(value)  # Markup is a subclass of str
    if isinstance(value, Mapping):
        return {_settled(key, depth + 1): _settled(entry, depth + 1) for key, entry in value.items()}
    if isinstance(value, list | tuple | set | range | Iterator) or type(value).__name__.startswith("dict_"):
        return [_settled(entry, depth + 1) for entry in value]
    raise InvalidPlaybook(f"the template gives a {_word(value)}, not a plain value")


def _word(value: Any) -> str:
    words = {str: "text", bool: "boolean", int: "number", float: "number", list: "list", dict: "mapping"}
    return words.get(type(value), type(value).__name__)


def _syntax_cause(error: jinja2.TemplateSyntaxError, end: str) -> str:
    message = (error.message or "").rstrip(".")
    for word in ("token 'end of print statement'", "'end of print statement'"):
        message = message.replace(word, end)
    return message.replace("'end of statement block'", "'%}'")


def _free_names(tree: nodes.Node) -> set[str]:
    """Return the variables that a template certainly reads and does not set.

    A name in a branch (``x if x is defined else y``, ``x is defined and x``) is left out, as it may never be read.
    """
    stored = {name.name for name in tree.find_all(nodes.Name) if name.ctx != "load"}
    return set(_names_read(tree)) - stored - _OWN_NAMES


def _names_read(node: nodes.Node) -> Iterator[str]:
    forgiving = (isinstance(node, nodes.Filter) and node.name in _FORGIVING_FILTERS) or (
        isinstance(node, nodes.Test) and node.name in _FORGIVING_TESTS
    )
    if isinstance(node, nodes.Name):
        if node.ctx == "load":
            yield node.name
    elif isinstance(node, nodes.CondExpr | nodes.If):
        yield from _names_read(node.test)
    elif isinstance(node, nodes.And | nodes.Or):
        yield from _names_read(node.left)
    elif not forgiving:
        for child in node.iter_child_nodes():
            yield from _names_read(child)
