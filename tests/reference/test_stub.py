"""The Python API as type checkers see it. ``python -m tests.reference.test_stub`` writes the stub again."""

from __future__ import annotations

import inspect
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import nbprovision
from nbprovision import api
from nbprovision.catalogue import Catalogue
from nbprovision.model import errors
from nbprovision.model.errors import InvalidPlaybook, LockTimeout, Position, ProvisionError
from nbprovision.reference.stub import stub
from nbprovision.system.process import ChildEnded

STUB = Path(nbprovision.__file__).with_suffix(".pyi")
PAGE = STUB.parents[1] / "docs/api.md"
BEGIN = "<!-- functions and classes, made by: python -m tests.reference.test_stub -->\n"


def made_again() -> str:
    classes = {name: getattr(api, name).__module__ for name in api.__all__ if isinstance(getattr(api, name), type)}
    kinds = dict(Catalogue())
    settings = {name: api.settings_of(kind) for name, kind in kinds.items()}
    texts = {name: inspect.getdoc(getattr(api, name)) or "" for name in ("run_playbook", *kinds)}
    text = stub(classes, {"run_playbook": api.run_playbook}, kinds, settings, texts)
    formatted = [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(STUB), "-"]
    return subprocess.run(formatted, input=text, capture_output=True, text=True, check=True).stdout


def page_made_again() -> str:
    """The page of the API: what the site shows there comes from the stub and from the classes' own docstrings."""
    classes = [name for name in api.__all__ if isinstance(getattr(api, name), type)]
    parts = {
        "Functions": ["run_playbook", *Catalogue()],
        "Results": [name for name in classes if not issubclass(getattr(api, name), Exception)],
        "Errors": [name for name in classes if issubclass(getattr(api, name), Exception)],
    }
    text = "".join(
        f"\n## {part}\n" + "".join(f"\n::: nbprovision.{name}\n" for name in names) for part, names in parts.items()
    )
    return f"{PAGE.read_text().partition(BEGIN)[0]}{BEGIN}{text}"


def test_the_page_has_every_function_and_class() -> None:
    assert PAGE.read_text() == page_made_again(), "python -m tests.reference.test_stub writes it again"


def test_the_stub_is_the_definitions_own() -> None:
    assert STUB.read_text() == made_again(), "python -m tests.reference.test_stub writes it again"


def test_dir_lists_every_function() -> None:
    assert {*Catalogue(), "run_playbook", "ProvisionError", "Result"} <= set(dir(nbprovision))


WRONG = """
from pathlib import Path
from nbprovision import Result, ensure_kernel, ensure_pip_pkg, run_playbook

ensure_pip_pkg(evn="x", packages=["six"])
ensure_pip_pkg(env="x", packages=3)
ensure_pip_pkg(env="x", packages=["six"], state="gone")
ensure_kernel(env="x", environment="A=b")
run_playbook("x.yml", tag=["a"])
right: Result = ensure_pip_pkg(env="x", packages="six", check=True, home=Path("/x"), lock_timeout=1.5)
ensure_pip_pkg(requirements=Path("r.txt"), env="x", no_log=True, environment={"A": "b"})
count: int = len(run_playbook(Path("x.yml"), check=True))
"""


def test_a_type_checker_refuses_what_is_wrong_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(WRONG)
    words = [sys.executable, "-m", "mypy", "--strict", "--no-incremental", "--config-file=", "script.py"]
    env = {"MYPYPATH": str(STUB.parents[1]), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    lines = {
        int(line.split(":")[1])
        for line in done.stdout.splitlines()
        if line.startswith("script.py:") and " error" in line
    }
    assert lines == {5, 6, 7, 8, 9}, done.stdout


ERRORS: list[ProvisionError] = [
    LockTimeout("held", cause="by another", cure="wait"),
    InvalidPlaybook("wrong", position=Position("a.yml", 3, 1)),
    errors.ParameterError("packages", "is wrong"),
    errors.Blocked(Path("/x"), "no way", cause="it is full"),
    ChildEnded("ended", cause="killed", cure="again", status=-9),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_travels_between_processes(error: ProvisionError) -> None:
    other: Any = pickle.loads(pickle.dumps(error))
    assert type(other) is type(error)
    assert str(other) == str(error)
    assert vars(other) == vars(error)


if __name__ == "__main__":
    STUB.write_text(made_again())
    PAGE.write_text(page_made_again())
