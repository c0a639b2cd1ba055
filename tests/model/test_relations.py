"""Which parameters go together: declared as data, held by the tasks, told by the reference."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from nbprovision.catalogue import Catalogue
from nbprovision.model.errors import ParameterError
from nbprovision.model.relations import AnyOf, Excludes, Needs, OneOf, Relation, Requires

NOTHING = dict.fromkeys("abc")
KEPT: list[tuple[Relation, dict[str, Any]]] = [
    (OneOf(("a", "b")), {"a": 1}),
    (OneOf(("a", "b"), required=False), {}),
    (AnyOf(("a", "b")), {"a": 1, "b": 2}),
    (Needs("a", ("b", "c")), {"a": 1, "c": 2}),
    (Needs("a", ("b",)), {}),
    (Needs("a", ("scope",), "env"), {"a": 1, "scope": "env"}),
    (Excludes("state", "absent", ("a",)), {"a": 1, "state": "present"}),
    (Requires("scope", "env", ("a",)), {"scope": "user"}),
    (Needs("a", ("scope",), "env"), {"scope": "user"}),
    (Requires("scope", "env", ("a", "b")), {"scope": "env", "b": 1}),
]
BROKEN: list[tuple[Relation, dict[str, Any], str, str]] = [
    (OneOf(("a", "b")), {}, "a", "neither `a` nor `b` is given"),
    (OneOf(("a", "b", "c")), {}, "a", "none of `a`, `b` and `c` is given"),
    (OneOf(("a", "b")), {"a": 1, "b": 2}, "b", "`a` and `b` cannot be given together"),
    (OneOf(("a", "b"), required=False), {"a": 1, "b": 2}, "b", "`a` and `b` cannot be given together"),
    (AnyOf(("a",)), {}, "a", "`a` is missing"),
    (Needs("a", ("b", "c")), {"a": 1}, "a", "`a` needs `b` or `c`"),
    (Needs("a", ("scope",), "env"), {"a": 1, "scope": "user"}, "a", "`a` needs `scope: env`"),
    (Excludes("state", "absent", ("a", "b")), {"b": 1, "state": "absent"}, "b", "cannot be given with `state: absent`"),
    (Requires("scope", "env", ("a",)), {"scope": "env"}, "scope", "`scope: env` needs `a`"),
]


@pytest.mark.parametrize(("relation", "values"), KEPT, ids=str)
def test_a_relation_that_is_kept_has_no_fault(relation: Relation, values: dict[str, Any]) -> None:
    assert relation.fault(values, {**NOTHING, **values}) is None


@pytest.mark.parametrize(("relation", "values", "key", "message"), BROKEN, ids=str)
def test_a_relation_that_is_broken_names_the_parameter(
    relation: Relation, values: dict[str, Any], key: str, message: str
) -> None:
    fault = relation.fault(values, {**NOTHING, **values})
    assert isinstance(fault, ParameterError)
    assert fault.key == key
    assert message in fault.message
    assert fault.cure


@pytest.mark.parametrize("kind", list(Catalogue()))
def test_relations_name_parameters_that_the_task_has(kind: str) -> None:
    task = Catalogue()[kind]
    for relation in task.relations:
        named = [getattr(relation, "name", None), *getattr(relation, "names", ()), *getattr(relation, "others", ())]
        assert {name for name in named if name} <= set(task.__struct_encode_fields__)
        assert relation.words().endswith(".")
        if isinstance(relation, Needs) and relation.value is None:
            fields = {field.encode_name: field for field in msgspec.structs.fields(task)}
            assert {fields[other].default for other in relation.others} <= {None, False}


def test_a_word_that_is_the_default_is_compared_and_does_not_count_as_given() -> None:
    task = Catalogue()["ensure_conda_env"]
    assert task(name="x", state="absent", update="none") == task(name="x", state="absent")
    with pytest.raises(ParameterError, match="`update` cannot be given with `state: absent`"):
        task(name="x", state="absent", update="latest")


def test_what_to_do_depends_on_whether_none_or_several_are_given() -> None:
    task = Catalogue()["ensure_pip_pkg"]
    for targets, cure in (({}, "name the environment"), ({"env": "a", "python": "/p"}, "give one of them")):
        with pytest.raises(ParameterError) as caught:
            task(packages=["x"], **targets)
        assert cure in caught.value.cure


@pytest.mark.parametrize("empty", [None, []])
def test_an_empty_list_counts_as_not_given(empty: list[str] | None) -> None:
    with pytest.raises(ParameterError, match="neither `env` nor `envs` is given"):
        Catalogue()["ensure_conda_pkg"](packages=["a"], envs=empty)
