"""Which machine it is, by the marks that each platform leaves (AWS documentation of each)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nbprovision.machine.platform import detect, marks


@pytest.fixture
def metadata(tmp_path: Path) -> Path:
    path = marks(tmp_path)[1]
    path.parent.mkdir(parents=True)
    return path


def test_a_space_of_studio_says_its_domain(metadata: Path, tmp_path: Path) -> None:
    metadata.write_text(json.dumps({"DomainId": "d-1", "SpaceName": "team"}))
    (tmp_path / "opt/conda").mkdir(parents=True)
    found = detect(tmp_path)
    assert (found.kind, found.because) == ("studio", str(metadata))
    assert found.volume == tmp_path / "home/sagemaker-user"
    assert found.provided == tmp_path / "opt/conda"


@pytest.mark.parametrize("text", ['{"ResourceName": "mine"}', '["DomainId"]', "{", ""])
def test_other_metadata_is_that_of_an_instance_where_its_volume_is(metadata: Path, tmp_path: Path, text: str) -> None:
    metadata.write_text(text)
    assert detect(tmp_path).kind == "other"
    (tmp_path / "home/ec2-user/SageMaker").mkdir(parents=True)
    found = detect(tmp_path)
    assert (found.kind, found.because, found.provided) == ("notebook-instance", str(metadata), None)


def test_the_log_of_studio_is_a_mark_where_metadata_says_nothing(metadata: Path, tmp_path: Path) -> None:
    metadata.write_text("{}")
    (tmp_path / "var/log/studio").mkdir(parents=True)
    found = detect(tmp_path)
    assert (found.kind, found.because) == ("studio", str(tmp_path / "var/log/studio"))


def test_studio_lab_is_told_by_its_home(tmp_path: Path) -> None:
    home = tmp_path / "home/studio-lab-user"
    home.mkdir(parents=True)
    found = detect(tmp_path)
    assert (found.kind, found.volume, found.provided) == ("studio-lab", home, None)


def test_an_instance_without_any_mark_is_told_by_its_folders(tmp_path: Path) -> None:
    for name in ("SageMaker", "anaconda3"):
        assert detect(tmp_path).kind == "other"
        (tmp_path / "home/ec2-user" / name).mkdir(parents=True)
    assert detect(tmp_path).kind == "notebook-instance"
