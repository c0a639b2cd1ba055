"""The JSON Schema takes every playbook of the repository, and refuses what an editor should underline.

Judged by `jsonschema`, an implementation of the standard that is not ours.
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from nbprovision.catalogue import Catalogue
from nbprovision.reference.definition import define
from nbprovision.reference.schema import schema
from tests.support.playbook_tasks import CATALOGUE as TEST_CATALOGUE

ROOT = Path(__file__).parents[2]
INVALID = ROOT / "tests/data/invalid"
VALIDATOR = jsonschema.Draft7Validator(schema(Catalogue()))


def faults(playbook: Any, validator: jsonschema.Draft7Validator = VALIDATOR) -> list[str]:
    return [f"{error.json_path}: {error.message[:300]}" for error in validator.iter_errors(playbook)]


def playbooks_in_pages() -> list[tuple[str, str]]:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    found = []
    for page in pages:
        for number, text in enumerate(re.findall(r"```yaml\n(.*?)```\n", page.read_text(), re.DOTALL)):
            # Those of ansible.md are Ansible's own, see tests/ansible/test_generated.py; and so are uses of its modules.
            ours = page.name not in ("reference.md", "ansible.md") and "nbprovision.notebook." not in text
            if ours and isinstance(yaml.safe_load(text), list):
                found.append((f"{page.name}-{number}", text))
    return found


def test_it_is_a_schema() -> None:
    jsonschema.Draft7Validator.check_schema(schema(Catalogue()))


@pytest.mark.parametrize(
    "path",
    [one for one in sorted((ROOT / "playbooks").rglob("*.yml")) if one.parent.name != "vars"],
    ids=lambda path: path.stem,
)
def test_it_takes_every_playbook_of_the_repository(path: Path) -> None:
    content = yaml.safe_load(path.read_text())
    plays = any(key in content[0] for key in ("tasks", "hosts", "import_playbook"))
    assert faults(content if plays else [{"tasks": content}]) == []  # else it is a file that a playbook includes


@pytest.mark.parametrize(
    ("name", "text"), playbooks_in_pages(), ids=lambda value: value[:30] if "\n" not in value else ""
)
def test_it_takes_every_playbook_of_the_pages(name: str, text: str) -> None:
    assert faults(yaml.safe_load(text)) == []


@pytest.mark.parametrize("kind", list(Catalogue()))
def test_it_takes_every_example(kind: str) -> None:
    task = Catalogue()[kind]
    under = "handlers" if task.handler_only else "root_tasks" if task.in_root == "always" else "tasks"
    assert faults([{under: yaml.safe_load(define(task).examples)}]) == []


@pytest.mark.parametrize(
    "task",
    [
        "ensure_kernel: {env: fraud, validate: '{{ careful }}', environment: {A: '{{ a }}', B: 1}}",
        "ensure_kernel: {env: fraud, validate: yes}",
        "ensure_kernel: {env: fraud, validate: 'true'}",
        "ensure_kernel: {env: fraud, scope: '{{ scope }}'}",
        "ensure_conda_env: {name: fraud, packages: '{{ packages }}', file: null}",
        "ensure_conda_env: {name: fraud, packages: ['python={{ python }}'], refresh_every: '{{ often }}'}",
        "ensure_pip_index: {codeartifact: {domain: '{{ domain }}', repository: '{{ repository }}'}}",
        "ensure_pip_index: {codeartifact: '{{ repository }}'}",
        "ensure_condarc: {custom_channels: '{{ channels }}', ssl_verify: truststore}",
        "ensure_condarc: {settings: {remote_max_retries: 5, auto_activate_base: false, create_default_packages: [pip]}}",
        "{ensure_condarc: {channels: x}, when: a is defined, tags: a, name: x, vars: {a: 1}, no_log: true}",
        "{ensure_condarc: {channels: x}, when: [a is defined, true], tags: [a, 1]}",
        "{ensure_condarc: {channels: x}, loop: [a], loop_control: {label: x}, register: r, until: r.changed, retries: 3}",
        "{ensure_condarc: {channels: x}, loop: '{{ list }}', notify: [a, b], environment: {A: 1}, failed_when: false}",
        "{block: [{ensure_condarc: {channels: x}}], rescue: [{meta: noop}], always: [], when: true, name: a block}",
        "{import_tasks: more.yml, vars: {a: 1}, tags: a}",
        "{include_tasks: {file: more.yml, apply: {tags: a}}, loop: [a, b]}",
        "{meta: flush_handlers, when: a}",
    ],
)
def test_it_takes_what_the_reader_takes(task: str) -> None:
    assert faults([{"hosts": "localhost", "tasks": [yaml.safe_load(task)]}]) == []


def test_root_tasks_have_few_keywords() -> None:
    mount = {"ensure_mount": {"name": "x", "source": "h:/x"}}
    assert faults([{"root_tasks": [{**mount, "name": "x", "tags": "a", "when": "a", "loop": [1]}]}]) == []
    for word in ({"register": "x"}, {"notify": "x"}, {"vars": {"a": 1}}):
        assert faults([{"root_tasks": [{**mount, **word}]}]) != []
    assert faults([{"tasks": [mount]}]) != []
    assert faults([{"root_tasks": [{"ensure_kernel": {"env": "x"}}]}]) != []


WRONG_TASKS = {
    "a misspelt parameter": "ensure_kernel: {enw: fraud}",
    "a misspelt kind": "ensure_kernal: {env: fraud}",
    "a misspelt keyword": "{ensure_kernel: {env: fraud}, wen: x}",
    "a parameter beside its task": "{ensure_kernel: {}, env: fraud}",
    "two kinds in one task": "{ensure_kernel: {env: a}, ensure_condarc: {channels: a}}",
    "no kind": "{name: nothing, when: true}",
    "a value that is no choice": "ensure_kernel: {env: fraud, scope: everybody}",
    "a number for a string": "ensure_conda_env: {name: 3.10}",
    "a number in a list of strings": "ensure_conda_env: {name: fraud, packages: [3.10]}",
    "a list for a string": "ensure_kernel: {env: [fraud]}",
    "a string for a list": "ensure_kernel: {name: x, argv: sh}",
    "a mapping for a string": "ensure_pip_pkg: {packages: {requests: 1}}",
    "text for a boolean": "ensure_kernel: {env: fraud, validate: maybe}",
    "a number for a boolean": "ensure_kernel: {env: fraud, validate: 2}",
    "a required parameter left out": "ensure_conda_pkg: {env: fraud}",
    "a required parameter of a mapping left out": "ensure_pip_index: {codeartifact: {domain: team}}",
    "a duration without a unit": "ensure_conda_env: {name: fraud, refresh_every: '30'}",
    "parameters as text": "ensure_kernel: env=fraud",
    "a task as text": "ensure_kernel",
    "one of Ansible's modules": "pip: {name: requests}",
    "tags as a mapping": "{ensure_kernel: {env: a}, tags: {a: b}}",
    "a variable that is no name": "{ensure_kernel: {env: a}, vars: {a-b: 1}}",
    "a name that is a number": "{ensure_kernel: {env: a}, name: 1}",
    "become": "{ensure_kernel: {env: a}, become: true}",
}
WRONG_TASKS |= {
    "a rescue without a block": "{rescue: [], ensure_kernel: {env: a}}",
    "a block that is a task": "{block: [], ensure_kernel: {env: a}}",
    "a block with a loop": "{block: [{meta: noop}], loop: [a]}",
    "a block that registers": "{block: [{meta: noop}], register: a}",
    "a wrong task in a block": "block: [{ensure_kernel: {enw: a}}]",
    "an include with a register": "{include_tasks: a.yml, register: a}",
    "another meta": "meta: refresh_inventory",
    "a task that listens": "{ensure_kernel: {env: a}, listen: a}",
    "an older loop": "{ensure_kernel: {env: a}, with_items: [a]}",
}
WRONG_PLAYBOOKS = {
    "an import with tasks": "- {import_playbook: a.yml, tasks: []}",
    "a play with a condition": "- {when: true, tasks: []}",
    "a block among handlers": "- {handlers: [{block: []}]}",
    "no list": "tasks: []",
    "no play": "[]",
    "nothing": "",
    "a task in a play's place": "- ensure_kernel: {env: fraud}",
    "another host": "- {hosts: web, tasks: []}",
    "a strategy": "- {strategy: linear, tasks: []}",
    "tasks as a mapping": "- tasks: {ensure_kernel: {env: fraud}}",
    "roles": "- {roles: [x]}",
}


@pytest.mark.parametrize("what", WRONG_TASKS)
def test_it_refuses_a_wrong_task(what: str) -> None:
    assert faults([{"tasks": [yaml.safe_load(WRONG_TASKS[what])]}]) != []


@pytest.mark.parametrize("what", WRONG_PLAYBOOKS)
def test_it_refuses_a_wrong_playbook(what: str) -> None:
    assert faults(yaml.safe_load(WRONG_PLAYBOOKS[what])) != []


def test_it_takes_handlers_and_imports() -> None:
    plays = """
    - import_playbook: other.yml
      vars: {a: 1}
    - vars_files: [a.yml, [b.yml, c.yml]]
      pre_tasks: [{meta: flush_handlers}]
      handlers:
        - {name: h, ensure_condarc: {channels: x}, listen: [a, b]}
        - {import_tasks: handlers.yml}
    """
    assert faults(yaml.safe_load(plays)) == []


def test_it_says_where() -> None:
    (told,) = faults([{"tasks": [{"ensure_kernel": {"env": "fraud", "scope": "everybody"}}]}])
    assert told.startswith("$[0].tasks[0].ensure_kernel.scope")


def test_it_refuses_many_of_the_wrong_playbooks_as_data() -> None:
    """Those in which the form is wrong; what a template comes to, no schema can tell."""
    validator = jsonschema.Draft7Validator(schema(TEST_CATALOGUE))
    refused = []
    for path in sorted(INVALID.glob("*.yml")):
        try:
            playbook = yaml.safe_load(path.read_bytes())
        except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError):
            continue
        if "bomb" not in path.stem and "deep" not in path.stem and faults(playbook, validator):
            refused.append(path.stem)
    assert len(refused) >= 20, refused


def test_an_editor_is_told_of_what_it_completes() -> None:
    """Every parameter and every keyword has a description, and enums and defaults where there are some."""
    made = schema(Catalogue())["definitions"]
    scope = made["ensure_kernel"]["properties"]["scope"]
    assert scope["default"] == "user"
    assert {"enum": ["env", "system", "user"]} in scope["anyOf"]
    for kind in Catalogue():
        assert made[kind]["examples"], textwrap.shorten(kind, 20)
        for name, value in made[kind]["properties"].items():
            assert value.get("description"), f"{kind}.{name}"


@pytest.mark.parametrize(
    ("task", "right"),
    [
        ("{ensure_motd: {path: x, any: [1]}, when: x, notify: y, loop: [a], register: r}", True),
        ("ensure_motd:", True),
        ("{block: [{ensure_motd: {}}], rescue: [{ensure_file: {path: x}}]}", True),
        ("{ensure_file: {path: x}}", True),
        ("{ensure_motd: {}, wehn: x}", False),
        ("{ensure_motd: {}, ensure_file: {path: x}}", False),
        ("{ensure_motd: [x]}", False),
        ("{ensure_file: {pth: x}}", False),
        ("{ensure_Motd: {}}", False),
        ("{motd: {}}", False),
        ("{name: x}", False),
    ],
)
def test_a_play_with_task_folders_may_have_tasks_of_its_own(task: str, right: bool) -> None:
    """Nothing more is known of them; what nbprovision has is as everywhere."""
    content = yaml.safe_load(task)
    for where in ("tasks", "handlers") if "block" not in task else ("tasks",):
        assert (faults([{"task_folders": ["tasks"], where: [content]}]) == []) is right
    if "motd" in task:
        assert faults([{"tasks": [content]}]) != []
    assert faults([{"task_folders": ["tasks"], "root_tasks": [content]}]) != []
