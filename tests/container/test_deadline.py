"""How long after its deadline a lifecycle script ends: idle, and on a machine that has next to no time for it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator

import pytest

from tests.container.conftest import TOOL_HOME, VOLUME, Instance
from tests.container.test_lifecycle_script import bring_wheels, from_wheels
from tests.support.figures import RecordFigure

SECONDS = 30
SMALL = """\
- tasks:
    - ensure_kernel: {name: small, argv: [/bin/cat, "{connection_file}"], display_name: Small}
"""
SLOW = f"""{SMALL}\
    - ensure_command: {{argv: [/bin/sh, -c, "sleep 150; touch {VOLUME}/slept"], creates: {VOLUME}/slept}}
"""
TIMED = "read -r began _ </proc/uptime; /usr/bin/env -i PATH=/usr/bin:/bin /var/lib/lifecycle/on-start </dev/null >/root/shown 2>&1; echo $?; read -r ended _ </proc/uptime; echo $began $ended"
READY = (
    f"cd {TOOL_HOME}; for _ in $(seq 600); do"
    " [ venv.good -ef venv ] && [ -e venv/.complete ] && exit 0; sleep 0.2; done; ls -l; exit 1"
)
BUSY = "for i in 1 2 3 4 5 6 7 8; do setsid sh -c 'while :; do :; done' >/dev/null 2>&1 </dev/null & done"


@pytest.fixture(scope="module")
def installed(new_instance: Callable[[], Instance]) -> Instance:
    instance = new_instance().start()
    bring_wheels(instance)
    instance.hook("on-start", from_wheels(SMALL, seconds=SECONDS))
    instance.restart(seconds=280)  # the tool may come in the background
    instance.shell(READY)
    return instance


@pytest.fixture(params=["idle", "0.15 CPU and 8 busy loops"])
def burdened(installed: Instance, request: pytest.FixtureRequest) -> Iterator[tuple[Instance, str, int]]:
    """The instance, how it is burdened, and how many seconds after the deadline the script is to end at most."""
    # The test before may have left the tool without the mark of what is complete, to be installed again at the next start.
    installed.write("/tmp/on-start", from_wheels(SMALL, seconds=SECONDS))
    installed.shell("install -m 700 /tmp/on-start /var/lib/lifecycle/on-start", user="root")
    installed.shell(TIMED, user="root")
    installed.shell(READY)
    if request.param != "idle":
        installed.shell(BUSY)
        subprocess.run(["docker", "update", "--cpus", "0.15", installed.container], check=True, capture_output=True)
    yield installed, request.param, 1 if request.param == "idle" else 5
    subprocess.run(["docker", "update", "--cpus", "2", installed.container], check=True, capture_output=True)
    installed.shell("pkill -f 'while :' ; pkill sleep; true", ok=False)
    # What went on in the background would else make the tool anew beneath the next test.
    installed.shell(
        "for _ in 1 2 3; do pkill -KILL -f '[b]ootstrap|[n]bprovision'; sleep 0.5; done", user="root", ok=False
    )


def time_it(instance: Instance, record_figure: RecordFigure, what: str, aim: float) -> str:
    """Run the script as root; its last line."""
    status, began, ended = instance.shell(TIMED, user="root").split()
    assert status == "0"
    record_figure(
        f"seconds after its deadline that a script ends, {what}", float(ended) - float(began) - SECONDS, aim=aim
    )
    return instance.run("tail", "-n", "1", "/root/shown", user="root")


def test_work_that_takes_longer(burdened: tuple[Instance, str, int], record_figure: RecordFigure) -> None:
    instance, burden, aim = burdened
    instance.write("/tmp/on-start", from_wheels(SLOW, seconds=SECONDS))
    instance.shell("install -m 700 /tmp/on-start /var/lib/lifecycle/on-start", user="root")
    line = time_it(instance, record_figure, f"work goes on, {burden}", aim)
    assert line.startswith("nbprovision: background status=7 "), line


def test_a_tool_that_hangs_and_does_not_listen(
    burdened: tuple[Instance, str, int], record_figure: RecordFigure
) -> None:
    instance, burden, aim = burdened
    python = f"{TOOL_HOME}/venv/bin/python"
    instance.write("/tmp/on-start", from_wheels(SMALL, seconds=SECONDS))
    instance.shell("install -m 700 /tmp/on-start /var/lib/lifecycle/on-start", user="root")
    instance.write(f"{python}.hangs", "#!/bin/sh\ntrap '' TERM HUP INT\nwhile :; do sleep 5; done\n")
    instance.shell(f"cd {TOOL_HOME}/venv/bin; mv python python.real; chmod 755 python.hangs; mv python.hangs python")
    try:
        line = time_it(instance, record_figure, f"the tool hangs, {burden}", aim)
        # Whether the look at the tool is given up before the script's own end depends on the machine.
        assert line.startswith(("nbprovision: failed status=137 ", "nbprovision: background status=7 ")), line
    finally:
        instance.shell(
            f"cd {TOOL_HOME}/venv/bin; mv -f python.real python; pkill -f python.hangs; pkill -f trap; true", ok=False
        )
