"""How the parameters of a task go together, declared as data for the checks of a task and for the reference page.

Names are those that a playbook writes. A parameter counts as given unless it has its default value or is an empty list.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple, Protocol

from nbprovision.model.errors import ParameterError


class Relation(Protocol):
    """A rule about parameters."""

    def fault(self, given: Collection[str], values: Mapping[str, Any]) -> ParameterError | None:
        """Describe a violation; None if the rule is kept.

        Args:
            given: The names of the parameters that are given.
            values: The values of all parameters, their defaults included.

        """

    def words(self) -> str:
        """The rule as a sentence for the reference page."""


class OneOf(NamedTuple):
    """Exactly one of these parameters is given; if not ``required``, at most one.

    Attributes:
        names: The parameters.
        required: Whether one of them has to be given.
        cure: What to do if several are given.
        cure_missing: What to do if none is given.

    """

    names: tuple[str, ...]
    required: bool = True
    cure: str = "give one of them"
    cure_missing: str = "give one of them"

    def fault(self, given: Collection[str], values: Mapping[str, Any]) -> ParameterError | None:
        """See `Relation`."""
        several = [name for name in self.names if name in given]
        if len(several) > 1:
            return ParameterError(several[1], f"{_listed(several, 'and')} cannot be given together", cure=self.cure)
        if self.required and not several:
            return ParameterError(self.names[0], _missing(self.names), cure=self.cure_missing)
        return None

    def words(self) -> str:
        """See `Relation`."""
        return f"{'Exactly' if self.required else 'At most'} one of {_listed(self.names, 'and')}."


class AnyOf(NamedTuple):
    """At least one of these parameters is given."""

    names: tuple[str, ...]
    cure: str = ""

    def fault(self, given: Collection[str], values: Mapping[str, Any]) -> ParameterError | None:
        """See `Relation`."""
        if any(name in given for name in self.names):
            return None
        return ParameterError(
            self.names[0], _missing(self.names), cure=self.cure or f"give {_listed(self.names, 'or')}"
        )

    def words(self) -> str:
        """See `Relation`."""
        return f"At least one of {_listed(self.names, 'and')}."


class Needs(NamedTuple):
    """A parameter is given only with one of others, or only with a value of another: ``("env", ("scope",), "env")``.

    Without a value, the default of the others is None or false.
    """

    name: str
    others: tuple[str, ...]
    value: str | None = None
    cure: str = ""

    def fault(self, given: Collection[str], values: Mapping[str, Any]) -> ParameterError | None:
        """See `Relation`."""
        if self.value is None:  # an empty list will do, as a template may make one
            kept = any(values[other] not in (None, False) for other in self.others)
        else:
            kept = any(values[other] == self.value for other in self.others)
        if self.name not in given or kept:
            return None
        return ParameterError(
            self.name,
            f"`{self.name}` needs {self._others}",
            cure=self.cure or f"give {self._others} as well, or leave `{self.name}` out",
        )

    def words(self) -> str:
        """See `Relation`."""
        return f"`{self.name}` only with {self._others}."

    @property
    def _others(self) -> str:
        return _listed(self.others, "or") if self.value is None else f"`{self.others[0]}: {self.value}`"


class Excludes(NamedTuple):
    """Some parameters are not given with one value of another: ``("state", "absent", ("packages",))``."""

    name: str
    value: str
    others: tuple[str, ...]
    cure: str = ""

    def fault(self, given: Collection[str], values: Mapping[str, Any]) -> ParameterError | None:
        """See `Relation`."""
        wrong = [other for other in self.others if other in given] if values[self.name] == self.value else []
        if not wrong:
            return None
        return ParameterError(
            wrong[0],
            f"{_listed(wrong, 'and')} cannot be given with `{self.name}: {self.value}`",
            cure=self.cure or f"leave {_listed(wrong, 'and')} out",
        )

    def words(self) -> str:
        """See `Relation`."""
        return f"With `{self.name}: {self.value}`, no {_listed(self.others, 'and no')}."


class Requires(NamedTuple):
    """One value of a parameter needs another parameter: ``("scope", "env", ("env",))``."""

    name: str
    value: str
    others: tuple[str, ...]
    cure: str = ""

    def fault(self, given: Collection[str], values: Mapping[str, Any]) -> ParameterError | None:
        """See `Relation`."""
        if values[self.name] != self.value or any(other in given for other in self.others):
            return None
        listed = _listed(self.others, "or")
        return ParameterError(
            self.name, f"`{self.name}: {self.value}` needs {listed}", cure=self.cure or f"give {listed}"
        )

    def words(self) -> str:
        """See `Relation`."""
        return f"`{self.name}: {self.value}` only with {_listed(self.others, 'or')}."


def hold(task: Any, relations: tuple[Relation, ...]) -> None:
    """Hold the parameters of a task to its relations.

    Args:
        task: A msgspec record.
        relations: The rules.

    Raises:
        ParameterError: for the first that is not kept.

    """
    fields, defaults = task.__struct_fields__, task.__struct_defaults__
    default = dict(zip(fields[len(fields) - len(defaults) :], defaults, strict=True))
    values, given = {}, set()
    for name, attribute in zip(task.__struct_encode_fields__, fields, strict=True):
        values[name] = value = getattr(task, attribute)
        # A default that is created for each record is an empty list or mapping, which never counts as given.
        if value not in ([], {}, ()) and value != default.get(attribute):
            given.add(name)
    for relation in relations:
        fault = relation.fault(given, values)
        if fault is not None:
            raise fault


def _listed(names: tuple[str, ...] | list[str], word: str) -> str:
    quoted = [f"`{name}`" for name in names]
    return f" {word} ".join(filter(None, (", ".join(quoted[:-1]), quoted[-1])))


def _missing(names: tuple[str, ...]) -> str:
    if len(names) == 1:
        return f"`{names[0]}` is missing"
    if len(names) == 2:
        return f"neither `{names[0]}` nor `{names[1]}` is given"
    return f"none of {_listed(names, 'and')} is given"
