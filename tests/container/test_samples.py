"""The sample playbooks that install something, on a notebook instance: what they leave, the second run, a new image."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.container.conftest import TOOL_HOME, VOLUME, Instance
from tests.container.test_lifecycle_script import SERVER, bring_wheels, from_wheels

# By hand, beside the trial of each kind in test_root_tasks.py: many starts of an instance.
pytestmark = pytest.mark.campaign

SAMPLES = Path(__file__).parents[2] / "playbooks/samples"
ANACONDA = "/home/ec2-user/anaconda3"
WHEEL = "cowsay @ file:///srv/wheels/cowsay-6.1-py3-none-any.whl"
EMPTY = '- tasks: [{ensure_kernel: {name: small, argv: [/bin/cat, "{connection_file}"]}}]\n'


@pytest.fixture(scope="module")
def instance(new_instance: Callable[[], Instance]) -> Instance:
    """An instance with the tool in its home."""
    instance = new_instance().start()
    bring_wheels(instance)
    instance.hook("on-start", from_wheels(EMPTY))
    return instance.restart(seconds=280)


def run(instance: Instance, sample: str, *words: str) -> str:
    """The recap of a run of a sample."""
    path = f"{VOLUME}/{sample}"
    instance.write(path, (SAMPLES / sample).read_text())
    # As a lifecycle script does: Jupyter starts after it, so that nothing restarts it.
    command = ("env", "NBPROVISION_PHASE=on-start", f"{TOOL_HOME}/venv/bin/nbprovision", "run", path)
    return instance.run(*command, *words).splitlines()[-1]


def installed(instance: Instance, name: str) -> set[str]:
    """The environments in which Python itself imports a module."""
    listed = instance.shell(
        f"for p in {ANACONDA}/envs/* {ANACONDA}; do ! $p/bin/python -I -c 'import {name}' 2>/dev/null || echo ${{p##*/}}; done"
    )
    return set(listed.split())


def test_pip_packages_in_one_environment_and_in_all(instance: Instance) -> None:
    instance.restart(seconds=280)  # the image as it was, whichever test came before
    words = ("-e", f'{{"packages": ["{WHEEL}"], "envs": ["python3"]}}')
    assert "changed=1" in run(instance, "install-pip-packages.yml", *words)
    assert installed(instance, "cowsay") == {"python3"}
    assert "ok=1 changed=0" in run(instance, "install-pip-packages.yml", *words)
    everywhere = (*words, "-e", '{"envs": ["all"]}')
    assert "changed=1" in run(instance, "install-pip-packages.yml", *everywhere)
    assert "JupyterSystemEnv" not in installed(instance, "cowsay")
    assert len(installed(instance, "cowsay")) > 1
    instance.restart(seconds=280)
    assert installed(instance, "cowsay") == set()
    assert "changed=1" in run(instance, "install-pip-packages.yml", *words)
    assert installed(instance, "cowsay") == {"python3"}


def test_conda_packages_in_one_environment_of_the_image(instance: Instance) -> None:
    words = ("-e", '{"packages": ["six"], "envs": ["python3"], "channels": ["file:///srv/channel"]}')
    assert "changed=1" in run(instance, "install-conda-packages.yml", *words)
    assert "python3" in installed(instance, "six")
    assert "ok=1 changed=0" in run(instance, "install-conda-packages.yml", *words)


def test_extensions_of_the_server(instance: Instance) -> None:
    words = ("-e", f'{{"packages": ["{WHEEL}"], "disabled": ["@jupyterlab/git"]}}')
    assert "changed=2" in run(instance, "install-extensions.yml", *words)
    assert instance.run(f"{SERVER}/bin/python", "-I", "-c", "import cowsay") == ""
    assert "ok=2 changed=0" in run(instance, "install-extensions.yml", *words)
    page = json.loads(instance.shell("cat ~/.jupyter/labconfig/page_config.json"))
    assert page["disabledExtensions"] == {"@jupyterlab/git": True}
