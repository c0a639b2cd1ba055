"""The instance itself: what the platform brings is there, and the platform's manners are kept."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.container.conftest import VOLUME, Instance, InstanceFailed

ANACONDA = "/home/ec2-user/anaconda3"


@pytest.fixture(scope="module")
def started(new_instance: Callable[[], Instance]) -> Instance:
    return new_instance().start()


def test_jupyter_lists_the_provided_kernels(started: Instance) -> None:
    assert {"conda_python3", "conda_pytorch_p310"} <= set(started.kernels())


def test_a_provided_kernel_runs_code(started: Instance) -> None:
    assert started.execute("conda_python3", "import sys; print(sys.prefix)").strip() == f"{ANACONDA}/envs/python3"


def test_the_provided_environments_are_real(started: Instance) -> None:
    for name in ("python3", "pytorch_p310", "JupyterSystemEnv"):
        prefix = f"{ANACONDA}/envs/{name}"
        assert started.run(f"{prefix}/bin/python", "-c", "import sys, ipykernel; print(sys.prefix)").strip() == prefix
        assert "ipykernel-" in started.shell(f"ls {prefix}/conda-meta")
    assert "r-nbdemo" in started.shell(f"ls {ANACONDA}/envs/R/conda-meta")


def test_the_system_python_is_too_old_and_anacondas_will_do(started: Instance) -> None:
    assert "(3, 10)" not in started.run(
        "/usr/bin/python3", "-c", "import sys; print(sys.version_info[:2] >= (3, 10) and (3, 10))", ok=False
    )
    assert (
        started.run(f"{ANACONDA}/bin/python", "-c", "import sys, ssl, venv; print(sys.version_info >= (3, 10))").strip()
        == "True"
    )


def test_all_of_it_belongs_to_the_user(started: Instance) -> None:
    assert started.run("stat", "-c", "%U", VOLUME, ANACONDA, f"{ANACONDA}/bin/python").split() == ["ec2-user"] * 3
    assert started.run("find", "/home/ec2-user", "!", "-user", "ec2-user") == ""


def test_a_terminal_is_a_login_shell(started: Instance) -> None:
    assert started.terminal("echo $HOME $0").strip() == "/home/ec2-user /usr/bin/sh"


def test_a_restart_keeps_the_volume_and_nothing_else(instance: Instance) -> None:
    instance.start()
    instance.shell(f"echo kept >{VOLUME}/kept; echo lost >~/lost; touch {ANACONDA}/envs/python3/lost")
    instance.restart(root_access="Disabled")
    assert instance.run("cat", f"{VOLUME}/kept") == "kept\n"
    assert "lost" not in instance.shell(f"ls -A ~ {ANACONDA}/envs/python3")
    assert "not found" in instance.shell("sudo -n true 2>&1", ok=False)


def test_a_lifecycle_script_runs_as_root_with_nothing_around_it(instance: Instance) -> None:
    instance.hook("on-start", '#!/bin/sh\necho "$(id -un) $(pwd) ${HOME-none} $PATH"\n')
    instance.start("on-start")
    assert instance.output().splitlines()[0] == "root / none /sbin:/bin:/usr/sbin:/usr/bin"


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("#!/bin/sh\nexit 3\n", "failed with status 3"),
        ("#!/bin/sh\nsleep 30\n", "failed with status 124"),
        ("#!/bin/sh\r\nexit 0\r\n", "failed with status 127"),
    ],
    ids=["fails", "takes too long", "carriage returns"],
)
def test_a_bad_script_keeps_the_notebook_from_starting(instance: Instance, script: str, told: str) -> None:
    instance.hook("on-start", script)
    with pytest.raises(InstanceFailed, match=told):
        instance.start("on-start", seconds=2)
