"""docs/fleet.md is followed from its first command to the last; what it shows is what the commands print."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nbprovision.cli import fleet as command
from tests.cli.test_command_line import options_of, parser_of
from tests.fleet.conftest import Team
from tests.support.pages import ROOT, blocks, invocations

PAGE = "docs/fleet.md"


class Story:
    """What happens between the commands."""

    def __init__(self, team: Team) -> None:
        self.team = team

    def instances(self) -> None:
        for name, tags in (("ann", {"ring": "canary"}), ("joe", {"ring": "canary"}), ("eve", {}), ("kim", {})):
            self.team.sagemaker.create_notebook_instance(
                NotebookInstanceName=name, InstanceType="ml.t3.medium", RoleArn="arn:aws:iam::123456789012:role/notebook",
                Tags=[{"Key": key, "Value": value} for key, value in {"team": "fraud", **tags}.items()],
            )  # fmt: skip
            self.team.settle(name)
            self.team.sagemaker.stop_notebook_instance(NotebookInstanceName=name)
            self.team.settle(name)

    def move(self, *names: str, ring: str) -> None:
        for name in names:
            self.team.sagemaker.update_notebook_instance(
                NotebookInstanceName=name, LifecycleConfigName=f"fraud-{ring}-r1"
            )
            self.team.settle(name)

    def start(self, *names: str, ring: str, **report: Any) -> None:
        for name in names:
            self.team.sagemaker.start_notebook_instance(NotebookInstanceName=name)
            self.team.settle(name)
            self.team.report(name, ring, **report)

    def canaries(self) -> None:
        self.move("ann", "joe", ring="canary")
        self.move("eve", "kim", ring="stable")
        self.start("ann", "joe", ring="canary")

    def hours(self) -> None:
        text = self.team.file.read_text()
        self.team.file.write_text(text.replace("soak: 2h", "soak: 0s"))

    def bad(self) -> None:
        self.start("eve", "kim", ring="stable")
        playbook = self.team.folder / "team.yml"
        playbook.write_text(playbook.read_text().replace("pandas", '"pandas >=99"'))
        self.team.run("publish")
        failure = {
            "task": "ensure_conda_env: fraud", "why": "no package satisfies pandas >=99", "cure": "correct the version",
        }  # fmt: skip
        for name in ("ann", "joe"):
            self.team.report(name, status=2, failures=[failure], log="pandas >=99 cannot be installed\n")

    def failed(self) -> None:
        self.team.sagemaker.stop_notebook_instance(NotebookInstanceName="kim")
        self.team.settle("kim")
        self.team.add_failed("other", "fraud-stable-r9")
        self.team.sagemaker.update_notebook_instance(NotebookInstanceName="kim", LifecycleConfigName="fraud-stable-r9")
        self.team.settle("kim")
        self.team.sagemaker.start_notebook_instance(NotebookInstanceName="kim")
        assert self.team.settle("kim") == "Failed"


def test_the_guide(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nbprovision.fleet.rescue._EVERY", 0.01)
    monkeypatch.chdir(team.folder)
    story = Story(team)
    nothing: Callable[[], object] = lambda: None  # noqa: E731
    events = iter(
        (
            ("policy", nothing), ("publish", nothing), ("plan", story.instances), ("status", story.canaries),
            ("promote", nothing), ("promote", story.hours), ("status", story.bad), ("back", nothing),
            ("rescue", story.failed), ("render", nothing),
        )
    )  # fmt: skip
    output = ""
    for block in blocks(PAGE):
        if block.not_run:
            continue
        if block.file_name:
            (team.folder / block.file_name).write_text(block.text)
        elif block.language == "sh":
            action, happens = next(events)
            happens()
            commands = list(invocations(block.text))
            assert {words[1] for words in commands} == {action}
            status = 2 if "|| true" in block.text else 0
            for words in commands:
                output = team.run(*words[1:], status=status).replace(f"{team.folder}/", "")
        else:
            pattern = re.escape(block.text.strip("\n")).replace(re.escape("..."), r"\S+")
            shows = f"{PAGE}:{block.line} shows\n{block.text}\nbut:\n{output}"
            assert re.search(f"^{pattern}$", output, re.MULTILINE), shows
    assert next(events, None) is None


def test_the_reference_names_each_action_and_option() -> None:
    section = (ROOT / "docs/reference.md").read_text().partition("\n### fleet\n")[2].partition("\n### ")[0]
    actions: Any = next(action for action in parser_of("fleet")._actions if action.dest == "action")
    for name, parser in actions.choices.items():
        assert f"`nbprovision fleet {name}" in section
        for action in options_of(parser):
            assert (action.option_strings or [str(action.metavar)])[-1] in section, name
    assert set(actions.choices) == set(command._ACTIONS)


def test_the_guide_has_every_key_of_the_file() -> None:
    page = (ROOT / PAGE).read_text()
    source = (ROOT / "nbprovision/fleet/definition.py").read_text()
    keys = set(re.findall(r'^            "(\w+)": ', source, re.MULTILINE))
    assert len(keys) > 15
    for key in keys - {"name"}:
        assert f"`{key}" in page or f": {key}`" in page or f"`{key}`" in page, key


def test_the_links_of_the_guide(tmp_path: Path) -> None:
    for link in re.findall(r"\]\(([\w./-]+\.md)\)", (ROOT / PAGE).read_text()):
        assert (ROOT / "docs" / link).is_file()
