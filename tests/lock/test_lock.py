"""`nbprovision lock`: two platforms from a served channel, the same bytes again, one upgrade, no secrets, no half lock."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from packaging.pylock import Pylock
from rattler import LockFile
from uv import find_uv_bin

from nbprovision.__main__ import main
from nbprovision.engine.guard import run_lock
from nbprovision.lock import folder as lock_folder
from nbprovision.lock import pylock
from nbprovision.machine.distributions import installed
from nbprovision.model.errors import InvalidPlaybook, TaskFailed
from tests.support.locking import BOTH, Team
from tests.support.pip_environment import venv
from tests.support.wheels import make_project, make_wheel

pytestmark = pytest.mark.engine
ROOT = Path(__file__).parents[2]


def versions(team: Team, platform: str = "linux-64", name: str = "fraud") -> dict[str, str]:
    """The locked conda packages."""
    return {
        package.name: package.version
        for package in lock_folder.read(team.lock_folder).environments[name].conda[platform]
    }


def distributions(team: Team, name: str = "fraud") -> dict[str, str]:
    """The locked distributions."""
    path = lock_folder.read(team.lock_folder).environments[name].pylock
    return {} if path is None else {entry["name"]: entry["version"] for entry in pylock.read(path)["packages"]}


class TestPlatforms:
    def test_two_platforms_are_locked_from_a_served_channel(self, team: Team) -> None:
        team.standard()
        assert team.lock(*BOTH) == 0
        file = LockFile.from_path(team.lock_folder / "pixi.lock")
        environment = file.environment("fraud")
        assert environment is not None
        for platform in file.platforms():
            records = environment.conda_repodata_records_for_platform(platform)
            assert records is not None
            assert {(record.name.normalized, record.subdir) for record in records} == {
                ("python", platform.name), ("alpha", platform.name), ("beta", "noarch"), ("pip", "noarch"),
            }  # fmt: skip
            assert all(record.sha256 and record.url.startswith(f"{team.url}/") for record in records)
            machine = {"linux-64": "x86_64", "linux-aarch64": "aarch64"}[platform.name]
            assert platform.virtual_packages == [f"__archspec=1={machine}", "__glibc=2.34", "__linux=0", "__unix=0=0"]
        assert [str(channel) for channel in environment.channels()] == [team.url]
        # Read and written by the library, nothing changes.
        file.to_path(team.folder / "again.lock")
        assert (team.folder / "again.lock").read_text() == team.files()["pixi.lock"]

    def test_reading_gives_every_package_with_its_digest(self, team: Team) -> None:
        team.standard()
        assert team.lock(*BOTH) == 0
        read = lock_folder.read(team.lock_folder)
        assert read.platforms == ("linux-64", "linux-aarch64")
        alpha = next(entry for entry in read.environments["fraud"].conda["linux-aarch64"] if entry.name == "alpha")
        assert (alpha.version, alpha.build, alpha.subdir) == ("1.0", "0", "linux-aarch64")
        assert len(alpha.sha256) == 64
        assert alpha.size > 0
        assert read.here(alpha.url) == alpha.url == f"{team.url}/linux-aarch64/alpha-1.0-0.tar.bz2"

    def test_distributions_of_both_platforms_stand_in_one_file(self, team: Team) -> None:
        team.standard()
        assert team.lock(*BOTH) == 0
        document = pylock.read(team.lock_folder / "pylock.fraud.toml")
        Pylock.from_dict(document)  # valid
        # conda brings beta; the locked wheels lie beside the playbook.
        assert distributions(team) == {"pear": "1.0", "plum": "1.0"}
        assert [entry["wheels"][0]["path"] for entry in document["packages"]] == [
            "../wheels/pear-1.0-py3-none-any.whl",
            "../wheels/plum-1.0-py3-none-any.whl",
        ]
        assert not any("marker" in entry for entry in document["packages"])
        assert len(document["environments"]) == 2

    def test_a_platform_that_lacks_a_package_is_named(self, team: Team, capsys: pytest.CaptureFixture[str]) -> None:
        team.channel.add("gamma", "1.0", subdir="linux-64")
        team.serve()
        team.standard(specs="python, gamma")
        assert team.lock(*BOTH) == 2
        error = capsys.readouterr().err
        assert f"{team.playbook}:2:7: fraud for linux-aarch64: no channel has a package 'gamma'" in error
        assert not team.lock_folder.exists()

    def test_a_package_of_one_platform_has_its_marker(self, team: Team) -> None:
        make_wheel(team.wheels, "fig", "1.0", requires=['plum; platform_machine == "aarch64"'])
        team.standard(requirements="fig")
        assert team.lock(*BOTH) == 0
        packages = pylock.read(team.lock_folder / "pylock.fraud.toml")["packages"]
        assert [(entry["name"], entry.get("marker")) for entry in packages] == [
            ("fig", None),
            ("plum", "platform_machine == 'aarch64'"),
        ]

    def test_the_platforms_of_the_lock_stay(self, team: Team) -> None:
        team.standard()
        assert team.lock(*BOTH) == 0
        assert team.lock() == 0
        assert lock_folder.read(team.lock_folder).platforms == ("linux-64", "linux-aarch64")
        assert team.lock("--platform", "linux-64") == 0
        assert lock_folder.read(team.lock_folder).platforms == ("linux-64",)

    def test_cuda_is_a_platform_of_its_own(self, team: Team) -> None:
        """Another environment of the lock must not seem to need a GPU."""
        team.channel.add("torch", "2.0", build="cpu_0")
        team.channel.add("torch", "2.0", build="cuda_0", build_number=200, depends=["__cuda >=12"])
        team.serve()
        team.write(f"""
            - ensure_conda_env: {{name: gpu, packages: [torch], channels: ["{team.url}"], cuda: "12.4"}}
            - ensure_conda_env: {{name: cpu, packages: [torch], channels: ["{team.url}"]}}
        """)
        assert team.lock("--platform", "linux-64") == 0
        read = lock_folder.read(team.lock_folder)
        builds = {name: entry.conda["linux-64"][0].build for name, entry in read.environments.items()}
        assert builds == {"gpu": "cuda_0", "cpu": "cpu_0"}
        named = {platform.name: platform for platform in LockFile.from_path(team.lock_folder / "pixi.lock").platforms()}
        assert "__cuda=12.4" in named["linux-64-cuda-12-4"].virtual_packages
        assert not any("cuda" in text for text in named["linux-64"].virtual_packages)


class TestAgain:
    def test_nothing_changes_if_the_playbook_has_not(self, team: Team, capsys: pytest.CaptureFixture[str]) -> None:
        team.standard()
        assert team.lock(*BOTH) == 0
        files, identity = team.files(), team.lock_folder.stat().st_ino
        team.channel.add("alpha", "1.1", subdir="linux-64")
        make_wheel(team.wheels, "plum", "1.1")
        team.serve()
        capsys.readouterr()
        assert team.lock() == 0
        assert team.files() == files
        assert team.lock_folder.stat().st_ino == identity
        assert "team.lock is unchanged" in capsys.readouterr().out

    def test_another_folder_and_home_give_the_same_bytes(
        self, team: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        team.write("""
            - ensure_conda_env: {name: fraud, packages: [python, beta], channels: [./channel]}
            - ensure_pip_pkg: {env: fraud, packages: [pear]}
        """)
        assert team.lock(*BOTH) == 0
        files = team.files()
        assert "https://playbook.invalid/channel/noarch/beta-1.0-0.tar.bz2" in files["pixi.lock"]
        assert not any(str(tmp_path) in text for text in files.values())
        read = lock_folder.read(team.lock_folder)
        package = next(entry for entry in read.environments["fraud"].conda["linux-64"] if entry.name == "beta")
        assert read.here(package.url) == (team.folder / "channel/noarch/beta-1.0-0.tar.bz2").as_uri()

        shutil.copytree(team.folder, tmp_path / "elsewhere")
        shutil.rmtree(tmp_path / "elsewhere/team.lock")
        for name in ("HOME", "NBPROVISION_HOME"):
            monkeypatch.setenv(name, str(tmp_path / f"other-{name}"))
        monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "elsewhere/wheels"))
        team.playbook, team.lock_folder = tmp_path / "elsewhere/team.yml", tmp_path / "elsewhere/team.lock"
        assert team.lock(*BOTH) == 0
        assert team.files() == files
        assert team.lock("--check") == 0

    def test_a_package_that_is_gone_from_the_channel_is_not_kept(self, team: Team) -> None:
        team.channel.add("alpha", "1.1", subdir="linux-64")
        team.serve()
        team.standard()
        assert team.lock("--platform", "linux-64") == 0
        assert versions(team)["alpha"] == "1.1"
        team.channel.drop("alpha", subdir="linux-64", version="1.1")
        team.serve()
        assert team.lock() == 0
        assert versions(team)["alpha"] == "1.0"

    def test_two_playbooks_with_one_folder_for_their_locks_are_refused(
        self, team: Team, capsys: pytest.CaptureFixture[str]
    ) -> None:
        team.standard()
        other = team.folder / "team.yaml"
        other.write_text("fraud: true\n")
        assert team.lock() == 0, "a file of variables has no lock"
        before = team.files()
        other.write_text("- tasks: []\n")
        assert main(["lock", str(other)]) == 4
        assert team.lock() == 4
        error = capsys.readouterr().err
        assert f"error: {other}:1:1: team.yaml and team.yml would have the same lock" in error
        assert f"error: {team.playbook}:1:1: team.yml and team.yaml would have the same lock" in error
        assert team.files() == before

    def test_a_file_in_the_place_of_the_folder_is_not_replaced(
        self, team: Team, capsys: pytest.CaptureFixture[str]
    ) -> None:
        team.standard()
        team.lock_folder.write_text("poetry's\n")
        assert team.lock() == 2
        assert f"{team.lock_folder} is not a folder" in capsys.readouterr().err
        assert team.lock_folder.read_text() == "poetry's\n"

    @pytest.mark.parametrize("mode", [0o555, 0o000])
    def test_a_folder_that_cannot_be_written_is_left_as_it_is(self, tmp_path: Path, mode: int) -> None:
        """Not exchanged for a writable one: the old one could not be removed then."""
        folder = tmp_path / "team.lock"
        folder.mkdir()
        (folder / "index.json").write_text("{}")
        folder.chmod(mode)
        user = os.geteuid()
        if user == 0:  # who may write everywhere
            for path in (folder, tmp_path):
                os.chown(path, 65534, 65534)
            for parent in tmp_path.parents[: -len(Path(tempfile.gettempdir()).parts)]:
                parent.chmod(0o755)
            os.seteuid(65534)
        try:
            assert lock_folder.exists(folder)
            if mode == 0:
                with pytest.raises(InvalidPlaybook, match="the lock cannot be read"):
                    lock_folder.read(folder)
            with pytest.raises(TaskFailed, match="cannot write into"):
                lock_folder.replace(folder, {"index.json": "[]"})
        finally:
            os.seteuid(user)
            folder.chmod(0o755)
        assert (folder / "index.json").read_text() == "{}"
        assert list(tmp_path.iterdir()) == [folder]

    @pytest.mark.parametrize("exists", [True, False])
    def test_a_link_in_the_place_of_the_folder_stays(self, team: Team, *, exists: bool) -> None:
        team.standard()
        shared = team.folder / "shared"
        if exists:
            shared.mkdir()
        team.lock_folder.symlink_to("shared")
        assert team.lock() == 0
        assert team.lock_folder.is_symlink()
        assert {path.name for path in shared.iterdir()} == {"index.json", "pixi.lock", "pylock.fraud.toml"}
        assert team.lock("--check") == 0
        assert not [path for path in team.folder.iterdir() if path.name.startswith(".")]

    def test_files_of_others_in_the_folder_stay(self, team: Team) -> None:
        team.standard()
        team.lock_folder.mkdir()
        (team.lock_folder / "README").write_text("do not edit\n")
        (team.lock_folder / "README").chmod(0o755)
        (team.lock_folder / "notes/old").mkdir(parents=True)
        (team.lock_folder / "notes/old/index.json").write_text("[]")
        (team.lock_folder / "guide").symlink_to("../guide.md")
        (team.lock_folder / "pylock.gone.toml").write_text("")
        assert team.lock() == 0
        names = {path.name for path in team.lock_folder.iterdir()}
        assert names == {"README", "notes", "guide", "index.json", "pixi.lock", "pylock.fraud.toml"}
        assert (team.lock_folder / "README").stat().st_mode & 0o777 == 0o755
        assert (team.lock_folder / "notes/old/index.json").read_text() == "[]"
        assert (team.lock_folder / "guide").readlink() == Path("../guide.md")

    def test_environments_whose_names_differ_in_punctuation(self, team: Team) -> None:
        team.write("""
            - ensure_venv: {path: ./a.b, packages: [plum]}
            - ensure_venv: {path: ./a-b, packages: [plum]}
        """)
        assert team.lock() == 0
        names = {
            name: environment.pylock for name, environment in lock_folder.read(team.lock_folder).environments.items()
        }
        assert names == {"a-b": team.lock_folder / "pylock.a-b.toml", "a.b": team.lock_folder / "pylock.a-b-2.toml"}

    def test_what_another_one_wrote_meanwhile_is_read(self, team: Team) -> None:
        """A lock that waits for another one starts from the lock and the playbook that it then finds."""
        team.standard()
        assert team.lock() == 0
        command = [sys.executable, "-m", "nbprovision", "lock", str(team.playbook)]
        with run_lock(Path(os.environ["NBPROVISION_HOME"]), "another", None, print):
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            assert process.stderr is not None
            assert "waiting for process" in process.stderr.readline()
            team.standard(requirements="plum")
            index = json.loads((team.lock_folder / "index.json").read_text())
            del index["environments"]["fraud"]["pylock"]
            (team.lock_folder / "index.json").write_text(json.dumps(index))
            (team.lock_folder / "pylock.fraud.toml").unlink()
        _, error = process.communicate()
        assert process.returncode == 0, error
        assert distributions(team) == {"plum": "1.0"}


class TestUpgrade:
    @pytest.fixture
    def newer(self, team: Team) -> Team:
        """A locked playbook, and newer versions of four packages."""
        team.channel.add("gamma", "1.0")
        team.serve()
        team.standard(specs="python, beta, gamma")
        assert team.lock(*BOTH) == 0
        for platform in ("linux-64", "linux-aarch64"):
            team.channel.add("alpha", "1.1", subdir=platform)
        team.channel.add("gamma", "2.0")
        team.serve()
        make_wheel(team.wheels, "plum", "1.1")
        make_wheel(team.wheels, "pear", "1.1", requires=["beta>=1", "plum"])
        return team

    def test_one_conda_package_leaves_the_rest(self, newer: Team) -> None:
        assert newer.lock("--upgrade-package", "alpha") == 0
        for platform in ("linux-64", "linux-aarch64"):
            assert versions(newer, platform) == {"alpha": "1.1", "beta": "1.0", "gamma": "1.0", "python": "3.12.4"}
        assert distributions(newer) == {"pear": "1.0", "plum": "1.0"}

    def test_one_distribution_leaves_the_rest(self, newer: Team) -> None:
        assert newer.lock("--upgrade-package", "plum") == 0
        assert versions(newer)["alpha"] == "1.0"
        assert distributions(newer) == {"pear": "1.0", "plum": "1.1"}

    def test_a_withdrawn_release_is_mentioned(
        self, team: Team, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """It stays locked, as all others do."""
        for name in ("PIP_NO_INDEX", "PIP_FIND_LINKS"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("PIP_INDEX_URL", f"{team.server.url}/simple")
        make_wheel(team.wheels, "plum", "2.0")
        team.serve()
        team.write("- ensure_venv: {name: tools, packages: [plum]}")
        assert team.lock() == 0
        assert "withdrawn" not in capsys.readouterr().err
        page = team.server.files["/simple/plum/"].decode()
        yanked = page.replace('<a href="/files/plum-2', '<a data-yanked="broken" href="/files/plum-2')
        team.server.files["/simple/plum/"] = yanked.encode()
        assert team.lock() == 0
        assert distributions(team, "tools") == {"plum": "2.0"}
        error = capsys.readouterr().err
        assert "warning: tools: the release plum 2.0 was withdrawn (yanked): broken; " in error
        assert "--upgrade-package plum" in error
        assert team.lock("--upgrade-package", "plum") == 0
        assert distributions(team, "tools") == {"plum": "1.0"}

    def test_two_at_once(self, newer: Team) -> None:
        assert newer.lock("--upgrade-package", "gamma", "--upgrade-package", "Pear") == 0
        assert versions(newer) == {"alpha": "1.0", "beta": "1.0", "gamma": "2.0", "python": "3.12.4"}
        assert distributions(newer) == {"pear": "1.1", "plum": "1.0"}

    def test_everything(self, newer: Team) -> None:
        assert newer.lock("--upgrade") == 0
        assert versions(newer) == {"alpha": "1.1", "beta": "1.0", "gamma": "2.0", "python": "3.12.4"}
        assert distributions(newer) == {"pear": "1.1", "plum": "1.1"}

    def test_an_unknown_name_is_refused(self, newer: Team, capsys: pytest.CaptureFixture[str]) -> None:
        files = newer.files()
        assert newer.lock("--upgrade-package", "gama") == 4
        assert "'gama' is not in the lock; did you mean 'gamma'?" in capsys.readouterr().err
        assert newer.files() == files


class TestDistributions:
    """What pip installs is resolved around what conda brings."""

    def test_a_conflict_with_conda_is_an_error(self, team: Team, capsys: pytest.CaptureFixture[str]) -> None:
        team.standard()
        assert team.lock() == 0
        files = team.files()
        make_wheel(team.wheels, "fig", "1.0", requires=["beta>=2"])
        make_wheel(team.wheels, "beta", "2.0")
        team.standard(requirements="fig")
        assert team.lock() == 2
        text = capsys.readouterr().err
        assert f"{team.playbook}:3:7: fraud for linux-64: cannot lock the requested packages" in text
        assert "conda brings beta 1.0" in text
        assert "request another version of beta from conda, or name it in the pip task" in text
        assert str(team.folder.parent / "nbprovision/cache/lock") not in text
        assert team.files() == files

    def test_a_requested_version_replaces_condas(self, team: Team) -> None:
        make_wheel(team.wheels, "fig", "1.0", requires=["beta>=2"])
        make_wheel(team.wheels, "beta", "2.0")
        team.standard(requirements="fig, beta>=2")
        assert team.lock() == 0
        assert distributions(team) == {"beta": "2.0", "fig": "1.0"}

    def test_an_extra_of_condas_package_is_resolved(self, team: Team) -> None:
        """Whether the playbook requests it, or another package needs it."""
        make_wheel(team.wheels, "beta", "1.0", requires=['nut; extra == "jam"', "apricot"])
        make_wheel(team.wheels, "nut", "1.0")
        make_wheel(team.wheels, "apricot", "1.0")
        make_wheel(team.wheels, "fig", "1.0", requires=["beta[jam]"])
        for requirement in ('"beta[jam]"', "fig"):
            team.standard(requirements=requirement)
            assert team.lock() == 0
            assert distributions(team).keys() - {"fig"} == {"nut", "apricot"}

    def test_an_environment_without_python_is_an_error(self, team: Team, capsys: pytest.CaptureFixture[str]) -> None:
        team.standard(specs="alpha")
        assert team.lock() == 2
        assert "fraud for linux-64 has no Python, which its pip packages need" in capsys.readouterr().err

    def test_every_kind_of_pip_task_is_locked(self, team: Team) -> None:
        """A virtual environment, the pip section of a file, a folder of packages, and a kernel."""
        for name in ("ipykernel", "nut"):
            make_wheel(team.wheels, name, "1.0")
        (team.folder / "environment.yml").write_text(
            f"name: filed\nchannels: ['{team.url}']\ndependencies: [python, {{pip: [plum]}}]\n"
        )
        team.write("""
            - ensure_venv: {name: v, packages: [nut]}
            - ensure_conda_env: {file: environment.yml}
            - ensure_kernel: {env: filed}
            - ensure_pip_pkg: {env: filed, packages: [pear, beta], target: ./more}
        """)
        make_wheel(team.wheels, "beta", "1.5")
        assert team.lock() == 0
        assert distributions(team, "v") == {"nut": "1.0"}
        assert distributions(team, "filed") == {"ipykernel": "1.0", "plum": "1.0"}
        assert "pip" in versions(team, name="filed")
        assert distributions(team, "more") == {"beta": "1.5", "pear": "1.0", "plum": "1.0"}

    def test_a_lock_file_that_a_task_names_is_part_of_the_lock(
        self, team: Team, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Its versions and files count, and the rest is resolved around them."""
        make_wheel(team.wheels, "plum", "2.0")
        make_wheel(team.wheels, "fig", "1.0", requires=["plum"])
        make_wheel(team.folder, "date", "3.0", requires=["missing"])  # in no index, and not followed
        wheels = {"plum": Path("wheels/plum-1.0-py3-none-any.whl"), "date": Path("date-3.0-py3-none-any.whl")}
        text = 'lock-version = "1.0"\ncreated-by = "pip"\n'
        for name, path in wheels.items():
            digest = hashlib.sha256((team.folder / path).read_bytes()).hexdigest()
            wheel = f'{{path = "{path}", hashes = {{sha256 = "{digest}"}}}}'
            version = path.name.split("-")[1]
            text += f'[[packages]]\nname = "{name}"\nversion = "{version}"\nwheels = [{wheel}]\n'
        (team.folder / "pylock.toml").write_text(text)
        team.write("""
            - ensure_venv: {name: both, requirements: pylock.toml}
            - ensure_pip_pkg: {env: both, packages: [fig]}
            - ensure_venv: {name: alone, requirements: pylock.toml}
        """)
        assert team.lock() == 0
        assert distributions(team, "both") == {"date": "3.0", "fig": "1.0", "plum": "1.0"}
        assert distributions(team, "alone") == {"date": "3.0", "plum": "1.0"}
        files = team.files()
        assert team.lock() == 0
        assert team.files() == files
        assert main(["run", str(team.playbook), "--locked"]) == 0
        home = Path(os.environ["NBPROVISION_HOME"])
        both = {name: copies[0].version for name, copies in installed(home / "envs/both").items()}
        assert {name: both[name] for name in ("date", "fig", "plum")} == {"date": "3.0", "fig": "1.0", "plum": "1.0"}
        capsys.readouterr()
        (team.folder / "pylock.toml").write_text(text.replace("date", "bate").replace("plum-1.0", "plum-1.0"))
        (team.folder / "date-3.0-py3-none-any.whl").rename(team.folder / "bate-3.0-py3-none-any.whl")
        assert team.lock("--check") == 3
        assert "stale: alone: requirement added: bate==3.0" in capsys.readouterr().out

    def test_a_project_in_a_lock_file_that_a_task_names(self, team: Team) -> None:
        """As ``uv export`` writes it; another package needs it, and no index has it."""
        make_project(team.folder / "project")
        make_wheel(team.wheels, "fig", "1.0", requires=["mine", "plum"])
        (team.folder / "pylock.toml").write_text(
            'lock-version = "1.0"\ncreated-by = "uv"\n'
            '[[packages]]\nname = "mine"\ndirectory = {path = "project", editable = true}\n'
        )
        team.write("- ensure_venv: {name: tools, requirements: pylock.toml, packages: [fig]}")
        assert team.lock() == 0
        document = pylock.read(team.lock_folder / "pylock.tools.toml")
        assert [entry["name"] for entry in document["packages"]] == ["fig", "mine", "plum"]
        assert document["packages"][1]["directory"] == {"path": "../project", "editable": True}
        assert main(["run", str(team.playbook), "--locked"]) == 0
        assert {"fig", "mine", "plum"} <= installed(Path(os.environ["NBPROVISION_HOME"]) / "envs/tools").keys()

    def test_uv_installs_what_is_locked(self, team: Team, tmp_path: Path) -> None:
        """From the files beside the playbook, by their hashes, with no index."""
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        for name in ("nut", "fig"):
            make_wheel(team.wheels, name, "1.0")
        make_project(team.folder / "mine")
        team.write(f"""
            - ensure_venv:
                name: v
                python: "{version}"
                packages: [nut, "./wheels/fig-1.0-py3-none-any.whl", "-e ./mine"]
        """)
        assert team.lock() == 0
        path = team.lock_folder / "pylock.v.toml"
        assert str(team.folder) not in path.read_text()
        prefix = venv(tmp_path / "venv")
        words: list[str | Path] = [
            "pip",
            "install",
            "--python",
            prefix / "bin/python",
            "--preview-features",
            "pylock",
            "--no-index",
        ]
        subprocess.run([find_uv_bin(), *words, "--requirements", path], check=True, capture_output=True)
        assert set(installed(prefix)) == {"fig", "mine", "nut"}
        make_wheel(team.wheels, "nut", "1.0", files={"more.py": ""})
        tampered = subprocess.run(
            [find_uv_bin(), *words, "--reinstall", "--no-cache", "--requirements", path], capture_output=True, text=True
        )
        assert tampered.returncode != 0
        assert "Hash mismatch" in tampered.stderr


class TestChannels:
    def test_channels_of_several_tasks_are_joined_in_order(self, team: Team) -> None:
        team.write(f"""
            - ensure_conda_env: {{name: fraud, packages: [python], channels: [./channel]}}
            - ensure_conda_pkg: {{env: fraud, packages: [alpha], channels: ["{team.url}", ./channel]}}
        """)
        assert team.lock() == 0
        index = json.loads(team.files()["index.json"])
        assert index["environments"]["fraud"]["channels"] == ["https://playbook.invalid/channel", team.url]
        assert set(versions(team)) == {"python", "alpha"}


class TestSecrets:
    @pytest.mark.parametrize("by_token", [True, False])
    def test_no_file_has_a_password_or_token(
        self, team: Team, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, by_token: bool
    ) -> None:
        token, password = "tk-0123456789", "pa55-w0rd-of-the-team"
        host = team.server.url.removeprefix("http://")
        with_password = f"http://reader:{password}@{host}"
        channel = f"http://{host}/t/{token}/conda" if by_token else f"{with_password}/conda"
        team.server.user = "" if by_token else f"reader:{password}"
        team.write(f"""
            - ensure_pip_index: {{url: "{with_password}/simple"}}
            - ensure_conda_env:
                name: fraud
                packages: [python, "{channel}::beta"]
                channels: ["{channel}"]
            - ensure_pip_pkg:
                env: fraud
                packages: [pear, "nut @ {with_password}/files/nut-1.0-py3-none-any.whl"]
        """)
        make_wheel(team.wheels, "nut", "1.0")
        team.serve()
        for name in ("PIP_NO_INDEX", "PIP_FIND_LINKS", "PIP_CONFIG_FILE"):
            monkeypatch.delenv(name)
        assert team.lock(*BOTH) == 0, capsys.readouterr().err
        assert distributions(team) == {"nut": "1.0", "pear": "1.0", "plum": "1.0"}
        texts = {**team.files(), "output": str(capsys.readouterr())}
        texts["log"] = (team.folder.parent / "nbprovision/log/nbprovision.log").read_text()
        for name, text in texts.items():
            for secret in (token, password, "reader:"):
                assert secret not in text, (name, secret)
        assert f"{team.server.url}/simple" in texts["index.json"]
        assert f"{team.server.url}/files/nut-1.0-py3-none-any.whl" in texts["pylock.fraud.toml"]
        assert f"{team.url}/noarch/beta-1.0-0.tar.bz2" in texts["pixi.lock"]
        assert team.lock("--check") == 0


@pytest.mark.proof
class TestKilled:
    """A kill leaves the old lock or the new one."""

    def test_while_the_folder_is_replaced(self, team: Team) -> None:
        self.killed_at(team, lambda number: range(number - 5, number + 1))

    @pytest.mark.campaign
    def test_at_every_operation_on_the_teams_folder(self, team: Team) -> None:
        self.killed_at(team, lambda number: range(1, number + 1))

    def killed_at(self, team: Team, moments: Callable[[int], Iterable[int]]) -> None:
        """Kill a lock at operations, by the number of all operations, and lock once more."""
        team.standard()
        assert team.lock() == 0
        old = team.files()
        team.standard(requirements="plum")
        counted = self.killed(team, 0)
        assert counted.returncode == 0, counted.stderr
        new = team.files()
        assert old != new
        number = int((team.folder / "operations").read_text().split()[0])
        (team.folder / "operations").unlink()
        for moment in moments(number):
            shutil.rmtree(team.lock_folder)
            team.lock_folder.mkdir()
            for name, text in old.items():
                (team.lock_folder / name).write_text(text)
            assert self.killed(team, moment).returncode != 0, moment
            assert team.files() in (old, new), moment
        assert team.lock() == 0
        assert team.files() == new
        assert not [path for path in team.folder.iterdir() if path.name.startswith(".")]

    @staticmethod
    def killed(team: Team, moment: int) -> subprocess.CompletedProcess[str]:
        words: list[str | Path] = [sys.executable, ROOT / "tests/reliability/faults.py", team.folder, str(moment)]
        return subprocess.run(
            [*words, "before", "--", "lock", team.playbook],
            capture_output=True,
            text=True,
            start_new_session=True,
            cwd=ROOT,
        )


def test_sixty_environments_are_locked_and_installed(team: Team, capsys: pytest.CaptureFixture[str]) -> None:
    team.write(f"""
        - ensure_conda_env: {{name: "e{{{{ item }}}}", packages: [alpha], channels: ["{team.url}"]}}
          loop: "{{{{ range(60) | list }}}}"
    """)
    assert team.lock() == 0, capsys.readouterr().err
    first = team.files()
    assert team.lock() == 0
    assert team.files() == first
    assert len(lock_folder.read(team.lock_folder).environments) == 60
    assert main(["run", str(team.playbook), "--locked", "--format", "json"]) == 0, capsys.readouterr().err
    capsys.readouterr()
    team.server.requests.clear()
    assert main(["run", str(team.playbook), "--locked", "--format", "json", "--no-witness"]) == 0
    assert json.loads(capsys.readouterr().out)["counts"]["ok"] == 60
    assert team.server.requests == []
