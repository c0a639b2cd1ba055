"""``--check`` agrees with the run for every playbook that the repository has: samples, examples of tasks, the docs' blocks.

Each on a machine where there is nothing, half of it, all of it, and all but what was taken away. The proofs take every third
of them and one harm; ``NBPROVISION_TEST_CORPUS=all`` takes all. The playbooks of teams need a notebook instance:
`test_team_playbooks` has them.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from nbprovision.catalogue import Catalogue
from nbprovision.engine.session import Request, Session
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ProvisionError
from nbprovision.reference.definition import define
from nbprovision.report.document import Silent
from tests.conftest import Channel, registry_settings
from tests.engine.test_check_agrees import disagreements
from tests.reference.test_examples import AWS, FILES

pytestmark = [
    pytest.mark.engine, pytest.mark.network, pytest.mark.kernel, pytest.mark.proof,
    pytest.mark.scaled("NBPROVISION_TEST_CORPUS"),
    pytest.mark.sampled(2),
]  # fmt: skip
ALL = os.environ.get("NBPROVISION_TEST_CORPUS") == "all"

ROOT = Path(__file__).parents[2]
CATALOGUE = Catalogue()
# Environments that playbooks name and do not make.
NAMED = ("fraud", "risk", "quickstart")
# A check does not know what a command answers, whether a server of another name is there, or a service can be restarted.
ASK = ("ensure_command", "ensure_download", "ensure_git_repo", "ensure_s3_sync", "restart_jupyter")
Play = dict[str, Any]


def corpus() -> Iterator[tuple[str, list[Play]]]:
    """Playbooks, each with a name."""
    for kind in CATALOGUE:
        for number, task in enumerate(yaml.safe_load(define(CATALOGUE[kind]).examples)):
            if not CATALOGUE[kind].handler_only:
                yield f"{kind} {number}", [{"tasks": [task]}]
    for page in ("docs/how-to.md", "docs/tutorial.md"):
        for number, text in enumerate(re.findall(r"```yaml\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)):
            document = yaml.safe_load(text)
            if isinstance(document, list):  # an environment.yml and a file of variables are mappings
                yield f"{page} {number}", document
    yield "quickstart.yml", yaml.safe_load((ROOT / "playbooks/quickstart.yml").read_text())


CORPUS = dict(corpus())
TRIED = list(CORPUS) if ALL else list(CORPUS)[::3]


class Place:
    """A machine in a folder, and a playbook for it."""

    def __init__(self, folder: Path, channel: Channel, cache: Path, plays: list[Play]) -> None:
        self.root, self.home, self.tool = folder / "root", folder / "home", folder / "nbprovision"
        self.playbooks = folder / "playbooks"
        commands = folder / "bin"
        for made in (self.root / "home/ec2-user/SageMaker", self.playbooks, commands, self.home):
            made.mkdir(parents=True)
        (commands / "aws").write_text(AWS)
        (commands / "aws").chmod(0o755)
        self.channel = channel
        for name, text in FILES.items():
            (self.playbooks / name).write_text(self.here(text))
        self.env = {
            "HOME": str(self.home),
            "PATH": f"{commands}:/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "TMPDIR": os.environ.get("TMPDIR", "/tmp"),
            "NBPROVISION_HOME": str(self.tool),
            "NBPROVISION_TIMEOUT": "5",
            "UV_CACHE_DIR": str(cache / "uv"),
            "INDEX_PASSWORD": "secret",
            **registry_settings(),
        }
        self.extra = {"channel": str(channel.path)}
        self.plays = yaml.safe_load(self.here(yaml.safe_dump(plays, sort_keys=False)))
        text = yaml.safe_dump(self.plays)
        missing = [name for name in NAMED if re.search(rf"(env|clone): {name}|- {name}\b|ris\*", text)]
        made = re.findall(r"ensure_conda_env:\n(?:\s+\w+:.*\n)*?\s+name: (\w+)", text)
        tasks = [
            {"ensure_conda_env": {"name": name, "channels": [str(channel.path)], "packages": ["python", "pip", "idna"]}}
            for name in missing
            if name not in made
        ]
        self.plays = [*([{"name": "What it counts on", "tasks": tasks}] if tasks else []), *self.plays]

    def here(self, text: str) -> str:
        """A text with what this machine has in the place of what it names."""
        for there, here in (
            ("conda-forge", str(self.channel.path)),
            ("python=3.12", f"python={self.channel.python}"),
            ("python 3.12", f"python {self.channel.python}"),
            ("/usr/bin/python3", sys.executable),
            ("/home/ec2-user", str(self.root / "home/ec2-user")),
        ):
            text = text.replace(there, here)
        return text

    def run(self, plays: list[Play], *, check: bool) -> list[dict[str, Any]] | str:
        """What is said of each task, or why the playbook is refused."""
        path = self.playbooks / "play.yml"
        path.write_text(yaml.safe_dump(plays, sort_keys=False))
        request = Request(playbook=path, extra_vars=self.extra, check=check)
        try:
            session = Session(request, Machine(self.env, root=self.root), CATALOGUE)
            results, _ = session.perform(Silent(), lambda _text: None)
        except ProvisionError as error:
            return str(error)
        return [result.as_json() for result in results]

    def agree(self, plays: list[Play] | None = None) -> list[dict[str, Any]] | str:
        """What the run says, after a check that said the same."""
        plays = self.plays if plays is None else plays
        said, done = self.run(plays, check=True), self.run(plays, check=False)
        if isinstance(said, str) or isinstance(done, str):
            assert said == done
            return done
        wanted = [task for task in done if task["status"] != "skipped"]
        told = [task for task in said if task["status"] != "skipped"]
        if any(task["status"] == "failed" for task in wanted):  # what a failure calls up or leaves out is not foreseen
            first = next(number for number, task in enumerate(wanted) if task["status"] == "failed")
            last = first + (wanted[first]["task"] not in ASK)
            wanted, told = wanted[:last], told[:last]
        assert not disagreements(told, wanted), yaml.safe_dump([told, wanted])
        return done

    def half(self) -> list[Play]:
        """The playbook up to the middle of its last play."""
        *others, last = self.plays
        tasks = last.get("tasks", [])
        return [*others, {**last, "tasks": tasks[: (len(tasks) + 1) // 2] if len(tasks) > 1 else []}]


def restart(place: Place) -> None:
    """The home is new, as after a restart of a notebook instance."""
    shutil.rmtree(place.home)
    place.home.mkdir()


def without_an_environment(place: Place) -> None:
    """The first environment is gone."""
    for prefix in sorted((place.tool / "envs").glob("*"))[:1]:
        shutil.rmtree(prefix)


def without_a_distribution(place: Place) -> None:
    """Each environment has lost one of its packages of Python, by hand."""
    for prefix in sorted((place.tool / "envs").glob("*")):
        for folder in sorted(prefix.glob("lib/python*/site-packages/*.dist-info"))[-1:]:
            shutil.rmtree(folder)


def without_an_interpreter(place: Place) -> None:
    """Nor has each its Python any more."""
    for python in (place.tool / "envs").glob("*/bin/python"):
        python.unlink()


HARM: tuple[Callable[[Place], None], ...] = (
    restart, without_an_environment, without_a_distribution, without_an_interpreter,
)  # fmt: skip


@pytest.mark.parametrize("name", TRIED)
def test_check_and_run_agree(name: str, tmp_path: Path, channel: Channel, shared_cache: Path) -> None:
    """On a machine with nothing; then nothing is left to do; and after harm."""
    place = Place(tmp_path, channel, shared_cache, CORPUS[name])
    done = place.agree()
    again = place.agree()
    if isinstance(done, str) or any(task["status"] == "failed" for task in done):
        return
    fights = [text for task in again for text in task["warnings"] if " undoes what " in text]
    assert fights or not [task for task in again if task["status"] == "changed"], again
    for harm in HARM if ALL else HARM[list(CORPUS).index(name) % len(HARM) :][:1]:
        harm(place)
        place.agree()


@pytest.mark.parametrize("name", [name for name in TRIED if len(CORPUS[name][-1].get("tasks", [])) > 1])
def test_check_and_run_agree_where_half_is_done(
    name: str, tmp_path: Path, channel: Channel, shared_cache: Path
) -> None:
    """As after a run that was stopped between two tasks, or of a playbook that has grown."""
    place = Place(tmp_path, channel, shared_cache, CORPUS[name])
    place.agree(place.half())
    place.agree()
