"""`nbprovision task`: parameters as JSON in, the result as JSON out, the words of a playbook in between."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import nbprovision
from nbprovision.catalogue import Catalogue
from nbprovision.model.errors import InvalidPlaybook
from nbprovision.playbook import json_parameters

KERNEL = {"name": "demo", "argv": ["/bin/true", "{connection_file}"]}


class Done:
    def __init__(self, env: dict[str, str], parameters: object, kind: str, *words: str) -> None:
        text = parameters if isinstance(parameters, str) else json.dumps(parameters)
        argv = [sys.executable, "-m", "nbprovision", "task", kind, *words]
        env = {**env, "PYTHONPATH": str(Path(nbprovision.__file__).parents[1])}
        done = subprocess.run(argv, env=env, input=text, capture_output=True, text=True, check=False)
        self.status, self.errors = done.returncode, done.stderr
        self.result: dict[str, Any] = json.loads(done.stdout)


def test_a_task_is_carried_out_and_the_second_time_it_is_ok(env: dict[str, str], home: Path) -> None:
    checked = Done(env, KERNEL, "ensure_kernel", "--check")
    assert (checked.status, checked.result["status"], checked.result["check"]) == (0, "changed", True)
    assert not (home / ".local/share/jupyter/kernels").exists()
    first = Done(env, {**KERNEL, "display_name": "{{ x }}"}, "ensure_kernel")
    assert (first.status, first.result["status"], first.result["task"]) == (0, "changed", "ensure_kernel")
    spec = json.loads((home / ".local/share/jupyter/kernels/demo/kernel.json").read_text())
    assert spec["display_name"] == "{{ x }}", "nothing is a template here"
    again = Done(env, {**KERNEL, "display_name": "{{ x }}"}, "ensure_kernel")
    assert (again.status, again.result["status"], again.result["changes"]) == (0, "ok", [])


def test_a_failure_is_in_the_result(env: dict[str, str]) -> None:
    done = Done(env, {"argv": ["/bin/false"]}, "ensure_command")
    assert (done.status, done.result["status"]) == (2, "failed")
    assert "the command failed" in done.result["error"]["message"]
    hidden = Done(env, {"argv": ["/bin/false", "--token", "canary"]}, "ensure_command", "--no-log")
    assert hidden.status == 2
    kept = "".join(path.read_text() for path in Path(env["NBPROVISION_HOME"]).rglob("*.log"))
    assert "task failed" in kept
    assert "canary" not in json.dumps(hidden.result) + hidden.errors + kept


def test_a_program_that_cannot_be_run_is_reported_with_what_to_do(env: dict[str, str], tmp_path: Path) -> None:
    program = tmp_path / "program"
    for text, mode, words in (
        ("echo hi\n", 0o644, ["Permission denied", "owner and mode"]),
        ("echo hi\n", 0o755, ["Exec format error", "#!/bin/sh"]),
    ):
        program.write_text(text)
        program.chmod(mode)
        done = Done(env, {"argv": [str(program)]}, "ensure_command")
        assert done.status == 2
        assert all(word in done.result["error"]["message"] for word in words), done.result
    done = Done(env, {"argv": ["no-such-program"]}, "ensure_command")
    assert "the program does not exist" in done.result["error"]["message"]


WRONG = {
    "an unknown name": ('{\n  "nmae": "x"\n}', 2, "ensure_kernel has no parameter 'nmae'; did you mean 'name'?"),
    "a wrong type": ('{"name": "x",\n "argv": 3}', 2, "ensure_kernel: 'argv' takes a list of strings, not a number"),
    "a task's own rule": ('{"name": "x"}', 1, "ensure_kernel: `env`, `prefix` or `argv` is required"),
    "not JSON": ('{"name": "x"', 1, "the parameters are not JSON"),
    "not an object": ("[]", 1, "the parameters are not a JSON object"),
    "a name twice": ('{"name": "x", "name": "y"}', 1, "'name' is a duplicate"),
    "nested without end": ("[" * 100_000, 1, "the parameters are nested too deep"),
    "not a number": ('{"name": NaN}', 1, "NaN is not a JSON number"),
    "nothing": ("", 1, "the parameters are not JSON"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_with_its_place(case: str, env: dict[str, str]) -> None:
    text, line, words = WRONG[case]
    done = Done(env, text, "ensure_kernel")
    assert done.status == 4
    assert f"error: <stdin>:{line}:" in done.errors
    assert words in done.errors
    assert done.result["status"] == "failed"
    assert done.result["error"]["line"] == line
    assert "Traceback" not in done.errors


@pytest.mark.parametrize(
    ("parameters", "kind"),
    [
        ({"packages": "x==1,"}, "ensure_pip_pkg"),
        ({"path": "x", "mode": "8"}, "ensure_file"),
        ({"url": "x y"}, "ensure_pip_index"),
    ],
)
def test_the_words_are_those_of_a_playbook(parameters: dict[str, Any], kind: str, tmp_path: Path) -> None:
    playbook = tmp_path / "a.yml"
    playbook.write_text(f"- tasks:\n    - {kind}: {json.dumps(parameters)}\n")
    with pytest.raises(InvalidPlaybook) as expected:
        nbprovision.run_playbook(playbook, home=tmp_path / "home", check=True)
    with pytest.raises(InvalidPlaybook) as found:
        json_parameters.bind(json.dumps(parameters), "<stdin>", Catalogue()[kind], tmp_path)
    assert found.value.text == expected.value.text


@pytest.mark.parametrize(
    ("parameters", "kind", "name"),
    [
        ({"path": "/x", "mode": 420}, "ensure_file", "mode"),  # 0644 in YAML 1.1
        ({"path": "/x", "line": 3.1}, "ensure_line", "line"),  # 3.10
        ({"env": "x", "packages": [3]}, "ensure_pip_pkg", "packages"),
    ],
)
def test_a_number_is_not_taken_for_a_text(parameters: dict[str, Any], kind: str, name: str) -> None:
    with pytest.raises(InvalidPlaybook, match=rf"'{name}' takes a .* a number\n  fix: write the value in quotes where"):
        json_parameters.bind(json.dumps(parameters), "<stdin>", Catalogue()[kind], Path("/"))


def test_a_number_is_taken_where_one_fits() -> None:
    task: Any = json_parameters.bind('{"name": "A", "value": 12}', "<stdin>", Catalogue()["ensure_env_var"], Path("/"))
    assert task.value == 12


@pytest.mark.parametrize(
    ("parameters", "kind"),
    [
        ({"path": "./motd", "content": ""}, "ensure_file"),
        ({"env": "./envs/fraud", "packages": "six"}, "ensure_pip_pkg"),
        ({"env": "fraud", "packages": ["six", "./project"]}, "ensure_pip_pkg"),
    ],
)
def test_relative_paths_can_be_refused(parameters: dict[str, Any], kind: str, tmp_path: Path) -> None:
    json_parameters.bind(json.dumps(parameters), "<stdin>", Catalogue()[kind], tmp_path)
    with pytest.raises(
        InvalidPlaybook, match=r"has the relative path '\./\w+.*'\n  why: it would begin at an unknown folder"
    ):
        json_parameters.bind(json.dumps(parameters), "<stdin>", Catalogue()[kind], None)


def test_absolute_paths_are_taken_without_a_folder(env: dict[str, str], tmp_path: Path) -> None:
    done = Done(env, {"path": str(tmp_path / "motd"), "content": "a"}, "ensure_file", "--absolute-paths")
    assert (done.status, done.result["status"]) == (0, "changed")
    done = Done(env, {"path": "motd", "content": "a"}, "ensure_file", "--absolute-paths")
    assert done.status == 4
    assert "begin it with / or ~/" in done.errors


def test_the_rule_of_an_error_is_in_the_result(env: dict[str, str]) -> None:
    done = Done(env, {"env": "no-such"}, "ensure_kernel", "--check")
    assert done.result["error"]["rule"] == "unknown-environment"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_document_is_a_task_or_an_error(value: object) -> None:
    try:
        task = json_parameters.bind(json.dumps(value), "<stdin>", Catalogue()["ensure_command"], Path("/"))
    except InvalidPlaybook as error:
        fault = error
    else:
        assert task.kind() == "ensure_command"
        return
    assert fault.position is not None


@given(st.text())
def test_any_text_is_an_error(text: str) -> None:
    with pytest.raises(InvalidPlaybook):
        json_parameters.bind(text, "<stdin>", Catalogue()["ensure_kernel"], Path("/"))
