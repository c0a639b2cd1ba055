"""What the platform's image brought: taken at the first sight of a boot, and kept until the next."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from nbprovision.machine import image
from nbprovision.machine.image import Content, Difference
from nbprovision.machine.machine import Machine


@pytest.fixture
def instance(env: dict[str, str], tmp_path: Path) -> Machine:
    """A notebook instance with one environment, which has one package of conda's and one of pip's."""
    root = tmp_path / "root"
    (root / "home/ec2-user/SageMaker").mkdir(parents=True)
    made = Machine(env, root=root)
    make(provided(made), "numpy-1.26.4-py310_0", "rich-13.0.0")
    (root / "home/ec2-user/anaconda3/conda-meta").mkdir()
    return made


def provided(machine: Machine) -> Path:
    return machine.root / "home/ec2-user/anaconda3/envs/python3"


def make(prefix: Path, package: str, distribution: str) -> None:
    folder = prefix / "lib/python3.10/site-packages"
    (folder / f"{distribution}.dist-info").mkdir(parents=True)
    (prefix / "conda-meta").mkdir()
    (prefix / f"conda-meta/{package}.json").write_text("{}")


def found(machine: Machine) -> Content:
    known = image.baseline_of(machine, provided(machine))
    assert known is not None
    return known.content


def test_it_stays_as_first_seen(instance: Machine) -> None:
    first = found(instance)
    assert first == Content(packages={"numpy": "1.26.4 py310_0"}, distributions={"rich": "13.0.0"})
    (provided(instance) / "conda-meta/numpy-1.26.4-py310_0.json").rename(
        provided(instance) / "conda-meta/numpy-2.0.0-py310_0.json"
    )
    assert found(instance) == first
    assert image.differences(first, image.content(provided(instance))) == [
        Difference("conda", "numpy", "1.26.4 py310_0", "2.0.0 py310_0")
    ]


def test_another_image_is_looked_at_anew(instance: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    found(instance)
    aside = provided(instance).with_name("aside")
    provided(instance).rename(aside)  # kept, so that its inode is not given again
    make(provided(instance), "numpy-2.0.0-py310_0", "rich-14.0.0")
    assert found(instance).distributions == {"rich": "14.0.0"}
    shutil.rmtree(aside)
    make_boot = provided(instance).parent / "boot_id"
    make_boot.write_text("another\n")
    monkeypatch.setattr(image, "_BOOT_ID", make_boot)
    (provided(instance) / "lib/python3.10/site-packages/rich-14.0.0.dist-info").rmdir()
    assert found(instance).distributions == {}


def test_what_was_permitted_is_kept(instance: Machine) -> None:
    change = Difference("pip", "rich", "13.0.0", "14.0.0")
    image.permit(instance, provided(instance), [change])
    image.permit(instance, provided(instance), [change])
    known = image.baseline_of(instance, provided(instance))
    assert known is not None
    assert known.permitted == (change,)


def test_other_environments_have_none(instance: Machine, tmp_path: Path) -> None:
    make(tmp_path / "mine", "numpy-1-0", "rich-13.0.0")
    assert image.baseline_of(instance, tmp_path / "mine") is None
    (provided(instance) / "conda-meta/nbprovision").touch()
    instance.forget()
    assert image.baseline_of(instance, provided(instance)) is None


def test_a_home_that_cannot_be_written_to(instance: Machine) -> None:
    instance.home.rmdir() if instance.home.exists() else None
    instance.home.parent.mkdir(parents=True, exist_ok=True)
    instance.home.write_text("in the way")
    assert found(instance).distributions == {"rich": "13.0.0"}
