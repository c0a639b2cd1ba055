"""Files to be linted, and a bare machine on which it is done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nbprovision.catalogue import Catalogue
from nbprovision.lint.check import check
from nbprovision.lint.finding import Finding
from nbprovision.machine.machine import Machine

ROOT = Path(__file__).parents[2]


def tasks(*entries: str) -> str:
    """A playbook of these tasks, the first of which stands in line 2."""
    return "- tasks:\n" + "".join(f"    - {entry}\n" for entry in entries)


@pytest.fixture
def linted(machine: Machine, tmp_path: Path) -> Any:
    """Writes a file, and lints it on a bare machine."""
    (tmp_path / "more.yml").write_text("[]\n")
    (tmp_path / "wanted.yml").write_text("- ensure_file: {path: /x, content: x}\n")
    (tmp_path / "wanted.txt").write_text("a\n")
    (tmp_path / "selectors.yml").write_text("dependencies:\n- pywin32  # [win]\n")
    (tmp_path / "plain.yml").write_text("dependencies:\n- pywin32  # [sic], for Windows\n")

    def found(text: str, name: str = "p.yml") -> list[Finding]:
        path = tmp_path / name
        path.write_bytes(text.encode())
        return check(path, Machine({**machine.env, "X": "x"}, root=machine.root), Catalogue(), {})

    return found
