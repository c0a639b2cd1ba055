"""Every example of `nbprovision doc`, the schema and the reference page is run, one after the other, on the local channel.

In place of conda-forge stands the local channel, in place of AWS's command one that gives a token. What else the examples
name (environments, files beside the playbook) is made before them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from nbprovision.catalogue import Catalogue
from nbprovision.engine.session import Request, Session
from nbprovision.machine.machine import Machine
from nbprovision.model.result import Result
from nbprovision.reference.definition import define
from nbprovision.report.document import Silent
from tests.conftest import Channel, registry_settings
from tests.support.authority_file import AUTHORITY
from tests.support.file_server import EMPTY_ZIP, FileServer
from tests.support.git_repositories import GitServer, Origin
from tests.support.lock_files import pixi_lock
from tests.support.r_repository import HAS_R, Repository

pytestmark = [pytest.mark.engine, pytest.mark.network, pytest.mark.kernel, pytest.mark.sampled(2)]

CATALOGUE = Catalogue()
ENVIRONMENTS = "ensure_conda_env"  # whose examples make what others name
# What the examples find beside their playbook.
FILES = {
    "environment.yml": "channels: [conda-forge]\ndependencies: [python, six]\nvariables: {TEAM: report}\n",
    "requirements.txt": "idna>=3.7\n",
    "constraints.txt": "idna<4\n",
    "company-ca.pem": AUTHORITY,
}
AWS = """#!/bin/sh
case $2 in
head-object) echo '{"ContentLength": 1, "LastModified": "2026-01-01T00:00:00+00:00", "ETag": "a"}' && exit ;;
head-bucket | list-objects-v2) echo '{}' && exit ;;
esac
echo '{"authorizationToken": "of-an-example", "expiration": "2099-01-01T00:00:00+00:00"}'
"""


def is_roots(kind: str) -> bool:
    """Whether root's part of the lifecycle script does the work, which tests/container tries."""
    return CATALOGUE[kind].in_root == "always"


class Scene:
    """A user's machine, with a folder for playbooks."""

    def __init__(self, folder: Path, channel: Channel, cache: Path) -> None:
        self.folder = folder / "playbooks"
        self.channel = channel
        commands = folder / "bin"
        for made in (self.folder, commands, folder / "home", folder / "root"):
            made.mkdir(parents=True)
        (commands / "aws").write_text(AWS)
        for name in ("work", "tools"):  # what is sent to S3
            (self.folder / name).mkdir()
            (self.folder / name / "file").write_text("{}")
        (commands / "aws").chmod(0o755)
        self.root = folder / "root"
        self.env = {
            "HOME": str(folder / "home"),
            "PATH": f"{commands}:/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "TMPDIR": os.environ.get("TMPDIR", "/tmp"),
            "NBPROVISION_HOME": str(folder / "nbprovision"),
            "UV_CACHE_DIR": str(cache / "uv"),
            **registry_settings(),
        }
        self.files = FileServer()
        self.files.files |= {"/model.bin": b"abc", "/tool": b"abc", "/data.zip": EMPTY_ZIP}
        if HAS_R:
            cran = Repository(folder / "cran")
            cran.add("fixest", "0.11.2", index=False)
            cran.add("data.table", "1.14.10")
        self.files.files |= {
            "/model.bin": b"abc",
            "/tool": b"abc",
            "/data.zip": EMPTY_ZIP,
            "/ca.crt": AUTHORITY.encode(),
        }
        self.repositories = GitServer(folder / "repositories")
        Origin(folder / "repositories/models.git").run("tag", "v1.0")
        Origin(folder / "repositories/fraud")
        for name, text in FILES.items():
            (self.folder / name).write_text(self.here(text))
        pixi_lock(self.folder / "pixi.lock", channel, {"default": ["six"]})

    def here(self, text: str) -> str:
        """An example with what this machine has in the place of what it names."""
        for there, here in (
            ("conda-forge", str(self.channel.path)),
            ("python=3.12", f"python={self.channel.python}"),
            ("/usr/bin/python3", sys.executable),
            ("https://downloads.example.com", self.files.url),
            ("https://packagemanager.posit.co/cran/2024-01-31", str(self.folder.parent / "cran")),
            ("https://github.com/acme", self.repositories.url),
            ("https://git-codecommit.eu-west-1.amazonaws.com/v1/repos", self.repositories.url),
        ):
            text = text.replace(there, here)
        return text

    def run(self, kind: str) -> Iterator[tuple[str, Result]]:
        """The examples of a kind, each a run of its own: what came of it, and of the same again."""
        for number, task in enumerate(yaml.safe_load(self.here(define(CATALOGUE[kind]).examples))):
            path = self.folder / f"{kind}-{number}.yml"
            path.write_text(yaml.safe_dump([{"root_tasks" if is_roots(kind) else "tasks": [task]}]))
            for when in ("at first", "again"):
                session = Session(Request(playbook=path), Machine(self.env, root=self.root), CATALOGUE)
                (result,), _ = session.perform(Silent(), lambda _text: None)
                assert result.error is None, f"{task['name']}: {result.error}"
                yield when, result


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, channel: Channel, shared_cache: Path) -> Scene:
    """Where the environments are that examples name."""
    made = Scene(tmp_path_factory.mktemp("examples"), channel, shared_cache)
    check(made, ENVIRONMENTS)
    return made


def check(scene: Scene, kind: str) -> None:
    """Each example comes about, stands when it is run again, and reports nothing that the kind does not tell of."""
    for when, result in scene.run(kind):
        assert {change.action for change in result.changes} <= set(define(CATALOGUE[kind]).actions), result
        if is_roots(kind):
            # A machine without root's part lacks all but what is to be absent.
            assert result.status in ("skipped", "ok"), result
            assert result.status == "ok" or result.warnings[0] == "drift: render the script again"
        elif when == "again":
            assert result.status == "ok", result


@pytest.mark.parametrize("kind", [kind for kind in CATALOGUE if not CATALOGUE[kind].handler_only])
def test_the_examples(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, channel: Channel, shared_cache: Path
) -> None:
    if kind == "ensure_r_pkg" and not HAS_R:
        pytest.skip("there is no R here: apt-get install r-base-core")
    named = {parameter.name for parameter in define(CATALOGUE[kind]).parameters}
    alone = not named & {"env", "envs", "prefix"}  # it names no environment
    scene = Scene(tmp_path, channel, shared_cache) if alone else request.getfixturevalue("scene")
    check(scene, kind)
    if kind == "ensure_pip_index":  # for the kinds after it packages come from where this machine has them
        for path in Path(scene.env["NBPROVISION_HOME"]).glob("envs/*/pip.conf*"):
            path.unlink()
    if kind == "ensure_condarc":  # its pins would hold for the kinds after it, in whichever order they come
        for path in (Path(scene.env["HOME"], ".condarc"), *Path(scene.env["NBPROVISION_HOME"]).glob("envs/*/.condarc")):
            path.unlink(missing_ok=True)
