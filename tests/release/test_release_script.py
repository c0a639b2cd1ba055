"""What an index shows, and tools/release.py: on clones of the repository, by the real git."""

from __future__ import annotations

import datetime as dt
import importlib.util
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import tomlkit
import yaml
from packaging.metadata import Metadata

from nbprovision.reference.schema import ADDRESS

ROOT = Path(__file__).parents[2]
PROJECT = tomlkit.parse((ROOT / "pyproject.toml").read_text()).unwrap()
ELSEWHERE = "https://git.example.org/notebooks/nbprovision"


def loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("release", ROOT / "tools/release.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["release"] = module
    spec.loader.exec_module(module)
    return module


release = loaded()


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """`new` has the files of this repository, as they are in the working folder, in one commit; `ready` can be released."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("repositories")
        patch.setenv("HOME", str(folder))
        for who in ("AUTHOR", "COMMITTER"):
            patch.setenv(f"GIT_{who}_NAME", "x")
            patch.setenv(f"GIT_{who}_EMAIL", "x@example.com")
        for name in git(ROOT, "ls-files", "--cached", "--others", "--exclude-standard").splitlines():
            if (ROOT / name).is_file():
                (folder / "new" / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, folder / "new" / name)
        changes = folder / "new/CHANGELOG.md"  # it has none after a release
        changes.write_text(changes.read_text().replace("## [Unreleased]\n", "## [Unreleased]\n\n- A change.\n"))
        git(folder / "new", "init", "-q")
        commit(folder / "new")
        git(folder, "clone", "-q", "new", "ready")
        assert run(folder / "ready", "address", ELSEWHERE).stderr == ""
        assert run(folder / "ready", "version", "9.1.0").stderr == ""
        commit(folder / "ready")
        git(folder / "ready", "tag", "-a", "v9.1.0", "-m", "x")
        yield folder


@pytest.fixture
def new(repositories: Path, tmp_path: Path) -> Path:
    """A clone of this repository."""
    git(repositories, "clone", "-q", "new", tmp_path / "clone")
    return tmp_path / "clone"


@pytest.fixture
def ready(repositories: Path, tmp_path: Path) -> Path:
    """A clone after what docs/releasing.md says before the build."""
    git(repositories, "clone", "-q", "ready", tmp_path / "clone")
    return tmp_path / "clone"


def git(folder: Path, *words: str | Path) -> str:
    return subprocess.run(["git", "-C", folder, *words], check=True, capture_output=True, text=True).stdout


def commit(folder: Path) -> None:
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "--allow-empty", "-m", "x")


def run(folder: Path, *words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, folder / "tools/release.py", *words]
    return subprocess.run(argv, env=env, capture_output=True, text=True)


def test_the_version_is_in_every_copy() -> None:
    assert list(release.copies(ROOT)) == []


def test_no_other_file_of_the_package_has_the_version() -> None:
    version = release.version_of(ROOT)
    for path in [*ROOT.glob("nbprovision/**/*.py"), *ROOT.glob("scripts/*")]:
        name = path.relative_to(ROOT).as_posix()
        assert name in release.COPIES or version not in path.read_text(), name


def test_the_address_is_the_same_everywhere() -> None:
    address = PROJECT["project"]["urls"]["Repository"]
    assert address == ADDRESS
    for url in PROJECT["project"]["urls"].values():
        assert url.startswith(address)
    (substitution,) = PROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]
    assert substitution["replacement"].startswith(f"]({address}/blob/v$HFPR_VERSION/")
    assert f"repo: {address} " in (ROOT / "docs/lint.md").read_text()
    assert yaml.safe_load((ROOT / "ansible/galaxy.yml").read_text())["repository"] == address
    for link in re.findall(r"\]\(([^)]+)\)", (ROOT / "ansible/README.md").read_text()):
        assert link.startswith(address), "Galaxy shows this page alone"


def test_the_links_of_the_readme_lead_to_files_where_an_index_shows_it() -> None:
    """The page is that of the version, and only a link within it stays relative."""
    (substitution,) = PROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]
    readme = (ROOT / "README.md").read_text()
    page = re.sub(substitution["pattern"], substitution["replacement"], readme)
    links = re.findall(r"\]\(([^)]+)\)", page)
    assert len(links) == len(re.findall(r"\]\(([^)]+)\)", readme)) > 30
    for link in links:
        assert link.startswith(("https://", "#")), link
        if link.startswith(f"{ADDRESS}/blob/v$HFPR_VERSION/"):
            assert (ROOT / link.rpartition("$HFPR_VERSION/")[2].partition("#")[0]).is_file(), link
    assert not re.search(r"<(?:img|a)\s|^\[[^\]]+\]:", readme, re.MULTILINE), "a link in a form that is not replaced"


def test_a_commit_that_is_ready_has_no_problems(ready: Path) -> None:
    done = run(ready, "check")
    assert (done.returncode, done.stderr) == (0, "")
    assert f'$id": "{ELSEWHERE}/' in (ready / "docs/playbook.schema.json").read_text()
    changes = (ready / "CHANGELOG.md").read_text()
    assert f"## [Unreleased]\n\n## [9.1.0] - {dt.datetime.now(dt.timezone.utc):%Y-%m-}" in changes


def problems(folder: Path) -> str:
    done = run(folder, "check")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.count("error: ") == done.stderr.count("  fix: ") > 0
    return done.stderr


@pytest.mark.parametrize("name", sorted(set(release.COPIES) - {"pyproject.toml"}))
def test_a_copy_of_another_version_is_a_problem(ready: Path, name: str) -> None:
    (ready / name).write_text((ready / name).read_text().replace("9.1.0", "9.0.9", 1))
    assert f"error: {name}: the version is 9.0.9" in problems(ready)


def test_without_a_tag(ready: Path) -> None:
    git(ready, "tag", "-d", "v9.1.0")
    assert "the tag v9.1.0 does not exist" in problems(ready)


def test_a_tag_of_another_commit(ready: Path) -> None:
    commit(ready)
    assert "the tag v9.1.0 names another commit" in problems(ready)


def test_a_tag_of_another_version(ready: Path) -> None:
    git(ready, "tag", "v9.2.0")
    assert "this commit has the tag v9.2.0 too" in problems(ready)


def test_a_changelog_of_another_version(ready: Path) -> None:
    path = ready / "CHANGELOG.md"
    path.write_text(path.read_text().replace("## [9.1.0]", "## [9.0.0]"))
    assert "CHANGELOG.md: the newest version is 9.0.0, not 9.1.0" in problems(ready)


def test_changes_after_the_version(ready: Path) -> None:
    path = ready / "CHANGELOG.md"
    path.write_text(path.read_text().replace("## [Unreleased]\n", "## [Unreleased]\n\n- more\n"))
    assert "CHANGELOG.md: there are changes after 9.1.0" in problems(ready)


def test_a_placeholder_for_the_address(ready: Path) -> None:
    assert run(ready, "address", "https://example.com/a-group/nbprovision").returncode == 0
    assert "the public address is a placeholder" in problems(ready)


def test_a_file_that_is_not_committed(ready: Path) -> None:
    (ready / "nbprovision/forgotten.py").touch()
    assert "some files are not committed" in problems(ready)
    assert not (ready / "dist").exists()
    assert run(ready, "build").returncode == 1
    assert not (ready / "dist").exists()


@pytest.mark.parametrize(
    ("version", "why"),
    [
        ("1.0", "three numbers"),
        ("v1.0.0", "three numbers"),
        ("1.0.0rc1", "three numbers"),
        ("0.0.1", "older than"),
        ("", "three numbers"),
    ],
)
def test_a_wrong_version_changes_nothing(new: Path, version: str, why: str) -> None:
    done = run(new, "version", version)
    assert done.returncode == 1
    assert why in done.stderr
    assert git(new, "status", "--porcelain") == ""


def test_a_version_without_changes_is_refused(ready: Path) -> None:
    done = run(ready, "version", "9.2.0")
    assert done.returncode == 1
    assert "has no changes" in done.stderr
    assert git(ready, "status", "--porcelain") == ""


@pytest.mark.proof
@pytest.mark.network
@pytest.mark.engine
@pytest.mark.kernel
def test_what_is_built_is_complete_and_works_for_a_new_user(
    ready: Path, env: dict[str, str], shared_cache: Path
) -> None:
    """The wheel is made from the source distribution, and runs a playbook in a fresh environment and home folder."""
    env = {**env, "UV_CACHE_DIR": str(shared_cache / "uv")}
    del env["NBPROVISION_HOME"]
    done = run(ready, "build", env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(path.name for path in (ready / "dist").iterdir() if not path.name.startswith(".")) == [
        "nbprovision-9.1.0-py3-none-any.whl",
        "nbprovision-9.1.0.tar.gz",
        "nbprovision-notebook-9.1.0.tar.gz",
    ]
    with zipfile.ZipFile(ready / "dist/nbprovision-9.1.0-py3-none-any.whl") as wheel:
        metadata = Metadata.from_email(wheel.read("nbprovision-9.1.0.dist-info/METADATA"))
    assert metadata.author == "The nbprovision authors"
    assert metadata.project_urls is not None
    assert metadata.project_urls["Repository"] == ELSEWHERE
    assert metadata.keywords
    assert metadata.description is not None
    assert f"]({ELSEWHERE}/blob/v9.1.0/docs/tutorial.md)" in metadata.description
    links = re.findall(r"\]\(([^)]+)\)", metadata.description)
    assert [link for link in links if not link.startswith("https://")] == []


def test_issue_templates_and_entry_pages_are_there() -> None:
    for path in sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")):
        content = yaml.safe_load(path.read_text())
        if path.name == "config.yml":
            continue
        assert {"name", "description", "body"} <= content.keys()
        assert {part["type"] for part in content["body"]} <= {"markdown", "textarea", "input", "dropdown", "checkboxes"}
        identifiers = [part["id"] for part in content["body"] if part["type"] != "markdown"]
        assert len(identifiers) == len(set(identifiers)) > 0
    assert "-vvv" in (ROOT / ".github/ISSUE_TEMPLATE/bug.yml").read_text()
