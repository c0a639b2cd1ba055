"""Documents in the wrong parameter: refused before any task, at the parameter, with the lines that would use them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from nbprovision.catalogue import Catalogue
from nbprovision.lint.check import check
from nbprovision.machine.machine import Machine
from nbprovision.playbook.read import read_playbook

ENVIRONMENT = "name: x\ndependencies:\n  - python=3.12\n  - pip:\n    - six\n"
EXPLICIT = "# platform: linux-64\n@EXPLICIT\nhttps://h/c/linux-64/six-1.16-py_0.conda#" + "ab" * 16 + "\n"
NOTEBOOK = '{\n "cells": [],\n "metadata": {},\n "nbformat": 4,\n "nbformat_minor": 5\n}\n'
PYLOCK = 'lock-version = "1.0"\ncreated-by = "uv"\n\n[[packages]]\nname = "six"\nversion = "1.17.0"\n'
SHA = f"{{ sha256 = '{'0' * 64}' }}"
PROJECT = '[build-system]\nrequires = ["hatchling"]\n\n[project]\nname = "mine"\nversion = "0.1"\n'
PIXI_LOCK = (
    "version: 6\nenvironments:\n  default:\n    channels: []\n    packages:\n      linux-64:\n"
    "      - conda: https://h/c/noarch/six-1.16-py_0.conda\n"
    "packages:\n- conda: https://h/c/noarch/six-1.16-py_0.conda\n  md5: " + "ab" * 16 + "\n"
)
CONDA_LOCK = "version: 1\nmetadata:\n  channels: []\npackage:\n- name: six\n  version: 1.16.0\n"
PLAYBOOK = "- hosts: localhost\n  tasks:\n    - ensure_venv: {path: ./v}\n"
UV_LOCK = 'version = 1\nrequires-python = ">=3.10"\n\n[[package]]\nname = "six"\nversion = "1.17.0"\n'

ENV = "ensure_conda_env: {name: y, file: FILE}"
PIP = "ensure_pip_pkg: {env: x, requirements: FILE}"
CONSTRAINTS = "ensure_pip_pkg: {env: x, packages: [six], constraints: FILE}"
VENV = "ensure_venv: {path: ./v, requirements: FILE}"
# The name of a file, its text, what it is said to be, and the first words of the lines that use it.
DOCUMENTS = {
    "environment.yml": (ENVIRONMENT, "an environment.yml of conda", "ensure_conda_env"),
    "any.txt": (ENVIRONMENT, "an environment.yml of conda", "ensure_conda_env"),
    "explicit.txt": (EXPLICIT, "a list of URLs of packages", "ensure_conda_env"),
    "pixi.lock": (PIXI_LOCK, "a lock file of pixi", "ensure_conda_env"),
    "work.ipynb": (NOTEBOOK, "a notebook", "ensure_file"),
    "pylock.toml": (PYLOCK, "a lock file of pip and uv", "ensure_pip_pkg"),
    "locked.toml": (PYLOCK, "a lock file of pip and uv", "ensure_pip_pkg"),
    "uv.lock": (UV_LOCK, "a lock file of uv", "ensure_pip_pkg"),
    "pyproject.toml": (PROJECT, "a Python project", "ensure_pip_pkg"),
    "conda-lock.yml": (CONDA_LOCK, "a lock file of conda-lock", "ensure_conda_env"),
    "play.yml": (PLAYBOOK, "a playbook", ""),
    "requirements.txt": ("six==1.16.0\n-r more.txt\n", "a requirements file of pip", "ensure_pip_pkg"),
    "requirements-dev.in": ("six\n", "a requirements file of pip", "ensure_pip_pkg"),
}
FOR_AN_ENVIRONMENT = ("an environment.yml of conda", "a list of URLs of packages", "a lock file of pixi")
WRONG = [
    (task, name)
    for task in (ENV, PIP, CONSTRAINTS, VENV)
    for name, (_, what, _) in DOCUMENTS.items()
    if what not in (FOR_AN_ENVIRONMENT if task == ENV else ("a requirements file of pip",))
    and not (task in (PIP, VENV) and name == "pylock.toml")
]


@pytest.mark.parametrize(("task", "name"), WRONG, ids=lambda value: value.replace(" ", "")[:24])
def test_a_wrong_document_is_refused_at_its_parameter(machine: Machine, tmp_path: Path, task: str, name: str) -> None:
    text, what, user = DOCUMENTS[name]
    (tmp_path / name).write_text(text)
    (tmp_path / "more.txt").write_text("idna\n")
    playbook = tmp_path / "p.yml"
    line = f"    - {task.replace('FILE', name)}"
    playbook.write_text(f"- tasks:\n    - ensure_venv: {{name: x}}\n{line}\n")
    errors = [one for one in check(playbook, machine, Catalogue(), {}) if one.severity == "error"]
    assert len(errors) == 1, errors
    (error,) = errors
    assert error.position == (str(playbook), 3, line.index(name) + 1)
    assert f" is {what}" in error.message
    if not user:
        assert error.cure == f"run it: nbprovision run {name}"
        return
    lines = error.cure.split("\n")
    begin = next(number for number, text in enumerate(lines) if text.startswith("- "))
    (used,) = yaml.safe_load("\n".join(lines[begin : begin + 3]))
    assert list(used) == [user]
    assert used[user].keys() <= set(Catalogue()[user].__struct_fields__)


@pytest.mark.parametrize(
    ("task", "name", "text"),
    [
        (ENV, "requirements.txt", ENVIRONMENT),
        (ENV, "e.yml", "channels: [conda-forge]\ndependencies: [six]\nvariables:\n  hosts: a\n"),
        (ENV, "e.yml", "dependencies:\n- python\n- pip:\n  - six\nvariables:\n  tasks: 'a'\n"),
        (ENV, "e.json", '{"dependencies": ["six"]}\n'),
        (ENV, "requirements.txt", EXPLICIT),
        (ENV, "pixi.lock", PIXI_LOCK),
        (ENV, "locked.yml", PIXI_LOCK),
        (PIP, "environment.txt", "six\n# dependencies:\n"),
        (PIP, "pyproject.txt", "six  # [project]\n"),
        (PIP, "conda-lock.txt", ""),
        (PIP, "requirements.yml", "six\n"),
        (CONSTRAINTS, "c.toml", "six<2\n"),
        (
            PIP,
            "pylock.dev.toml",
            f"{PYLOCK}sdist = {{ url = 'https://h.example/six-1.17.0.tar.gz', hashes = {SHA} }}\n",
        ),
    ],
)
def test_a_right_document_of_any_name_is_taken(
    machine: Machine, tmp_path: Path, task: str, name: str, text: str
) -> None:
    (tmp_path / name).write_text(text)
    playbook = tmp_path / "p.yml"
    playbook.write_text(f"- tasks:\n    - ensure_venv: {{name: x}}\n    - {task.replace('FILE', name)}\n")
    assert read_playbook(playbook, Catalogue()).plays
    assert [one for one in check(playbook, machine, Catalogue(), {}) if one.severity == "error"] == []


def test_in_a_list_it_is_the_entry_and_a_run_ends_with_4_before_any_task(env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("six\n")
    (tmp_path / "environment.yml").write_text(ENVIRONMENT)
    (tmp_path / "p.yml").write_text(
        "- tasks:\n"
        "    - ensure_file: {path: ./made, content: x}\n"
        "    - ensure_venv:\n"
        "        path: ./v\n"
        "        requirements:\n"
        "          - requirements.txt\n"
        "          - environment.yml\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "nbprovision", "run", "p.yml"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 4
    assert "p.yml:7:13: ensure_venv: 'requirements' takes a requirements file of pip" in done.stderr
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "text",
    [
        "# platform: linux-64\nsix=1.16.0=pyhd_0\n",
        "# This file may be used to create an environment using:\n# $ conda create --name <env> --file <this file>\nsix\n",
    ],
)
def test_a_list_of_conda_list_export_is_what_it_is(machine: Machine, tmp_path: Path, text: str) -> None:
    """Often written into a requirements.txt, and nothing of pip's."""
    (tmp_path / "requirements.txt").write_text(text)
    playbook = tmp_path / "p.yml"
    playbook.write_text(f"- tasks:\n    - {ENV.replace('FILE', 'requirements.txt')}\n")
    (error,) = (one for one in check(playbook, machine, Catalogue(), {}) if one.severity == "error")
    assert "is a list of packages" in error.message
