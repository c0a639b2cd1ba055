"""Two tasks that want different things of one file change it at each run: the run names both, and so does lint."""

from __future__ import annotations

import contextlib
import io
import json
import os
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from nbprovision.__main__ import main
from tests.support.conda_packages import TinyChannel

KERNEL = '    - ensure_kernel: {name: k, argv: [/bin/cat, "{connection_file}"], environment: {V: a}}\n'
OWNED = "share/jupyter/kernels/python3/kernel.json"
SPEC = '{"argv": ["python", "{connection_file}"], "display_name": "P", "language": "python"}\n'
ENV = "    - ensure_conda_env: {name: e, channels: [CHANNEL], packages: [owner]}\n"
PYTHON3 = '    - ensure_kernel: {env: e, name: python3, scope: env, argv: [/bin/cat, "{connection_file}"]}\n'
SERVER = "    - ensure_jupyter_extension: {env: e, scope: env, server: {x: VALUE}}\n"
FILE = "    - ensure_file: {path: ROOT/x, content: a}\n"
LINE = "    - ensure_line: {path: ROOT/x, line: a, create: true}\n"
ONE_TASK = "make one task of the two"
NO_DEEP = "leave out `deep`"

# The tasks, options of the run, the lines of the task that is undone and of the one that undoes it, what to do.
FIGHTS = {
    "a variable of a kernel": (
        KERNEL + "    - ensure_env_var: {name: V, value: b, where: kernels, kernels: k}\n", (), (2, 3), ONE_TASK,
    ),
    "a variable of every kernel": (
        KERNEL + "    - ensure_env_var: {name: V, value: b, where: kernels}\n", (), (2, 3), ONE_TASK,
    ),
    "a switch of the server": (
        ENV + SERVER.replace("VALUE", "true") + SERVER.replace("VALUE", "false"), (), (3, 4), ONE_TASK,
    ),
    "a file, and a line in it": (
        FILE + "    - ensure_line: {path: ROOT/x, line: b}\n", (), (2, 3), ONE_TASK,
    ),
    "a file, and a command": (
        FILE + "    - ensure_command: {shell: echo b >> ROOT/x, unless: grep b ROOT/x}\n", (), (2, 3), ONE_TASK,
    ),
    "a line that a handler takes away": (
        LINE + "      notify: away\n  handlers:\n    - name: away\n      ensure_file: {path: ROOT/x, content: b}\n",
        (), (2, 6), ONE_TASK,
    ),
    "a file of a package": (
        ENV.replace("[owner]", "[owner], deep: true")
        + "    - ensure_line: {path: TOOL/envs/e/share/owner.json, line: x}\n", (), (2, 3), NO_DEEP,
    ),
    "ipykernel's own kernel": (ENV.replace("[owner]", "[owner], deep: true") + PYTHON3, (), (2, 3), NO_DEEP),
    "a package of one of two environments": (
        "    - ensure_conda_env: {name: f, channels: [CHANNEL], packages: [owner, other]}\n"
        + ENV + "    - ensure_conda_pkg: {envs: [e, f], packages: [owner], state: absent}\n"
        + ENV.replace("[owner]", "[other]"), (), (2, 4), ONE_TASK,
    ),
    "with --deep": (ENV + PYTHON3, ("--deep",), (2, 3), NO_DEEP),
}  # fmt: skip

PEACE = {
    "each its own part": LINE + "    - ensure_line: {path: ROOT/x, line: b}\n    - ensure_block: {path: ROOT/x, block: c}\n"
    + KERNEL + "    - ensure_env_var: {name: W, value: b, where: kernels}\n",
    "each its own key": "    - ensure_json: {path: ROOT/x, values: {a: 1}}\n    - ensure_json: {path: ROOT/x, values: {b: 1}, remove: [c]}\n"
    "    - ensure_ini: {path: ROOT/y, values: {a: {b: 1}}}\n    - ensure_ini: {path: ROOT/y, values: {c: {d: 1}}, remove: [[a, e]]}\n",
    "what comes after the task that means all": "    - ensure_conda_env: {name: one, channels: [CHANNEL], packages: [owner]}\n"
    "    - ensure_conda_pkg: {envs: all, channels: [CHANNEL], packages: [other], deep: true}\n"
    "    - ensure_command: {argv: [cp, -a, TOOL/envs/one, TOOL/envs/two], creates: TOOL/envs/two}\n",
    "packages and another kernel": ENV.replace("[owner]", "[owner], deep: true") + PYTHON3.replace("python3", "mine"),
}  # fmt: skip


class Place:
    """A machine with a channel of small packages."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.folder, self.env = folder, env
        self.channel = TinyChannel(folder / "tiny")
        self.channel.add("owner", "1.0", files={"share/owner.json": "{}\n", OWNED: SPEC})
        self.channel.add("other", "1.0")
        self.book = folder / "play.yml"

    def write(self, tasks: str) -> None:
        """The playbook of these tasks."""
        text = tasks.replace("CHANNEL", self.channel.url).replace("ROOT", str(self.folder))
        self.book.write_text("- tasks:\n" + text.replace("TOOL", self.env["NBPROVISION_HOME"]))

    def __call__(self, *words: str) -> tuple[int, dict[str, Any], str]:
        """The exit status, the document, and what stands on standard error."""
        out, err = io.StringIO(), io.StringIO()
        with (
            mock.patch.dict(os.environ, self.env, clear=True),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            status = main([words[0], str(self.book), "--format", "json", *words[1:]])
        return status, json.loads(out.getvalue()), err.getvalue()


@pytest.fixture
def place(tmp_path: Path, env: dict[str, str]) -> Place:
    """A bare machine."""
    return Place(tmp_path, env)


@pytest.mark.engine
@pytest.mark.parametrize("name", FIGHTS)
def test_a_run_names_both(place: Place, name: str) -> None:
    """At each run, in the document and on standard error, each with its place; and says what to do."""
    tasks, options, (undone, undoing), cure = FIGHTS[name]
    place.write(tasks)
    for _ in range(2):
        status, document, said = place("run", *options)
        assert status == 0, document
        changed = [task for task in document["tasks"] if task["status"] == "changed"]
        assert len(changed) >= 2, document
        warnings = [text for task in document["tasks"] for text in task["warnings"]]
        assert all(f"({place.book}:{undoing}:" in text.partition(" undoes what ")[0] for text in warnings)
        # Of several tasks that one undoes, which comes first depends on which was done first.
        [warning] = [text for text in warnings if f"({place.book}:{undone}:" in text.partition(" undoes what ")[2]]
        assert cure in warning
        assert f"warning: {warning}\n" in said


@pytest.mark.engine
@pytest.mark.parametrize("name", ["a file of a package", "ipykernel's own kernel"])
def test_lint_knows_what_packages_bring(place: Place, name: str) -> None:
    """By their records, when they are there."""
    place.write(FIGHTS[name][0])
    place("run")
    status, document, _ = place("lint")
    assert status == 4
    (found,) = [one for one in document["findings"] if one["rule"] == "conflicting-tasks"]
    assert "it is a file of the package owner, which `deep` repairs" in found["message"]


@pytest.mark.engine
@pytest.mark.parametrize("name", PEACE)
def test_what_agrees_is_left_in_peace(place: Place, name: str) -> None:
    """Neither what adds to the same file, nor what a task means only at the next run."""
    place.write(PEACE[name])
    status, document, said = place("run")
    assert status == 0, document
    assert [text for task in document["tasks"] for text in task["warnings"]] == []
    assert said == ""


def test_variables_of_one_kernel_come_one_after_the_other(place: Place) -> None:
    """Side by side each would write the file as it was without the other."""
    names = [f"V{number}" for number in range(8)]
    task = "    - ensure_env_var: {name: NAME, value: x, where: kernels, kernels: k}\n"
    place.write(KERNEL + "".join(task.replace("NAME", name) for name in names))
    status, document, _ = place("run")
    assert status == 0, document
    spec = json.loads(Path(place.env["HOME"], ".local/share/jupyter/kernels/k/kernel.json").read_text())
    assert spec["env"].keys() == {"V", *names}
