"""The sample playbooks of settings, on a notebook instance: what they leave, the second run, a restart."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from tests.container.conftest import TOOL_HOME, VOLUME, Instance
from tests.container.test_lifecycle_script import bring_wheels, from_wheels
from tests.container.test_samples import EMPTY, SAMPLES

# By hand, beside the trial of each kind in test_root_tasks.py: many starts of an instance.
pytestmark = pytest.mark.campaign

READ = "python3 -I -c 'import json, sys; print(json.load(open(sys.argv[1])){})' {}"


class Sample(NamedTuple):
    """A sample: its variables, what looks at the end state, and what that shows."""

    words: tuple[str, ...]
    look: str
    shows: str


TRIED = {
    "connect-emr-cluster.yml": Sample(
        ("-e", "cluster=10.0.0.1"),
        READ.format('["kernel_python_credentials"]["url"]', "~/.sparkmagic/config.json"),
        "http://10.0.0.1:8998",
    ),
    "disable-automatic-kernel-start.yml": Sample(
        (), READ.format('["notebookStartsKernel"]', "~/.jupyter/labconfig/page_config.json"), "False"
    ),
    "proxy.yml": Sample(
        ("-e", "proxy=http://proxy.example:3128"), "bash -lc 'echo $https_proxy'", "http://proxy.example:3128"
    ),
}


@pytest.fixture(scope="module")
def instance(new_instance: Callable[[], Instance]) -> Instance:
    """An instance with the tool in its home."""
    instance = new_instance().start()
    bring_wheels(instance)
    instance.hook("on-start", from_wheels(EMPTY))
    return instance.restart(seconds=280)


@pytest.mark.parametrize("name", TRIED)
def test_it_is_done_once_and_again_after_a_restart(instance: Instance, name: str) -> None:
    sample, path = TRIED[name], f"{VOLUME}/{name}"
    instance.write(path, (SAMPLES / name).read_text())
    run = ("env", "NBPROVISION_PHASE=on-start", f"{TOOL_HOME}/venv/bin/nbprovision", "run", path, *sample.words)
    for start in range(2):
        recap = instance.run(*run).splitlines()[-1]
        assert "failed=0" in recap, recap
        assert "changed=0" not in recap, recap
        assert instance.shell(f"cd ~ && {sample.look}").strip() == sample.shows
        assert "changed=0" in instance.run(*run).splitlines()[-1]
        if start == 0:
            instance.restart(seconds=280)
