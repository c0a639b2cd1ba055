"""A witness never lies: random sequences of runs and of changes by hand, judged by an oracle of its own.

The short form is part of every test run. The long form:

    sh tests/campaign.sh tests/reliability/test_witness_properties.py
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from tests.conftest import Channel
from tests.reliability.changes import CHANGES
from tests.reliability.world import ROOT, World

pytestmark = [pytest.mark.engine, pytest.mark.proof, pytest.mark.sampled(3)]

SEQUENCES = int(os.environ.get("NBPROVISION_TEST_SEQUENCES", "15"))
STEPS = 5


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, channel: Channel) -> World:
    """A machine on which everything is as described, and another environment to confuse it with."""
    made = World(tmp_path_factory.mktemp("world"), channel)
    made.env["TEAM"] = "blue"
    made.playbook.write_text(made.playbook.read_text().replace('six: "1.17.0"', 'six: "1.16.0"'))
    assert made.run().status == 0
    made.keep_other()
    shutil.rmtree(made.prefix)
    made.begin()
    assert made.run().status == 0
    assert made.differences(files=True) == []
    made.keep()
    return made


class Judge:
    """Runs, and holds every run to what it promises."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.seen: Counter[str] = Counter()

    def run(self, *options: str, tree: Path | None = None) -> None:
        """Run; everything is as described then, by the oracle; a second run finds nothing to do, and so does a third
        that looks at everything anew."""
        done = self.world.run(*options, tree=tree)
        self.seen["runs"] += 1
        assert done.status == 0, (done.document, done.errors)
        wrong = self.world.differences()
        assert wrong == [], (wrong, done.document)
        again = self.world.run()
        self.seen["runs again"] += 1
        self.seen["witnessed"] += again.proofs == {"witness"}
        assert again.all_ok, ("again", again.document, again.errors)
        anew = self.world.run("--no-witness", "--check")
        assert anew.all_ok, ("anew", anew.document, anew.errors)
        assert anew.proofs == {"check"}


@pytest.mark.scaled("NBPROVISION_TEST_SEQUENCES")
def test_sequences_of_changes_and_runs(world: World, tmp_path: Path) -> None:
    """After any changes by hand one run brings about what is described, and no run takes a change for none."""
    judge = Judge(world)
    tree = tmp_path / "tree"
    shutil.copytree(ROOT / "nbprovision", tree / "nbprovision", ignore=shutil.ignore_patterns("__pycache__"))

    class Sequence(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            judge.seen["sequences"] += 1
            world.restore()
            judge.run()
            self.changed: list[str] = []

        @rule(name=st.sampled_from(sorted(CHANGES)), then_run=st.booleans())
        def change(self, name: str, then_run: bool) -> None:
            CHANGES[name](world)
            self.changed.append(name)
            judge.seen[name] += 1
            if then_run:
                self.run()

        @rule()
        def run(self) -> None:
            judge.run()
            self.changed.clear()

        @rule(option=st.sampled_from(["--deep", "--no-witness", "--diff"]))
        def run_with_option(self, option: str) -> None:
            judge.run(option)
            self.changed.clear()

        @rule(kind=st.sampled_from(["touched", "replaced", "another version"]))
        def tool_upgraded(self, kind: str) -> None:
            _upgrade(tree, kind)
            judge.run(tree=tree)
            self.changed.clear()

        def teardown(self) -> None:
            if self.changed:
                judge.run()

    run_state_machine_as_test(
        Sequence,
        settings=settings(
            max_examples=SEQUENCES,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            derandomize=SEQUENCES < 100,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate] if SEQUENCES < 100 else [Phase.generate, Phase.shrink],
            print_blob=True,
        ),
    )
    print(f"\n{dict(judge.seen.most_common())}")
    assert judge.seen["witnessed"] > judge.seen["runs again"] / 2, "the witnesses vouch for too little"


def _upgrade(tree: Path, kind: str) -> None:
    path = tree / "nbprovision/__init__.py"
    if kind == "touched":
        path.touch()
    elif kind == "replaced":
        new = path.with_suffix(".new")
        shutil.copy2(path, new)
        new.replace(path)
    else:
        path.write_text(path.read_text() + "# another version\n")


@pytest.mark.parametrize("name", sorted(CHANGES))
def test_each_change_alone(world: World, name: str) -> None:
    """Every change is found and repaired by the run right after it, and by one after a second change of its kind."""
    world.restore()
    judge = Judge(world)
    judge.run()
    for _ in range(2):
        CHANGES[name](world)
        judge.run()
