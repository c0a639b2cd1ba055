"""Where bootstrap.sh takes the tool from: never whatever somebody has registered under its name.

The index of these tests is local. What somebody else has put there writes a file as soon as any of its code runs.
"""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbprovision import __version__
from nbprovision.lifecycle.addresses import SOURCES
from nbprovision.lifecycle.render import ScriptRequest, render
from tests.lifecycle.test_bootstrap_hook import Index, an_index, another_version
from tests.lifecycle.test_render import fetched, program
from tests.support.bootstrapping import NOT_THERE, REACHED, ROOT, bootstrap

pytestmark = [pytest.mark.proof, pytest.mark.sampled(3)]

PYPI = f"pypi:nbprovision=={__version__}"
WHEEL = f"nbprovision-{__version__}-py3-none-any.whl"
HASH = "0123456789abcdef" * 4


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def without_tool(env: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name != "NBPROVISION_SOURCE"}


@pytest.fixture
def ran(tmp_path: Path) -> Path:
    """What somebody else's code writes."""
    return tmp_path / "ran"


@pytest.fixture
def hostile(wheels: Path, tmp_path: Path, ran: Path) -> Path:
    """A folder with somebody else's wheels of the name, this version and a newer one, and what the tool needs."""
    folder = tmp_path / "hostile"
    folder.mkdir()

    def change(name: str, data: bytes) -> bytes:
        if name.endswith((".py", "scripts/nbprovision")):
            head, future, rest = data.rpartition(b"from __future__ import annotations\n")
            return head + future + f"open({str(ran)!r}, 'w')\n".encode() + rest if future else data
        return data

    for version in (__version__, "99.0"):
        another_version(wheels, version, folder, change)
    for wheel in wheels.glob("*.whl"):
        if not wheel.name.startswith("nbprovision-"):
            (folder / wheel.name).hardlink_to(wheel)
    return folder


@pytest.fixture
def index(hostile: Path) -> Iterator[Index]:
    with an_index(hostile) as server:
        yield server


@pytest.fixture
def fresh(offline: dict[str, str], tmp_path: Path, index: Index) -> dict[str, str]:
    """A machine whose index has somebody else's wheels; what it caches is its own."""
    return {**offline, "PIP_INDEX_URL": index.url, "UV_CACHE_DIR": str(tmp_path / "uv")}


def asked_for_tool(index: Index) -> list[str]:
    return [path for path in index.asked if "nbprovision" in path]


class TestPublicIndex:
    @pytest.mark.parametrize("only_pip", [False, True], ids=["uv", "pip"])
    def test_the_wheel_of_the_hash_is_installed(
        self, only_pip: bool, offline: dict[str, str], wheels: Path, tmp_path: Path
    ) -> None:
        words = [NOT_THERE, "--tool", PYPI, f"--sha256={sha256(wheels / WHEEL).upper()}"]
        with an_index(wheels) as index:
            index.only_pip = only_pip
            env = {**without_tool(offline), "PIP_INDEX_URL": index.url}
            done = bootstrap(env, *words)
        assert done.returncode == REACHED, done.stderr
        home = Path(env["NBPROVISION_HOME"])
        marker = (home / "venv/.complete").read_text().splitlines()
        assert marker[:2] == [f"{PYPI} --hash=sha256:{sha256(wheels / WHEEL)}", __version__]
        again = bootstrap(env, *words)
        assert (again.returncode, "creating" in again.stderr) == (REACHED, False)
        by_variable = bootstrap({**env, "NBPROVISION_SOURCE": marker[0]}, NOT_THERE)
        assert (by_variable.returncode, "creating" in by_variable.stderr) == (REACHED, False), "the two are one"
        assert bool(list((home / "venv").glob("lib/python3*/site-packages/pip"))) is only_pip
        assert not (home / "venv/tool").exists()

    @pytest.mark.parametrize("lies", [False, True], ids=["another digest", "the digest of the right one"])
    @pytest.mark.parametrize("only_pip", [False, True], ids=["uv", "pip"])
    def test_nothing_of_another_wheel_runs(
        self, only_pip: bool, lies: bool, fresh: dict[str, str], index: Index, wheels: Path, ran: Path
    ) -> None:
        right = sha256(wheels / WHEEL)
        index.only_pip = only_pip
        index.claimed = {WHEEL: right} if lies else {}
        env = {**without_tool(fresh), "UV_NO_VERIFY_HASHES": "1"}
        done = bootstrap(env, NOT_THERE, "--tool", PYPI, "--sha256", right)
        assert done.returncode == 2, done.stderr
        assert f"could not install {PYPI} --hash=sha256:{right}" in done.stderr
        assert asked_for_tool(index)
        assert not ran.exists()
        assert not list(Path(env["NBPROVISION_HOME"]).glob("venv*"))

    @pytest.mark.parametrize("only_pip", [False, True], ids=["uv", "pip"])
    def test_nothing_is_built(
        self, only_pip: bool, fresh: dict[str, str], index: Index, hostile: Path, ran: Path
    ) -> None:
        """What a build brings along has no hash."""
        (hostile / WHEEL).unlink()
        stem = f"nbprovision-{__version__}"
        files = {
            "PKG-INFO": f"Metadata-Version: 2.1\nName: nbprovision\nVersion: {__version__}\n",
            "setup.py": f"open({str(ran)!r}, 'w')",
        }
        with tarfile.open(hostile / f"{stem}.tar.gz", "w:gz") as archive:
            for name, text in files.items():
                entry = tarfile.TarInfo(f"{stem}/{name}")
                entry.size = len(text)
                archive.addfile(entry, io.BytesIO(text.encode()))
        index.only_pip = only_pip
        done = bootstrap(without_tool(fresh), NOT_THERE, "--tool", PYPI, "--sha256", sha256(hostile / f"{stem}.tar.gz"))
        assert done.returncode == 2, done.stderr
        assert not ran.exists()

    @pytest.mark.parametrize("right", [True, False])
    def test_the_first_stage_of_a_script_gets_its_file_from_that_wheel(
        self, right: bool, wheels: Path, hostile: Path, tmp_path: Path
    ) -> None:
        digest = sha256(wheels / WHEEL)
        with an_index(wheels if right else hostile) as index:
            index.claimed = {WHEEL: digest}
            settings = f"PIP_INDEX_URL={index.url} PIP_CONFIG_FILE=/dev/null"
            program(tmp_path / "bin/python3", f'{settings} exec {sys.executable} "$@"')
            done = fetched(render(ScriptRequest(playbook="/p.yml", tool=PYPI, sha256=digest)), tmp_path)
        assert done.returncode == (0 if right else 1), done.stdout
        if right:
            assert (tmp_path / "got").read_bytes() == (ROOT / "bootstrap.sh").read_bytes()
        else:
            assert digest in done.stdout, "pip says which hash it expected"
            assert not (tmp_path / "got").exists()


class TestAddress:
    @pytest.mark.parametrize("only_pip", [False, True], ids=["uv", "pip"])
    def test_a_wheel_by_its_address_has_the_hash(
        self, only_pip: bool, fresh: dict[str, str], index: Index, wheels: Path, ran: Path
    ) -> None:
        index.only_pip = only_pip
        source = f"nbprovision @ {index.url.replace('simple', 'files')}/{WHEEL}#sha256={sha256(wheels / WHEEL)}"
        done = bootstrap({**fresh, "NBPROVISION_SOURCE": source, "UV_NO_VERIFY_HASHES": "1"}, NOT_THERE)
        assert done.returncode == 2, done.stderr
        assert any(path.startswith("/files/nbprovision") for path in index.asked)
        assert not ran.exists()
        (index.wheels / WHEEL).unlink()
        (index.wheels / WHEEL).hardlink_to(wheels / WHEEL)
        done = bootstrap({**fresh, "NBPROVISION_SOURCE": source}, NOT_THERE)
        assert done.returncode == REACHED, done.stderr
        assert not ran.exists()


class TestFolder:
    @pytest.mark.parametrize("version", [__version__, None])
    @pytest.mark.parametrize("only_pip", [False, True], ids=["uv", "pip"])
    def test_a_folder_with_nothing_but_the_tool_gives_the_tool(
        self,
        only_pip: bool,
        version: str | None,
        fresh: dict[str, str],
        index: Index,
        wheels: Path,
        tmp_path: Path,
        ran: Path,
    ) -> None:
        """The index has all the rest, and a newer tool as well as one of the same version: neither is asked for."""
        folder = tmp_path / "tool"
        folder.mkdir()
        (folder / WHEEL).hardlink_to(wheels / WHEEL)
        index.only_pip = only_pip
        env = {**fresh, **({"NBPROVISION_VERSION": version} if version else {})}
        done = bootstrap(without_tool(env), NOT_THERE, "--tool", str(folder))
        assert done.returncode == REACHED, done.stderr
        assert not ran.exists()
        assert asked_for_tool(index) == []

    @pytest.mark.parametrize("source", ["folder", "older", "s3://team/wheels", "/no/such/folder"])
    def test_a_folder_without_the_tool_is_not_made_up_for_by_an_index(
        self, source: str, fresh: dict[str, str], index: Index, wheels: Path, tmp_path: Path, ran: Path
    ) -> None:
        """Such as the copy of a bucket that was never reached, or that has another version alone."""
        for folder in ("folder", "older"):
            (tmp_path / folder).mkdir()
        another_version(wheels, "0.0.1", tmp_path / "older")
        program(tmp_path / "bin/aws", "echo 'Could not connect to the endpoint URL' >&2; exit 1")
        env = {
            **fresh,
            "NBPROVISION_SOURCE": str(tmp_path / source) if (tmp_path / source).is_dir() else source,
            "NBPROVISION_VERSION": __version__,
            "PATH": f"{tmp_path}/bin:{fresh['PATH']}",
        }
        done = bootstrap(env, NOT_THERE)
        assert done.returncode == 2, done.stderr
        assert "could not install" in done.stderr
        assert not ran.exists()
        assert asked_for_tool(index) == []


REFUSED = [
    (["--tool", "nbprovision[x]"], "--tool nbprovision[x] is a name on the public index", "Whoever registers"),
    (["--tool", f"nbprovision=={__version__}"], "is a name on the public index", "Whoever registers"),
    (["--tool", "nbprovision>=0.1", "--index-url=https://pypi.org/simple"], "public index", "Whoever registers"),
    (["--index-url", "https://u@test.pypi.org/simple"], f"nbprovision=={__version__} is a name", "Whoever registers"),
    (["--tool", "wheels"], "wheels does not exist", "--tool FOLDER"),
    (["--tool", "other==1.0"], "other==1.0 does not exist", "--tool FOLDER"),
    (["--tool", PYPI], f"--tool {PYPI} has no hash", "Whoever registers"),
    (["--tool", f"{PYPI} --hash=sha256:ab"], "has no hash", "Whoever registers"),
    (["--tool", "pypi:nbprovision==", "--sha256", HASH], "is not pypi:nbprovision==VERSION", "--tool FOLDER"),
    (["--tool", "pypi:nbprovision==1 x", "--sha256", HASH], "is not pypi:nbprovision==VERSION", "--tool FOLDER"),
    (["--tool", "pypi:other==1", "--sha256", HASH], "is not pypi:nbprovision==VERSION", "--tool FOLDER"),
    (["--tool", PYPI, "--sha256", HASH[1:]], f"--sha256 {HASH[1:]} is not a sha256", "sha256sum nbprovision-"),
    (["--tool", PYPI, "--sha256", "g" * 64], "is not a sha256", "64 digits and letters"),
    (["--tool", f"https://h/{WHEEL}"], f"https://h/{WHEEL} has no hash", "Anybody who changes the file"),
    (["--tool", f"nbprovision @ https://h/{WHEEL}"], "has no hash", "Anybody who changes the file"),
    (["--tool", "/w", "--sha256", HASH], "--sha256 has no meaning for --tool /w", "from https:// or from the public"),
    (["--sha256", HASH], "--sha256 has no meaning for --tool that is not given", "from https:// or from the public"),
    (["--tool="], "--tool is empty", "Write a value"),
    (["--tool"], "--tool is empty", "Write a value"),
    (["--sha256", "", "--tool", PYPI], "--sha256 is empty", "Write a value"),
]


@pytest.mark.parametrize("shell", ["sh", "busybox sh"])
@pytest.mark.parametrize(("words", "what", "why"), REFUSED, ids=[" ".join(words) for words, *_ in REFUSED])
def test_what_names_no_place_is_refused(
    words: list[str], what: str, why: str, shell: str, env: dict[str, str], tmp_path: Path
) -> None:
    """Before anything is made, and whatever is installed already."""
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        env.pop(name, None)
    script = tmp_path / "bootstrap.sh"
    script.write_bytes((ROOT / "bootstrap.sh").read_bytes())
    command = [*shell.split(), str(script), NOT_THERE, *words]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 5, done.stderr
    assert what in done.stderr
    assert why in done.stderr
    assert not Path(env["NBPROVISION_HOME"]).exists()


def test_the_forms_are_those_of_render(env: dict[str, str]) -> None:
    assert SOURCES in " ".join(bootstrap(env).stderr.split()), "the usage"
    assert SOURCES in bootstrap(env, NOT_THERE, "--tool", "nbprovision==1").stderr
