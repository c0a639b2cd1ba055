"""`ensure_env_var`: what shells and kernels then really have, and that nothing in a value is evaluated."""

from __future__ import annotations

import json
import stat
import string
import subprocess
from pathlib import Path
from typing import Any

import pytest

from nbprovision.files.ensure_env_var import EnsureEnvVar
from nbprovision.jupyter.ensure_kernel import EnsureKernel
from nbprovision.machine import kernels
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ParameterError, TaskFailed
from nbprovision.system import secrets
from tests.support.driver import converge, planned

NASTY = "a'b\"c $HOME `id` $(touch planted) \\ \n !x ; # end"


def kernel(machine: Machine, name: str = "mine", **more: Any) -> EnsureKernel:
    """A kernel by argv, made."""
    task = EnsureKernel(argv=["/bin/sh", "{connection_file}"], name=name, **more)
    converge(task, machine)
    return task


def spec(home: Path, name: str = "mine") -> Any:
    return json.loads((home / ".local/share/jupyter/kernels" / name / "kernel.json").read_text())


def in_shell(home: Path, *options: str) -> str:
    """What a shell of bash has for the variable."""
    done = subprocess.run(
        ["bash", *options, "-c", 'printf %s "$NASTY"'],
        env={"HOME": str(home), "PATH": "/usr/bin:/bin"}, cwd=home, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout


def test_shells_get_the_value_as_it_is_written(machine: Machine, home: Path) -> None:
    (home / ".bash_profile").write_text("echo hello >&2\n")
    task = EnsureEnvVar(name="NASTY", value=NASTY, where="shells")
    converge(task, machine)
    assert in_shell(home, "-l") == NASTY
    assert in_shell(home, "-i") == NASTY
    assert not (home / "planted").exists()
    assert (home / ".bash_profile").read_text().startswith("echo hello >&2\n# BEGIN NASTY")
    assert not (home / ".profile").exists()
    assert planned(task, machine) == ()


def test_a_new_value_takes_the_place_of_the_old_and_absence_takes_it_out(machine: Machine, home: Path) -> None:
    (home / ".bashrc").write_text("alias x=y\n")
    converge(EnsureEnvVar(vars={"ONE": 1, "TWO": "2"}, where="shells"), machine)
    converge(EnsureEnvVar(name="ONE", value="new", where="shells"), machine)
    assert (home / ".bashrc").read_text().count("export ONE=") == 1
    assert "export ONE=new\n" in (home / ".profile").read_text()
    converge(EnsureEnvVar(name="ONE", vars={"TWO": ""}, state="absent"), machine)
    assert (home / ".bashrc").read_text() == "alias x=y\n"


def test_kernels_get_it_as_jupyter_reads_it(machine: Machine, home: Path) -> None:
    described = kernel(machine, environment={"OWN": "x"})
    kernel(machine, "other")
    converge(EnsureEnvVar(name="NASTY", value=NASTY, where="kernels", kernels="mine"), machine)
    env = spec(home)["env"]
    assert string.Template(env["NASTY"]).safe_substitute(HOME="evaluated") == NASTY
    assert env["OWN"] == "x"
    assert "NASTY" not in spec(home, "other")["env"]
    assert planned(described, machine) == (), "the kernel's own task leaves it alone"
    converge(
        kernel_changed := EnsureKernel(argv=["/bin/sh", "{connection_file}"], name="mine", display_name="M"), machine
    )
    assert set(spec(home)["env"]) == {"NASTY"}
    converge(EnsureEnvVar(name="NASTY", where="kernels", state="absent"), machine)
    assert spec(home)["env"] == {}
    assert [change.action for change in planned(kernel_changed, machine)] == ["set mode"], "nothing is private any more"


def test_what_was_not_added_is_not_taken_out(machine: Machine, home: Path) -> None:
    kernel(machine, environment={"OWN": "x"})
    assert planned(EnsureEnvVar(name="OWN", where="kernels", state="absent"), machine) == ()


def test_all_kernels_and_patterns(machine: Machine, home: Path) -> None:
    for name in ("r-one", "r-two", "py"):
        kernel(machine, name)
    task = EnsureEnvVar(name="A", value="1", where="kernels", kernels=["R-*"])
    assert task.barrier(machine)
    converge(task, machine)
    assert [name for name in ("r-one", "r-two", "py") if "A" in spec(home, name)["env"]] == ["r-one", "r-two"]
    converge(EnsureEnvVar(name="A", value="2", where="kernels"), machine)
    assert spec(home, "py")["env"] == {"A": "2"}
    named = EnsureEnvVar(name="A", value="1", kernels="py")
    assert not named.barrier(machine)
    assert {Path(one.identity).name for one in named.requires(machine)} == {"py"}


def test_a_kernel_that_is_not_there_is_named(machine: Machine) -> None:
    kernel(machine)
    with pytest.raises(TaskFailed, match="did you mean 'mine'"):
        planned(EnsureEnvVar(name="A", value="1", kernels="mime"), machine)


def test_a_planted_link_is_not_followed(machine: Machine, home: Path, tmp_path: Path) -> None:
    folder = home / ".local/share/jupyter/kernels/evil"
    folder.parent.mkdir(parents=True)
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim/kernel.json").write_text("{}")
    folder.symlink_to(tmp_path / "victim")
    with pytest.raises(TaskFailed, match="does not describe a kernel"):
        planned(EnsureEnvVar(name="A", value="1", where="kernels", kernels="evil"), machine)
    (home / ".bashrc").symlink_to(tmp_path / "rc")
    with pytest.raises(TaskFailed, match="out of its folder"):
        planned(EnsureEnvVar(name="A", value="1", where="shells"), machine)
    assert (tmp_path / "victim/kernel.json").read_text() == "{}"


def test_a_secret_is_masked_private_and_not_on_the_volume(machine: Machine, home: Path) -> None:
    kernel(machine)
    task = EnsureEnvVar(name="API_TOKEN", value="s3cr3t-x")
    changes = converge(task, machine)
    for path in (home / ".bashrc", home / ".local/share/jupyter/kernels/mine/kernel.json"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "s3cr3t-x" not in secrets.mask("".join(change.after or "" for change in changes))
    volume = machine.root / "home/ec2-user/SageMaker"
    (volume / "dotfiles").mkdir(parents=True)
    (machine.root / "home/ec2-user/anaconda3").mkdir()
    machine.__dict__.pop("platform", None)
    (home / ".bashrc").unlink()
    (home / ".bashrc").symlink_to(volume / "dotfiles/rc")
    with pytest.raises(TaskFailed, match="a secret cannot be written"):
        planned(EnsureEnvVar(name="API_TOKEN", value="s3cr3t-x", where="shells", follow=True), machine)


def test_a_dollar_sign_is_noticed(machine: Machine) -> None:
    task = EnsureEnvVar(name="PATH", value="/opt/bin:$PATH", where="shells")
    assert "nothing replaces its" in task.plan(task.read(machine)).warnings[0]


@pytest.mark.parametrize(
    ("parameters", "key", "said"),
    [
        ({}, "name", "neither `name` nor `vars`"),
        ({"value": "x"}, "name", "neither `name` nor `vars`"),
        ({"vars": {"A": "1"}, "value": "x"}, "value", "needs `name`"),
        ({"name": "A"}, "name", "needs a `value`"),
        ({"name": "A-B", "value": "x"}, "name", "not the name of a variable"),
        ({"name": "A=B;x", "value": "x"}, "name", "not the name of a variable"),
        ({"name": "A\n", "value": "x"}, "name", "not the name of a variable"),
        ({"vars": {"1A": "x"}}, "vars", "not the name of a variable"),
        ({"name": "A", "value": "x\0"}, "value", "NUL"),
        ({"vars": {"A": "\ud800"}}, "vars", "not UTF-8"),
        ({"name": "A", "value": "x", "kernels": []}, "kernels", "names no kernel"),
    ],
)
def test_what_makes_no_sense_is_refused(parameters: dict[str, Any], key: str, said: str) -> None:
    with pytest.raises(ParameterError, match=said) as caught:
        EnsureEnvVar(**parameters)
    assert caught.value.key == key


@pytest.mark.parametrize(
    "damaged", [None, [], {"env": None}, {"env": [], "metadata": 3}, {"metadata": {"nbprovision": 1}}]
)
def test_a_kernel_that_says_nonsense_is_no_crash(damaged: Any) -> None:
    assert kernels.added_variables(damaged) == {}
    if isinstance(damaged, dict):
        added = kernels.with_variables(damaged, {"A": "1"}, present=True)
        assert kernels.added_variables(added) == {"A": "1"}
        assert kernels.with_variables(added, {"A": ""}, present=False)["env"] == {}
