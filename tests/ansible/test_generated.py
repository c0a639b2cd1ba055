"""The generated files of the collection are the tasks' own definitions.

``python -m tests.ansible.test_generated`` writes them again.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from pathlib import Path
from typing import Annotated, Any

import pytest
import tomlkit
import yaml

from nbprovision.catalogue import Catalogue
from nbprovision.model.task import Task, parameter
from nbprovision.playbook import json_parameters
from nbprovision.reference import collection

ROOT = Path(__file__).parents[2]
COLLECTION = ROOT / "ansible"
GUIDE = ROOT / "docs/ansible.md"
VERSION = str(tomlkit.parse((ROOT / "pyproject.toml").read_text())["project"]["version"])  # type: ignore[index,unused-ignore]
LICENCE = "# SPDX-License-Identifier: GPL-3.0-or-later OR Apache-2.0"
CODE = sorted(COLLECTION.rglob("*.py"))


def first_version(kind: str) -> str:
    """The version of the collection that a kind came with: a new one comes with this version."""
    module = COLLECTION / f"plugins/modules/{kind}.py"
    match = re.search(r"^version_added: (.+)$", module.read_text(), re.MULTILINE) if module.exists() else None
    return match[1] if match else VERSION


FILES = collection.files(Catalogue(), {kind: first_version(kind) for kind in Catalogue()})


def assigned(text: str, name: str) -> Any:
    """A document in a module's file, as Ansible reads it."""
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == name:
            return yaml.safe_load(ast.literal_eval(node.value))
    raise AssertionError(name)


def generated() -> list[Path]:
    return [*COLLECTION.glob("plugins/modules/ensure_*.py"), *COLLECTION.glob("plugins/modules/restart_*.py")]


def test_the_files_are_the_definitions_own() -> None:
    modules = {path.relative_to(COLLECTION).as_posix() for path in generated()}
    assert modules == FILES.keys() - {"meta/runtime.yml"}, "a task has no module, or a module no task"
    for name, text in FILES.items():
        assert (COLLECTION / name).read_text() == text, (
            f"{name}: python -m tests.ansible.test_generated writes it again"
        )


def test_the_version_is_that_of_the_tool() -> None:
    assert yaml.safe_load((COLLECTION / "galaxy.yml").read_text())["version"] == VERSION


class EnsureMotd(Task[None], frozen=True, kw_only=True):
    """Greet every user."""

    actions = {"write": "the file"}
    examples = """
    - name: A greeting
      ensure_motd: {path: ./motd}
    """

    path: Annotated[str, parameter("The file.", extra={"path": True})]


def test_a_new_task_needs_no_other_file() -> None:
    files = collection.files({"ensure_motd": EnsureMotd}, {"ensure_motd": "1.0.0"})
    module = files["plugins/modules/ensure_motd.py"]
    assert assigned(module, "DOCUMENTATION")["options"]["path"] == {
        "description": ["The file."],
        "type": "str",
        "required": True,
    }
    (example,) = assigned(module, "EXAMPLES")
    assert example["nbprovision.notebook.ensure_motd"] == {"path": "/home/ec2-user/SageMaker/motd"}
    runtime = yaml.safe_load(files["meta/runtime.yml"])
    assert runtime["plugin_routing"]["modules"]["ensure_motd"] == {"action_plugin": "nbprovision.notebook.task"}


@pytest.mark.parametrize("kind", [Path(name).stem for name in FILES if name.startswith("plugins/modules/")])
def test_the_tool_takes_the_examples_as_ansible_reads_them(kind: str) -> None:
    """YAML 1.1 reads ``0644`` and ``yes`` otherwise than nbprovision does; relative paths have nowhere to begin."""
    examples = assigned(FILES[f"plugins/modules/{kind}.py"], "EXAMPLES")
    assert examples
    for task in examples:
        text = json.dumps(task[f"nbprovision.notebook.{kind}"])
        assert json_parameters.bind(text, "<stdin>", Catalogue()[kind], None).kind() == kind


def test_the_guide_uses_parameters_that_exist() -> None:
    tasks = []
    for block in re.findall(r"```yaml\n(.*?)```", GUIDE.read_text(), re.DOTALL):
        content = yaml.safe_load(block)
        tasks += [task for play in content if isinstance(content, list) for task in play.get("tasks", [])]
    modules = [(key, value) for task in tasks for key, value in task.items() if key.startswith(collection.NAMESPACE)]
    assert len(modules) > 2
    for module, values in modules:
        name = module.removeprefix(f"{collection.NAMESPACE}.")
        options = assigned((COLLECTION / f"plugins/modules/{name}.py").read_text(), "DOCUMENTATION")["options"]
        assert values.keys() <= options.keys(), module


@pytest.mark.parametrize("path", CODE, ids=lambda path: path.relative_to(COLLECTION).as_posix())
def test_a_file_names_its_licence_and_needs_nothing_that_a_target_lacks(path: Path) -> None:
    text = path.read_text()
    assert LICENCE in text
    for node in ast.walk(ast.parse(text)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            package = name.partition(".")[0]
            own = {"ansible", "ansible_collections", *sys.stdlib_module_names}
            if path.parent.name in ("action", "inventory", "plugin_utils"):  # on the controller
                own |= {"nbprovision", "boto3", "botocore", "yaml"}
            assert package in own, f"{path.name} imports {name}"


if __name__ == "__main__":
    for stale in generated():
        stale.unlink()
    for name, text in FILES.items():
        COLLECTION.joinpath(name).parent.mkdir(parents=True, exist_ok=True)
        COLLECTION.joinpath(name).write_text(text)
