"""What befalls a notebook instance between two starts, and what it is promised all the same."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nbprovision.lifecycle.render import BOOTSTRAP_NAME
from tests.container.conftest import TOOL_HOME, VOLUME, Image, Instance, InstanceFailed
from tests.container.test_lifecycle_script import CODE, ENVIRONMENT, PLAYBOOK, bring_wheels, from_wheels, state_of
from tests.support.figures import RecordFigure

pytestmark = pytest.mark.sampled(2)

ROOT = Path(__file__).parents[2]
NBPROVISION = f"{TOOL_HOME}/bin/nbprovision"
ANACONDA = "/home/ec2-user/anaconda3"
# Kernels only: the tool itself takes most of the time of a start.
SMALL = """\
- tasks:
    - ensure_kernel: {name: small, argv: [/bin/cat, "{connection_file}"], display_name: Small}
"""


@pytest.fixture(scope="module")
def provisioned(new_instance: Callable[[], Instance]) -> Instance:
    """An instance that one start has provisioned; each test restarts it, and leaves the volume as it was."""
    instance = new_instance().start()
    bring_wheels(instance)
    instance.hook("on-start", from_wheels())
    return instance.restart(seconds=280)


def wait_for(condition: Callable[[], bool], seconds: float, what: str) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, what
        time.sleep(0.5)


def test_another_image_under_the_volume(provisioned: Instance, image: Image) -> None:
    """Other names of the provided environments, and the Python that the tool's environment was made with is gone."""
    dockerfile = f"""FROM {image.id}
RUN cp -a {ANACONDA}/bin {ANACONDA}/lib /usr/local/ && rm -f {ANACONDA}/bin/python* \\
 && mv {ANACONDA}/envs/python3 {ANACONDA}/envs/python312 && mv {ANACONDA}/envs/pytorch_p310 {ANACONDA}/envs/pytorch
"""
    built = subprocess.run(
        ["docker", "build", "--quiet", "--network", "none", "-"], input=dockerfile, capture_output=True, text=True,
        env={**os.environ, "DOCKER_BUILDKIT": "0"}, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stdout + built.stderr
    before = state_of(provisioned, ENVIRONMENT)
    try:
        provisioned.restart(image=built.stdout.split()[-1], seconds=280)
        assert provisioned.output().splitlines()[-1].startswith("nbprovision: done status=0 "), provisioned.output()
        assert (
            provisioned.run(f"{TOOL_HOME}/venv/bin/python", "-c", "import sys; print(sys.base_prefix)")
            == "/usr/local\n"
        )
        assert provisioned.kernels()["team"] == "Team"
        assert provisioned.execute("team", CODE).split() == [ENVIRONMENT, "2", "hello"]
        assert state_of(provisioned, ENVIRONMENT) == before
    finally:
        provisioned.restart(image=image.id, seconds=280)


def test_no_network_at_all(provisioned: Instance) -> None:
    """No name resolves, and no address can be reached: containers of docker/engine.sh have no way out."""
    before = state_of(provisioned, f"{TOOL_HOME}/venv/")
    provisioned.restart(dns=["127.0.0.1"], seconds=60)
    assert provisioned.run("getent", "hosts", "pypi.org", ok=False) == "", "no name resolves"
    assert provisioned.status("on-start") == 0
    assert provisioned.execute("team", CODE).split()[1] == "2"
    assert state_of(provisioned, f"{TOOL_HOME}/venv/") == before


def test_without_root_access(provisioned: Instance) -> None:
    provisioned.restart(root_access="Disabled")
    assert provisioned.status("on-start") == 0
    assert provisioned.kernels()["team"] == "Team"


@pytest.mark.parametrize("room", [20, 170], ids=["no room for the tool", "no room for the environment"])
def test_a_full_volume(instance: Instance, room: int) -> None:
    """With so many megabytes free. The notebook starts, the reason is told, and with room again the next run does the work."""
    small = {
        "small": {"driver_opts": {"type": "tmpfs", "device": "tmpfs", "o": "size=700m,uid=1000,gid=1000,mode=755"}}
    }
    # The wheels are not on this volume; what fills it up is there before anything else.
    head, rest = from_wheels(tool="/srv/all").split("\n", 1)
    fill = f"mkdir /srv/all; cp /srv/wheels/*.whl /srv/tool/*.whl /srv/all/; head -c {700 - room}M /dev/zero >{VOLUME}/filler"
    instance.hook("on-start", f"{head}\n{fill}\n{rest}")
    instance.start("on-start", seconds=280, volumes=[*instance.mounts, f"small:{VOLUME}"], defined=small)
    assert instance.status("on-start") == 0
    assert re.search("disk is full|No space left", instance.output()), instance.output()
    assert "Traceback" not in instance.output()
    assert "team" not in instance.kernels()
    instance.run("rm", "-f", f"{VOLUME}/filler", user="root")
    own = f"{TOOL_HOME}/lifecycle"
    instance.shell(f"NBPROVISION_SOURCE=/srv/all sh {own}/{BOOTSTRAP_NAME} {own}/playbook/team.yml")
    assert instance.execute("team", CODE).split() == [ENVIRONMENT, "2", "hello"]


FAILURES = {
    "a playbook that is none": ("- tasks:\n    - ensure_nothing: {}\n", "failed status=4 fallback=playbook used="),
    "an index that is dead": (
        "- tasks:\n    - ensure_pip_pkg: {python: '/home/ec2-user/anaconda3/envs/python3/bin/python', packages: [nothing-of-the-kind]}\n",
        "failed status=2 ",
    ),
    "a channel that is not there": (
        "- tasks:\n    - ensure_conda_env: {name: x, channels: ['file:///nowhere'], packages: [python]}\n    - ensure_kernel: {env: x}\n",
        "failed status=2 ",
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_leaves_the_notebook_starting(provisioned: Instance, name: str) -> None:
    playbook, told = FAILURES[name]
    provisioned.hook("on-start", from_wheels(playbook))
    try:
        provisioned.restart(seconds=120)
        assert provisioned.status("on-start") == 0
        lines = provisioned.output().splitlines()
        assert told in lines[-1]
        assert any("cannot" in line or "no task" in line or "failed" in line for line in lines[-12:-1]), lines
        assert "Traceback" not in provisioned.output()
        assert "x" not in provisioned.kernels()
    finally:
        provisioned.hook("on-start", from_wheels())


def test_a_crash_of_the_tool_leaves_the_notebook_starting(provisioned: Instance) -> None:
    """Its own code is broken, in a way that only running it tells."""
    path = f"{TOOL_HOME}/venv/lib/python3.*/site-packages/nbprovision/cli/run.py"
    provisioned.shell(
        f"set -- {path}; size=$(stat -c %s $1); head -c $size /dev/zero >$1; touch -d '2020-01-01' $1; rm -f {TOOL_HOME}/state/*"
    )
    provisioned.restart(seconds=280)
    assert provisioned.status("on-start") == 0
    lines = provisioned.output().splitlines()
    assert lines[-1].startswith("nbprovision: done status=0"), lines
    assert any("defect of nbprovision" in line and "SyntaxError" in line for line in lines), lines
    assert any("is damaged, and is created again" in line for line in lines), lines
    assert provisioned.kernels()["team"] == "Team"


def test_strict_keeps_it_from_starting(provisioned: Instance) -> None:
    provisioned.hook("on-start", from_wheels(FAILURES["a playbook that is none"][0], strict=True))
    try:
        with pytest.raises(InstanceFailed, match="failed with status 4"):
            provisioned.restart(seconds=120)
    finally:
        provisioned.hook("on-start", from_wheels())
        provisioned.restart(seconds=280)


SLOW_BACKEND = """\
import time, zipfile
def build_wheel(folder, config_settings=None, metadata_directory=None):
    time.sleep(110)
    with zipfile.ZipFile(f"{folder}/slow-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("slow.py", "")
        wheel.writestr("slow-1.dist-info/METADATA", "Metadata-Version: 2.1\\nName: slow\\nVersion: 1\\n")
        wheel.writestr("slow-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("slow-1.dist-info/RECORD", "slow.py,,\\nslow-1.dist-info/METADATA,,\\nslow-1.dist-info/WHEEL,,\\nslow-1.dist-info/RECORD,,\\n")
    return "slow-1-py3-none-any.whl"
"""


def test_work_that_takes_longer_than_the_budget(
    new_instance: Callable[[], Instance], record_figure: RecordFigure
) -> None:
    """The script ends in time, the notebook is usable, the environment comes later, and all the while one is told."""
    instance = new_instance().start()
    bring_wheels(instance)
    instance.hook("on-start", from_wheels(SMALL))
    instance.restart(seconds=280)
    # A script of a package that takes its time: the platform's limits cannot be waited for.
    slow = """\
- tasks:
    - name: A slow environment
      ensure_conda_env: {name: slow, channels: [file:///srv/channel], packages: [python, pip, ipykernel]}
    - name: What takes long
      ensure_pip_pkg: {env: slow, packages: [/home/ec2-user/SageMaker/slow]}
    - ensure_kernel: {env: slow, display_name: Slow}
    - ensure_kernel: {name: small, argv: [/bin/cat, "{connection_file}"], display_name: Small}
"""
    instance.write(
        f"{VOLUME}/slow/pyproject.toml",
        "[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n"
        "[project]\nname = 'slow'\nversion = '1'\n",
    )
    instance.write(f"{VOLUME}/slow/backend.py", SLOW_BACKEND)
    instance.hook("on-start", from_wheels(slow, seconds=30))
    instance.restart(seconds=280)
    record_figure("an on-start script with --deadline 30 ends after", instance.seconds("on-start"), aim=31)
    assert instance.status("on-start") == 0
    assert instance.output().splitlines()[-1].startswith("nbprovision: background status=7 ")
    assert "small" in instance.kernels()
    assert "slow" not in instance.kernels(), "no kernel before its environment is finished"
    assert instance.execute("conda_python3", "print(1 + 1)").strip() == "2"
    told = instance.run(NBPROVISION, "status")
    assert "running" in told
    assert "What takes long" in told
    in_browser = instance.run("cat", f"{VOLUME}/nbprovision-status.txt")
    assert "What takes long" in in_browser
    second = instance.run(
        NBPROVISION, "run", "--lock-timeout", "1", f"{TOOL_HOME}/lifecycle/playbook/team.yml", ok=False
    )
    assert "held by process" in second
    instance.run(NBPROVISION, "status", "--follow")
    wait_for(lambda: "slow" in instance.kernels(), 180, instance.run(NBPROVISION, "status"))
    assert instance.execute("slow", "import sys, slow; print(sys.prefix)").strip() == f"{VOLUME}/envs/slow"


def test_a_first_install_that_takes_longer_than_the_budget_is_told_in_the_file_browser(instance: Instance) -> None:
    """There is no `nbprovision status` yet. The index takes connections, says nothing, and is then gone."""
    head, rest = from_wheels(
        tool=None, assets_url=f"{VOLUME}/wheels", index_url="http://127.0.0.1:8998/simple", seconds=30
    ).split("\n", 1)
    listen = "import socket, time; kept = socket.create_server(('127.0.0.1', 8998)); time.sleep(50)"
    index = f'{ANACONDA}/envs/python3/bin/python -c "{listen}" >/dev/null 2>&1 </dev/null &'
    instance.start()
    bring_wheels(instance)
    instance.hook("on-start", f"{head}\n{index}\n{rest}")
    instance.restart(seconds=280)
    assert instance.status("on-start") == 0
    assert instance.output().splitlines()[-1].startswith("nbprovision: background status=7 ")
    text = f"{VOLUME}/nbprovision-status.txt"
    told = instance.run("cat", text)
    assert told.startswith("installing: ")
    assert f"{TOOL_HOME}/log/bootstrap.log" in told
    wait_for(lambda: instance.run("cat", text).startswith("failed: "), 180, told)
    assert "could not install nbprovision==" in instance.run("cat", text)
    assert instance.run("stat", "-c", "%U %a", text).split() == ["ec2-user", "644"]


def test_the_one_line_of_the_readme(instance: Instance) -> None:
    """With what it needs beside bootstrap.sh: no index is reached here."""
    (line,) = re.findall(r"^timeout .* runuser .*$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert line in (ROOT / "docs/lifecycle.md").read_text()
    instance.start()
    instance.write(f"{VOLUME}/nbprovision/bootstrap.sh", (ROOT / "bootstrap.sh").read_text())
    instance.shell(f"cp /srv/wheels/*.whl /srv/tool/*.whl {VOLUME}/nbprovision/")
    instance.write(f"{VOLUME}/team.yml", PLAYBOOK)
    instance.hook("on-start", f"#!/bin/sh\n{line}\n")
    for _ in range(2):
        instance.restart(seconds=290)
        assert instance.execute("team", CODE).split() == [ENVIRONMENT, "2", "hello"]
        assert instance.run("find", VOLUME, "/home/ec2-user", "!", "-user", "ec2-user") == ""
    assert "ok=" in instance.output()


# In place of AWS's own command, which is not to be had without AWS: it knows `s3 cp` and `s3 sync` as the script uses
# them, with a folder for the buckets, and says no when that is not there.
AWS = """#!/bin/sh
while [ "$1" != s3 ]; do shift; done
shift; verb=$1; shift
for word; do case $word in s3://*) from=/srv/buckets/${word#s3://} ;; --*) ;; *) to=$word ;; esac; done
[ -d /srv/buckets ] || { echo "Could not connect to the endpoint URL" >&2; exit 255; }
case $verb in cp) cp "$from" "$to" ;; sync) cp "$from"*.whl "$to/" ;; esac
"""


def test_from_a_bucket_and_without_it(instance: Instance) -> None:
    """Tool and playbook come from S3; where it cannot be reached those of the last start have to do, and that is said."""
    instance.start()
    wanted = {"playbook": "s3://team/book.yml", "payload": {}, "tool": "s3://team/wheels"}
    head, rest = from_wheels(**wanted).split("\n", 1)
    bucket = (
        f"cat >/usr/local/bin/aws <<'END'\n{AWS}END\nchmod 755 /usr/local/bin/aws\n"
        "[ -e /home/ec2-user/SageMaker/offline ] || { mkdir -p /srv/buckets/team/wheels; cp /srv/wheels/*.whl /srv/tool/*.whl /srv/buckets/team/wheels/;"
        f"cat >/srv/buckets/team/book.yml <<'END'\n{PLAYBOOK}END\n}}"
    )
    instance.hook("on-start", f"{head}\n{bucket}\n{rest}")
    instance.restart(seconds=280)
    assert instance.output().splitlines()[-1].startswith("nbprovision: done status=0 "), instance.output()
    assert instance.execute("team", CODE).split() == [ENVIRONMENT, "2", "hello"]
    instance.shell(f"touch {VOLUME}/offline")
    instance.restart(seconds=280)
    assert "Could not connect to the endpoint URL" in instance.output()
    assert instance.output().splitlines()[-1].startswith("nbprovision: failed status=4 fallback=playbook used="), (
        instance.output()
    )
    assert instance.kernels()["team"] == "Team"
