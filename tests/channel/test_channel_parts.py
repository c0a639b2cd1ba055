"""What conda packages are made of: interpreters that are found and described, wheels, and what their build says."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rattler
from packaging.requirements import Requirement

from nbprovision.channel import build, interpreter, wheel
from nbprovision.channel.package import NATIVE, PLACEHOLDER, decompressed
from nbprovision.model.errors import TaskFailed
from tests.conftest import measurement
from tests.support.channel import index as index_by_rattler
from tests.support.wheels import make_wheel

Installed = Callable[..., Path]


@pytest.fixture
def installed(tmp_path: Path) -> Installed:
    """A program that says of itself what a Python would, with a small standard library."""

    def make(version: str, /, place: str = "", **more: Any) -> Path:
        base = tmp_path / "pythons" / (place or version)
        minor = ".".join(version.split(".")[:2])
        stdlib = base / f"lib/python{minor}"
        for name in ("site.py", "os.py", "test/x.py", "config-3.12/x.a", "_tkinter.so", "x.a", "EXTERNALLY-MANAGED"):
            (stdlib / name).parent.mkdir(parents=True, exist_ok=True)
            (stdlib / name).write_text(f"# {base}\n")
        program = base / f"bin/python{minor}"
        program.parent.mkdir()
        told = {
            "implementation": "cpython", "version": version, "base": str(base), "executable": str(program),
            "stdlib": str(stdlib), "library": None, **more,
        }  # fmt: skip
        program.write_text(f"#!/bin/sh\necho '{json.dumps(told)}'\n")
        program.chmod(0o755)
        return program

    return make


class TestFinding:
    @pytest.fixture(autouse=True)
    def only_these(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("PATH", f":{tmp_path / 'bin'}")
        (tmp_path / "bin").mkdir()

    def test_by_default_it_is_the_one_that_runs_this(self) -> None:
        assert interpreter.find(None).version == ".".join(map(str, sys.version_info[:3]))

    def test_that_one_serves_where_it_is_the_version_that_is_wanted(self) -> None:
        wanted = f"{sys.version_info.major}.{sys.version_info.minor}"
        assert interpreter.find(wanted) == interpreter.find(None)

    def test_one_is_found_by_its_path(self, installed: Installed) -> None:
        program = installed("3.77.1")
        found = interpreter.find(str(program))
        assert (found.version, found.minor, found.executable) == ("3.77.1", "3.77", str(program))

    def test_of_those_that_pyenv_made_the_newest_counts(self, installed: Installed, tmp_path: Path) -> None:
        versions = tmp_path / ".pyenv/versions"
        versions.mkdir(parents=True)
        for version in ("3.77.9", "3.77.10", "3.77.2"):
            (versions / version).symlink_to(installed(version).parents[1])
        assert interpreter.find("3.77").version == "3.77.10"
        assert interpreter.find("3.77.2").version == "3.77.2"

    def test_where_there_is_none_those_that_there_are_are_named(self, installed: Installed, tmp_path: Path) -> None:
        other = tmp_path / ".local/share/uv/python/cpython-3.77.9-linux"
        other.parent.mkdir(parents=True)
        other.symlink_to(installed("3.77.9").parents[1])
        broken = tmp_path / ".local/share/uv/python/cpython-3.77.8-linux/bin/python3.77"
        broken.parent.mkdir(parents=True)
        broken.write_text("no program")
        with pytest.raises(TaskFailed, match=r"this machine has no CPython 3\.77\.1\n") as caught:
            interpreter.find("3.77.1")
        assert f"3.77.9 ({other.resolve()}/bin/python3.77)" in caught.value.cause
        assert "3.77.8" not in caught.value.cause
        assert "install one" in caught.value.cure

    def test_a_shim_on_the_path_is_no_interpreter(self, installed: Installed, tmp_path: Path) -> None:
        (tmp_path / "bin/python3.77").symlink_to(installed("3.77.1"))
        with pytest.raises(TaskFailed, match=r"this machine has no CPython 3\.77\n"):
            interpreter.find("3.77")

    def test_a_program_on_the_path_is_asked(self, tmp_path: Path) -> None:
        (tmp_path / "bin/python3.77").symlink_to(os.path.realpath(sys.executable))
        assert str(tmp_path / "bin/python3.77") in interpreter._candidates("3.77")

    @pytest.mark.parametrize(
        ("version", "more"), [("3.77.1", {"implementation": "pypy"}), ("3.9.18", {}), ("2.7.18", {})]
    )
    def test_others_are_refused_by_what_they_say(
        self, version: str, more: dict[str, str], installed: Installed
    ) -> None:
        program = installed(version, **more)
        with pytest.raises(TaskFailed, match=r"is not a CPython 3\.10 or newer") as caught:
            interpreter.find(str(program))
        assert caught.value.cause.endswith(f"{more.get('implementation', 'cpython')} {version}")

    @pytest.mark.parametrize("more", [{"version": "soon"}, {"implementation": None}, {"base": 7}])
    def test_what_answers_nonsense_is_no_python(self, more: dict[str, Any], installed: Installed) -> None:
        with pytest.raises(TaskFailed, match="does not start as a Python does") as caught:
            interpreter.find(str(installed("3.77.1", **more)))
        assert next(iter(more)) in caught.value.cause


class TestPython:
    def paths(self, program: Path) -> set[str]:
        made = interpreter.package(interpreter.describe(str(program)))
        return {entry["_path"] for entry in (made._path_entry(path) for path in {*made.paths, *made._links})}

    def test_what_no_environment_needs_stays_behind(self, installed: Installed) -> None:
        assert self.paths(installed("3.77.1")) == {
            "bin/python", "bin/python3", "bin/python3.77", "lib/python3.77/os.py", "lib/python3.77/site.py",
            "lib/python3.77/site-packages/README.txt",
        }  # fmt: skip

    def test_a_library_gets_the_name_that_linkers_look_for(self, installed: Installed, tmp_path: Path) -> None:
        for name in ("libpython3.77.so.1.0", "libpython3.77.so"):
            (tmp_path / name).write_bytes(b"no ELF")
            program = installed("3.77.1", place=name, library=str(tmp_path / name))
            made = interpreter.package(interpreter.describe(str(program)))
            assert made.content(f"lib/{name}") == b"no ELF"
            assert made._links.get("lib/libpython3.77.so") == (None if name.endswith(".so") else name)

    def test_the_place_of_it_stands_for_any(self, installed: Installed) -> None:
        made = interpreter.package(interpreter.describe(str(installed("3.77.1"))))
        assert made.content("lib/python3.77/os.py") == f"# {PLACEHOLDER}\n".encode()


class TestWheels:
    @pytest.mark.parametrize(
        ("requirement", "spec", "matching", "other"),
        [
            ("six", "six", ["1.0"], []),
            ("Six-Ty==1.*", "six-ty 1.*", ["1.0", "1.9"], ["2.0"]),
            ("six===1.0", "six ==1.0", ["1.0"], ["1.0.1"]),
            ("six==1.0", "six ==1.0", ["1.0"], ["1.1"]),
            ("six<2", "six <2a0", ["1.9", "1.9.post1"], ["2rc1", "2.0a1", "2.0.0rc1", "2.0.dev1", "2"]),
            ("six<2.1", "six <2.1a0", ["2.0", "2.0.9"], ["2.1rc1", "2.1.0a1", "2.1"]),
            ("six<2.0.0", "six <2a0", ["1.9"], ["2rc1", "2.0rc1", "2.0.0rc1", "2.0"]),
            ("six<10", "six <10a0", ["9.9", "9"], ["10.0rc1", "10"]),
            ("six<2.0rc1", "six <2.0rc1", ["2.0b1"], ["2.0rc1"]),
            ("six>=1.2,!=1.3.*,<2", "six !=1.3.*,<2a0,>=1.2", ["1.2", "1.4"], ["1.3.1", "1.1"]),
            ("six~=1.4.2", "six ~=1.4.2", ["1.4.9"], ["1.5", "1.4.1"]),
            ("jupyter-core>=5", "jupyter_core >=5", ["5.1"], ["4.9"]),
        ],
    )
    def test_requirements_mean_the_same_to_conda(
        self, requirement: str, spec: str, matching: list[str], other: list[str]
    ) -> None:
        assert wheel.match_spec(Requirement(requirement)) == spec
        read = rattler.MatchSpec(spec)
        name = spec.split(maxsplit=1)[0]
        for version in (*matching, *other):
            record = rattler.PackageRecord(name, version, rattler.package.build_string.BuildString("0"), 0, "noarch")
            assert read.matches(record) == (version in matching), version

    DATA = {
        "apple-1.0.data/scripts/run": "#!python\nprint('run')\n",
        "apple-1.0.data/scripts/plain": "#!/bin/sh\n",
        "apple-1.0.data/data/share/apple.txt": "seeds",
        "apple-1.0.data/purelib/pure.py": "x = 1\n",
        "apple-1.0.data/platlib/plat.py": "x = 1\n",
        "apple-1.0.data/headers/apple.h": "int apple;\n",
        "apple-1.0.data/unknown/x": "x",
        "apple-1.0.dist-info/entry_points.txt": (
            "[console_scripts]\napple = apple:main\nApple = apple:Tree.main [extra]\n[gui_scripts]\npeel = apple:peel\n"
        ),
        "apple-1.0.dist-info/INSTALLER": "pip\n",
    }  # fmt: skip

    def test_a_pure_one_serves_every_python(self, tmp_path: Path) -> None:
        requires = ["six>=1", "old; python_version < '3.11'", "never; python_version < '3'", 'core; extra == "seeds"']
        path = make_wheel(tmp_path, "apple", "1.0", files=self.DATA, requires=requires)
        made = wheel.convert(path, ["3.10", "3.12"], {"apple": {"seeds"}})
        assert made.noarch == "python"
        assert made._index["depends"] == ["core", "old", "python >=3.8", "six >=1"]
        assert set(made.paths) - {path for path in made.paths if "dist-info" in path} == {
            "site-packages/apple.py", "site-packages/pure.py", "site-packages/plat.py", "share/apple.txt",
            "python-scripts/run", "python-scripts/plain",
        }  # fmt: skip
        assert made.content("python-scripts/run") == f"#!{PLACEHOLDER}/bin/python\nprint('run')\n".encode()
        assert made.content("python-scripts/plain") == b"#!/bin/sh\n"
        assert made.content("site-packages/apple-1.0.dist-info/INSTALLER") == b"conda\n"
        assert made.entry_points == ["apple = apple:main", "Apple = apple:Tree.main", "peel = apple:peel"]

    @pytest.mark.parametrize(
        ("field", "license_name"),
        {
            "none": ("Keywords: fruit", ""),
            "a name": ("License: BSD-3-Clause", "BSD-3-Clause"),
            "the whole text, with a name that is not ASCII": (
                "License: Copyright © José\n        All rights",
                "Copyright © José",
            ),
            "an expression": ("License: see LICENSE\nLicense-Expression: MIT", "MIT"),
            "twice": ("License: MIT\nLicense: BSD", ""),
        }.values(),
    )
    def test_its_licence_may_have_any_text(self, tmp_path: Path, field: str, license_name: str) -> None:
        made = wheel.convert(make_wheel(tmp_path, "apple", "1.0", fields=[field, "Summary: für alle"]), ["3.12"], {})
        assert (made._index["license"], made.about["summary"]) == (license_name, "für alle")

    def test_another_is_for_one_python_with_its_headers_and_commands(self, tmp_path: Path) -> None:
        pure = make_wheel(tmp_path, "apple", "1.0", files=self.DATA)
        native = pure.rename(pure.with_name("apple-1.0-cp312-cp312-manylinux_2_17_x86_64.whl"))
        made = wheel.convert(native, ["3.12"], {})
        assert made.noarch is None
        assert made._index["depends"] == ["python >=3.12,<3.13.0a0"]
        assert made.content("include/python3.12/apple/apple.h") == b"int apple;\n"
        assert made.content("bin/run").startswith(f"#!{PLACEHOLDER}/bin/python\n".encode())
        assert b"from apple import Tree\n" in made.content("bin/Apple")
        assert b"sys.exit(Tree.main())" in made.content("bin/Apple")
        assert "lib/python3.12/site-packages/plat.py" in made.paths


def contents(channel: Path) -> dict[str, bytes]:
    """The bytes of every file of a channel."""
    return {path.relative_to(channel).as_posix(): path.read_bytes() for path in channel.rglob("*") if path.is_file()}


class TestBuilding:
    @pytest.fixture
    def order(self, installed: Installed, tmp_path: Path) -> Callable[..., dict[str, Any]]:
        """An order for one interpreter and the wheels of these requirements, which are kept from an earlier one."""

        def make(*requirements: str, kept: tuple[Path, ...] = (), **more: Any) -> dict[str, Any]:
            folder = tmp_path / "kept/cp377"
            folder.mkdir(parents=True, exist_ok=True)
            digest = hashlib.sha256("\n".join(sorted(requirements)).encode()).hexdigest()[:16]
            (folder / f"{digest}.txt").write_text("\n".join(path.name for path in kept))
            for path in kept:
                if path.exists():
                    path.rename(folder / path.name)
            return {
                "channel": str(tmp_path / "channel"), "interpreters": [str(installed("3.77.1"))],
                "requirements": list(requirements), "wheels": str(tmp_path / "kept"), "uv": "/bin/false",
                "uv_env": {}, "pip_env": {}, **more,
            }  # fmt: skip

        return make

    def built(self, order: dict[str, Any], umask: int = -1, **env: str) -> tuple[int, list[Any], str]:
        """The exit status of the process that builds, what it told, and its complaint."""
        done = subprocess.run(
            [sys.executable, "-m", "nbprovision.channel.build"],
            input=json.dumps([0, order]) + "\n", capture_output=True, text=True,
            env={"PATH": "/usr/bin:/bin", **measurement(), **env}, umask=umask,
        )  # fmt: skip
        return done.returncode, [json.loads(line)[1] for line in done.stdout.splitlines()], done.stderr

    def test_what_was_kept_is_converted_and_indexed_without_a_network(
        self, order: Callable[..., dict[str, Any]], tmp_path: Path
    ) -> None:
        six = make_wheel(tmp_path, "six", "1.0")
        native = make_wheel(tmp_path, "apple", "1.0")
        native = native.rename(native.with_name("apple-1.0-cp377-cp377-manylinux_2_17_x86_64.whl"))
        status, told, complaint = self.built(order("apple", "six", kept=(six, native)))
        assert status == 0, complaint
        packages = [entry["path"].partition("/")[2] for entry in told[-1]["result"]]
        assert sorted(packages) == [
            "apple-1.0-py377h0000000_0.conda", "python-3.77.1-0_cpython.conda", "six-1.0-pyh0000000_0.conda",
        ]  # fmt: skip
        assert {"text": "converting", "done": 3, "total": 3} in told
        index = json.loads((tmp_path / "channel/noarch/repodata.json").read_text())
        assert set(index["packages.conda"]) == {"six-1.0-pyh0000000_0.conda"}

    def test_the_same_input_makes_the_same_bytes(self, order: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
        """In another folder, home, order of the file system, hash seed and time, with other permissions."""
        requires = [f"pear-{number}" for number in range(9)]
        native = make_wheel(tmp_path, "apple", "1.0", files=TestWheels.DATA, requires=requires)
        native = native.rename(native.with_name("apple-1.0-cp377-cp377-manylinux_2_17_x86_64.whl"))
        wheels = (native, *(make_wheel(tmp_path, name, "1.0") for name in ("six", *requires)))
        first = order("six", kept=wheels)
        second = {**first, "channel": str(tmp_path / "somewhere/else é"), "wheels": str(tmp_path / "others")}
        moved = tmp_path / "others/cp377"
        moved.mkdir(parents=True)
        for path in sorted((tmp_path / "kept/cp377").iterdir(), reverse=True):
            shutil.copyfile(path, moved / path.name)  # without its times
        for number, (asked, umask) in enumerate(((first, 0o022), (second, 0o077))):
            own = tmp_path / f"home {number}"
            own.mkdir()
            status, _, complaint = self.built(
                asked, umask, HOME=str(own), USER=f"user{number}", TMPDIR=str(own), PYTHONHASHSEED=f"{number}"
            )
            assert status == 0, complaint
            time.sleep(2.1)  # the times of a zip are two seconds apart
        bytes_of = contents(Path(first["channel"]))
        assert bytes_of == contents(Path(second["channel"]))
        assert set(bytes_of) >= {
            f"{subdir}/repodata.json{end}" for subdir in ("noarch", NATIVE) for end in ("", ".zst")
        }

    def test_the_index_has_the_records_of_rattler_s(self, order: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
        """An index of an earlier version, with shards, is replaced as a whole."""
        asked = order("six", kept=(make_wheel(tmp_path, "six", "1.0"),))
        for _ in range(2):
            status, _, complaint = self.built(asked)
            assert status == 0, complaint
            channel = Path(asked["channel"])
            assert {path.suffix for path in channel.glob("*/*")} == {".conda", ".json", ".zst"}
            assert not list(channel.glob("*/*shards*"))
            ours = {path: json.loads(path.read_bytes()) for path in channel.glob("*/repodata.json")}
            index_by_rattler(channel)
            for path, repodata in ours.items():
                others = json.loads(path.read_bytes())
                for record in others["packages.conda"].values():
                    record.pop("indexed_timestamp", None)  # of a package that it sees for the first time
                assert repodata["packages.conda"] == others["packages.conda"]
                assert repodata["info"] == others["info"]
                assert list(path.parent.glob("*shards*"))

    def test_a_file_that_is_no_package_is_named(self, order: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
        asked = order("six", kept=(make_wheel(tmp_path, "six", "1.0"),))
        broken = Path(asked["channel"], "noarch/broken-1.0-0.conda")
        broken.parent.mkdir(parents=True)
        broken.write_bytes(b"no archive")
        _, told, _ = self.built(asked)
        assert told[-1]["error"]["message"] == f"{broken} is not a conda package"
        with zipfile.ZipFile(broken, "w") as archive:
            archive.writestr("info-broken-1.0-0.tar.zst", b"not compressed")
        _, told, _ = self.built(asked)
        assert told[-1]["error"]["cure"] == "remove the file from the channel"

    @pytest.mark.parametrize(
        ("epoch", "zip_time"),
        [
            ("1600000000", (2020, 9, 13, 12, 26, 40)), ("0", (1980, 1, 1, 0, 0, 0)),
            ("9999999999", (2107, 12, 31, 23, 59, 58)),
        ],
    )  # fmt: skip
    def test_the_time_of_all_files_can_be_set(
        self, epoch: str, zip_time: tuple[int, ...], order: Callable[..., dict[str, Any]], tmp_path: Path
    ) -> None:
        asked = order("six", kept=(make_wheel(tmp_path, "six", "1.0"),))
        status, _, complaint = self.built(asked, SOURCE_DATE_EPOCH=epoch)
        assert status == 0, complaint
        (path,) = Path(asked["channel"], "noarch").glob("six-*.conda")
        with zipfile.ZipFile(path) as archive:
            assert {member.date_time for member in archive.infolist()} == {zip_time}
            payload = decompressed(archive.read(f"pkg-{path.stem}.tar.zst"))
        with tarfile.open(fileobj=io.BytesIO(payload)) as members:
            times = {member.name: member.mtime for member in members}
        assert times.pop("site-packages/six.py") <= int(epoch)
        assert set(times.values()) == {int(epoch)}
        repodata = json.loads((path.parent / "repodata.json").read_bytes())
        assert repodata["packages.conda"][path.name]["timestamp"] == int(epoch) * 1000

    def test_another_content_of_a_source_has_another_time(
        self, order: Callable[..., dict[str, Any]], tmp_path: Path
    ) -> None:
        """Python takes its compiled file for that of a new source of the same size and time."""
        files = {
            "one.py": "version = '1.0'",
            "other.py": "version = '1.1'",
            "same.py": "version = '1.0'",
            "data": "1.0",
        }
        asked = order("six", kept=(make_wheel(tmp_path, "six", "1.0", files=files),))
        status, _, complaint = self.built(asked)
        assert status == 0, complaint
        (path,) = Path(asked["channel"], "noarch").glob("six-*.conda")
        with zipfile.ZipFile(path) as archive:
            payload = decompressed(archive.read(f"pkg-{path.stem}.tar.zst"))
        with tarfile.open(fileobj=io.BytesIO(payload)) as members:
            times = {name: members.getmember(f"site-packages/{name}").mtime for name in files}
        assert times["one.py"] == times["same.py"] != times["other.py"]
        assert max(times.values()) == times["data"]

    def test_a_time_that_is_none_is_an_error(self, order: Callable[..., dict[str, Any]]) -> None:
        _, told, _ = self.built(order(), SOURCE_DATE_EPOCH="yesterday")
        assert told[-1]["error"]["message"] == "SOURCE_DATE_EPOCH is 'yesterday'"
        assert "unset it" in told[-1]["error"]["cure"]

    def test_what_is_no_wheel_ends_the_process_with_the_reason(
        self, order: Callable[..., dict[str, Any]], tmp_path: Path
    ) -> None:
        broken = tmp_path / "six-1.0-py3-none-any.whl"
        broken.write_text("no archive")
        status, _, complaint = self.built(order("six", kept=(broken,)))
        assert status == 1
        assert "BadZipFile" in complaint

    def test_a_full_disk_is_told_as_such(
        self, order: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fill(*_: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(build, "_convert_all", fill)
        asked = order()
        asked.update(interpreters=tuple(asked["interpreters"]), requirements=())
        with pytest.raises(TaskFailed, match="cannot build the channel") as caught:
            build.build(build.Order(**asked), lambda **_: None)
        assert caught.value.cause.startswith("the disk is full: ")
        assert "nbprovision clean" in caught.value.cure

    @pytest.mark.parametrize(
        ("said", "cause", "cure"),
        [
            (
                "WARNING: retrying\nERROR: no matching distribution",
                "ERROR: no matching distribution",
                "pip config list",
            ),
            ("ERROR: [Errno 28] No space left on device", "the disk is full: ", "nbprovision clean"),
        ],
    )
    def test_wheels_that_were_kept_and_are_gone_are_asked_for_again(
        self, said: str, cause: str, cure: str, order: Callable[..., dict[str, Any]], tmp_path: Path
    ) -> None:
        uv = tmp_path / "uv"
        uv.write_text(f"#!/bin/sh\nprintf '%s\\n' '{said}' >&2\nexit 1\n")
        uv.chmod(0o755)
        gone = tmp_path / "six-1.0-py3-none-any.whl"
        status, told, complaint = self.built(order("six", kept=(gone,), uv=str(uv)))
        assert status == 0, complaint
        error = told[-1]["error"]
        assert error["message"] == "cannot fetch wheels for Python 3.77: six"
        assert cause in error["cause"]
        assert "WARNING" not in error["cause"]
        assert cure in error["cure"]
