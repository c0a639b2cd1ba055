"""Tasks that conflict over one thing, and those that only seem to."""

from __future__ import annotations

from pathlib import Path

import pytest

from nbprovision.catalogue import Catalogue
from nbprovision.lint.check import check
from nbprovision.machine.machine import Machine

ENV = "ensure_conda_env: {name: a, packages: [python=3.12]}"

# The conflict of two tasks in the words of lint.
FIGHTS = {
    "a file that is to go, and a line in it": (
        ["ensure_file: {path: /x/a, state: absent}", "ensure_line: {path: /x/a, line: b}"],
        "conflict over file /x/a: one removes it and the other edits it",
    ),
    "a line, and a file that is to go": (
        ["ensure_line: {path: /x/a, line: b}", "ensure_file: {path: /x/a, state: absent}"],
        "conflict over file /x/a: one removes it and the other edits it",
    ),
    "a file and a folder": (
        ["ensure_file: {path: /x/a, state: directory}", "ensure_file: {path: /x/a, content: b}"],
        "conflict over file /x/a: they differ in state",
    ),
    "an entry of a mapping": (
        ["ensure_condarc: {custom_channels: {lab: 'https://a.example'}}",
         "ensure_condarc: {custom_channels: {lab: 'https://a.example'}, state: absent}"],
        "one adds to custom_channels what the other removes",
    ),
    "a variable of a kernel": (
        ["ensure_kernel: {name: k, argv: [/bin/cat, '{connection_file}'], environment: {V: a}}",
         "ensure_env_var: {name: V, value: b}"],
        "/kernels/k/kernel.json: they differ in V",
    ),
    "a variable of one kernel and of all": (
        ["ensure_env_var: {name: V, value: a, where: kernels, kernels: K}",
         "ensure_env_var: {name: V, where: kernels, kernels: 'k*', state: absent}"],
        "/kernels/k/kernel.json: they differ in V",
    ),
    "a variable of shells": (
        ["ensure_env_var: {name: V, value: a, where: shells}", "ensure_env_var: {vars: {V: b}, where: shells}"],
        "/.profile: they differ in V",
    ),
    "an extension of the server": (
        [ENV, "ensure_jupyter_extension: {env: a, scope: env, server: {x: true, y: true}}",
         "ensure_jupyter_extension: {env: a, scope: env, server: {y: false}}"],
        "/etc/jupyter/jupyter_server_config.json: they differ in y",
    ),
    "an extension, and the file that says which are on": (
        [ENV, "ensure_jupyter_extension: {env: a, scope: env, server: {x: true}}",
         "ensure_file: {path: HOME/envs/a/etc/jupyter/jupyter_server_config.json, content: '{}'}"],
        "one sets its whole content, the other a part of it",
    ),
    "pip.conf, and an index in it": (
        ["ensure_file: {path: USER/.config/pip/pip.conf, content: a}", "ensure_pip_index: {url: 'https://a.example/simple'}"],
        "one sets its whole content, the other a part of it",
    ),
    "a key of a JSON file": (
        ["ensure_json: {path: /x/a, values: {a: {b: 1, c: 1}}}", "ensure_json: {path: /x/a, values: {a: {b: true}}}"],
        "conflict over file /x/a: they differ in b",
    ),
    "a key of a JSON file, and a key within it": (
        ["ensure_json: {path: /x/a, values: {a: {b: 1}}}", "ensure_json: {path: /x/a, values: {a: x}}"],
        "conflict over file /x/a: they differ in a",
    ),
    "a key that is to go, and a key within it": (
        ["ensure_json: {path: /x/a, remove: [[a, b]]}", "ensure_json: {path: /x/a, values: {a: {b: {c: null}}}}"],
        "conflict over file /x/a: they differ in b",
    ),
    "an extension, and the key that says whether it is on": (
        [ENV, "ensure_jupyter_extension: {env: a, scope: env, lab: {l: false}}",
         "ensure_json: {path: HOME/envs/a/etc/jupyter/labconfig/page_config.json, values: {disabledExtensions: {l: false}}}"],
        "/labconfig/page_config.json: they differ in l",
    ),
    "a variable of a kernel, and the key of it": (
        ["ensure_env_var: {name: V, value: a, where: kernels, kernels: k}",
         "ensure_json: {path: USER/.local/share/jupyter/kernels/k/kernel.json, values: {env: {V: b}}}"],
        "/kernels/k/kernel.json: they differ in V",
    ),
    "a file that is copied, and a key in it": (
        ["ensure_file: {path: /x/a, src: /y}", "ensure_json: {path: /x/a, values: {a: 1}}"],
        "one sets its whole content, the other a part of it",
    ),
    "a key of an INI file": (
        ["ensure_ini: {path: /x/a, values: {s: {b: 1}}}", "ensure_ini: {path: /x/a, remove: [s]}"],
        "conflict over file /x/a: they differ in s",
    ),
    "an index of pip's, and the key of it": (
        ["ensure_pip_index: {url: 'https://a.example/simple'}",
         "ensure_ini: {path: USER/.config/pip/pip.conf, values: {global: {index-url: 'https://b.example/simple'}}}"],
        "/pip.conf: they differ in index-url",
    ),
    "a kernel of an environment whose packages are repaired": (
        ["ensure_conda_env: {name: a, packages: [python, ipykernel], deep: true}",
         "ensure_kernel: {env: a, name: python3, scope: env}"],
        "/python3/kernel.json: it is a file of the package ipykernel, which `deep` repairs",
    ),
    "a conda package that is to go": (
        [ENV, "ensure_conda_pkg: {env: a, packages: [numpy]}",
         "ensure_conda_pkg: {env: a, packages: [numpy], state: absent}"],
        "one creates it and the other removes it",
    ),
    "a Python package that is to go": (
        [ENV, "ensure_pip_pkg: {env: a, packages: [numpy]}",
         "ensure_pip_pkg: {env: a, packages: [numpy], state: absent}"],
        "the other wants 'numpy'",
    ),
    "a star behind an operator that has none": (
        ["ensure_conda_env: {name: a, packages: ['numpy>=2.0.*']}",
         "ensure_conda_pkg: {env: a, packages: ['numpy<2']}"],
        "the other wants 'numpy>=2.0.*'",
    ),
}  # fmt: skip

PEACE = {
    "the mode of a file, and a line in it": [
        "ensure_file: {path: /x/a, mode: '0600'}", "ensure_line: {path: /x/a, line: b}",
    ],
    "two that want it gone": [
        "ensure_kernel: {name: k, state: absent}", "ensure_kernel: {name: k, state: absent, scope: user}",
    ],
    "one environment described twice": [ENV, "ensure_conda_env: {name: a, packages: [ipykernel]}"],
    "different entries of a mapping": [
        "ensure_condarc: {custom_channels: {lab: 'https://a.example'}}",
        "ensure_condarc: {custom_channels: {team: 'https://b.example'}, state: absent}",
    ],
    "variables of one kernel": [
        "ensure_kernel: {name: k, argv: [/bin/cat, '{connection_file}'], environment: {V: a, X: $$}}",
        "ensure_env_var: {vars: {W: b, V: a, X: $}, where: kernels, kernels: 'k*'}",
        "ensure_env_var: {name: V, value: b, kernels: other}",
    ],
    "extensions of one file": [
        ENV, "ensure_jupyter_extension: {env: a, scope: env, server: {x: true}, lab: {l: true}}",
        "ensure_jupyter_extension: {env: a, scope: env, server: {y: false}, lab: {l: true, m: false}}",
        "ensure_jupyter_extension: {env: a, scope: env, lab: {l: false}, state: absent}",
    ],
    "a file that says what an extension's task says": [
        ENV, "ensure_jupyter_extension: {env: a, scope: env, lab: {l: false}}",
        "ensure_file: {path: HOME/envs/a/etc/jupyter/labconfig/page_config.json, content: '{\"disabledExtensions\": {\"l\": true}}'}",
    ],
    "keys of one JSON file": [
        "ensure_json: {path: /x/a, values: {a: {b: 1, c: null}}, remove: [d, [e, f]]}",
        "ensure_json: {path: /x/a, values: {a: {b: 1, x: 2}, e: {g: 1}}, remove: [[d, e]]}",
    ],
    "an extension, and the key that says the same": [
        ENV, "ensure_jupyter_extension: {env: a, scope: env, lab: {l: false}, server: {x: true}}",
        "ensure_json: {path: HOME/envs/a/etc/jupyter/labconfig/page_config.json, values: {disabledExtensions: {l: true}, notebookStartsKernel: false}}",
        "ensure_json: {path: HOME/envs/a/etc/jupyter/jupyter_server_config.json, values: {ServerApp: {jpserverextensions: {x: true, y: false}}}}",
    ],
    "keys of one INI file": [
        "ensure_ini: {path: /x/a, values: {s: {b: 1}}, remove: [[s, c]]}",
        "ensure_ini: {path: /x/a, values: {s: {b: 1, d: {e: 2}}}, remove: [t]}",
    ],
    "indexes of pip's, and other keys": [
        "ensure_pip_index: {url: 'https://a.example/simple', extra_urls: ['https://b.example/simple', 'https://c.example/simple']}",
        "ensure_ini: {path: USER/.config/pip/pip.conf, values: {global: {timeout: 60, index-url: 'https://a.example/simple'}}}",
    ],
    "a kernel beside that of ipykernel, and a file beside packages": [
        "ensure_conda_env: {name: a, packages: [python, ipykernel], deep: true}",
        "ensure_kernel: {env: a, name: mine, scope: env}", "ensure_file: {path: HOME/envs/a/etc/x, content: b}",
    ],
    "other conda packages": [ENV, "ensure_conda_pkg: {env: a, packages: [numpy], state: absent}"],
    "other Python packages": [
        ENV, "ensure_pip_pkg: {env: a, packages: [numpy==1]}", "ensure_pip_pkg: {env: a, packages: [pandas==2]}",
    ],
    "two that want a Python package gone": [
        ENV, "ensure_pip_pkg: {env: a, packages: [numpy==1], state: absent}",
        "ensure_pip_pkg: {env: a, packages: [numpy==2], state: absent}",
    ],
    "one version that is wanted, and another that is to go": [
        ENV, "ensure_pip_pkg: {env: a, packages: ['numpy>=2']}",
        "ensure_pip_pkg: {env: a, packages: [numpy==1], state: absent}",
    ],
    "a version that is no plain number": [
        "ensure_conda_env: {name: a, packages: ['openssl=1.1.1w']}",
        "ensure_conda_pkg: {env: a, packages: ['openssl=3']}",
    ],
}  # fmt: skip


def fights(tasks: list[str], machine: Machine, folder: Path) -> list[str]:
    path = folder / "p.yml"
    text = "- tasks:\n" + "".join(f"    - {entry}\n" for entry in tasks)
    path.write_text(text.replace("HOME", str(machine.home)).replace("USER", str(machine.user_home)))
    found = check(path, machine, Catalogue(), {})
    assert not [one for one in found if one.rule in ("invalid-playbook", "unknown-parameter")]
    return [one.message for one in found if one.rule == "conflicting-tasks"]


@pytest.mark.parametrize("name", FIGHTS)
def test_what_two_tasks_fight_over_is_told(name: str, machine: Machine, tmp_path: Path) -> None:
    tasks, said = FIGHTS[name]
    (message,) = fights(tasks, machine, tmp_path)
    assert message.endswith(said)


@pytest.mark.parametrize("name", PEACE)
def test_what_agrees_is_left_in_peace(name: str, machine: Machine, tmp_path: Path) -> None:
    assert fights(PEACE[name], machine, tmp_path) == []
