"""An instance on which systemd runs: the script is a oneshot unit, and background work outlives it in a unit of its own.

systemd ends every process of a oneshot unit when its script has ended (``KillMode=control-group``). The work waits for a
file, so that no test depends on how fast the machine is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import pytest

from tests.container.conftest import VOLUME, Instance
from tests.container.test_lifecycle_script import bring_wheels, from_wheels
from tests.container.test_scenarios import SLOW_BACKEND, SMALL, wait_for
from tests.support.figures import RecordFigure

pytestmark = pytest.mark.sampled(2)

SCRIPT = "lifecycle-on-start.service"
UNIT = "nbprovision-on-start"
JUPYTER = "jupyter-server.service"
GO = f"{VOLUME}/go"  # the work in the background goes on when this file exists
VALUE = "value-of-an-env-option"
PLAYBOOK = """\
- tasks:
    - ensure_conda_env: {name: slow, channels: [file:///srv/channel], packages: [python, pip, ipykernel]}
    - ensure_pip_pkg: {env: slow, packages: [/home/ec2-user/SageMaker/slow]}
    - ensure_kernel: {env: slow, display_name: Slow}
"""
BACKEND = SLOW_BACKEND.replace(
    "time.sleep(110)", f"import os\n    while not os.path.exists({GO!r}):\n        time.sleep(0.1)"
)
BUDGET = 30  # seconds: the smallest deadline that a script can have
GENEROUS = 180  # seconds after which something hangs


def properties(instance: Instance, unit: str) -> dict[str, str]:
    """What systemd says of a unit."""
    shown = instance.run("systemctl", "show", unit, user="root")
    return dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)


def work(instance: Instance) -> dict[str, list[str]]:
    """The commands of the notebook user's processes by unit, Jupyter's left out."""
    listed = instance.shell(
        "for pid in $(pgrep -u ec2-user); do"
        " unit=$(sed -n 's|^0::/.*/||p' /proc/$pid/cgroup 2>/dev/null) || continue;"
        " echo \"$unit $(tr '\\0\\n' '  ' </proc/$pid/cmdline 2>/dev/null)\"; done",
        user="root",
        ok=False,
    )
    units: dict[str, list[str]] = {}
    for line in listed.splitlines():
        unit, _, command = line.partition(" ")
        if unit not in ("", JUPYTER) and command:
            units.setdefault(unit, []).append(command)
    return units


def start_slowly(instance: Instance, first: str = "", **options: bool) -> None:
    """Start with work that does not fit in the budget, and wait until the script's unit has ended.

    Args:
        instance: The tool is on its volume.
        first: A line that root's script runs before all others.
        options: Of ``Instance.start``.
    """
    instance.shell(f"rm -rf {GO} {VOLUME}/envs/slow {VOLUME}/slow ~/.local/share/jupyter/kernels/slow")
    project = "[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n[project]\nname = 'slow'\nversion = '1'\n"
    instance.write(f"{VOLUME}/slow/pyproject.toml", project)
    instance.write(f"{VOLUME}/slow/backend.py", BACKEND)
    head, rest = from_wheels(PLAYBOOK, seconds=BUDGET, environment={"SETTING": VALUE}).split("\n", 1)
    instance.hook("on-start", f"{head}\n{first}\n{rest}")
    instance.restart(seconds=300, systemd=True, **options)
    wait_for(lambda: properties(instance, SCRIPT)["ActiveState"] == "inactive", GENEROUS, "the script's unit goes on")


def finish(instance: Instance) -> None:
    """Let the work in the background end."""
    instance.shell(f"touch {GO}")
    wait_for(lambda: not work(instance), GENEROUS, "the work in the background does not end")


def output(instance: Instance) -> str:
    """What the on-start script printed."""
    return instance.run("cat", "/var/log/notebook-instance/LifecycleConfigOnStart.log", user="root")


@pytest.fixture(scope="module")
def prepared(new_instance: Callable[[], Instance]) -> Instance:
    """The tool is on the volume; each test restarts the instance."""
    instance = new_instance().start(systemd=True)
    bring_wheels(instance)
    instance.hook("on-start", from_wheels(SMALL))
    return instance.restart(systemd=True, seconds=300)


class Background(NamedTuple):
    """What was seen of work that went on in the background.

    Attributes:
        script: Properties of the script's unit after its end.
        output: What the script printed.
        seconds: How long the script took.
        units: The commands of the work by unit, while it went on.
        properties: Those of the work's unit, while it went on.
        shown: All that ``systemctl`` showed of that unit: properties and status.
        status: What ``systemctl status`` alone showed.
        kernels_before: The kernels that Jupyter offered meanwhile.
        kernels_after: The kernels that it offered after the work.
        journal: What the journal holds by the name of nbprovision after the work.
    """

    script: Mapping[str, str]
    output: str
    seconds: float
    units: Mapping[str, list[str]]
    properties: Mapping[str, str]
    shown: str
    status: str
    kernels_before: Mapping[str, str]
    kernels_after: Mapping[str, str]
    journal: str


@pytest.fixture(scope="module")
def background(prepared: Instance) -> Background:
    """One start with work that does not fit, watched from the script's end to the work's."""
    start_slowly(prepared)
    script, units, before = properties(prepared, SCRIPT), work(prepared), prepared.kernels()
    unit = next(iter(units), SCRIPT)
    shown = prepared.run("systemctl", "show", unit, user="root")
    status = prepared.run("systemctl", "status", "--no-pager", "--full", unit, user="root", ok=False)
    finish(prepared)
    return Background(
        script=script,
        output=output(prepared),
        seconds=prepared.seconds("on-start"),
        units=units,
        properties=dict(line.split("=", 1) for line in shown.splitlines() if "=" in line),
        shown=shown + status,
        status=status,
        kernels_before=before,
        kernels_after=prepared.kernels(),
        journal=prepared.run("journalctl", "--no-pager", "-o", "cat", "-t", "nbprovision", user="root"),
    )


def test_the_work_outlives_the_unit_of_the_script(background: Background, record_figure: RecordFigure) -> None:
    record_figure("an on-start unit with --deadline 30 ends after", background.seconds, aim=BUDGET + 1)
    assert background.script["Result"] == "success"
    assert "background" in background.output.splitlines()[-1], background.output
    assert background.units
    assert SCRIPT not in background.units
    assert "slow" not in background.kernels_before
    assert background.kernels_after["slow"] == "Slow"


def test_the_unit_of_the_work_has_a_name_and_little_weight(background: Background) -> None:
    """One unit, found by its name; 100 is systemd's default weight, which Jupyter and the kernels have."""
    assert [unit.rpartition(".")[0] for unit in background.units] == [UNIT]
    assert int(background.properties["CPUWeight"]) < 100
    assert int(background.properties["IOWeight"]) < 100


def test_no_value_of_env_is_shown_of_the_unit(background: Background) -> None:
    """Every user of the machine may ask systemd for a unit's properties."""
    assert VALUE not in background.shown
    assert "env -i" not in background.shown


def test_the_status_of_the_unit_is_readable(background: Background) -> None:
    first = background.status.splitlines()[0]
    assert UNIT in first
    assert len(first) < 100, first
    assert "active (running)" in background.status


def test_the_journal_has_the_end_of_the_work(background: Background) -> None:
    assert any("status=0" in line for line in background.journal.splitlines()), background.journal


def test_without_a_unit_of_its_own_nothing_survives(prepared: Instance) -> None:
    """The control: the same script where it cannot start a unit."""
    start_slowly(prepared, first="mv /usr/bin/systemd-run /usr/bin/systemd-run.away")
    assert "background" in output(prepared).splitlines()[-1], output(prepared)
    wait_for(lambda: not work(prepared), GENEROUS, "something survives")
    prepared.shell(f"touch {GO}")
    assert "slow" not in prepared.kernels()
    assert "slow.py" not in prepared.shell(f"ls {VOLUME}/envs/slow/lib/python*/site-packages", ok=False)


def test_before_basic_target(prepared: Instance) -> None:
    """Most of systemd's services do not run yet, and none of them may be waited for."""
    start_slowly(prepared, early=True)
    reached = properties(prepared, "basic.target")["ActiveEnterTimestampMonotonic"]
    assert int(properties(prepared, SCRIPT)["ExecMainExitTimestampMonotonic"]) <= int(reached)
    assert "background" in output(prepared).splitlines()[-1], output(prepared)
    assert work(prepared)
    finish(prepared)
    assert prepared.kernels()["slow"] == "Slow"


def test_power_off_with_work_in_the_background(prepared: Instance, record_figure: RecordFigure) -> None:
    """Nothing holds up the end, and the next start completes the work."""
    start_slowly(prepared)
    assert work(prepared)
    began = time.monotonic()
    prepared.run("systemctl", "poweroff", user="root", ok=False)
    assert prepared.ends_by_itself(GENEROUS)
    record_figure("an instance with background work is off after", time.monotonic() - began, aim=10)
    head, rest = from_wheels(PLAYBOOK).split("\n", 1)
    prepared.hook("on-start", f"{head}\ntouch {GO}\n{rest}")
    prepared.restart(seconds=300, systemd=True)
    assert output(prepared).splitlines()[-1].startswith("nbprovision: done"), output(prepared)
    assert prepared.kernels()["slow"] == "Slow"
    assert prepared.execute("slow", "import slow; print(1 + 1)").strip() == "2"


ROOTS_TOOL = """\
/srv/builder/bin/python3 -m venv --without-pip /root/tool
/srv/builder/bin/python3 -m pip --quiet --python /root/tool/bin/python install --no-index \\
    --find-links /srv/wheels --find-links /srv/tool nbprovision
"""
NOTIFYING = """\
- tasks:
    - ensure_file: {path: /root/setting, content: "%s"}
      notify: restart_jupyter
"""


def test_restart_jupyter_restarts_the_service(prepared: Instance) -> None:
    """By root, with a tool of root's; while a lifecycle script is at work, Jupyter is left alone."""
    prepared.hook("on-start", from_wheels(SMALL))
    prepared.restart(seconds=300, systemd=True)
    prepared.shell(ROOTS_TOOL, user="root")

    def play(content: str, *before: str) -> str:
        prepared.write("/root/play.yml", NOTIFYING % content, user="root")
        tool = ["/root/tool/bin/nbprovision", "run", "--home", "/root/nbprovision", "/root/play.yml"]
        return prepared.run(*before, *tool, user="root")

    first = properties(prepared, JUPYTER)["MainPID"]
    assert first != "0"
    assert "Jupyter is not restarted by the on-start script" in play("one", "env", "NBPROVISION_PHASE=on-start")
    assert properties(prepared, JUPYTER)["MainPID"] == first
    play("two")
    wait_for(lambda: properties(prepared, JUPYTER)["MainPID"] not in ("0", first), GENEROUS, "Jupyter is as it was")
    wait_for(prepared.answers, GENEROUS, "Jupyter does not answer")
    assert prepared.execute("conda_python3", "print(1 + 1)").strip() == "2"
