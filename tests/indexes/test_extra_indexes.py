"""An extra index with old copies, as PyTorch's: what is taken, what is said of it, and what errors name."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from nbprovision.machine import distributions
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import TaskFailed
from nbprovision.pip.ensure_pip_pkg import EnsurePipPkg
from tests.support.pip_environment import ENGINES, carried_out, venv
from tests.support.wheels import make_wheel

pytestmark = pytest.mark.engine


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, and says nothing."""

    def log_message(self, *arguments: Any) -> None:
        pass


class Served(NamedTuple):
    """The two indexes, on one host."""

    main: str
    extra: str
    folder: Path


@pytest.fixture
def served(tmp_path: Path, env: dict[str, str]) -> Iterator[Served]:
    """The main index has idna 3.10 and pear, which wants it; the extra one has idna 2.10 alone."""
    folder = tmp_path / "served"
    make_wheel(folder / "main/pear", "pear", "1.0", requires=["idna"])
    for version in ("2.10", "3.10"):
        make_wheel(folder / "main/idna", "idna", version)
    make_wheel(folder / "extra/idna", "idna", "2.10")
    for page in [path for path in folder.glob("*/*") if path.is_dir()]:
        links = "".join(f'<a href="{path.name}">{path.name}</a>\n' for path in page.glob("*.whl"))
        (page / "index.html").write_text(f"<!DOCTYPE html>\n{links}")
    for name in list(env):
        if name.startswith(("PIP_INDEX", "PIP_EXTRA", "UV_")):
            del env[name]
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base = f"http://127.0.0.1:{server.server_port}"
    env.update(
        PIP_INDEX_URL=f"{base.replace('//', '//me:canary-4@')}/main/",
        PIP_EXTRA_INDEX_URL=f"{base}/extra/",
        XDG_CONFIG_DIRS=str(tmp_path / "none"),
    )
    yield Served(f"{base}/main/", f"{base}/extra/", folder)
    server.shutdown()
    server.server_close()


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    return venv(tmp_path / "venv")


def version(prefix: Path) -> str:
    return distributions.installed(prefix)["idna"][0].version


def holds(warnings: tuple[str, ...], served: Served) -> None:
    """The note names both indexes, both versions and what to write, and no password."""
    [text] = warnings
    assert text.startswith(f"idna 2.10 is from {served.extra}, the first index that has the name; ")
    assert f"{served.main} has 3.10: `index_strategy: best-match`" in text
    assert "canary-4" not in text


@pytest.mark.parametrize("state", ["present", "latest"])
@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("name", ["idna", "pear"])
def test_a_better_version_elsewhere_is_noted(
    served: Served, prefix: Path, machine: Machine, state: str, check: bool, name: str
) -> None:
    wanted = EnsurePipPkg(packages=name, env=str(prefix), state=state)
    if name == "pear":
        machine.env["PIP_EXTRA_INDEX_URL"] = served.extra
    result = carried_out(wanted, machine, check=check)
    assert result.status == "changed"
    holds(result.warnings, served)


def test_what_stays_the_latest_there_is_noted_too(served: Served, prefix: Path, machine: Machine) -> None:
    wanted = EnsurePipPkg(packages="idna", env=str(prefix), state="latest")
    carried_out(wanted, machine)
    machine.forget()
    result = carried_out(wanted, machine)
    assert result.status == "ok"
    assert version(prefix) == "2.10"
    holds(result.warnings, served)


def test_nothing_is_said_where_nothing_is_better(served: Served, prefix: Path, machine: Machine) -> None:
    wanted = EnsurePipPkg(packages="idna<3", env=str(prefix))
    assert carried_out(wanted, machine).warnings == ()
    machine.env["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    result = carried_out(EnsurePipPkg(packages="idna", env=str(prefix), state="latest"), machine)
    assert result.warnings == ()
    assert version(prefix) == "3.10"


def test_pip_takes_the_best_of_all(served: Served, prefix: Path, machine: Machine) -> None:
    assert carried_out(EnsurePipPkg(packages="idna", env=str(prefix), engine="pip"), machine).warnings == ()
    assert version(prefix) == "3.10"


@pytest.mark.parametrize("specifier", [">=3", "==3.10", ">=9"])
def test_the_error_names_the_index_that_was_used_and_our_parameter(
    served: Served, prefix: Path, machine: Machine, specifier: str
) -> None:
    result = carried_out(EnsurePipPkg(packages=f"idna{specifier}", env=str(prefix)), machine)
    assert isinstance(result.error, TaskFailed)
    assert f"uv searched for idna in {served.extra} only" in result.error.cause
    assert f"a version that {served.extra} has" in result.error.cure
    assert "`index_strategy: best-match` of ensure_pip_index" in result.error.cure
    assert "--index-strategy" not in result.error.text
    assert "canary-4" not in result.error.text


@ENGINES
def test_the_error_names_all_that_were_asked(served: Served, prefix: Path, machine: Machine, engine: str) -> None:
    result = carried_out(EnsurePipPkg(packages="nosuch", env=str(prefix), engine=engine), machine)
    assert result.error is not None
    assert served.extra in result.error.cure
    assert "/main/" in result.error.cure
    assert "canary-4" not in result.error.text


@ENGINES
def test_the_error_names_the_one_that_is_out_of_order(
    served: Served, prefix: Path, machine: Machine, engine: str
) -> None:
    """Both are on one host, and the file of the extra one is gone."""
    next((served.folder / "extra/idna").glob("*.whl")).unlink()
    result = carried_out(EnsurePipPkg(packages="idna==2.10", env=str(prefix), engine=engine), machine)
    assert result.error is not None
    assert f"{served.extra}idna/" in result.error.text
    assert served.main not in result.error.text
