"""Real kernels of real environments, started by jupyter_client as a Jupyter server starts them."""

from __future__ import annotations

import contextlib
import json
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nbprovision.jupyter import kernelspec
from nbprovision.jupyter.ensure_kernel import EnsureKernel
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import TaskFailed
from nbprovision.pip.ensure_venv import EnsureVenv
from nbprovision.system import unfinished
from tests.conftest import registry_settings
from tests.support.driver import converge, planned
from tests.support.kernel_environments import MakeEnvironment, folder_of

jupyter_client = pytest.importorskip("jupyter_client")
pytestmark = [pytest.mark.engine, pytest.mark.kernel]


@contextlib.contextmanager
def started(folder: Path, env: dict[str, str]) -> Iterator[Any]:
    """A client of the kernel, started with the variables of a server."""
    manager = jupyter_client.KernelManager(
        kernel_name=folder.name,
        kernel_spec_manager=jupyter_client.kernelspec.KernelSpecManager(kernel_dirs=[str(folder.parent)]),
        connection_file=f"{env['HOME']}/connection-{folder.name}.json",
    )
    manager.start_kernel(env=env, cwd=env["HOME"])
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=300)
        client.manager = manager
        yield client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()


def ask(client: Any, code: str) -> str:
    """What the code prints in the kernel."""
    said: list[str] = []

    def hear(message: dict[str, Any]) -> None:
        content = message["content"]
        said.append(
            content.get("text") or content.get("data", {}).get("text/plain") or "".join(content.get("traceback", []))
        )

    client.execute_interactive(code, timeout=300, output_hook=hear)
    return "".join(said).strip()


@pytest.mark.network
def test_kernel_of_ensure_venv(machine: Machine) -> None:
    """A real ipykernel in it, from the index that this machine has."""
    machine.env.update(registry_settings())
    converge(EnsureVenv(name="plots", packages=["ipykernel"]), machine)
    kernel = EnsureKernel(env="plots")
    converge(kernel, machine)
    with started(folder_of(kernel, machine), machine.env) as client:
        assert ask(client, "import sys; print(sys.prefix, 6 * 7)") == f"{machine.prefix_of('plots')} 42"


def variables_of(client: Any) -> dict[str, str]:
    found = json.loads(ask(client, "import os, json; print(json.dumps(dict(os.environ)))"))
    assert isinstance(found, dict)
    return found


def test_kernel_of_an_environment(fraud: Path, machine: Machine, home: Path) -> None:
    """It computes, in the right Python, activated; the server's own environment is left behind."""
    server = home / "JupyterSystemEnv"
    hooks = server / "etc/conda/deactivate.d"
    hooks.mkdir(parents=True)
    (hooks / "a.sh").write_text("unset SERVERS_OWN; LEFT=a$LEFT; export LEFT\n")
    (hooks / "b.sh").write_text("LEFT=b$LEFT\n")
    task = EnsureKernel(prefix=str(fraud), name="Fraud", display_name='It\'s "größe" $(x)\n`y`')
    changes = converge(task, machine)
    folder = folder_of(task, machine)
    assert [(change.action, change.target) for change in changes] == [("write", str(folder / "kernel.json"))]
    assert folder == home / ".local/share/jupyter/kernels/fraud"
    assert {path.name for path in folder.iterdir()} == {"kernel.json", "activate.sh", *kernelspec.LOGOS}
    spec = json.loads((folder / "kernel.json").read_text())
    assert spec["display_name"] == 'It\'s "größe" $(x)\n`y`'
    assert spec["metadata"]["debugger"] is True

    variables = {
        **machine.env,
        "PATH": f"{server}/bin:/usr/bin:{server}/bin:/bin",
        "CONDA_PREFIX": str(server),
        "CONDA_PREFIX_1": "/conda",
        "CONDA_SHLVL": "2",
        "CONDA_DEFAULT_ENV": "JupyterSystemEnv",
        "VIRTUAL_ENV": "/some/venv",
        "SERVERS_OWN": "x",
        "BASH_ENV": str(home / "bashrc"),
    }
    (home / "bashrc").write_text("export FROM_BASHRC=1\n")
    with started(folder, variables) as client:
        assert ask(client, "1+1") == "2"
        assert ask(client, "import sys; print(sys.prefix)") == str(fraud)
        assert ask(client, "import sys; print(sys.executable)") == f"{fraud}/bin/python"
        assert f"{fraud}/lib/" in ask(client, "!pip --version")
        found = variables_of(client)
        status = Path(f"/proc/{client.manager.provisioner.pid}/cmdline").read_bytes()
    assert status.startswith(f"{fraud}/bin/python\0-m\0ipykernel_launcher\0".encode())  # no shell stays around it
    assert found["PATH"] == f"{fraud}/bin:/usr/bin:/bin"
    assert found["CONDA_PREFIX"] == str(fraud)
    assert found["CONDA_DEFAULT_ENV"] == fraud.name
    assert found["CONDA_PROMPT_MODIFIER"] == f"({fraud.name}) "
    assert found["CONDA_SHLVL"] == "1"
    assert found["PYTHONNOUSERSITE"] == "1"
    assert found["LEFT"] == "ab"  # deactivation runs backwards
    assert not {"VIRTUAL_ENV", "CONDA_PREFIX_1", "SERVERS_OWN", "FROM_BASHRC", "CONDA_EXE"} & found.keys()
    assert not [name for name in found if name.startswith("_nb_")]


def test_prefix_that_is_hard_to_quote(fraud: Path, machine: Machine, tmp_path: Path) -> None:
    """Reached by a link: conda's packages write their prefix into literals and scripts, where quotes would break them."""
    prefix = tmp_path / 'it\'s "here" $(touch x) `touch x`'
    prefix.symlink_to(fraud)
    task = EnsureKernel(prefix=str(prefix), name="quoted", validate=True)
    converge(task, machine)
    with started(folder_of(task, machine), machine.env) as client:
        assert ask(client, "import sys; print(sys.prefix)") == str(prefix)


def test_activation_scripts_and_variables(
    make_environment: MakeEnvironment, machine: Machine, tmp_path: Path, home: Path
) -> None:
    """activate.d, conda's own variables and the playbook's, each with its rank; values are data."""
    prefix = make_environment(tmp_path / "plain folder" / "gdal", "python", "ipykernel", "nbp-activate")
    scripts = prefix / "etc/conda/activate.d"
    (scripts / "a.sh").write_text(
        'set -eu; IFS=:; set -- gone; _order="${_order-}a"; export ORDER=$_order\n'
        'export GDAL_DATA="$CONDA_PREFIX/share/gdal" FROM_STATE="$SAID" PROJ=theirs LIBS="theirs:$LIBS"\n'
        "bash_only=(1 2); export COUNT=${#bash_only[@]}\nfalse || true\n"
    )
    (scripts / "Z.sh").write_text('_order="${_order-}Z"\n')
    (scripts / "~last.sh").write_text('export ORDER="$ORDER~"\n')
    (scripts / "ignored.fish").write_text("exit 1\n")
    (prefix / "conda-meta/state").write_text(
        json.dumps(
            {"env_vars": {"SAID": "it's $(touch said)\n", "GONE": "***unset***", "B-AD": "x", "PYTHONNOUSERSITE": "0"}}
        )
    )
    (prefix / "etc/conda/env_vars.d").mkdir()
    (prefix / "etc/conda/env_vars.d/p.json").write_text('{"PACKAGES": "own", "SAID": "overruled"}')
    hostile = "$(touch hostile) `touch hostile`\n; touch hostile #'\""
    task = EnsureKernel(
        prefix=str(prefix),
        display_name=hostile,
        environment={
            "PROJ": "mine",
            "LIBS": "/mine:${OUTER}",
            "HOSTILE": hostile,
            "N": 4,
            "DOLLAR": "$$5",
            "PATH": "/opt/x:${PATH}",
        },
    )
    converge(task, machine)
    folder = folder_of(task, machine)
    assert stat.S_IMODE((folder / "kernel.json").stat().st_mode) == 0o600
    locale = {"LANG": "en_US.UTF-8"}
    with started(folder, {**machine.env, **locale, "OUTER": "/outer", "PATH": "/usr/bin:/bin"}) as client:
        found = variables_of(client)
        assert ask(client, "1+1") == "2"
    expected = {
        "NBP_ACTIVATED": "1",  # by the package nbp-activate
        "ORDER": "Za~",
        "GDAL_DATA": f"{prefix}/share/gdal",
        "FROM_STATE": "it's $(touch said)\n",
        "PACKAGES": "own",
        "COUNT": "2",
        "PROJ": "mine",
        "LIBS": "theirs:/mine:/outer",
        "HOSTILE": hostile,
        "N": "4",
        "DOLLAR": "$5",
        "PATH": f"{prefix}/bin:/opt/x:/usr/bin:/bin",
        "CONDA_DEFAULT_ENV": str(prefix),
    }
    assert {name: found.get(name) for name in expected} == expected
    assert not [path for path in home.iterdir() if path.name in ("hostile", "said")]
    assert not {"GONE", "LC_ALL", "B-AD"} & found.keys()


def test_the_launcher_in_a_plain_posix_shell(fraud: Path, machine: Machine, tmp_path: Path) -> None:
    """Where there is no bash the same script does."""
    task = EnsureKernel(prefix=str(fraud), name="fraud")
    converge(task, machine)
    conda = tmp_path / "conda's"
    (conda / "condabin").mkdir(parents=True)
    done = subprocess.run(
        [
            *("/bin/sh", str(folder_of(task, machine) / "activate.sh"), str(fraud), f"{conda}/bin/conda", "KEPT LOST"),
            *("/usr/bin/env", "-0"),
        ],
        env={
            "PATH": f"{conda}/condabin:/bin",
            "KEPT": "a b",
            "CONDA_PREFIX": str(conda),
            "CONDA_SHLVL": "a[$(touch x)]",
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    found = dict(line.partition("=")[::2] for line in done.stdout.split("\0") if line)
    assert done.stderr == ""
    assert found["PATH"] == f"{fraud}/bin:{conda}/condabin:/bin"
    assert (found["KEPT"], found["CONDA_SHLVL"]) == ("a b", "1")
    assert (found["CONDA_EXE"], found["CONDA_PYTHON_EXE"]) == (f"{conda}/bin/conda", f"{conda}/bin/python")
    assert not (tmp_path / "x").exists()


def test_interrupt_reaches_the_kernel(fraud: Path, machine: Machine) -> None:
    task = EnsureKernel(prefix=str(fraud), name="fraud")
    converge(task, machine)
    with started(folder_of(task, machine), machine.env) as client:
        request = client.execute("import time; print('sleeping', flush=True); time.sleep(60)")
        while client.get_iopub_msg(timeout=300)["msg_type"] != "stream":
            pass
        client.manager.interrupt_kernel()
        while True:
            reply = client.get_shell_msg(timeout=300)
            if reply["parent_header"].get("msg_id") == request:
                break
        assert reply["content"]["ename"] == "KeyboardInterrupt"


def test_user_site_is_seen_only_when_asked_for(fraud: Path, machine: Machine, home: Path) -> None:
    code = "import site; print(site.ENABLE_USER_SITE)"
    for user_site in (False, True):
        task = EnsureKernel(prefix=str(fraud), name="fraud", user_site=user_site)
        converge(task, machine)
        with started(folder_of(task, machine), machine.env) as client:
            assert ask(client, code) == str(user_site)


def test_kernel_of_a_virtual_environment(fraud: Path, machine: Machine, tmp_path: Path) -> None:
    """VIRTUAL_ENV takes the place of conda's variables."""
    prefix = tmp_path / "a venv"
    subprocess.run([fraud / "bin/python", "-m", "venv", "--without-pip", "--system-site-packages", prefix], check=True)
    packages = next(prefix.glob("lib/python3*/site-packages"))
    for source in next(fraud.glob("lib/python3.*/site-packages")).glob("ipykernel*"):
        target = packages / source.name
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy(source, target)
    task = EnsureKernel(prefix=str(prefix))
    converge(task, machine)
    with started(folder_of(task, machine), {**machine.env, "CONDA_PREFIX": "/c", "PATH": "/c/bin:/bin"}) as client:
        found = variables_of(client)
        assert ask(client, "import sys; print(sys.prefix)") == str(prefix)
    assert (found["VIRTUAL_ENV"], found["PATH"]) == (str(prefix), f"{prefix}/bin:/bin")
    assert "CONDA_PREFIX" not in found


def test_kernel_by_argv(fraud: Path, machine: Machine) -> None:
    """Any program; nothing of it is activated."""
    argv = [f"{fraud}/bin/python", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    task = EnsureKernel(argv=argv, name="other", language="python", environment={"A": "b"}, interrupt_mode="message")
    converge(task, machine)
    folder = folder_of(task, machine)
    assert [path.name for path in folder.iterdir()] == ["kernel.json"]
    with started(folder, machine.env) as client:
        assert ask(client, "import os; print(os.environ['A'])") == "b"


_ECHO = """
from ipykernel.kernelapp import IPKernelApp
from ipykernel.kernelbase import Kernel

class Echo(Kernel):
    implementation, implementation_version, banner = "echo", "1", "says what it is told"
    language_info = {"name": "echo", "mimetype": "text/plain", "file_extension": ".txt"}

    def do_execute(self, code, silent, store_history=True, user_expressions=None, allow_stdin=False, **more):
        import os
        said = f"{code} in {os.environ.get('CONDA_PREFIX')} with {os.environ.get('A')}"
        self.send_response(self.iopub_socket, "stream", {"name": "stdout", "text": said})
        return {"status": "ok", "execution_count": self.execution_count, "payload": [], "user_expressions": {}}

IPKernelApp.launch_instance(kernel_class=Echo)
"""


def test_kernel_of_another_language_in_an_environment(
    make_environment: MakeEnvironment, machine: Machine, tmp_path: Path
) -> None:
    """A program of the environment, found on the PATH of its activation; no ipykernel is put in for it."""
    prefix = make_environment(tmp_path / "envs/talk", "python", "pip", "ipykernel")
    program = prefix / "bin/echo-kernel"
    program.write_text(f"#!{prefix}/bin/python{_ECHO}")
    task = EnsureKernel(
        prefix=str(prefix), argv=["echo-kernel", "-f", "{connection_file}"], language="echo", environment={"A": "b"}
    )
    with pytest.raises(TaskFailed, match="could not start"):
        planned(task, machine)
    program.chmod(0o755)
    converge(task, machine)
    spec = json.loads((folder_of(task, machine) / "kernel.json").read_text())
    assert (spec["display_name"], spec["language"]) == ("echo (talk)", "echo")
    assert program in set(task.witnesses(machine))
    assert not list(task.guarded(machine))
    with started(folder_of(task, machine), machine.env) as client:
        assert ask(client, "hello") == f"hello in {prefix} with b"


def test_an_environment_without_ipykernel(make_environment: MakeEnvironment, machine: Machine, tmp_path: Path) -> None:
    """It is refused when told so, and else installed; what was installed is claimed."""
    prefix = make_environment(tmp_path / "bare", "python", "pip")
    with pytest.raises(TaskFailed, match="ipykernel is missing"):
        planned(EnsureKernel(prefix=str(prefix), install_ipykernel=False), machine)
    task = EnsureKernel(prefix=str(prefix))
    assert [change.action for change in converge(task, machine)] == ["install", "write"]
    assert [claim.requirement for claim in task.claims(machine)] == ["ipykernel"]
    assert not unfinished.is_marked(prefix)
    with started(folder_of(task, machine), machine.env) as client:
        assert ask(client, "1+1") == "2"


def test_an_install_of_ipykernel_that_was_cut_off(
    make_environment: MakeEnvironment, machine: Machine, tmp_path: Path
) -> None:
    """Where this task has left its mark, it looks at the files of ipykernel and of what that needs."""
    prefix = make_environment(tmp_path / "bare", "python", "pip")
    task = EnsureKernel(prefix=str(prefix))
    converge(task, machine)
    packages = next(prefix.glob("lib/python3.*/site-packages"))
    (packages / "traitlets/traitlets.py").unlink()
    next(packages.glob("comm-*.dist-info/METADATA")).unlink()
    next(packages.glob("ipykernel-*.dist-info/RECORD")).unlink()
    unfinished.mark(prefix, "ensure_kernel")
    assert [change.action for change in converge(task, machine)] == ["install"]
    assert (packages / "traitlets/traitlets.py").exists()
    with started(folder_of(task, machine), machine.env) as client:
        assert ask(client, "1+1") == "2"
    (packages / "traitlets/traitlets.py").unlink()
    assert converge(task, machine) == ()
    assert converge(EnsureKernel(prefix=str(prefix), deep=True), machine)
