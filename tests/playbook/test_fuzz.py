"""Whatever a file holds, it is a playbook or an invalid one: no other exception, and no endless work."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nbprovision.model.errors import InvalidPlaybook
from nbprovision.playbook.read import read_playbook
from tests.support.playbook_tasks import CATALOGUE

WORDS = [
    *(
        "name",
        "hosts",
        "localhost",
        "vars",
        "tasks",
        "when",
        "tags",
        "no_log",
        "gather_facts",
        "local",
        "become",
        "handlers",
    ),
    *(
        "ensure_kernel",
        "ensure_pip_pkg",
        "ensure_x",
        "pip",
        "env",
        "packages",
        "requirements",
        "scope",
        "user",
        "timeout",
    ),
    *("validate", "environment", "nb", "a", "b", "x/y", "./x", "~", "yes", "3.10", "<<", "=", "always", "never"),
    *(
        "{{ a }}",
        "{{ b }}",
        "{{ nb.platform }}",
        "{{ a | default(omit) }}",
        "{{ [a, b] }}",
        "{{ a.b.c }}",
        "{{ 1 / 0 }}",
    ),
    *(
        "{% for x in a %}{{ x }}{% endfor %}",
        "{{ lookup('env', a) }}",
        "{{",
        "{% if",
        "{{ a ~ b }}",
        "{{ a * 9 }}",
    ),
    *("a is defined", "not a", "a and b", "a ==", "\0", "\u2028", "é", "💥"),
]
SCALARS = st.one_of(
    st.sampled_from(WORDS), st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.dates()
)
KEYS = st.one_of(st.sampled_from(WORDS), st.text(max_size=4), st.integers(), st.booleans(), st.none())


def trees(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaves,
        lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=4)),
        max_leaves=12,
    )


ANY = trees(SCALARS)
CALLS = st.fixed_dictionaries(
    {},
    optional={
        "ensure_kernel": st.one_of(
            ANY,
            st.fixed_dictionaries(
                {"env": ANY},
                optional={"environment": ANY, "timeout": ANY, "validate": ANY, "scope": ANY, "name": ANY, "x": ANY},
            ),
        ),
        "ensure_pip_pkg": st.fixed_dictionaries({}, optional={"packages": ANY, "requirements": ANY}),
        "when": ANY,
        "name": ANY,
        "tags": ANY,
        "no_log": ANY,
        "vars": st.dictionaries(st.sampled_from(["a", "b", "c d"]), ANY, max_size=2),
    },
)
PLAYS = st.fixed_dictionaries(
    {},
    optional={
        "name": ANY,
        "hosts": ANY,
        "vars": st.one_of(ANY, st.dictionaries(st.sampled_from(["a", "b", "c"]), ANY, max_size=3)),
        "tasks": st.one_of(ANY, st.lists(st.one_of(CALLS, ANY), max_size=3)),
        "gather_facts": ANY,
        "tags": ANY,
        "connection": ANY,
    },
)
PLAYBOOKS = st.one_of(st.lists(PLAYS, min_size=1, max_size=2), ANY)

# Pieces of YAML in any order find more than bytes at random.
PIECES = st.lists(
    st.one_of(
        st.sampled_from(
            [
                *(
                    "- ",
                    "\n",
                    "  ",
                    "    ",
                    ": ",
                    "? ",
                    "[",
                    "]",
                    "{",
                    "}",
                    ", ",
                    "&a ",
                    "*a",
                    "!x ",
                    "!!int ",
                    "<<: ",
                    "|\n",
                    ">-\n",
                ),
                *(
                    "'",
                    '"',
                    "#",
                    "---\n",
                    "...\n",
                    "%YAML 1.1\n",
                    "\t",
                    "\r\n",
                    "@",
                    "`",
                    "%",
                    "\ufeff",
                    "\x85",
                    "\x00",
                    "1:30",
                ),
            ]
        ),
        st.sampled_from(WORDS),
    ),
    max_size=40,
).map("".join)

CHECKS = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


def check(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    began = time.process_time()  # of this process: a bomb would take minutes on any machine
    told = "a playbook"
    try:
        read_playbook(path, CATALOGUE, {}, {"platform": "other"}, env={})
    except InvalidPlaybook as error:
        told = str(error)
    assert told
    assert time.process_time() - began < 60


def texts(tree: Any) -> bytes:
    return yaml.safe_dump(tree, allow_unicode=True, sort_keys=False).encode("utf-8", errors="replace")


def as_utf8(text: str) -> bytes:
    return text.encode("utf-8", errors="replace")


FORMS: list[tuple[st.SearchStrategy[Any], Callable[[Any], bytes]]] = [
    (st.binary(max_size=200), bytes),
    (PIECES, as_utf8),
    (PLAYBOOKS, texts),
]


def fuzz(path: Path, form: int, examples: int) -> None:
    strategy, encode = FORMS[form]

    @settings(max_examples=examples, deadline=None, suppress_health_check=CHECKS, database=None)
    @given(data=strategy)
    def one(data: Any) -> None:
        check(path, encode(data))

    one()


@pytest.mark.parametrize("form", range(len(FORMS)), ids=["bytes", "pieces", "trees"])
def test_short(tmp_path: Path, form: int) -> None:
    """A few hundred of each kind."""
    fuzz(tmp_path / "fuzz.yml", form, 200)


@pytest.mark.campaign
@pytest.mark.parametrize("form", range(len(FORMS)), ids=["bytes", "pieces", "trees"])
def test_long(tmp_path: Path, form: int) -> None:
    """A hundred thousand in all."""
    fuzz(tmp_path / "fuzz.yml", form, 34_000)
