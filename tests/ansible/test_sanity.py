"""`ansible-test sanity`, whole and without a list of ignored findings."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.ansible.conftest import environment
from tests.conftest import registry_settings

pytestmark = [pytest.mark.proof, pytest.mark.network]

# ansible-test downloads a script that installs pip into its environments, from a server of its own. Python has the like.
GET_PIP = """\
import subprocess
import sys

pip = [sys.executable, "-m", "pip", "install", "--upgrade"]
subprocess.check_call([sys.executable, "-m", "ensurepip"])
subprocess.check_call([*pip, *(word for word in sys.argv[1:] if not word.startswith("--no-"))])
"""


def test_ansible_finds_no_fault(shared_cache: Path, collections: Path, tmp_path: Path) -> None:
    """The environments of its tests stay in the cache: the first time takes minutes."""
    commands = environment(shared_cache, "newest")
    (settings,) = commands.parent.glob("lib/python*/site-packages/ansible_test/_internal/python_requirements.py")
    version = re.search(r"pip='([\d.]+)'", settings.read_text())
    assert version is not None
    home = shared_cache / "ansible-sanity-home"
    script = home / f".ansible/test/cache/get_pip_{version[1].replace('.', '_')}.py"
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(GET_PIP)
    installed = "ansible_collections/nbprovision/notebook"
    shutil.copytree(collections / installed, tmp_path / installed)  # without what Ansible wrote beside it
    assert not (tmp_path / installed / "tests/sanity").exists(), "nothing is ignored"
    env = {**registry_settings(), "HOME": str(home), "PATH": f"{commands}:/usr/bin:/bin", "LC_ALL": "en_US.UTF-8"}
    env |= {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    done = subprocess.run(
        [commands / "ansible-test", "sanity", "--color", "no", "--python", "default"],
        env=env,
        cwd=tmp_path / installed,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    ran = set(re.findall(r'Running sanity test "([\w-]+)"', done.stdout))
    assert {"validate-modules", "import", "compile", "pylint", "pep8", "yamllint", "ansible-doc"} <= ran
    assert len(ran) >= 20, ran
