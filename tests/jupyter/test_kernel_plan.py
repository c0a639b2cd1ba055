"""Kernels: Jupyter's folders and names, and the plan of `ensure_kernel` as a table of states."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from nbprovision.jupyter.ensure_kernel import EnsureKernel, KernelState
from nbprovision.machine import kernels
from nbprovision.machine.kernels import File, KernelFolder
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ParameterError, TaskFailed
from nbprovision.system.secrets import mask
from tests.support.driver import converge

HOME = Path("/home/u")
FOLDER = Path("/home/u/.local/share/jupyter/kernels/fraud")


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({}, "/home/u/.local/share/jupyter"),
        ({"XDG_DATA_HOME": "/x"}, "/x/jupyter"),
        ({"JUPYTER_DATA_DIR": "/d", "XDG_DATA_HOME": "/x"}, "/d"),
        ({"JUPYTER_DATA_DIR": ""}, "/home/u/.local/share/jupyter"),
    ],
)
def test_data_dir(env: dict[str, str], expected: str) -> None:
    assert kernels.data_dir(env, HOME) == Path(expected)


@pytest.mark.parametrize(
    ("env", "prefix", "expected"),
    [
        ({}, None, ["U", "/usr/local/share/jupyter", "/usr/share/jupyter"]),
        ({}, "/p", ["/p/share/jupyter", "U", "/usr/local/share/jupyter", "/usr/share/jupyter"]),
        (
            {"JUPYTER_PREFER_ENV_PATH": "no"},
            "/p",
            ["U", "/p/share/jupyter", "/usr/local/share/jupyter", "/usr/share/jupyter"],
        ),
        (
            {"JUPYTER_PATH": "/a/:/b", "PYTHONUSERBASE": "/ub"},
            None,
            ["/a", "/b", "U", "/ub/share/jupyter", "/usr/local/share/jupyter", "/usr/share/jupyter"],
        ),
        ({"JUPYTER_PLATFORM_DIRS": "1", "XDG_DATA_DIRS": "/s:/t"}, None, ["U", "/s/jupyter", "/t/jupyter"]),
    ],
)
def test_kernel_dirs(env: dict[str, str], prefix: str | None, expected: list[str]) -> None:
    found = kernels.kernel_dirs(env, HOME, prefix=Path(prefix) if prefix else None)
    user = "/home/u/.local/share/jupyter"
    assert found[:-1] == [
        Path(folder.replace("U", user) if folder == "U" else folder) / "kernels" for folder in expected
    ]
    assert found[-1] == Path("/home/u/.ipython/kernels")


def test_folders_agree_with_jupyter_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real package, in this process, must look into the same folders in the same order."""
    paths = pytest.importorskip("jupyter_core.paths")
    for variables in (
        {},
        {"XDG_DATA_HOME": str(tmp_path / "x")},
        {"JUPYTER_DATA_DIR": str(tmp_path / "d"), "JUPYTER_PATH": f"{tmp_path}/a:{tmp_path}/b"},
    ):
        with monkeypatch.context() as patch:
            for name in [name for name in os.environ if name.startswith(("JUPYTER_", "XDG_"))]:
                patch.delenv(name)
            patch.setenv("HOME", str(tmp_path))
            patch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
            for name, value in variables.items():
                patch.setenv(name, value)
            own = {str(Path(folder, "kernels")) for folder in paths.ENV_JUPYTER_PATH}
            userbase = str(Path(paths.site.getuserbase(), "share/jupyter/kernels"))
            theirs = [folder for folder in paths.jupyter_path("kernels") if folder not in own]
            ours = [str(folder) for folder in kernels.kernel_dirs(dict(os.environ), tmp_path)[:-1]]
            assert ours == [folder for folder in theirs if folder != userbase or folder in ours]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("fraud", "fraud"),
        ("Fraud", "fraud"),
        ("My Env (GPU)", "my-env-gpu"),
        ("größe", "gr-e"),
        ("a.b_c-d", "a.b_c-d"),
        ("..", ""),
        ("日本", ""),
        ("x" * 300, "x" * 200),
    ],
)
def test_normalized(text: str, name: str) -> None:
    assert kernels.normalized(text) == name
    assert name == "" or kernels.is_valid_name(name)


@pytest.mark.parametrize("name", ["", ".", "..", "a b", "a/b", "a\n", "ä", "$(x)", "x" * 201])
def test_invalid_names(name: str) -> None:
    assert not kernels.is_valid_name(name)


@pytest.mark.parametrize(
    ("parameters", "key", "said"),
    [
        ({}, "env", "is required"),
        ({"env": "a", "prefix": "/p"}, "prefix", "`env` and `prefix`"),
        ({"argv": ["x", "{connection_file}"]}, "name", "needs a name"),
        ({"argv": ["x"], "name": "x"}, "argv", "connection_file"),
        ({"argv": [], "name": "x"}, "argv", "no program"),
        ({"argv": ["x", "{connection_file}"], "envs": ["a"]}, "envs", "`argv` and `envs`"),
        ({"argv": ["x", "{connection_file}"], "name": "x", "validate": True}, "validate", "prefix"),
        ({"argv": ["x", "{connection_file}"], "name": "x", "scope": "env"}, "scope", "needs `env` or `prefix`"),
        ({"env": "a", "name": "My Kernel!"}, "name", "write name: my-kernel"),
        ({"env": "a", "name": "../../x"}, "name", "..-..-x"),
        ({"env": "a", "name": ".."}, "name", "not a valid kernel name"),
        ({"env": "日本"}, "name", "give a name"),
        ({"env": "a", "environment": {"A-B": "1"}}, "environment", "A-B"),
        ({"env": "a", "environment": {"A": "x\0y"}}, "environment", "NUL"),
        ({"env": "a", "display_name": "\ud800"}, "display_name", "not UTF-8"),
        ({"state": "absent"}, "env", "is required"),
    ],
)
def test_parameters_that_make_no_sense(parameters: dict[str, Any], key: str, said: str) -> None:
    with pytest.raises(ParameterError) as caught:
        EnsureKernel(**parameters)
    assert caught.value.key == key
    assert said in caught.value.text


def test_values_of_variables_are_texts_or_numbers() -> None:
    task = msgspec.convert({"env": "a", "environment": {"N": 4, "X": 0.5}}, EnsureKernel)
    assert task.plan(_state()).changes[0].after is not None
    spec = json.loads(task.plan(_state()).changes[0].after or "")
    assert spec["env"] == {"PYTHONNOUSERSITE": "1", "N": "4", "X": "0.5"}
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"env": "a", "environment": {"N": True}}, EnsureKernel)


def _state(**fields: Any) -> KernelState:
    return KernelState(
        **{
            "folder": FOLDER,
            "prefix": Path("/envs/fraud"),
            "ipykernel": "7.0",
            "bundled_spec": {"metadata": {"debugger": True}, "kernel_protocol_version": "5.5"},
            "logos": {"logo-svg.svg": b"<svg/>"},
            "launcher": b"#",
            "shell": ("/bin/bash", "-p"),
            "conda": "/conda/bin/conda",
            **fields,
        }
    )


def _folder(task: EnsureKernel, state: KernelState, **files: File | None) -> KernelFolder:
    """The folder as it is when ``task`` has converged, with some files otherwise."""
    spec = task.plan(state).changes[-1].after
    assert spec is not None
    made: dict[str, File | None] = {
        "kernel.json": File(spec.encode(), 0o644),
        "activate.sh": File(b"#", 0o644),
        "logo-svg.svg": File(b"<svg/>", 0o644),
        **{name.replace("_", ".", 1): file for name, file in files.items()},
    }
    return KernelFolder(0o755, {name: file for name, file in made.items() if file is not None})


FRAUD = EnsureKernel(env="fraud")


def test_a_new_kernel_is_one_change() -> None:
    (change,) = FRAUD.plan(_state()).changes
    assert (change.action, change.target, change.before, change.kind) == (
        "write",
        f"{FOLDER}/kernel.json",
        None,
        "file",
    )
    assert json.loads(change.after or "") == {
        "argv": [
            *("/bin/bash", "-p", f"{FOLDER}/activate.sh", "/envs/fraud", "/conda/bin/conda", "-"),
            *("/envs/fraud/bin/python", "-m", "ipykernel_launcher", "-f", "{connection_file}"),
        ],
        "display_name": "Python (fraud)",
        "language": "python",
        "env": {"PYTHONNOUSERSITE": "1"},
        "metadata": {"debugger": True, "nbprovision": {"prefix": "/envs/fraud"}},
        "kernel_protocol_version": "5.5",
    }


def test_activate_false_starts_python_itself() -> None:
    spec = json.loads(EnsureKernel(env="fraud", activate=False).plan(_state()).changes[0].after or "")
    assert spec["argv"][0] == "/envs/fraud/bin/python"


def test_what_activation_may_not_change() -> None:
    task = EnsureKernel(
        env="fraud",
        user_site=True,
        environment={"A": "plain", "B": "/x:${B}", "C": "$C/y", "D": "costs $$5", "E": "$(touch x)", "PATH": "/only"},
    )
    spec = json.loads(task.plan(_state()).changes[0].after or "")
    assert spec["argv"][5] == "A D E"
    assert "PYTHONNOUSERSITE" not in spec["env"]


@pytest.mark.parametrize(
    ("files", "changes"),
    [
        ({}, []),
        ({"kernel_json": File(b"{}", 0o644)}, ["write kernel.json"]),
        ({"kernel_json": File(b"{not json", 0o644)}, ["write kernel.json"]),
        ({"kernel_json": File(b"\xff" * 10, 0o644)}, ["write kernel.json"]),
        ({"kernel_json": File(b"[" * 100_000, 0o644)}, ["write kernel.json"]),
        ({"kernel_json": File(None, 0o777)}, ["write kernel.json"]),  # a link
        ({"kernel_json": None}, ["write kernel.json"]),
        ({"activate_sh": File(b"rm -rf", 0o644)}, ["write activate.sh"]),
        ({"activate_sh": File(b"#", 0o666)}, ["set mode activate.sh"]),
        ({"logo-svg_svg": None}, ["write logo-svg.svg"]),
        ({"logo-svg_svg": File(None, 0o777)}, ["write logo-svg.svg"]),  # a link
        ({"logo-svg_svg": File(b"theirs", 0o640)}, []),
        ({"kernel_js": File(b"theirs", 0o644)}, []),
    ],
)
def test_what_differs_is_changed(files: dict[str, File | None], changes: list[str]) -> None:
    state = _state()
    found = _folder(FRAUD, state, **files)
    plan = FRAUD.plan(msgspec.structs.replace(state, current=found))
    assert [f"{change.action} {os.path.basename(change.target)}" for change in plan.changes] == changes


def test_a_link_or_a_folder_open_to_others_is_changed() -> None:
    state = _state()
    assert FRAUD.plan(msgspec.structs.replace(state, current=KernelFolder(None))).changes[0].action == "write"
    found = msgspec.structs.replace(_folder(FRAUD, state), mode=0o777)
    (change,) = FRAUD.plan(msgspec.structs.replace(state, current=found)).changes
    assert (change.action, change.before, change.after) == ("set mode", "0777", "0755")


def test_variables_are_readable_by_the_user_only() -> None:
    task = EnsureKernel(env="fraud", environment={"TOKEN": "x"})
    state = _state()
    found = _folder(task, state)
    assert {change.after for change in task.plan(msgspec.structs.replace(state, current=found)).changes} == {"0600"}
    shared = EnsureKernel(env="fraud", environment={"TOKEN": "x"}, scope="system")
    assert not shared.plan(msgspec.structs.replace(state, current=_folder(shared, state)))


def test_values_of_secret_variables_are_masked(machine: Machine) -> None:
    task = EnsureKernel(argv=["p", "{connection_file}"], name="x", environment={"API_TOKEN": "canary-8154"})
    assert "canary-8154" not in mask(task.plan(task.read(machine)).changes[0].after or "canary-8154")


def test_our_launcher_goes_when_it_is_not_wanted() -> None:
    task = EnsureKernel(env="fraud", activate=False)
    state = _state()
    found = _folder(task, state)
    (change,) = task.plan(msgspec.structs.replace(state, current=found)).changes
    assert (change.action, change.target) == ("remove", f"{FOLDER}/activate.sh")
    theirs = _folder(task, state, activate_sh=File(b"theirs", 0o644))
    assert not task.plan(msgspec.structs.replace(state, current=theirs))


def test_validation_is_asked_for_until_it_is_recorded() -> None:
    task = EnsureKernel(env="fraud", validate=True)
    state = _state()
    assert task.plan(msgspec.structs.replace(state, current=_folder(FRAUD, state)))
    tried = _folder(task, state)
    assert not task.plan(msgspec.structs.replace(state, current=tried))
    assert task.plan(msgspec.structs.replace(state, current=tried, ipykernel="7.1"))


def test_a_missing_ipykernel_is_installed() -> None:
    plan = FRAUD.plan(_state(ipykernel=None, bundled_spec={}, logos={}))
    assert [(change.action, change.kind) for change in plan.changes] == [("install", "package"), ("write", "file")]
    half = FRAUD.plan(_state(lacking=("traitlets",)))
    assert half.changes[0].action == "install"


@pytest.mark.parametrize(
    ("parameters", "fields", "said"),
    [
        ({"install_ipykernel": False}, {"ipykernel": None}, "install_ipykernel is false"),
        ({}, {"exists": False}, "there is no environment at /envs/fraud"),
        ({}, {"unfinished": "ensure_conda_env"}, "in the middle of ensure_conda_env"),
        ({}, {"starts": False}, "has no working Python"),
    ],
)
def test_what_cannot_be_a_kernel(parameters: dict[str, Any], fields: dict[str, Any], said: str) -> None:
    with pytest.raises(TaskFailed) as caught:
        EnsureKernel(env="fraud", **parameters).plan(_state(**fields))
    assert said in caught.value.text
    assert caught.value.cure


def test_an_environment_that_an_earlier_task_makes() -> None:
    plan = FRAUD.plan(_state(exists=False, awaited=True, starts=False, ipykernel=None, bundled_spec={}, logos={}))
    assert [change.action for change in plan.changes] == ["write"]


def test_a_program_that_is_not_there() -> None:
    task = EnsureKernel(argv=["/no/such", "{connection_file}"], name="x")
    with pytest.raises(TaskFailed, match="could not start"):
        task.plan(KernelState(folder=FOLDER, starts=False, argv=("/no/such", "{connection_file}")))


def test_absent() -> None:
    task = EnsureKernel(name="fraud", state="absent")
    assert not task.plan(KernelState(folder=FOLDER))
    assert task.plan(KernelState(folder=FOLDER, current=KernelFolder(None))).changes[0].action == "remove"


def test_absent_needs_no_environment(machine: Machine) -> None:
    for scope in ("user", "env"):
        task = EnsureKernel(env="gone", state="absent", scope=scope)
        assert task.requires(machine) == frozenset()
        assert not tuple(task.guarded(machine))
        assert not task.plan(task.read(machine))


def test_a_kernel_that_jupyter_finds_first(machine: Machine, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere/kernels/mine"
    other.mkdir(parents=True)
    (other / "kernel.json").write_text("{}")
    machine.env["JUPYTER_PATH"] = str(tmp_path / "elsewhere")
    task = EnsureKernel(argv=["sh", "{connection_file}"], name="Mine")
    (warning,) = task.plan(task.read(machine)).warnings
    assert str(other) in warning


def test_scopes(machine: Machine, tmp_path: Path) -> None:
    prefix = tmp_path / "env"
    folders = {
        scope: next(iter(EnsureKernel(prefix=str(prefix), scope=scope).provides(machine))).identity
        for scope in ("user", "system", "env")
    }
    assert folders == {
        "user": str(machine.user_home / ".local/share/jupyter/kernels/env"),
        "system": str(machine.root / "usr/local/share/jupyter/kernels/env"),
        "env": str(prefix / "share/jupyter/kernels/env"),
    }


@pytest.mark.parametrize(
    ("parameters", "language"),
    [
        ({"env": "fraud"}, "python"),
        ({"argv": ["/usr/bin/python3.12", "{connection_file}"], "name": "x"}, "python"),
        ({"argv": ["/usr/bin/bash", "{connection_file}"], "name": "Shell"}, "shell"),
        ({"argv": ["R", "{connection_file}"], "env": "stats", "language": "R"}, "R"),
    ],
)
def test_the_language_is_that_of_the_program(parameters: dict[str, Any], language: str) -> None:
    assert EnsureKernel(**parameters)._language == language


def test_r_runs_in_its_environment(machine: Machine, tmp_path: Path) -> None:
    """A stand-in for R: what is written is what conda's r-irkernel is started by."""
    prefix = tmp_path / "envs/stats"
    (prefix / "conda-meta").mkdir(parents=True)
    (prefix / "conda-meta/history").write_text("")
    (prefix / "bin").mkdir()
    (prefix / "bin/R").write_text("#!/bin/sh\n")
    (prefix / "bin/R").chmod(0o755)
    argv = ["R", "--slave", "-e", "IRkernel::main()", "--args", "{connection_file}"]
    task = EnsureKernel(prefix=str(prefix), argv=argv, language="R")
    state = task.read(machine)
    spec = task._spec(state)
    assert spec["argv"][-6:] == argv
    assert str(prefix) in spec["argv"]
    assert spec["display_name"] == "R (stats)"
    assert "PYTHONNOUSERSITE" not in spec["env"]
    assert [change.action for change in converge(task, machine)] == ["write"]
