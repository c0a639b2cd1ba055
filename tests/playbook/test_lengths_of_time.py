"""Parameters that take a length of time."""

from __future__ import annotations

from pathlib import Path

import pytest

from nbprovision.catalogue import Catalogue
from nbprovision.model.errors import InvalidPlaybook
from nbprovision.playbook.read import read_playbook


@pytest.mark.parametrize("value", ["3600", '"two hours"', "1.5h", '""'])
def test_a_length_of_time_is_shown_by_examples(tmp_path: Path, value: str) -> None:
    """A regular expression says nothing to who writes a number of seconds, as for Ansible."""
    path = tmp_path / "p.yml"
    path.write_text(f"- tasks:\n    - ensure_file: {{path: x, refresh_every: {value}}}\n")
    with pytest.raises(InvalidPlaybook) as caught:
        read_playbook(path, Catalogue())
    assert caught.value.message.startswith("ensure_file: 'refresh_every' cannot be '")
    assert caught.value.cure == "write it like 90s, 30m, 12h, 7d"
