"""A new kind of task joins the tables that try every kind: each of these tests names the table and what it lacks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nbprovision.catalogue import Catalogue
from tests.container import test_root_tasks
from tests.reliability import test_hostile_values, test_inputs, test_kill_tasks
from tests.system import test_root_obeys_nobody

ROOT = Path(__file__).parents[1]
CATALOGUE = Catalogue()
KINDS = set(CATALOGUE)
OF_ROOT = {kind for kind in KINDS if CATALOGUE[kind].in_root == "always"}  # a run only compares
HANDLER = {"restart_jupyter"}  # has no parameters, reads no file, and its work is a restart
KIND = re.compile(r"\b(?:ensure|restart)_[a-z0-9_]+(?=:|`)")


@pytest.mark.parametrize(
    ("table", "kinds", "exceptions"),
    [
        ("BASES in tests/reliability/test_hostile_values.py", set(test_hostile_values.BASES), HANDLER),
        ("TASKS in tests/system/test_root_obeys_nobody.py", set(test_root_obeys_nobody.TASKS), OF_ROOT),
        ("TASKS in tests/reliability/test_inputs.py", set(KIND.findall(str(test_inputs.TASKS))), HANDLER | OF_ROOT),
        (
            "PLAYBOOKS in tests/reliability/test_kill_tasks.py",
            set(KIND.findall(str(test_kill_tasks.PLAYBOOKS))),
            HANDLER | OF_ROOT,
        ),
        ("TRIALS in tests/container/test_root_tasks.py", set(test_root_tasks.TRIALS), KINDS - OF_ROOT),
        ("the table of tasks in README.md", set(KIND.findall((ROOT / "README.md").read_text())), HANDLER),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_table_has_every_kind(table: str, kinds: set[str], exceptions: set[str]) -> None:
    assert KINDS - kinds - exceptions == set(), f"add them to {table}"
