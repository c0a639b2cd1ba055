"""The lint as a whole: an answer to whatever a file holds, what `--fix` mends, the command, and the playbooks that come with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbprovision.__main__ import main
from nbprovision.catalogue import Catalogue
from nbprovision.cli import lint as command
from nbprovision.lint.check import check, fix
from nbprovision.machine.machine import Machine
from nbprovision.machine.platform import PlatformKind
from tests.playbook.test_fuzz import CHECKS, FORMS
from tests.support.linting import ROOT, tasks


@pytest.mark.parametrize("path", sorted((ROOT / "tests/data/invalid").glob("*.yml")), ids=lambda path: path.stem)
def test_what_a_run_refuses_the_lint_refuses(path: Path, machine: Machine) -> None:
    """Every wrong playbook has an error, in its place."""
    found = check(path, machine, Catalogue(), {})
    assert [one for one in found if one.severity == "error"]


@pytest.mark.scaled("NBPROVISION_TEST_LINTED")
@settings(
    max_examples=int(os.environ.get("NBPROVISION_TEST_LINTED", "60")),
    deadline=None,
    suppress_health_check=CHECKS,
    database=None,
)
@given(content=st.one_of(*(strategy.map(encode) for strategy, encode in FORMS)), script=st.booleans())
def test_whatever_the_file_holds_there_is_an_answer(
    content: bytes, script: bool, machine: Machine, tmp_path: Path
) -> None:
    """Findings with places in the file, or that it cannot be read; never another error, and --fix comes to an end."""
    path = tmp_path / ("start.sh" if script else "p.yml")
    path.write_bytes(content)
    for _ in range(10):
        found = check(path, Machine(machine.env, root=machine.root), Catalogue(), {})
        assert all(one.position.line >= 1 and one.message for one in found)
        if not fix(path, found):
            return
    raise AssertionError(content)


FIXABLE = (
    "# a comment, \u00fc\n- tasks:\n    - name:   'no'   # stays\n      when: \"{{ nb.gpu }}\"\n"
    "      ensure_conda_env: {name: a, exact: Yes}   # and this\n    - ansible.builtin.import_tasks: more.yml\n"
)
FIXED = (
    "# a comment, \u00fc\n- tasks:\n    - name:   'no'   # stays\n      when: \"nb.gpu\"\n"
    "      ensure_conda_env: {name: a, exact: true}   # and this\n    - import_tasks: more.yml\n"
)


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_what_is_mended_leaves_every_other_byte(ends: str, linted: Any, tmp_path: Path) -> None:
    """And what is mended is clean, so that a second --fix has nothing to do."""
    found = linted(FIXABLE.replace("\n", ends))
    path = tmp_path / "p.yml"
    path.chmod(0o640)
    assert len(fix(path, found)) == len(found) == (3 if ends == "\n" else 4)
    assert path.read_bytes() == FIXED.encode()
    assert path.stat().st_mode & 0o777 == 0o640
    assert linted(FIXED) == []


def test_a_script_is_mended(linted: Any, tmp_path: Path) -> None:
    """What is mended may uncover more, which the next look finds."""
    path = tmp_path / "start.sh"
    found = linted("\ufeff\r\n#!/bin/sh\r\necho a\r\n", path.name)
    while fix(path, found):
        found = linted(path.read_text(), path.name)
    assert found == []
    assert path.read_bytes() == b"#!/bin/sh\necho a\n"


def lint(env: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "nbprovision", "lint", *words], env=env, capture_output=True, text=True, cwd=ROOT
    )


def test_the_command_tells_and_ends_with_its_status(env: dict[str, str], tmp_path: Path) -> None:
    """0 for warnings, 2 for them with --strict, 4 for errors; nothing is written beside what --fix mends."""
    path = tmp_path / "p.yml"
    path.write_text(tasks("ensure_conda_env: {name: a, exact: yes}"))
    done = lint(env, str(path))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"warning: {path}:2:42: 'yes' means true [truthy]\n  why: YAML 1.2")
    assert done.stdout.endswith("lint : files=1 errors=0 warnings=1 fixed=0, 1 of them by --fix\n")
    assert lint(env, str(path), "--strict").returncode == 2
    assert not Path(env["NBPROVISION_HOME"]).exists()
    assert lint(env, str(path), "--strict", "--fix").returncode == 0
    assert path.read_text() == tasks("ensure_conda_env: {name: a, exact: true}")
    path.write_text(tasks("ensure_kernel: {env: nowhere}"))
    done = lint(env, str(path), "--format", "json")
    found = json.loads(done.stdout)
    assert done.returncode == 4
    assert found["counts"] == {"error": 1, "warning": 0, "fixed": 0}
    assert found["findings"][0]["rule"] == "unknown-environment"
    assert lint(env, str(tmp_path / "nope.yml")).returncode == 4
    assert lint(env).returncode == 5


def test_a_platform_can_be_named_that_this_machine_is_not(env: dict[str, str], tmp_path: Path) -> None:
    """On a laptop nobody knows what the instance has; what is known of every instance is told all the same."""
    path = tmp_path / "p.yml"
    path.write_text(tasks("ensure_pip_pkg: {env: python3, packages: [a]}", "ensure_conda_env: {prefix: /data/a}"))
    rules = {one["rule"] for one in json.loads(lint(env, str(path), "--format", "json").stdout)["findings"]}
    assert rules == {"unknown-environment"}
    done = lint(env, str(path), "--platform", "notebook-instance", "--format", "json")
    assert {one["rule"] for one in json.loads(done.stdout)["findings"]} == {"environment-outside-volume"}


def test_what_the_image_of_a_platform_brings_counts_as_there(env: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "p.yml"
    newest = "{{ nb.envs | select('match', '^pytorch') | list | last | mandatory('no PyTorch') }}"
    path.write_text(
        tasks(
            "ensure_condarc: {channels: [conda-forge]}",
            f'ensure_pip_pkg: {{env: "{newest}", packages: [a]}}',
            "ensure_jupyter_extension: {packages: [jupyterlab-git]}",
        )
    )
    done = lint(env, str(path), "--platform", "notebook-instance", "--format", "json")
    assert json.loads(done.stdout)["findings"] == []
    assert "no PyTorch" in lint(env, str(path), "--platform", "studio").stdout


def test_a_task_for_another_platform_needs_no_root_here(env: dict[str, str], tmp_path: Path) -> None:
    """It is judged where it runs; what only Studio has is the user's there."""
    path = tmp_path / "p.yml"
    path.write_text(
        tasks(
            "{when: nb.platform == 'studio', ensure_json: {path: /opt/amazon/sagemaker/a.json, values: {a: 1}}}",
            "{when: nb.platform == 'studio', ensure_command: {argv: [sudo, touch, /etc/b], creates: /etc/b}}",
            "{when: nb.platform == 'notebook-instance', ensure_file: {path: /etc/a, content: a}}",
        )
    )

    def lines(kind: str) -> list[int]:
        done = lint(env, str(path), "--platform", kind, "--format", "json")
        findings = json.loads(done.stdout)["findings"]
        return [finding["line"] for finding in findings if finding["rule"] == "root-needed"]

    assert {kind: lines(kind) for kind in ("studio", "notebook-instance", "other")} == {
        "studio": [], "notebook-instance": [4], "other": [3, 4],
    }  # fmt: skip


def test_studio_brings_a_server_a_base_and_apt(env: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "p.yml"
    path.write_text(
        tasks(
            "ensure_jupyter_extension: {packages: [jupyterlab-git]}",
            "ensure_pip_pkg: {env: base, packages: [a]}",
            "{name: b, ensure_command: {argv: [sudo, apt-get, install, -y, jq], creates: /usr/bin/jq}}",
        )
    )
    done = lint(env, str(path), "--platform", "studio", "--format", "json")
    assert json.loads(done.stdout)["findings"] == []
    done = lint(env, str(path), "--platform", "notebook-instance", "--format", "json")
    assert [finding["rule"] for finding in json.loads(done.stdout)["findings"]] == ["root-needed"]


def test_a_secret_is_found_and_not_shown(env: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "p.yml"
    path.write_text("- vars: {api_token: hunter22x}\n  tasks: []\n")
    done = lint(env, str(path))
    assert "[plain-secret]" in done.stdout
    assert "hunter22x" not in done.stdout + done.stderr


PLAYBOOKS = sorted([*(ROOT / "playbooks").glob("*.yml"), *(ROOT / "playbooks/samples").glob("*.yml")])


SAMPLES = [("studio", playbook) for playbook in PLAYBOOKS if playbook.parent.name == "samples"]


@pytest.mark.parametrize(
    ("kind", "playbook"),
    [*(("notebook-instance", playbook) for playbook in PLAYBOOKS), *SAMPLES],
    ids=lambda value: getattr(value, "name", value),
)
def test_the_playbooks_that_come_with_it_are_clean(
    kind: PlatformKind, playbook: Path, env: dict[str, str], tmp_path: Path
) -> None:
    """What is to be copied is as good as the lint can tell."""
    (tmp_path / "root").mkdir()
    machine = command.assumed(kind, env, tmp_path / "root")
    assert [(one.rule, one.message) for one in check(playbook, machine, Catalogue(), {})] == []


@pytest.mark.parametrize(
    "words",
    [
        ["/home/ec2-user/SageMaker/team.yml"],
        ["/home/ec2-user/SageMaker/team.yml", "--on-create"],
        ["/home/ec2-user/SageMaker/team.yml", "--strict", "--user-playbook"],
        ["/home/sagemaker-user/team.yml", "--platform", "studio"],
    ],
)
def test_a_rendered_script_has_no_finding(
    words: list[str], machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["lifecycle", "render", "--tool", "s3://team/wheels", *words]) == 0
    path = tmp_path / "on-start.sh"
    path.write_text(capsys.readouterr().out)
    assert [(one.rule, one.message) for one in check(path, machine, Catalogue(), {})] == []
