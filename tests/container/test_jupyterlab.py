"""JupyterLab on a notebook instance: the extension is there from the start, and follows runs in a real browser.

The image has the server alone. JupyterLab comes from wheels, as if the platform had brought it.
"""

from __future__ import annotations

import fcntl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import registry_settings
from tests.container.conftest import TOKEN, TOOL_HOME, VOLUME, Instance
from tests.container.test_lifecycle_script import SERVER, bring_wheels, from_wheels, state_of
from tests.support.at_work import until
from tests.support.browser import browser, needs_chromium
from tests.support.jupyterlab import VERSIONS, Page

pytestmark = [pytest.mark.network, needs_chromium]

EXTENSIONS = "/home/ec2-user/.local/share/jupyter/labextensions"
PLAYBOOK = "- tasks: [ensure_jupyter_extension: {name: nbprovision}]\n"
GATE = f"{VOLUME}/gate"
LONG = f"""\
- tasks:
    - name: A gate
      ensure_command: {{shell: 'until [ -e {GATE} ]; do sleep 0.1; done; touch {GATE}.made', creates: {GATE}.made}}
    - name: Its kernel
      ensure_kernel: {{env: python3, name: team, display_name: The Team}}
"""
BAD = "- tasks: [{name: Notes, ensure_file: {path: ~/notes, src: missing.txt}}]\n"


class Lab(NamedTuple):
    """An instance with JupyterLab, and a browser that shows it."""

    instance: Instance
    page: Page

    def nbprovision(self, name: str, playbook: str) -> subprocess.Popen[bytes]:
        """Start a run as the user does in a terminal of JupyterLab."""
        self.instance.write(f"{VOLUME}/{name}", playbook)
        argv = ["docker", "exec", "--user", "ec2-user", "--env", "HOME=/home/ec2-user", self.instance.container]
        command = f"exec {TOOL_HOME}/bin/nbprovision run {VOLUME}/{name}"
        return subprocess.Popen([*argv, "/bin/sh", "-c", command], stdout=subprocess.DEVNULL)


@pytest.fixture(scope="module", params=list(VERSIONS))
def wheels(request: pytest.FixtureRequest, shared_cache: Path) -> tuple[str, Path]:
    """A requirement of JupyterLab, and the folder with all that it needs."""
    folder = shared_cache / f"jupyterlab-wheels-{request.param}"
    env = {"PATH": "/usr/bin:/bin", "HOME": str(shared_cache), **registry_settings()}
    argv = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:"]
    with (shared_cache / "jupyterlab-wheels.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run(
            [*argv, "--dest", str(folder), VERSIONS[request.param]],
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        pytest.skip(f"NO BROWSER TEST: JupyterLab cannot be fetched here: {done.stderr[-300:]}")
    return VERSIONS[request.param], folder


@pytest.fixture
def lab(instance: Instance, wheels: tuple[str, Path], tmp_path: Path) -> Iterator[Lab]:
    """The instance after a restart whose script has put the extension back."""
    requirement, folder = wheels
    instance.start()
    bring_wheels(instance)
    head, rest = from_wheels(payload={"team.yml": PLAYBOOK.encode()}).split("\n", 1)
    install = f"{SERVER}/bin/python -m pip install --quiet --no-index --find-links /srv/lab '{requirement}'"
    instance.hook("on-start", f"{head}\nrunuser -u ec2-user -- {install} || exit 9\ncp -a {SERVER} /srv/before\n{rest}")
    instance.restart(seconds=280, volumes=[*instance.mounts, f"{folder}:/srv/lab:ro"])
    assert instance.status("on-start") == 0, instance.output()
    with browser(1280, 900, tmp_path) as driver:
        page = Page(driver, f"http://127.0.0.1:{instance._port}/", TOKEN)
        page.open()
        yield Lab(instance, page)


def test_the_extension_follows_runs_from_the_first_start_on(lab: Lab) -> None:
    instance, page = lab
    until(lambda: page.item == "nbprovision: ready")
    assert not page.own_cards
    assert "package.json" in instance.shell(f"ls {EXTENSIONS}/nbprovision")
    assert state_of(instance, SERVER) == state_of(instance, "/srv/before"), "nothing goes into JupyterSystemEnv"

    page.open_panel()
    with lab.nbprovision("long.yml", LONG) as run:
        instance.shell(f"until grep -q '\"working\"' {VOLUME}/nbprovision-status.json; do sleep 0.1; done")
        page.look_again()
        until(lambda: page.item.startswith("nbprovision: working "))
        assert "A gate" in page.panel
        assert len(page.own_cards) == 1
        assert "The Team" not in str(page.cards)
        instance.shell(f"touch {GATE}")
        assert run.wait() == 0
    until(lambda: page.item == "nbprovision: ready")
    assert "changed" in page.panel
    until(lambda: "The Team" in str(page.cards))  # JupyterLab looks for kernels once a minute

    with lab.nbprovision("bad.yml", BAD) as run:
        assert run.wait() != 0
    page.look_again()
    until(lambda: page.item.startswith("nbprovision: failed"))
    panel = page.panel
    assert "missing.txt" in panel
    assert "fix: " in panel
    assert len(page.own_cards) == 1
