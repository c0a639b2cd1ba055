"""A notebook without any network: the tool, the playbook and all its packages come from a bundle.

The bundle is made on this machine from a channel that the instance does not have.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nbprovision import __version__
from nbprovision.lifecycle.render import ScriptRequest, render
from tests.conftest import registry_settings
from tests.container.conftest import TOOL_HOME, VOLUME, Image, Instance
from tests.container.test_lifecycle_script import ENVIRONMENT, state_of

PLAYBOOK = """\
- name: Team
  tasks:
    - ensure_conda_env:
        name: team
        channels: ["CHANNEL"]
        packages: [python, ipykernel, cowsay]
    - ensure_kernel: {env: team, display_name: Team}
"""
CODE = "import sys, cowsay; print(sys.prefix, 1 + 1)"
HIDDEN = ["/srv/channel", "/srv/wheels"]  # what the image has for other tests


@pytest.fixture(scope="module")
def bundle(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of this machine."""
    folder = tmp_path_factory.mktemp("bundle")
    channel = Path(image.tool).parents[1] / "context/channel"
    (folder / "team.yml").write_text(PLAYBOOK.replace("CHANNEL", channel.as_uri()))
    command = [sys.executable, "-m", "nbprovision", "bundle", "team.yml", "-o", "team.tar", "--home", "home"]
    env = {"HOME": str(folder), "PATH": os.environ["PATH"], **registry_settings()}
    done = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "team.tar"


def bring(instance: Instance, bundle: Path, path: str) -> None:
    """Upload it, as a user does by Jupyter."""
    subprocess.run(["docker", "cp", "-q", bundle, f"{instance.container}:{path}"], check=True)
    instance.run("chown", "ec2-user:", path, user="root")


def check(instance: Instance) -> str:
    """The kernel starts, and the last line of the script says so; its output."""
    output = instance.output()
    assert output.splitlines()[-1].startswith("nbprovision: done status=0 "), output
    assert instance.kernels()["team"] == "Team"
    assert instance.execute("team", CODE).split() == [ENVIRONMENT, "2"]
    return output


def test_from_the_volume(instance: Instance, bundle: Path) -> None:
    instance.start()
    bring(instance, bundle, f"{VOLUME}/team.tar")
    instance.hook("on-start", render(ScriptRequest(playbook=f"{VOLUME}/team.tar")))
    instance.restart(seconds=280, tmpfs=HIDDEN)
    assert "creating its environment" in check(instance)
    assert instance.terminal("nbprovision --version").strip() == f"nbprovision {__version__}"
    places = (ENVIRONMENT, f"{TOOL_HOME}/venv/", f"{TOOL_HOME}/lifecycle/bundle")
    before = [state_of(instance, place) for place in places]
    for _ in range(2):
        instance.restart(seconds=280, tmpfs=HIDDEN)
        assert "creating" not in check(instance)
        assert [state_of(instance, place) for place in places] == before
    last = json.loads(instance.shell(f"cat {TOOL_HOME}/last-run.json"))
    assert {change["action"] for task in last["tasks"] for change in task["changes"]} == {"restore"}


# In place of AWS's own command: what the script asks of it, with a folder on the volume for the buckets.
AWS = f"""#!/bin/sh
until [ "$1" = s3 ] || [ "$1" = s3api ]; do shift; done
file={VOLUME}/buckets/team/books/team.tar
[ -f $file ] || {{ echo "Could not connect to the endpoint URL" >&2; exit 255; }}
for word; do :; done
case "$*" in
"s3api head-object --bucket team --key books/team.tar --query ETag --output text") stat -c '"%s-%Y"' $file ;;
"s3api get-object --bucket team --key books/team.tar --range bytes=0-131071 "*) head -c 131072 $file >"$word" ;;
"s3 cp --only-show-errors s3://team/books/team.tar "*) cp $file "$word" ;;
*) exit 252 ;;
esac
"""


@pytest.mark.campaign
def test_from_a_bucket_and_without_it(instance: Instance, bundle: Path) -> None:
    instance.start()
    instance.shell(f"mkdir -p {VOLUME}/buckets/team/books")
    bring(instance, bundle, f"{VOLUME}/buckets/team/books/team.tar")
    head, rest = render(ScriptRequest(playbook="s3://team/books/team.tar")).split("\n", 1)
    program = f"cat >/usr/local/bin/aws <<'END'\n{AWS}END\nchmod 755 /usr/local/bin/aws\n"
    instance.hook("on-start", f"{head}\n{program}{rest}")
    instance.restart(seconds=280, tmpfs=HIDDEN)
    assert "creating its environment" in check(instance)
    instance.restart(seconds=280, tmpfs=HIDDEN)
    assert "creating" not in check(instance)
    instance.shell(f"rm -r {VOLUME}/buckets")
    instance.restart(seconds=280, tmpfs=HIDDEN)
    assert "Could not connect to the endpoint URL" in instance.output()
    assert instance.output().splitlines()[-1].startswith("nbprovision: failed status=4 fallback=playbook used=")
    assert instance.kernels()["team"] == "Team"
