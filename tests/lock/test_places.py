"""URLs in a lock: no passwords, and no folders of one machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbprovision.lock.places import Places, clean

PLACES = Places(Path("/home/me/team"), Path("/home/me/.state"), Path("/home/me"))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://u:pw@host:8443/a/b", "https://host:8443/a/b"),
        ("https://tokentokentokentokentoken@host/a", "https://host/a"),
        ("https://host/t/secret/channel/noarch/x.conda", "https://host/channel/noarch/x.conda"),
        ("https://host/a?token=abcdef&page=2", "https://host/a?page=2"),
        ("https://host/a?X-Amz-Signature=abcdef", "https://host/a"),
        ("git+ssh://git@host/a.git@v1", "git+ssh://git@host/a.git@v1"),
        ("git+https://u:pw@host/a.git@v1#subdirectory=b", "git+https://host/a.git@v1#subdirectory=b"),
        ("https://host/test/t/x", "https://host/test/t/x"),
        ("file:///srv/channel", "file:///srv/channel"),
    ],
)
def test_a_url_has_no_secret(url: str, expected: str) -> None:
    assert clean(url) == expected
    assert clean(expected) == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("file:///home/me/team/channel", "https://playbook.invalid/channel"),
        ("file:///home/me/team", "https://playbook.invalid"),
        ("file:///home/me/channel/noarch/x%20y.conda", "https://home.invalid/channel/noarch/x%20y.conda"),
        ("file:///home/me/.state/channels/a", "https://nbprovision.invalid/channels/a"),
        ("file:///home/me/teams/channel", "https://home.invalid/teams/channel"),
        ("file:///srv/channel", "file:///srv/channel"),
        ("https://host/channel", "https://host/channel"),
    ],
)
def test_a_folder_of_this_machine_has_another_name(url: str, expected: str) -> None:
    assert PLACES.locked(url) == expected
    assert PLACES.here(expected) == url


CI = Places(Path("/builds/team"), Path("/root/.nbprovision"), Path("/root"))


@pytest.mark.parametrize(
    "here",
    [
        PLACES,
        Places(Path("/home/me/SageMaker"), Path("/home/me/SageMaker/.nbprovision"), Path("/home/me")),
        Places(Path("/home/me"), Path("/home/me/.nbprovision"), Path("/home/me")),
        Places(Path("/home/me/.nbprovision/team"), Path("/home/me/.nbprovision"), Path("/home/me")),
        Places(Path("/"), Path("/srv/nbprovision"), Path("/root")),
    ],
    ids=["apart", "the tool's home beside the playbook", "the user's home", "in the tool's home", "the root"],
)
def test_a_lock_of_another_machine_names_the_same_folders(here: Places) -> None:
    """On one machine a folder lies in another one, and on the next one it does not."""
    for folder in ("playbook", "tool", "home"):
        there, mine = ((getattr(places, folder) / "channel").as_uri() for places in (CI, here))
        assert here.here(CI.locked(there)) == mine
        assert here.again(CI.locked(there)) == here.locked(mine), folder
        assert CI.again(here.locked(mine)).startswith("https://"), folder


@given(st.lists(st.text("ab é%/", min_size=1), min_size=1).map("/".join))
def test_every_path_beside_the_playbook_comes_back(path: str) -> None:
    url = (PLACES.playbook / path.lstrip("/")).as_uri()
    assert PLACES.here(PLACES.locked(url)) == url


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mine @ file:///home/me/team/pkgs/mine-1.0.whl", "mine @ ./pkgs/mine-1.0.whl"),
        ("-e /home/me/team/mine", "-e ./mine"),
        ("a @ https://u:pw@host/a.whl ; python_version < '3.12'", "a @ https://host/a.whl ; python_version < '3.12'"),
        ("https://u:pw@host/channel::gdal=3", "https://host/channel::gdal=3"),
        ("numpy >=2,<3", "numpy >=2,<3"),
    ],
)
def test_a_spec_or_requirement_is_the_same_everywhere(text: str, expected: str) -> None:
    assert PLACES.text(text) == expected
