"""Environments with a real Python: what pip does in them, what is harmed by hand, what runs in them."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from nbprovision.conda.ensure_conda_env import EnsureCondaEnv
from nbprovision.machine import distributions
from nbprovision.machine.environments import installed
from nbprovision.machine.machine import Machine
from nbprovision.model.task import Claim
from nbprovision.pip import engine, requirements_files
from nbprovision.system.files import remove_at_once
from tests.conftest import Channel, copy_tree
from tests.support.driver import converge, planned

pytestmark = [pytest.mark.engine]


def wheel(folder: Path, name: str, version: str) -> Path:
    """A wheel with one module that says its version."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}/__init__.py": f'__version__ = "{version}"\n',
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{file},,\n" for file in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(file, text)
    return path


@pytest.fixture(scope="session")
def made(channel: Channel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with Python and packaging, made once; each test works on a copy at the same place."""
    home = tmp_path_factory.mktemp("made")
    env = {"HOME": str(home), "PATH": "/usr/bin:/bin", "NBPROVISION_HOME": str(home / "nb")}
    converge(task(channel), Machine(env, root=home / "root"))
    return home


def task(channel: Channel, **more: Any) -> EnsureCondaEnv:
    packages = [f"python={channel.python}", "packaging", "six"]
    return EnsureCondaEnv(**{"name": "py", "packages": packages, "channels": [channel.url], **more})


@pytest.fixture
def there(made: Path, tmp_path: Path) -> Machine:
    """The machine of that environment, as it was when it was made."""
    env = {"HOME": str(made), "PATH": "/usr/bin:/bin", "NBPROVISION_HOME": str(made / "nb")}
    kept = made / "kept"
    if not kept.exists():
        copy_tree(made / "nb/envs/py", kept)
    shutil.rmtree(made / "nb/envs/py")
    copy_tree(kept, made / "nb/envs/py")
    return Machine(env, root=made / "root")


def prefix_of(machine: Machine) -> Path:
    return machine.home / "envs/py"


def run(prefix: Path, code: str) -> str:
    done = subprocess.run([prefix / "bin/python", "-I", "-c", code], capture_output=True, text=True, env={})
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def version_of(prefix: Path, name: str) -> list[str]:
    return [one.version for one in distributions.installed(prefix).get(name, [])]


def test_its_python_runs(there: Machine, channel: Channel) -> None:
    prefix = prefix_of(there)
    assert run(prefix, "import sys, ssl, sqlite3; print(sys.prefix)") == str(prefix)
    assert run(prefix, "import sys; print('%d.%d' % sys.version_info[:2])") == channel.python
    assert planned(task(channel), there) == ()


def put_by_pip(machine: Machine, tmp_path: Path, name: str, version: str) -> None:
    path = wheel(tmp_path, name, version)
    engine.install(machine, prefix_of(machine), requirements_files.read([f"{name} @ {path.as_uri()}"], (), (), {}))
    assert version_of(prefix_of(machine), name) == [version]


def test_what_was_put_in_place_of_condas_is_taken_out(there: Machine, channel: Channel, tmp_path: Path) -> None:
    prefix = prefix_of(there)
    before = version_of(prefix, "packaging")
    put_by_pip(there, tmp_path, "packaging", "20.1")
    [change] = converge(task(channel), there)
    assert (change.action, change.target, change.after) == ("repair", "packaging", before[0])
    assert change.before == "version 20.1 was put in its place without conda"
    assert version_of(prefix, "packaging") == before
    assert run(prefix, "import packaging.version, packaging; print(packaging.__version__)") == before[0]


def test_what_a_pip_task_wants_is_left_to_it(there: Machine, channel: Channel, tmp_path: Path) -> None:
    put_by_pip(there, tmp_path, "packaging", "20.1")
    there.claims.append(Claim(prefix_of(there), "packaging==20.1"))
    assert planned(task(channel), there) == ()
    # nor does adding a package move it
    converge(task(channel, packages=["idna"]), there)
    assert version_of(prefix_of(there), "packaging") == ["20.1"]


def test_what_others_made_is_mended_only_where_it_is_named(there: Machine, channel: Channel, tmp_path: Path) -> None:
    (prefix_of(there) / "conda-meta/nbprovision").unlink()
    put_by_pip(there, tmp_path, "packaging", "20.1")
    assert planned(task(channel, packages=["six"]), there) == ()
    assert [change.target for change in planned(task(channel), there)] == ["packaging"]


def test_pip_leaves_two_versions(there: Machine, channel: Channel) -> None:
    prefix = prefix_of(there)
    [own] = distributions.installed(prefix)["six"]
    stray = own.path.with_name("six-0.1.dist-info")
    copy_tree(own.path, stray)
    (stray / "RECORD").write_text("six.py,,\n../../../../outside.txt,,\n/etc/hostname,,\nsix-0.1.dist-info/RECORD,,\n")
    outside = prefix.parent / "outside.txt"
    outside.write_text("not in the environment")
    assert [change.target for change in converge(task(channel), there)] == ["six"]
    assert version_of(prefix, "six") == [own.version]
    assert outside.exists()
    assert run(prefix, "import six; print(six.__version__)") == own.version


def test_a_dist_info_folder_that_was_deleted(there: Machine, channel: Channel) -> None:
    [own] = distributions.installed(prefix_of(there))["six"]
    shutil.rmtree(own.path)
    [change] = converge(task(channel), there)
    assert (change.action, change.before) == ("repair", f"{own.path.name} is missing")
    assert own.path.is_dir()


def test_an_interpreter_that_leads_nowhere(there: Machine, channel: Channel) -> None:
    python = prefix_of(there) / "bin/python"
    real = python.resolve()
    python.unlink()
    python.symlink_to("/opt/gone/python3")
    [change] = converge(task(channel), there)
    assert (change.target, change.before) == ("python", "bin/python leads nowhere")
    assert python.resolve() == real
    assert run(prefix_of(there), "print(1 + 1)") == "2"


def test_the_pip_section(there: Machine, channel: Channel, tmp_path: Path) -> None:
    wheel(tmp_path, "demo", "1.0")
    file = tmp_path / "environment.yml"
    file.write_text(
        f"channels: [{channel.url}]\n"
        f"dependencies:\n- python={channel.python}\n- pip:\n  - ./demo-1.0-py3-none-any.whl\n  - -r more.txt\n"
    )
    (tmp_path / "more.txt").write_text(f"extra @ {wheel(tmp_path, 'extra', '2.0').as_uri()}\n")
    ask = EnsureCondaEnv(name="py", file=str(file))
    assert [(change.action, change.channel) for change in converge(ask, there) if change.channel == "pip"] == [
        ("install", "pip")
    ] * 2
    assert version_of(prefix_of(there), "demo") == ["1.0"]
    assert version_of(prefix_of(there), "extra") == ["2.0"]
    assert {claim.requirement.partition(" ")[0] for claim in ask.claims(there)} >= {"extra"}


def test_a_pip_section_names_a_lock(there: Machine, channel: Channel, tmp_path: Path) -> None:
    """Only what the lock has is installed, each file by its hash; the second run finds it in place."""
    wheels = {name: wheel(tmp_path, name, "1.0") for name in ("demo", "extra")}
    entries = (
        f'[[packages]]\nname = "{name}"\nversion = "1.0"\nwheels = [{{ url = "{path.as_uri()}", '
        f'hashes = {{ sha256 = "{hashlib.sha256(path.read_bytes()).hexdigest()}" }} }}]\n'
        for name, path in wheels.items()
    )
    (tmp_path / "pylock.toml").write_text(f'lock-version = "1.0"\ncreated-by = "a test"\n{"".join(entries)}')
    file = tmp_path / "environment.yml"
    file.write_text(
        f"channels: [{channel.url}]\ndependencies:\n- python={channel.python}\n- pip:\n  - -r pylock.toml\n"
    )
    ask = EnsureCondaEnv(name="py", file=str(file))
    assert tmp_path / "pylock.toml" in {each.path for each in ask.inputs(there)}
    changes = [change.target for change in converge(ask, there) if change.channel == "pip"]
    assert changes == ["demo", "extra"]
    assert version_of(prefix_of(there), "demo") == ["1.0"]
    assert {claim.requirement for claim in ask.claims(there)} == {"demo==1.0", "extra==1.0"}


def test_a_pip_section_heeds_pip_s_configuration(there: Machine, channel: Channel, tmp_path: Path) -> None:
    for version in ("1.0", "2.0"):
        wheel(tmp_path, "demo", version)
    there.env.update(PIP_NO_INDEX="1", PIP_FIND_LINKS=str(tmp_path))
    file = tmp_path / "environment.yml"
    file.write_text(f"channels: [{channel.url}]\ndependencies:\n- python={channel.python}\n- pip:\n  - demo\n")
    ask = EnsureCondaEnv(name="py", file=str(file))
    converge(ask, there)
    assert version_of(prefix_of(there), "demo") == ["2.0"]
    (tmp_path / "c.txt").write_text("demo<2\n")
    there.env.update(PIP_CONSTRAINT=str(tmp_path / "c.txt"), PIP_PREFER_BINARY="1")  # the second is for pip alone
    converge(ask, there)
    assert version_of(prefix_of(there), "demo") == ["1.0"]


def test_a_pip_section_brings_pip_and_with_it_python(there: Machine, channel: Channel, tmp_path: Path) -> None:
    """As with conda, which adds pip where the dependencies do not name it; once it is there, whoever owns it, it stays."""
    wheel(tmp_path, "demo", "1.0")
    file = tmp_path / "environment.yml"
    file.write_text(f"channels: [{channel.url}]\ndependencies:\n- nbp-activate\n- pip: [./demo-1.0-py3-none-any.whl]\n")
    ask = EnsureCondaEnv(name="nopy", file=str(file))
    converge(ask, there)
    prefix = there.conda.new_prefix("nopy")
    assert {"pip", "python", "nbp-activate"} <= {record.name for record in installed(prefix)}
    assert version_of(prefix, "demo") == ["1.0"]
    remove_at_once(prefix)


def test_the_pip_section_is_a_requirements_file(there: Machine, channel: Channel, tmp_path: Path) -> None:
    """Options of an index, ``-r file:``, comments, continued lines: its paths begin at the folder of the file."""
    (tmp_path / "wheels").mkdir()
    for name in ("demo", "extra", "third"):
        wheel(tmp_path / "wheels", name, "1.0")
    (tmp_path / "more.txt").write_text("extra==1.0\n")
    (tmp_path / "held.txt").write_text("third==1.0\n")
    file = tmp_path / "environment.yml"
    file.write_text(
        f"channels: [{channel.url}]\ndependencies:\n- python={channel.python}\n- pip\n- pip:\n  - --no-index\n"
        "  - --find-links ./wheels\n  - '# a comment'\n  - -r file:more.txt\n  - -c held.txt\n  - |\n    demo \\\n    ==1.0\n    third\n"
    )
    ask = EnsureCondaEnv(name="py", file=str(file))
    converge(ask, there)
    prefix = prefix_of(there)
    assert [version_of(prefix, name) for name in ("demo", "extra", "third")] == [["1.0"]] * 3


def test_notebooks_find_conda(there: Machine, channel: Channel) -> None:
    """IPython's own code reads the history that was written."""
    converge(task(channel, packages=["ipython"]), there)
    code = "from IPython.core.magics.packaging import _get_conda_like_executable as f; print(f('conda'))"
    done = subprocess.run(
        [prefix_of(there) / "bin/python", "-I", "-c", code],
        capture_output=True,
        text=True,
        env={"HOME": os.devnull, "IPYTHONDIR": str(there.home / "ipython")},
    )
    assert done.stdout.strip() == "conda", done.stderr


def test_records_name_what_is_installed(there: Machine) -> None:
    names = {record.name for record in installed(prefix_of(there))}
    assert {"python", "packaging", "six"} <= names
