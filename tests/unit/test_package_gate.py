"""What is said of a conda package whose files would leave the environment; packages lie in the cache as engines unpack them."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from nbprovision.backends.package_gate import Gate
from nbprovision.model.errors import TaskFailed


class Cache:
    """Unpacked packages of version 1.0, and the gate to an environment that may have a Python 3.11."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "pkgs"
        self.prefix = folder / "env"
        self.folder.mkdir()
        self.prefix.mkdir()

    def add(self, name: str, *listed: str, links: Mapping[str, str] | None = None) -> Path:
        """A package that lists these files, and has these symbolic links, which it lists too."""
        package = self.folder / f"{name}-1.0-0"
        for path, target in (links or {}).items():
            (package / path).parent.mkdir(parents=True, exist_ok=True)
            (package / path).symlink_to(target)
        (package / "info").mkdir(parents=True)
        entries = [{"_path": path} for path in (*listed, *(links or ()))]
        (package / "info/paths.json").write_text(json.dumps({"paths": entries}))
        return package

    def gate(self, *names: str, python: str = "3.11.7") -> Gate:
        return Gate([self.prefix], self.folder, {name: f"{name}-1.0-0" for name in names}, python)

    def refused(self, *names: str) -> TaskFailed:
        """What is said once these have been looked at, one after another."""
        gate = self.gate(*names)
        for name in names:
            gate.check(name)
        with pytest.raises(TaskFailed) as caught:
            gate.require()
        return caught.value


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path)


def test_what_stays_inside_passes_and_stays_in_the_cache(cache: Cache) -> None:
    package = cache.add(
        "good", "bin/x", "site-packages/x.py", "share/a..b", links={"lib64": "lib", "share/l": "../lib/."}
    )
    below = cache.add("below", "lib64/y", "share/l/z")
    gate = cache.gate("good", "below")
    gate.check("good")
    gate.check("below")
    gate.check("not asked for")
    gate.require()
    assert package.is_dir()
    assert below.is_dir()


@pytest.mark.parametrize("path", ["/etc/evil", "../evil", "share/../../evil", "a\0b"])
def test_a_list_that_leads_out_takes_the_package_from_the_cache(path: str, cache: Cache) -> None:
    package = cache.add("evil", "bin/x", path)
    error = cache.refused("evil")
    assert error.message == "the package evil-1.0-0 is not installed"
    assert error.cause == f"it lists the file {path!r}, which is outside of the environment"
    assert "do not trust its channel" in error.cure
    assert not package.exists()


@pytest.mark.parametrize(
    ("listed", "folder"), [("share/x", "share"), ("site-packages/x.py", "lib/python3.11/site-packages")]
)
def test_a_folder_of_the_environment_that_is_a_link_is_named(
    listed: str, folder: str, cache: Cache, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (cache.prefix / folder).parent.mkdir(parents=True, exist_ok=True)
    (cache.prefix / folder).symlink_to(outside)
    cache.add("good", listed)
    error = cache.refused("good")
    assert error.cause == (
        f"a folder in {cache.prefix} is a link: a file of the package would be written to {outside / Path(listed).name}"
    )
    assert "put a folder in the place of a link" in error.cure


LINKS: dict[str, Sequence[Mapping[str, str]]] = {
    "to a whole path": [{"d": "/tmp"}],
    "above": [{"d": ".."}],
    "above by a way round": [{"d": "share/../../elsewhere"}],
    "by another package's link": [{"d": "e/f"}, {"e": "../elsewhere"}],
    "in a circle": [{"d": "e"}, {"e": "d"}],
}


@pytest.mark.parametrize("kind", LINKS)
@pytest.mark.parametrize("links_first", [False, True])
def test_a_link_of_one_package_leads_no_file_of_another_out(kind: str, links_first: bool, cache: Cache) -> None:
    cache.add("file", "d/evil")
    names = [f"link{number}" for number, _ in enumerate(LINKS[kind])]
    for name, links in zip(names, LINKS[kind], strict=True):
        cache.add(name, links=links)
    order = [*names, "file"] if links_first else ["file", *names]
    error = cache.refused(*order)
    assert error.message == f"the package {order[-1]}-1.0-0 is not installed"  # the one that makes it dangerous
    assert error.cause == "a file of file would be written to d, which is a link out of the environment"


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"[" * 100_000, "its list of files cannot be read: "), (b'{"paths": [{}]}', "missing required field `_path`")],
)
def test_a_list_that_cannot_be_read_is_no_list(content: bytes, said: str, cache: Cache) -> None:
    (cache.add("odd") / "info/paths.json").write_bytes(content)
    assert said in cache.refused("odd").cause


def test_the_plain_list_of_old_packages_is_read(cache: Cache) -> None:
    package = cache.add("old")
    (package / "info/paths.json").unlink()
    (package / "info/files").write_text("bin/x\n\n")
    gate = cache.gate("old")
    gate.check("old")
    gate.require()
    (package / "info/files").write_text("bin/x\n\n../evil\n")
    assert "'../evil'" in cache.refused("old").cause
    assert not package.exists()


def test_without_python_its_packages_lie_as_they_are_listed(cache: Cache) -> None:
    cache.add("pure", "site-packages/x.py", "python-scripts/x")
    gate = cache.gate("pure", python="")
    gate.check("pure")
    gate.require()


def test_what_is_not_where_it_should_be_is_refused_and_the_first_refusal_is_told(cache: Cache) -> None:
    cache.add("evil", "../evil")
    error = cache.refused("lost", "evil")
    assert error.message == "the package lost-1.0-0 is not installed"
    assert error.cause == f"it is not in {cache.folder / 'lost-1.0-0'}, where it should be"


@pytest.mark.parametrize("stem", ["evil-1.0-/../escaped", "evil-1.0-\0"])
def test_a_version_or_build_that_is_a_path_comes_to_no_gate(stem: str, cache: Cache) -> None:
    with pytest.raises(TaskFailed, match="is not installed") as caught:
        Gate([cache.prefix], cache.folder, {"good": "good-1.0-0", "evil": stem}, "3.11.7")
    assert caught.value.cause == "its version or build in the channel's index is a path"
    assert "do not trust the channel" in caught.value.cure


def test_what_was_unpacked_anew_is_looked_at_anew(cache: Cache) -> None:
    """A package is read once for all environments that get it, for as long as it is the one that was read."""
    package = cache.add("good", "lib/x")
    gate = cache.gate("good")
    gate.check("good")
    gate.require()
    shutil.rmtree(package)
    cache.add("good", "../x")
    assert "it lists the file '../x'" in cache.refused("good").cause


def test_environments_of_other_pythons_have_other_folders(cache: Cache) -> None:
    cache.add("good", "site-packages/x.py")
    (cache.prefix / "lib/python3.12").mkdir(parents=True)
    (cache.prefix / "lib/python3.12/site-packages").symlink_to("/tmp")
    for python, refused in (("3.11.7", False), ("3.12.1", True)):
        gate = cache.gate("good", python=python)
        gate.check("good")
        with pytest.raises(TaskFailed) if refused else contextlib.nullcontext():
            gate.require()
