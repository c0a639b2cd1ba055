"""``doc``, ``schema`` and ``lint`` on a desk's machine: where py-rattler cannot be loaded, and with nothing of Linux alone.

macOS itself is not tried. What only Linux has is known from typeshed, which mypy brings along: names of the standard
library that exist under ``sys.platform == "linux"`` and not under ``"darwin"``.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import mypy
import pytest

ROOT = Path(__file__).parents[2]
PLAYBOOKS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "playbooks").rglob("*.yml"))
TYPESHED = Path(mypy.__file__).parent / "typeshed/stdlib"
# Starts the program without some modules, and without some names of others.
WITHOUT = """\
import importlib, json, os, sys
hidden, lacking, name, argv = json.loads(sys.argv[1])
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in hidden:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hidden())
for word in hidden:
    sys.modules.pop(word, None)
for module, names in lacking.items():
    for attribute in names:
        vars(importlib.import_module(module)).pop(attribute, None)
from nbprovision.__main__ import main
os.name = name
sys.exit(main(argv))
"""


def only_of_linux() -> dict[str, list[str]]:
    """The names that macOS lacks, by module of the standard library."""
    names = {}
    for path in sorted(TYPESHED.glob("*.pyi")):
        tree = ast.parse(path.read_text())
        lacking = set(defined(tree, "linux")) - set(defined(tree, "darwin"))
        if lacking and path.stem in sys.stdlib_module_names:
            names[path.stem] = sorted(lacking)
    for package in ("os", "asyncio"):
        tree = ast.parse((TYPESHED / package / "__init__.pyi").read_text())
        names[package] = sorted(set(defined(tree, "linux")) - set(defined(tree, "darwin")))
    return names


def defined(tree: ast.AST, platform: str) -> Iterator[str]:
    """The names that a stub defines for a platform and this Python."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If):
            system = {"sys": SimpleNamespace(platform=platform, version_info=sys.version_info)}
            holds = eval(compile(ast.Expression(node.test), "<stub>", "eval"), {**system, "TYPE_CHECKING": True})
            yield from defined(ast.Module(node.body if holds else node.orelse, []), platform)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.AnnAssign | ast.Assign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (target.id for target in targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in node.names)


def run(
    env: dict[str, str], *argv: str, hidden: tuple[str, ...] = ("rattler",), lacking: dict[str, list[str]] | None = None,
    name: str = "posix", folder: Path = ROOT,
) -> subprocess.CompletedProcess[str]:  # fmt: skip
    words = json.dumps([hidden, lacking or {}, name, argv])
    env = {**env, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-c", WITHOUT, words], cwd=folder, env=env, capture_output=True, text=True)


def test_typeshed_names_what_linux_alone_has() -> None:
    names = only_of_linux()
    assert {"epoll"} <= set(names["select"])
    assert {"memfd_create", "posix_fadvise", "sched_getaffinity"} <= set(names["os"])
    assert not {"fork", "getuid", "stat"} & set(names["os"])


@pytest.mark.parametrize(
    "argv",
    [["doc"], ["doc", "ensure_conda_env"], ["doc", "--format", "markdown"], ["schema"], ["lint", *PLAYBOOKS]],
    ids=["the list of tasks", "a task", "every task", "schema", "lint of every playbook"],
)
def test_the_commands_of_a_desk_work_without_py_rattler_and_linux(env: dict[str, str], argv: list[str]) -> None:
    whole = run(env, *argv, hidden=())
    assert whole.stdout
    without = run(env, *argv, lacking=only_of_linux())
    assert (without.returncode, without.stdout, without.stderr) == (whole.returncode, whole.stdout, whole.stderr)


SPECS = (
    "- tasks:\n    - ensure_conda_env: {name: a, packages: [python=3.11, 'numpy >=1.2|<1', 'six[build=x]', 'x =>1']}\n"
)


@pytest.mark.parametrize("form", ["text", "json", "github", "sarif"])
def test_lint_says_once_that_match_specs_were_not_checked(env: dict[str, str], tmp_path: Path, form: str) -> None:
    (tmp_path / "a.yml").write_text(SPECS.replace(", 'x =>1'", ""))
    (tmp_path / "b.yml").write_text(SPECS.replace(", 'x =>1'", ""))
    words = ("lint", "--format", form, "--strict", "a.yml", "b.yml")
    whole = run(env, *words, hidden=(), folder=tmp_path)
    assert whole.stderr == ""
    without = run(env, *words, folder=tmp_path)
    assert (without.returncode, without.stdout) == (whole.returncode, whole.stdout)
    assert without.stderr.splitlines() == [
        "note: 2 match specs were not checked",
        "  why: py-rattler, which parses them, cannot be loaded: No module named 'rattler'",
        "  fix: check the playbook on a machine that has py-rattler, or run: pip install --force-reinstall py-rattler",
    ]


def test_what_needs_no_library_is_checked_all_the_same(env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_text(SPECS)
    without = run(env, "lint", "a.yml", folder=tmp_path)
    assert without.returncode == 4
    assert "'x =>1' is not a match spec" in without.stdout


def test_another_kind_of_system_gets_a_clear_message(env: dict[str, str]) -> None:
    """Windows has none of the modules of POSIX."""
    posix = ("fcntl", "posix", "pwd", "grp", "termios", "resource", "rattler")
    done = run(env, "doc", hidden=posix, name="nt")
    assert done.returncode == 5
    assert done.stdout == ""
    assert "does not run on this system" in done.stderr
    assert "fix: " in done.stderr
    assert "Traceback" not in done.stderr
