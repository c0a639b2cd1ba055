"""`ensure_env_var: where: server`: a real Jupyter server, and the kernels that it starts, have the variable."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nbprovision.files.ensure_env_var import EnsureEnvVar
from nbprovision.files.ensure_file import EnsureFile
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ParameterError, TaskFailed
from nbprovision.system import secrets
from tests.support.driver import converge, planned
from tests.support.jupyter_server import OPTIONS, Server, server_environment

__all__ = ["server_environment"]
NASTY = "a'b\"c $HOME `id` $(touch planted) \\ \n {x} é ; # end"


@pytest.fixture
def config(home: Path) -> Path:
    return home / ".jupyter/jupyter_config.py"


def executed(config: Path) -> dict[str, str]:
    """The variables that the file sets, by another interpreter."""
    code = (
        f"import json, os; os.environ.clear(); exec(open({str(config)!r}).read()); print(json.dumps(dict(os.environ)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    values: dict[str, str] = json.loads(done.stdout)
    return {name: value for name, value in values.items() if name != "LC_CTYPE"}


def test_the_value_is_as_written_and_the_rest_stays(machine: Machine, home: Path, config: Path) -> None:
    config.parent.mkdir()
    config.write_text("c = get_config() if 'get_config' in globals() else None\n# mine")
    task = EnsureEnvVar(where="server", vars={"NASTY": NASTY, "TWO": 2})
    converge(task, machine)
    assert config.read_text().startswith("c = get_config() if 'get_config' in globals() else None\n# mine\n")
    assert executed(config) == {"NASTY": NASTY, "TWO": "2"}
    assert not (home / ".bashrc").exists()
    converge(EnsureEnvVar(where="server", name="TWO", value="new"), machine)
    assert executed(config) == {"NASTY": NASTY, "TWO": "new"}
    converge(EnsureEnvVar(where="server", vars={"NASTY": "", "TWO": ""}, state="absent"), machine)
    assert executed(config) == {}
    assert config.read_text().startswith("c = get_config()")


def test_a_secret_is_masked_and_its_file_is_the_owners_alone(machine: Machine, config: Path) -> None:
    task = EnsureEnvVar(where="server", name="API_TOKEN", value="hunter2-'x'-é")
    changes = converge(task, machine)
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    shown = "".join(secrets.mask(str(change.after)) for change in changes)
    assert shown == (
        f"# BEGIN API_TOKEN (nbprovision)\nimport os\n\nos.environ['API_TOKEN'] = \"{secrets.MASK}\"\n"
        "# END API_TOKEN (nbprovision)\n"
    )
    assert executed(config)["API_TOKEN"] == "hunter2-'x'-é"


def test_no_secret_is_written_to_the_volume(machine: Machine) -> None:
    volume = machine.root / "home/ec2-user/SageMaker"
    volume.mkdir(parents=True)
    (machine.root / "home/ec2-user/anaconda3").mkdir()
    machine.env["JUPYTER_CONFIG_DIR"] = str(volume / "jupyter")
    with pytest.raises(TaskFailed, match="secret"):
        planned(EnsureEnvVar(where="server", name="API_TOKEN", value="hunter2-xyz"), machine)


def test_a_file_that_jupyter_cannot_read_is_not_edited(machine: Machine, config: Path) -> None:
    config.parent.mkdir()
    config.write_text("x = (\n")
    with pytest.raises(TaskFailed, match="cannot be edited") as caught:
        planned(EnsureEnvVar(where="server", name="A", value="b"), machine)
    assert "line 1" in caught.value.cause
    assert config.read_text() == "x = (\n"


@pytest.mark.parametrize("where", ["server", "shells"])
def test_kernels_are_not_chosen_where_none_is_changed(where: Any) -> None:
    with pytest.raises(ParameterError) as caught:
        EnsureEnvVar(where=where, name="A", value="b", kernels="mine")
    assert caught.value.key == "kernels"


def test_everywhere_leaves_the_server_alone(machine: Machine, config: Path) -> None:
    converge(EnsureEnvVar(name="A", value="b"), machine)
    assert not config.exists()


@pytest.fixture
def servers(server_environment: Path) -> Iterator[Callable[[dict[str, str]], Server]]:
    """Starts servers of the user."""
    started: list[subprocess.Popen[bytes]] = []

    def start(env: dict[str, str]) -> Server:
        own = {name: value for name, value in env.items() if name in ("HOME", "PATH", "LANG")}
        command = [server_environment / "bin/jupyter-server", *OPTIONS]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        started.append(subprocess.Popen(command, env=own, cwd=own["HOME"], **quiet))
        return Server(Path(own["HOME"]), started[-1].pid)

    yield start
    for process in started:
        process.terminate()
        process.wait(60)


@pytest.mark.network
@pytest.mark.kernel
def test_each_kernel_of_a_real_server_has_it(
    machine: Machine, home: Path, server_environment: Path, servers: Callable[[dict[str, str]], Server]
) -> None:
    """The image's own kernel, and one of another language; a kernel's own variable comes before the server's."""
    image = server_environment / "share/jupyter/kernels"
    assert (image / "python3/kernel.json").exists()
    script = ": {connection_file}; sleep 600; exit"
    own = {"argv": ["/bin/sh", "-c", script], "display_name": "Own", "language": "sh", "env": {"TWO": "of the kernel"}}
    converge(EnsureFile(path="~/.local/share/jupyter/kernels/own/kernel.json", content=json.dumps(own)), machine)
    # The image's configuration, which stays as it is.
    converge(EnsureFile(path="~/.jupyter/jupyter_server_config.py", content="c.ServerApp.root_dir = '/tmp'\n"), machine)
    before = servers(machine.env)
    assert "NASTY" not in before.kernel("python3")
    converge(EnsureEnvVar(where="server", vars={"NASTY": NASTY, "TWO": "of the server"}), machine)
    assert "NASTY" not in before.kernel("python3"), "a server that runs has read its configuration already"
    after = servers(machine.env)
    python, other = after.kernel("python3"), after.kernel("own")
    assert python["NASTY"] == other["NASTY"] == NASTY
    assert (python["TWO"], other["TWO"]) == ("of the server", "of the kernel")
    assert not (home / "planted").exists()
