"""`ensure_r_pkg` with Debian's real R, and a repository that R builds for the tests."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from nbprovision.machine.machine import Machine
from nbprovision.machine.network import NetworkFailed
from nbprovision.model.errors import NotTrusted, ParameterError, TaskFailed
from nbprovision.r import installation as r_files
from nbprovision.r.ensure_r_pkg import EnsureRPkg
from nbprovision.r.installation import MARK
from tests.support.driver import converge, planned
from tests.support.file_server import serving_files
from tests.support.planted import USER, folder, reachable_folder, root_only
from tests.support.r_repository import HAS_R, Repository, environment, needs_r, r, version_in

pytestmark = [needs_r, pytest.mark.proof, pytest.mark.sampled(2)]
SERIES = r("--vanilla", "-s", "-e", "cat(sub('[.][0-9]+$', '', getRversion() |> format()))") if HAS_R else ""
needs_compiler = pytest.mark.skipif(
    shutil.which("gcc") is None or shutil.which("make") is None, reason="there is no gcc or no make here"
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """pear needs apple; apple has two versions; a test adds nothing to it."""
    repository = Repository(tmp_path_factory.mktemp("cran with space"))
    repository.add("apple", "1.0", index=False)
    repository.add("apple", "1.1", index=False)
    repository.add("pear", "2.0", index=False, Imports="apple (>= 1.0), stats", Depends="R (>= 3.5)")
    repository.index()
    return repository


@pytest.fixture
def own(tmp_path: Path) -> Repository:
    """A repository of this test."""
    return Repository(tmp_path / "cran")


@pytest.fixture
def library(home: Path) -> Path:
    """The user's library."""
    return home / "R" / f"x86_64-pc-linux-gnu-library/{SERIES}"


def task(repository: Repository | str, packages: Any, **parameters: Any) -> EnsureRPkg:
    return EnsureRPkg(
        packages=packages, repos=repository if isinstance(repository, str) else str(repository.folder), **parameters
    )


def shown(work: EnsureRPkg, machine: Machine) -> list[tuple[str, str, str | None, str | None]]:
    """What converging has changed."""
    return [(change.action, change.target, change.before, change.after) for change in converge(work, machine)]


def entries(library: Path) -> list[str]:
    return sorted(os.listdir(library))


# ------------------------------------------------------------------------------------------------------- parameters


@pytest.mark.parametrize(
    ("text", "cure"),
    [
        ("ggplot2=3.4", "write ggplot2, ggplot2>=VERSION or ggplot2==VERSION"),
        ("ggplot2<4", "ggplot2>=VERSION"),
        ("ggplot2>=x", "ggplot2>=VERSION"),
        ("dplyr (>= 1.1)", "write dplyr>=1.1"),
        ("tidyverse/dplyr", "tools::write_PACKAGES"),
        ("https://host.example/x.tar.gz", "tools::write_PACKAGES"),
        ("r-ggplot2", "write the name as CRAN has it"),
        ("R", "write the name as CRAN has it"),
        ("2x", "write the name as CRAN has it"),
        ("x.", "write the name as CRAN has it"),
        ("'); system('id'); ('", "write the name as CRAN has it"),
        ("", "write the name as CRAN has it"),
    ],
)
def test_a_name_is_refused(text: str, cure: str) -> None:
    with pytest.raises(ParameterError) as caught:
        EnsureRPkg(packages=[text])
    assert caught.value.key == "packages"
    assert cure in caught.value.cure


def test_contradictions_are_refused() -> None:
    for parameters, message in (
        ({"packages": ["apple>=1", "apple>=2"]}, "requested twice"),
        ({"packages": "apple>=1", "state": "absent"}, "more than a name"),
        ({"packages": "apple==1", "state": "latest"}, "contradict each other"),
        ({"packages": []}, "is missing"),
    ):
        with pytest.raises(ParameterError, match=message):
            EnsureRPkg(**parameters)
    assert EnsureRPkg(packages=["apple", "apple", "data.table >= 1.14"])._names() == ["apple", "data.table"]


@pytest.mark.parametrize("url", [
    "http://cran.example", "ftp://cran.example", "https://", "https://[::1", "file://host/x", "a\nb", " ", "https://x y",
])  # fmt: skip
def test_a_repository_is_refused(url: str) -> None:
    with pytest.raises(ParameterError) as caught:
        EnsureRPkg(packages="apple", repos=url)
    assert caught.value.key == "repos"


# ------------------------------------------------------------------------------------------------- the user's library


def test_packages_with_what_they_need(shared: Repository, machine: Machine, library: Path, home: Path) -> None:
    work = task(shared, ["pear"])
    assert [change.target for change in planned(work, machine)] == ["apple", "pear"]
    assert not (home / "R").exists(), "a check writes nothing"
    assert shown(work, machine) == [("install", "apple", None, "1.1"), ("install", "pear", None, "2.0")]
    assert entries(library) == ["apple", "pear"]
    assert version_in(library, "pear") == "2.0"
    assert r("--vanilla", "-s", "-e", "cat(.libPaths()[1])", env={"HOME": str(home)}) == str(library)


def test_a_second_reading_starts_no_process(
    shared: Repository, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    converge(task(shared, ["pear"]), machine)
    monkeypatch.setattr("nbprovision.system.commands.run", None)
    assert planned(task(shared, ["pear", "apple>=1.0"]), Machine(machine.env, root=machine.root)) == ()


def test_versions(shared: Repository, machine: Machine, library: Path) -> None:
    assert shown(task(shared, "apple==1.0"), machine) == [("install", "apple", None, "1.0")]
    assert version_in(library, "apple") == "1.0"
    assert shown(task(shared, "apple"), machine) == []
    assert shown(task(shared, "apple>=1.0.5"), machine) == [("upgrade", "apple", "1.0", "1.1")]
    assert version_in(library, "apple") == "1.1"
    assert shown(task(shared, "apple==1.0"), machine) == [("downgrade", "apple", "1.1", "1.0")]
    assert shown(task(shared, "apple", state="latest"), machine) == [("upgrade", "apple", "1.0", "1.1")]
    with pytest.raises(TaskFailed, match="no repository has the package apple==9") as caught:
        converge(task(shared, "apple==9"), machine)
    assert "it has apple 1.0, 1.1; a repository of CRAN has the current version only" in caught.value.cause
    assert entries(library) == ["apple"]


def test_removal(shared: Repository, machine: Machine, library: Path) -> None:
    converge(task(shared, "pear"), machine)
    with pytest.raises(TaskFailed, match=r"apple 1\.1 is not removed") as caught:
        converge(task(shared, "apple", state="absent"), machine)
    assert caught.value.cause == "pear needs it"
    assert shown(task(shared, ["apple", "pear"], state="absent"), machine) == [
        ("remove", "apple", "1.1", None),
        ("remove", "pear", "2.0", None),
    ]
    assert entries(library) == []
    with pytest.raises(TaskFailed, match="it is a part of R"):
        converge(task(shared, "stats", state="absent"), machine)
    with pytest.raises(TaskFailed, match="it is a part of R"):
        converge(task(shared, "stats>=99"), machine)
    assert planned(task(shared, ["stats", "methods>=3.0"]), machine) == ()


def test_a_damaged_package_is_installed_again(shared: Repository, machine: Machine, library: Path) -> None:
    work = task(shared, "pear")
    converge(work, machine)
    (library / "apple/Meta/package.rds").unlink()  # as a build by hand leaves it that was killed
    assert shown(work, machine) == [("install", "apple", None, "1.1")]
    shutil.rmtree(library / "pear")
    (library / "pear").symlink_to(library / "apple")
    assert shown(work, machine) == [("install", "pear", None, "2.0")]
    assert not (library / "pear").is_symlink()
    assert version_in(library, "apple") == "1.1"


def test_a_package_that_cannot_be_loaded_is_seen_with_deep(shared: Repository, machine: Machine, library: Path) -> None:
    converge(task(shared, "apple"), machine)
    (library / "apple/R/apple.rdx").write_bytes(b"")
    assert planned(task(shared, "apple"), machine) == ()
    assert shown(task(shared, "apple", deep=True), machine) == [("rebuild", "apple", "1.1", "1.1")]
    assert version_in(library, "apple") == "1.1"


def test_a_package_for_another_r_is_built_again(shared: Repository, machine: Machine, library: Path) -> None:
    work = task(shared, "apple")
    converge(work, machine)
    path = library / "apple/DESCRIPTION"
    path.write_text(path.read_text().replace("Built: R 4.", "Built: R 3."))
    assert shown(work, machine) == [("rebuild", "apple", "1.1", "1.1")]


def test_a_library_of_ones_own_survives_a_restart(
    shared: Repository, machine: Machine, home: Path, tmp_path: Path
) -> None:
    view = machine.seen_with({"R_LIBS_USER": f"{tmp_path}/volume/%v"}, applies=True)
    work = task(shared, "apple")
    converge(work, view)
    library = tmp_path / "volume" / SERIES
    assert version_in(library, "apple") == "1.1"
    assert not (home / "R").exists()
    assert library in work.witnesses(view)
    machine.env["R_LIBS_USER"] = str(library)
    assert planned(work, Machine(machine.env, root=machine.root)) == ()


def test_files_of_the_user_and_variables_of_r_change_nothing(
    shared: Repository, machine: Machine, home: Path, library: Path
) -> None:
    (home / ".Rprofile").write_text("stop('profile')\n")
    (home / ".Renviron").write_text(f"R_LIBS_USER={home}/elsewhere\n")
    (home / ".R").mkdir()
    (home / ".R/Makevars").write_text("CFLAGS=--no-such-option\n")
    machine.env.update(R_LIBS=str(home), R_PROFILE_USER=str(home / ".Rprofile"), R_HOME="/nowhere")
    converge(task(shared, "pear"), machine)
    assert entries(library) == ["apple", "pear"]


# ---------------------------------------------------------------------------------------------------------- failures


@needs_compiler
def test_a_missing_header_is_named(own: Repository, machine: Machine, library: Path) -> None:
    own.add("apple", "1.0", index=False)
    own.add(
        "broken", "1.0", {"src/code.c": "#include <curl/curl.h>\n#include <no/such.h>\nint x;\n"},
        Imports="apple", SystemRequirements="libnosuch: nosuch-devel (rpm),\n  libnosuch-dev (deb)",
    )  # fmt: skip
    with pytest.raises(TaskFailed, match="the package broken could not be built") as caught:
        converge(task(own, "broken"), machine)
    assert ".h is missing" in caught.value.cause.splitlines()[0]
    assert "needs of the system: libnosuch: nosuch-devel (rpm), libnosuch-dev (deb)" in caught.value.cause
    assert "fatal error" in caught.value.cause
    assert len(caught.value.cause.splitlines()) < 40
    assert entries(library) == []


def test_what_a_configure_script_asks_for_is_named(own: Repository, machine: Machine, library: Path) -> None:
    script = (
        "#!/bin/sh\nseq 1 5000\necho 'Configuration failed because libxml-2.0 was not found. Try installing:'\n"
        "echo ' * deb: libxml2-dev (Debian, Ubuntu, etc)'\necho ' * rpm: libxml2-devel (Fedora, CentOS, RHEL)'\nexit 1\n"
    )
    own.add("broken", "1.0", {"configure": script})
    with pytest.raises(TaskFailed, match="the package broken could not be built") as caught:
        converge(task(own, "broken"), machine)
    assert caught.value.cause.splitlines()[:3] == [
        "Configuration failed because libxml-2.0 was not found. Try installing:",
        "deb: libxml2-dev (Debian, Ubuntu, etc)",
        "rpm: libxml2-devel (Fedora, CentOS, RHEL)",
    ]
    assert len(caught.value.cause) < 3000
    assert entries(library) == []


def test_a_package_that_is_built_but_cannot_be_loaded_is_not_put_in_place(
    own: Repository, machine: Machine, library: Path
) -> None:
    own.add(
        "broken", "1.0", {"R/load.R": ".onLoad <- function(...) if (nzchar(Sys.getenv('R_LIBS'))) stop('libgone')\n"}
    )
    with pytest.raises(TaskFailed, match="the package broken") as caught:
        converge(task(own, "broken"), machine)
    assert "libgone" in caught.value.cause
    assert entries(library) == []


def test_an_upgrade_that_fails_leaves_the_old_version(own: Repository, machine: Machine, library: Path) -> None:
    own.add("apple", "1.0")
    converge(task(own, "apple"), machine)
    own.add("apple", "2.0", {"R/code.R": "stop('no')\n"})
    with pytest.raises(TaskFailed, match="the package apple could not be built"):
        converge(task(own, "apple>=2"), machine)
    assert version_in(library, "apple") == "1.0"
    assert entries(library) == ["apple"]


def test_a_killed_build_leaves_nothing(own: Repository, machine: Machine, library: Path, tmp_path: Path) -> None:
    began, go = tmp_path / "began", tmp_path / "go"
    own.add("slow", "1.0", {"configure": f"#!/bin/sh\ntouch '{began}'\ntest -e '{go}' || sleep 300\n"})
    playbook = tmp_path / "playbook.yml"
    playbook.write_text(f"- tasks:\n    - ensure_r_pkg: {{packages: slow, repos: '{own.folder}'}}\n")
    words = [sys.executable, "-m", "nbprovision", "run", playbook]
    env = {**machine.env, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(words, env=env, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 120
    while not began.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert began.exists()
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (library / "slow").exists()
    go.touch()
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert entries(library) == ["slow"]
    assert version_in(library, "slow") == "1.0"


def test_no_r(machine: Machine, tmp_path: Path, shared: Repository) -> None:
    machine.env["PATH"] = str(tmp_path)
    with pytest.raises(TaskFailed, match="no R found"):
        planned(task(shared, "apple"), machine)
    (tmp_path / "env/conda-meta").mkdir(parents=True)
    with pytest.raises(TaskFailed, match="has no R") as caught:
        planned(task(shared, "apple", env=str(tmp_path / "env")), machine)
    assert "r-base" in caught.value.cure


def test_an_environment_that_an_earlier_task_makes(machine: Machine, tmp_path: Path) -> None:
    prefix = tmp_path / "coming"
    machine.declared["coming"] = prefix
    changes = planned(EnsureRPkg(packages=["apple", "pear>=1"], env="coming"), machine)
    assert [(change.action, change.target) for change in changes] == [("install", "apple"), ("install", "pear")]


# ------------------------------------------------------------------------------------------------------- repositories


def served(repository: Repository, server: Any) -> str:
    for path in repository.contrib.iterdir():
        server.files[f"/src/contrib/{path.name}"] = path.read_bytes()
    return str(server.url)


def test_a_repository_on_a_server(shared: Repository, machine: Machine, library: Path) -> None:
    with serving_files() as server:
        converge(task(served(shared, server), ["pear"]), machine)
        assert version_in(library, "pear") == "2.0"
        server.files.clear()
        with machine.noting() as notes:
            assert planned(task(server.url, "pear", state="latest"), machine) == ()
        assert "were not compared" in notes[0]


@pytest.mark.parametrize(
    ("status", "kind"), [(401, "credentials"), (403, "forbidden"), (404, "missing"), (500, "server"), (503, "busy")]
)
def test_a_failing_server(status: int, kind: str, machine: Machine) -> None:
    machine.env["NBPROVISION_NETWORK_PATIENCE"] = "0"
    with serving_files() as server:
        server.status, server.times = status, 99
        with pytest.raises(NetworkFailed) as caught:
            planned(task(server.url, "apple"), machine)
    assert caught.value.kind == kind
    assert caught.value.cure


@pytest.mark.parametrize(("url", "kind"), [("https://127.0.0.1:9", "refused"), ("https://nowhere.invalid", "dns")])
def test_no_server(url: str, kind: str, machine: Machine) -> None:
    machine.env["NBPROVISION_NETWORK_PATIENCE"] = "0"
    for name in [name for name in machine.env if name.lower().endswith("_proxy")]:
        del machine.env[name]
    with pytest.raises(NetworkFailed) as caught:
        planned(task(url, "apple"), machine)
    assert caught.value.kind == kind


def test_a_silent_server_is_given_up(machine: Machine) -> None:
    machine.env.update(NBPROVISION_NETWORK_PATIENCE="0", NBPROVISION_NETWORK_TIMEOUT="1")
    with serving_files() as server:
        server.silent = True
        with pytest.raises(NetworkFailed) as caught:
            planned(task(server.url, "apple"), machine)
    assert caught.value.kind == "silent"


def test_a_folder_that_is_not_a_repository(machine: Machine, tmp_path: Path) -> None:
    with pytest.raises(TaskFailed, match="cannot read the package repository") as caught:
        planned(task(str(tmp_path), "apple"), machine)
    assert "has no src/contrib/PACKAGES" in caught.value.cause


def test_another_file_than_the_repository_describes_is_refused(
    shared: Repository, machine: Machine, library: Path
) -> None:
    with serving_files() as server:
        url = served(shared, server)
        server.files["/src/contrib/apple_1.1.tar.gz"] = server.files["/src/contrib/pear_2.0.tar.gz"]
        with pytest.raises(NetworkFailed) as caught:
            converge(task(url, "apple"), machine)
    assert caught.value.kind == "garbled"
    assert not (library / "apple").exists()


def test_a_password_is_on_no_command_line(
    shared: Repository, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nbprovision.system import commands

    shown_words: list[str] = []
    run = commands.run

    def heard(words: Any, **options: Any) -> Any:
        shown_words.extend(map(str, words))
        return run(words, **options)

    monkeypatch.setattr(commands, "run", heard)
    with serving_files() as server:
        server.user = "ada:hunter22"
        url = served(shared, server).replace("http://", "http://ada:hunter22@")
        converge(task(url, "apple"), machine)
        server.user = "ada:other"
        machine.env["NBPROVISION_NETWORK_PATIENCE"] = "0"
        with pytest.raises(NetworkFailed) as caught:
            converge(task(url, "pear"), machine)
    assert "hunter22" not in " ".join(shown_words)
    assert "hunter22" not in str(caught.value)


def test_hostile_records_of_a_repository(own: Repository, machine: Machine, library: Path, tmp_path: Path) -> None:
    """Names that are paths are left out, and so nothing is written outside of the library."""
    own.add("apple", "1.0", Imports="stats")
    index = own.contrib / "PACKAGES"
    for path in own.contrib.glob("PACKAGES.*"):
        path.unlink()
    index.write_text(index.read_text() + "\nPackage: ../../up\nVersion: 1.0\n\nPackage: plum\nVersion: $(id)\n")
    converge(task(own, "apple"), machine)
    assert entries(library) == ["apple"]
    with pytest.raises(TaskFailed, match="no repository has the package plum"):
        converge(task(own, "plum"), machine)


# ---------------------------------------------------------------------------------------------------- in environments


def test_the_library_of_an_environment(shared: Repository, machine: Machine, tmp_path: Path, home: Path) -> None:
    prefix = environment(tmp_path / "envs/stats")
    work = task(shared, "pear", env=str(prefix))
    assert shown(work, machine) == [("install", "apple", None, "1.1"), ("install", "pear", None, "2.0")]
    library = prefix / "lib/R/library"
    assert version_in(library, "pear") == "2.0"
    assert not (home / "R").exists()
    assert list(work.guarded(machine)) == [prefix]
    assert shown(task(shared, "pear", env=str(prefix), state="absent"), machine) == [("remove", "pear", "2.0", None)]


def test_packages_of_conda_never_change(shared: Repository, machine: Machine, tmp_path: Path) -> None:
    prefix = environment(tmp_path / "envs/stats", "r-apple-1.0-h0")
    library = prefix / "lib/R/library"
    r("CMD", "INSTALL", "--library=" + str(library), shared.contrib / "apple_1.0.tar.gz")
    assert shown(task(shared, "pear", env=str(prefix)), machine) == [("install", "pear", None, "2.0")]
    for work in (
        task(shared, "apple>=1.1", env=str(prefix)),
        task(shared, "apple", env=str(prefix), state="latest"),
        task(shared, "apple", env=str(prefix), state="absent"),
    ):
        with pytest.raises(TaskFailed) as caught:
            converge(work, machine)
        assert "conda brought it" in caught.value.cause
        assert "packages: [r-apple]" in caught.value.cure
    assert version_in(library, "apple") == "1.0"


def test_packages_of_the_image_never_change(shared: Repository, machine: Machine) -> None:
    """In the platform's environment, packages are added; the image's own are kept, whatever brought them."""
    prefix = environment(machine.root / "home/ec2-user/anaconda3/envs/R")
    (machine.root / "home/ec2-user/SageMaker").mkdir()
    assert machine.platform.provided is not None
    library = prefix / "lib/R/library"
    r("CMD", "INSTALL", "--library=" + str(library), shared.contrib / "apple_1.0.tar.gz")
    assert shown(task(shared, "pear", env=str(prefix)), machine) == [("install", "pear", None, "2.0")]
    with pytest.raises(TaskFailed, match=r"apple 1\.0 is not replaced") as caught:
        converge(task(shared, "apple>=1.1", env=str(prefix)), machine)
    assert "the platform's image brought it" in caught.value.cause
    assert "R_LIBS_USER" in caught.value.cure
    with pytest.raises(TaskFailed, match="is not removed"):
        converge(task(shared, ["apple", "pear"], env=str(prefix), state="absent"), machine)
    assert (library / "pear" / MARK).exists()
    converge(task(shared, "pear", env=str(prefix), state="absent"), machine)
    own_library = machine.root / "home/ec2-user/SageMaker/R"
    view = machine.seen_with({"R_LIBS_USER": str(own_library)}, applies=True)
    assert shown(task(shared, "apple>=1.1", env=str(prefix)), view) == [("install", "apple", None, "1.1")]
    assert version_in(own_library, "apple") == "1.1"
    assert version_in(library, "apple") == "1.0"


# ----------------------------------------------------------------------------------------------------------- as root


@root_only
@pytest.mark.parametrize("where", ["library", "package in it", "R", "repository script"])
def test_root_runs_no_r_with_what_is_a_users(where: str, shared: Repository) -> None:
    with reachable_folder() as base:
        proof = base / "proof"
        home = folder(base / "home")
        library = base / "library"
        machine = Machine(
            {"HOME": str(home), "PATH": "/usr/bin:/bin", "R_LIBS_USER": str(library)},
            home=base / "tool",
            root=base / "root",
        )
        repository = base / "cran"
        shutil.copytree(shared.folder, repository)
        work = task(str(repository), "apple")
        if where == "R":
            machine.env["PATH"] = f"{base}/bin:/usr/bin:/bin"
            folder(base / "bin", owner=USER, group=USER)
            program = base / "bin/R"
            program.write_text(f"#!/bin/sh\nR_HOME_DIR=/usr/lib/R\ntouch {proof}\n")
            program.chmod(0o755)
        elif where == "library":
            folder(library, owner=USER, group=USER)
        elif where == "package in it":
            converge(work, machine)
            (library / "apple/R/apple").write_text(f"system('touch {proof}')\n")
            os.chown(library / "apple/R/apple", USER, USER)
            work = task(str(repository), "pear")
        else:
            os.chown(repository / "src/contrib/apple_1.1.tar.gz", USER, USER)
        with pytest.raises(NotTrusted):
            converge(work, machine)
        assert not proof.exists()


def test_the_r_on_the_path_is_found_without_a_process(machine: Machine) -> None:
    found = r_files.find(machine, None)
    assert found is not None
    code = "cat(R.home(), paste0(R.version$major, '.', R.version$minor), Sys.getenv('R_LIBS_USER'), .Library.site, sep = '\\n')"
    lines = r("--vanilla", "-s", "-e", code, env={"HOME": str(machine.user_home)}).splitlines()
    assert [str(found.home), found.version, str(found.library)] == lines[:3]
    trusted = [folder for folder in lines[3:] if Path(folder) in found.others]
    assert os.geteuid() == 0 or trusted == lines[3:]
