"""What root starts, and where it writes: nothing that a user can change, however it is reached."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nbprovision.model.errors import NotTrusted
from nbprovision.system import files, process, trust
from tests.support import bootstrapping
from tests.support.pip_environment import venv
from tests.support.planted import USER, file, folder, link, reachable_folder, root_only, users_folder

pytestmark = root_only


@pytest.fixture
def base() -> Iterator[Path]:
    with reachable_folder() as folder:
        yield folder


def test_nobody_but_root_is_judged(base: Path) -> None:
    """A user's own permissions decide: in a real process of a user's, all that root refuses passes."""
    planted = file(users_folder(base) / "tool", "#!/bin/sh\necho run\n", owner=USER)
    if shutil.which("setpriv") is None:
        pytest.skip("no setpriv (util-linux) here")
    code = f"""
from nbprovision.system import commands, files, trust
from pathlib import Path
trust.environment({str(base / "user")!r})
files.write_atomically(Path({str(base / "user/new")!r}), "x")
print(commands.run([{str(planted)!r}], env={{"PATH": {str(base / "user")!r}}}).output)
"""
    # The tests' Python may lie where only root gets to: this user may read everything.
    reading = ["--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"]
    words = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", *reading, sys.executable, "-c", code]
    package = Path(trust.__file__).parents[2]
    env = {"PYTHONPATH": str(package), "PYTHONDONTWRITEBYTECODE": "1"}
    assert subprocess.check_output(words, text=True, cwd="/", env=env).strip() == "run"


class TestEnvironments:
    @pytest.fixture
    def prefix(self, base: Path) -> Path:
        return venv(base / "venv")

    def packages(self, prefix: Path) -> Path:
        return next(prefix.glob("lib/python*/site-packages"))

    def refused(self, prefix: Path) -> str:
        with pytest.raises(NotTrusted) as caught:
            trust.environment(prefix)
        return caught.value.cause.partition(" ")[0]

    def test_roots_own_is_trusted(self, prefix: Path) -> None:
        (self.packages(prefix) / "more.pth").write_text(f"# {USER}\nimport sys\nnot-there\n{prefix}\n")
        trust.environment(prefix)
        trust.environment(sys.prefix)
        trust.environment("/usr")

    @pytest.mark.parametrize("place", [".", "bin", "lib", "pyvenv.cfg", "lib/python*", "lib/python*/site-packages"])
    def test_each_part_has_to_be_roots(self, place: str, prefix: Path) -> None:
        part = next(prefix.glob(place)) if "*" in place else prefix / place
        os.chown(part, USER, USER)
        assert self.refused(prefix) == str(part)

    @pytest.mark.parametrize("name", ["sitecustomize.py", "evil.pth", "evil"])
    def test_a_users_entry_among_the_packages_is_found(self, name: str, prefix: Path) -> None:
        planted = file(self.packages(prefix) / name, owner=USER)
        assert self.refused(prefix) == str(planted)

    @pytest.mark.parametrize("name", ["six.py", "__pycache__/six.cpython-311.pyc", "a/b/c/d/data"])
    @pytest.mark.parametrize("imported", ["lib/python*/site-packages", "lib/python*"])
    def test_a_users_file_is_found_however_deep(self, imported: str, name: str, prefix: Path) -> None:
        planted = next(prefix.glob(imported)) / "package" / name
        planted.parent.mkdir(parents=True)
        file(planted, owner=USER)
        assert self.refused(prefix) == str(planted)

    @pytest.mark.parametrize(
        ("place", "refused"),
        [("lib/python3.11/test/m.py", False), ("lib/python3.11/unittest/test/m.py", True)]
        + [(f"lib/python3.11/site-packages/{name}/m.py", True) for name in ("test", "package/test")],
    )
    def test_only_pythons_own_tests_are_left_out(self, place: str, refused: bool, prefix: Path) -> None:
        planted = prefix / place
        planted.parent.mkdir(parents=True, exist_ok=True)
        file(planted, owner=USER)
        if refused:
            assert self.refused(prefix) == str(planted)
        else:
            trust.environment(prefix)

    def test_a_folder_behind_a_link_is_gone_into(self, base: Path, prefix: Path) -> None:
        planted = file(folder(folder(base / "shared") / "package") / "m.py", owner=USER)
        link(self.packages(prefix) / "shared", base / "shared")
        link(base / "shared/circle", base / "shared")
        assert self.refused(prefix) == str(planted)

    def test_a_project_that_a_path_file_names_is_gone_into(self, base: Path, prefix: Path) -> None:
        """Its hidden folders, which nobody imports from, do not count."""
        package = folder(folder(base / "project") / "package")
        file(folder(base / "project/.venv") / ".lock", mode=0o666)
        (self.packages(prefix) / "project.pth").write_text(f"{base}/project\n")
        trust.program(prefix / "bin/python", env={})
        other = venv(base / "other")
        (self.packages(other) / "project.pth").write_text(f"{base}/project\n")
        planted = file(package / "m.py", owner=USER)
        assert self.refused(other) == str(planted)

    def test_a_shared_library_of_a_users_is_found(self, prefix: Path) -> None:
        planted = file(prefix / "lib/libssl.so.3", owner=USER)
        assert self.refused(prefix) == str(planted)

    def test_an_environment_is_judged_once(self, prefix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        trust.environment(prefix)
        looked: list[str] = []
        real = os.scandir
        monkeypatch.setattr(os, "scandir", lambda place: looked.append(str(place)) or real(place))
        trust.environment(prefix)
        assert looked == []
        with pytest.raises(NotTrusted):
            trust.environment(users_folder(prefix.parent))

    def test_a_line_of_a_path_file_leads_to_more_packages(self, base: Path, prefix: Path) -> None:
        users_folder(base)
        (self.packages(prefix) / "project.pth").write_text(f"{base}/user\n")
        assert self.refused(prefix) == str(base / "user")

    def test_a_link_among_the_packages_is_followed(self, base: Path, prefix: Path) -> None:
        link(self.packages(prefix) / "project", users_folder(base))
        assert self.refused(prefix) == str(base / "user")

    def test_a_virtual_environment_needs_the_python_that_it_was_made_from(self, base: Path, prefix: Path) -> None:
        folder(users_folder(base) / "bin")
        (prefix / "pyvenv.cfg").write_text(f"home = {base}/user/bin\n")
        assert self.refused(prefix) == str(base / "user")

    @pytest.mark.parametrize(
        ("setting", "place", "refused"),
        [
            ("include-system-site-packages = false", "lib/python3.11/site-packages/a/m.py", False),
            ("Include-System-Site-Packages=False", "lib/python3/dist-packages/m.py", False),
            ("include-system-site-packages = false", "lib/python3.11/m.py", True),
            ("include-system-site-packages = false", "lib/python3.11/encodings/site-packages/m.py", True),
            ("include-system-site-packages = false", "lib/libz.so.1", True),
            ("include-system-site-packages = true", "lib/python3.11/site-packages/a/m.py", True),
            ("", "lib/python3.11/site-packages/a/m.py", True),
        ],
    )
    @pytest.mark.parametrize("by", ["environment", "program"])
    def test_packages_below_an_environment_of_its_own_packages_are_not_imported(
        self, by: str, setting: str, place: str, refused: bool, base: Path, prefix: Path
    ) -> None:
        planted = base / "python" / place
        planted.parent.mkdir(parents=True)
        file(planted, owner=USER)
        python = file(folder(base / "python/bin") / "python3.11", mode=0o755)
        (prefix / "pyvenv.cfg").write_text(f"home = {base}/python/bin\n{setting}\n")
        (prefix / "bin/python").unlink(missing_ok=True)
        link(prefix / "bin/python", python)

        def judge() -> None:
            if by == "environment":
                trust.environment(prefix)
            else:
                trust.program(prefix / "bin/python", env={})

        if refused:
            with pytest.raises(NotTrusted, match=str(planted)):
                judge()
        else:
            judge()
            with pytest.raises(NotTrusted, match=str(planted)):
                trust.environment(base / "python")

    @pytest.mark.parametrize("setting", ["--system-site-packages", "--without-pip"])
    def test_real_pythons_import_no_more_than_is_judged(self, setting: str, base: Path) -> None:
        """Where the packages below are left out, nothing on the real search path is among them."""
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", setting, base / "real"], check=True)
        python = base / "real/bin/python"
        code = "import sys, sysconfig; print(*sys.path, sep='\\n')"
        ways = subprocess.check_output([python, "-c", code], text=True, cwd="/", env={}).splitlines()
        below = [way for way in ways if way.endswith("-packages") and not way.startswith(str(base))]
        assert trust.has_own_packages_only(base / "real") == (below == [])

    def test_a_users_environment_is_not_roots_because_its_python_is(self, base: Path) -> None:
        prefix = venv(users_folder(base) / "venv")
        with pytest.raises(NotTrusted, match=f"{base}/user is "):
            trust.program(prefix / "bin/python", env={})

    def test_what_activation_runs_is_judged(self, prefix: Path) -> None:
        (prefix / "etc/conda/activate.d").mkdir(parents=True)
        script = file(prefix / "etc/conda/activate.d/evil.sh", owner=USER)
        assert self.refused(prefix) == str(script)

    def test_a_new_one_is_made_where_root_may_write(self, base: Path) -> None:
        trust.environment(base / "new")
        trust.environment(folder(base / "tmp", mode=0o1777) / "new")
        users_folder(base)
        assert self.refused(base / "user/new") == str(base / "user")


class TestProcesses:
    @pytest.fixture
    def proof(self, base: Path) -> Path:
        return folder(base / "roots", mode=0o700) / "proof"

    def planted(self, base: Path, proof: Path, name: str = "tool") -> Path:
        return file(users_folder(base) / name, f"#!/bin/sh\ntouch {proof}\n", owner=USER)

    def refused(self, words: list[str | Path], proof: Path, **options: object) -> NotTrusted:
        env = {"PATH": "/usr/bin:/bin", **options.pop("env", {})}  # type: ignore[dict-item]
        with pytest.raises(NotTrusted) as caught:
            process.start(words, env=env, **options).wait()  # type: ignore[arg-type]
        assert not proof.exists()
        return caught.value

    def test_a_users_program_does_not_start(self, base: Path, proof: Path) -> None:
        planted = self.planted(base, proof)
        assert self.refused([planted], proof).message == f"root does not run {planted}"
        link(base / "tool", planted)
        assert f"{base}/user is " in self.refused([base / "tool"], proof).cause

    def test_a_folder_of_a_users_on_the_path_is_refused_wherever_it_stands(self, base: Path, proof: Path) -> None:
        self.planted(base, proof, "true")
        for path in (f"{base}/user:/usr/bin:/bin", f"/usr/bin:/bin:{base}/user"):
            error = self.refused(["true"], proof, env={"PATH": path})
            assert error.message == f"root does not obey PATH, which leads to {base}/user"

    def test_an_empty_entry_of_the_path_is_the_working_folder(self, base: Path, proof: Path) -> None:
        shared = folder(base / "tmp", mode=0o1777)
        self.refused(["true"], proof, env={"PATH": ":/usr/bin:/bin"}, cwd=shared)
        process.start(["true"], env={"PATH": "/usr/bin:/bin"}, cwd=shared).wait()

    @pytest.mark.parametrize("name", ["PYTHONPATH", "LD_PRELOAD", "LD_LIBRARY_PATH", "UV_CACHE_DIR", "PIP_CONFIG_FILE"])
    def test_variables_that_lead_to_a_user_are_refused(self, name: str, base: Path, proof: Path) -> None:
        users_folder(base)
        assert f"obey {name}" in self.refused(["true"], proof, env={name: f"{base}/user/x"}).message

    @pytest.mark.parametrize("name", [*bootstrapping.unset_for_root(), "LD_AUDIT", "JUPYTER_CONFIG_DIR", "ENV"])
    def test_what_bootstrap_unsets_is_refused(self, name: str, base: Path, proof: Path) -> None:
        users_folder(base)
        ways = [f"{base}/user/x", f"{base}/user/x".removeprefix("/")]
        if name == "PYTHONPLATLIBDIR":
            ways = [f"../../../../../../../..{base}/user"]
        if name == "LD_PRELOAD":
            ways += [f"/usr/lib/none.so {base}/user/x"]
        if name.startswith("JUPYTER"):
            ways = ways[:1]
        for value in ways:
            assert f"obey {name}" in self.refused(["true"], proof, env={name: value}).message

    def test_the_working_folder_is_judged(self, base: Path, proof: Path) -> None:
        self.refused(["true"], proof, cwd=users_folder(base))

    @pytest.mark.parametrize("first", ["{planted}", "/usr/bin/env {planted}", "/usr/bin/env -S A=1 {planted} -x"])
    def test_the_interpreter_of_a_script_is_judged(self, first: str, base: Path, proof: Path) -> None:
        planted = self.planted(base, proof)
        script = file(base / "script", f"#!{first.format(planted=planted)}\n")
        assert self.refused([script], proof).message == f"root does not run {planted}"

    def test_the_arguments_of_our_own_commands_are_judged(self, base: Path, proof: Path) -> None:
        prefix = venv(users_folder(base) / "venv")
        for word in (prefix / "bin/python", prefix, f"--target={prefix}/new"):
            self.refused(["true", word], proof)
        process.start(["true", prefix], env={"PATH": "/usr/bin:/bin"}, foreign=True).wait()


class TestWrites:
    @pytest.mark.parametrize(
        "write",
        [
            lambda path: files.write_atomically(path, "x"),
            lambda path: files.write_atomically(path / "a/b", "x"),
            lambda path: files.copy_atomically(Path("/etc/passwd"), path),
            lambda path: files.link_atomically(path, "/etc/passwd"),
            files.make_folder,
            files.make_temporary_folder,
            lambda path: files.temporary_folder(path).__enter__(),
        ],
    )
    @pytest.mark.parametrize("through", ["user", "link"])
    def test_nothing_of_roots_is_left_in_a_users_folder(
        self, write: Callable[[Path], object], through: str, base: Path
    ) -> None:
        theirs = users_folder(base)
        link(base / "link", "user")
        with pytest.raises(NotTrusted):
            write(base / through / "new")
        assert list(theirs.iterdir()) == []

    @pytest.mark.parametrize("change", [files.remove, files.remove_if_empty, lambda path: files.set_mode(path, 0o700)])
    def test_nothing_of_a_users_is_touched(self, change: Callable[[Path], object], base: Path) -> None:
        theirs = folder(users_folder(base) / "own", owner=USER)
        with pytest.raises(NotTrusted):
            change(theirs)
        assert theirs.stat().st_mode & 0o777 == 0o755

    def test_a_link_is_replaced_and_not_followed(self, base: Path) -> None:
        users_folder(base)
        files.write_atomically(link(base / "file", "user/file"), "x")
        assert (base / "file").read_text() == "x"
        assert list((base / "user").iterdir()) == []

    def test_a_folder_for_everybody_will_do(self, base: Path) -> None:
        shared = folder(base / "tmp", mode=0o1777)
        files.write_atomically(shared / "new/file", "x")
        assert (shared / "new/file").read_text() == "x"
