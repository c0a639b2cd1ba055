"""A fleet of 20 instances with homes of their own: the real bootstrap.sh, the real ``aws``, moto's S3.

The publisher's side is only its files: releases and pointers.
"""

from __future__ import annotations

import concurrent.futures
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from nbprovision.report.instance_report import InstanceReport
from tests.lifecycle.test_bootstrap_hook import at_work, wait_for
from tests.support import moto_server
from tests.support.figures import RecordFigure
from tests.support.rings import Fleet, Instance, release

pytestmark = [pytest.mark.campaign, moto_server.NEEDED]

NUMBER, CANARIES, DRIFTED = 20, 2, 3
AT_ONCE = 4
TASKS = """\
- name: Team
  tasks:
    - name: kernel
      ensure_kernel: {name: team, argv: ["true", "{connection_file}"], display_name: T}
    - name: settings
      ensure_file: {path: "{{ playbook_dir }}/../../../volume/settings", content: TEXT}
"""
GOOD = release({"team.yml": TASKS.replace("TEXT", "first")})
BAD = release({"team.yml": TASKS.replace("TEXT", "bad") + "    - {name: wrong, ensure_command: {argv: ['false']}}\n"})
BETTER = release({"team.yml": TASKS.replace("TEXT", "better")})


class Loop:
    """The instances, the first of them in the ring ``canary``, all others in ``stable``."""

    def __init__(self, fleet: Fleet, env: dict[str, str], folder: Path) -> None:
        self.fleet = fleet
        self.names = [f"notebook-{number}" for number in range(NUMBER)]
        self.instances = {}
        for number, name in enumerate(self.names):
            (folder / name / "home").mkdir(parents=True)
            own = {**env, "HOME": f"{folder}/{name}/home", "NBPROVISION_HOME": f"{folder}/{name}/.nbprovision"}
            ring = "canary" if number < CANARIES else "stable"
            self.instances[name] = Instance(fleet, own, folder / name / "bin", name, ring)

    def start(self) -> dict[str, InstanceReport]:
        """Start all instances, as many at once as this machine can; return their reports in the bucket."""

        def start(instance: Instance) -> subprocess.CompletedProcess[str]:
            done = instance.start("--deadline", "290")
            wait_for(lambda: not at_work(instance.home))
            return done

        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            for done in pool.map(start, self.instances.values()):
                assert "Traceback" not in done.stdout + done.stderr
        reports = {name: self.fleet.report(name) for name in self.names}
        return {name: report for name, report in reports.items() if report is not None}

    def settings(self, name: str) -> Path:
        """The file that outlasts a stop."""
        return self.instances[name].home.parent / "volume/settings"


@pytest.fixture
def loop(offline: dict[str, str], wheels: Path, tmp_path: Path) -> Iterator[Loop]:
    with moto_server.serving() as address:
        fleet = Fleet(address)
        for wheel in wheels.glob("*.whl"):
            fleet.put(f"wheels/{wheel.name}", wheel.read_bytes())
        yield Loop(fleet, offline, tmp_path)


def outcomes(reports: dict[str, InstanceReport], names: Sequence[str]) -> set[tuple[str | None, int, tuple[str, ...]]]:
    """The releases, statuses and drift that some instances report."""
    return {(reports[name].release, reports[name].status, reports[name].drift) for name in names}


def test_the_loop(loop: Loop, record_figure: RecordFigure) -> None:
    canaries, others = loop.names[:CANARIES], loop.names[CANARIES:]
    good = loop.fleet.publish(GOOD, "canary")
    loop.fleet.point(good, "stable")
    reports = loop.start()
    assert outcomes(reports, loop.names) == {(good, 0, ())}
    assert {reports[name].ring for name in canaries} == {"canary"}
    assert {reports[name].ring for name in others} == {"stable"}

    started = time.monotonic()
    reports = loop.start()
    record_figure(f"seconds of a start of {NUMBER} instances", time.monotonic() - started)
    assert outcomes(reports, loop.names) == {(good, 0, ())}
    assert {len(instance.calls) for instance in loop.instances.values()} == {1}

    bad = loop.fleet.publish(BAD, "canary")
    reports = loop.start()
    assert outcomes(reports, canaries) == {(bad, 2, ())}
    assert {reports[name].failures[0].task for name in canaries} == {"wrong"}
    assert outcomes(reports, others) == {(good, 0, ())}, "a bad release fails in its ring and nowhere else"
    assert {loop.settings(name).read_text() for name in canaries} == {"bad"}

    loop.fleet.point(good, "canary")
    reports = loop.start()
    assert outcomes(reports, loop.names) == {(good, 0, ())}, "one write mends it, and what it mends is no drift"
    assert {loop.settings(name).read_text() for name in loop.names} == {"first"}

    drifted = loop.names[1 : 1 + 5 * DRIFTED : 5]
    for name in drifted:
        loop.settings(name).write_text("somebody's own")
    reports = loop.start()
    assert {name for name in loop.names if reports[name].drift} == set(drifted)
    assert outcomes(reports, drifted) == {(good, 0, ("settings",))}
    assert {loop.settings(name).read_text() for name in loop.names} == {"first"}
    assert outcomes(loop.start(), loop.names) == {(good, 0, ())}

    better = loop.fleet.publish(BETTER, "canary")
    loop.fleet.point(better, "stable")
    shutil.rmtree(loop.instances[others[0]].home / "lifecycle/releases")
    assert outcomes(loop.start(), loop.names) == {(better, 0, ())}
