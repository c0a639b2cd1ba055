"""What root trusts: a path that nobody else can change, held against a user who tries to."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbprovision.model.errors import NotTrusted
from nbprovision.system import trust
from tests.support.planted import USER, file, folder, link, reachable_folder, root_only, users_folder

pytestmark = root_only


@pytest.fixture
def base() -> Iterator[Path]:
    with reachable_folder() as folder:
        yield folder


def culprit(path: str | Path, *, shared: bool = False) -> str | None:
    found = trust.fault(path, shared=shared)
    return None if found is None else found.path


# Each makes something in a folder of root's, and returns the path to judge and the component at fault, None for none.
Case = Callable[[Path], tuple[str | Path, str | Path | None]]


def in_a_users_folder(base: Path) -> tuple[Path, Path]:
    return file(users_folder(base) / "tool"), base / "user"


def deep_in_a_users_folder(base: Path) -> tuple[Path, Path]:
    return file(folder(users_folder(base) / "bin") / "tool"), base / "user"


def link_into_a_users_folder(base: Path) -> tuple[Path, Path]:
    file(users_folder(base) / "tool")
    return link(base / "tool", base / "user/tool"), base / "user"


def link_of_a_user(base: Path) -> tuple[Path, Path]:
    file(base / "tool")
    return link(base / "link", "tool", owner=USER), base / "link"


def link_to_a_link(base: Path) -> tuple[Path, Path]:
    file(base / "tool")
    link(users_folder(base) / "second", base / "tool")
    return link(base / "first", "user/second"), base / "user"


def link_on_the_way(base: Path) -> tuple[Path, Path]:
    file(folder(users_folder(base) / "bin") / "tool")
    link(base / "bin", "user/bin")
    return base / "bin/tool", base / "user"


def up_from_a_link(base: Path) -> tuple[Path, Path]:
    """By its letters it is BASE/tool, by the kernel BASE/user/tool."""
    file(base / "tool")
    file(folder(users_folder(base) / "deep") / "x")
    file(base / "user/tool")
    folder(base / "own")
    link(base / "own/deep", base / "user/deep")
    return f"{base}/own/deep/../tool", base / "user"  # type: ignore[return-value]


def target_with_dots(base: Path) -> tuple[Path, Path]:
    file(users_folder(base) / "tool")
    folder(base / "own")
    return link(base / "own/tool", "../own/../user/./tool"), base / "user"


def circle(base: Path) -> tuple[Path, Path]:
    link(base / "one", "two")
    return link(base / "two", "one"), base / "two"


def root_file_for_all(base: Path) -> tuple[Path, Path]:
    return file(base / "tool", mode=0o757), base / "tool"


def file_of_a_group(base: Path) -> tuple[Path, Path]:
    return file(base / "tool", group=USER, mode=0o775), base / "tool"


def folder_of_a_group(base: Path) -> tuple[Path, Path]:
    return file(folder(base / "bin", group=USER, mode=0o775) / "tool"), base / "bin"


def users_file_in_a_sticky_folder(base: Path) -> tuple[Path, Path]:
    return file(folder(base / "tmp", mode=0o1777) / "tool", owner=USER), base / "tmp/tool"


def sticky_folder_of_a_user(base: Path) -> tuple[Path, Path]:
    return file(folder(base / "tmp", owner=USER, mode=0o1777) / "tool"), base / "tmp"


def missing_in_a_sticky_folder(base: Path) -> tuple[Path, Path]:
    return folder(base / "tmp", mode=0o1777) / "tool", base / "tmp"


def sticky_folder_itself(base: Path) -> tuple[Path, Path]:
    return folder(base / "tmp", mode=0o1777), base / "tmp"


def missing_in_a_users_folder(base: Path) -> tuple[Path, Path]:
    return users_folder(base) / "not/yet", base / "user"


def missing_behind_a_link(base: Path) -> tuple[Path, Path]:
    users_folder(base)
    return link(base / "link", "user/not-yet"), base / "user"


def roots_own(base: Path) -> tuple[Path, None]:
    return file(base / "tool"), None


def roots_group(base: Path) -> tuple[Path, None]:
    return file(folder(base / "bin", mode=0o775) / "tool", mode=0o664), None


def roots_in_a_sticky_folder(base: Path) -> tuple[Path, None]:
    return file(folder(folder(base / "tmp", mode=0o1777) / "own") / "tool"), None


def links_of_roots(base: Path) -> tuple[Path, None]:
    file(folder(base / "bin") / "python3.11")
    link(base / "bin/python3", "python3.11")
    link(base / "bin/python", f"{base}/bin/../bin/python3")
    link(base / "there", "bin")
    return base / "there/python", None


def hard_link_of_a_user(base: Path) -> tuple[Path, None]:
    """In a sticky folder a user may link a file of root's, which is root's still."""
    tool, shared = file(base / "tool"), folder(base / "tmp", mode=0o1777)
    os.link(tool, shared / "tool")
    return shared / "tool", None


def device(base: Path) -> tuple[str, None]:
    return "/dev/null", None


def missing(base: Path) -> tuple[Path, None]:
    return base / "not/yet", None


REFUSED: list[Case] = [
    in_a_users_folder, deep_in_a_users_folder, link_into_a_users_folder, link_of_a_user, link_to_a_link,
    link_on_the_way, up_from_a_link, target_with_dots, circle, root_file_for_all, file_of_a_group, folder_of_a_group,
    users_file_in_a_sticky_folder, sticky_folder_of_a_user, missing_in_a_sticky_folder, sticky_folder_itself,
    missing_in_a_users_folder, missing_behind_a_link,
]  # fmt: skip
TRUSTED: list[Case] = [
    roots_own, roots_group, roots_in_a_sticky_folder, links_of_roots, hard_link_of_a_user, device, missing,
]  # fmt: skip


@pytest.mark.parametrize("case", [*REFUSED, *TRUSTED], ids=lambda case: case.__name__)
def test_the_component_at_fault_is_named(case: Case, base: Path) -> None:
    path, expected = case(base)
    assert culprit(path) == (None if expected is None else str(expected))


def culprit_of_bootstrap(path: str | Path) -> str | None:
    """The same judgement by bootstrap.sh, which has to make it before there is any Python to trust."""
    script = (Path(__file__).parents[2] / "bootstrap.sh").read_text()
    functions = script[script.index("trusted() {") : script.index("# Print the entries of a search path")]
    program = f'user=$(id -u)\n{functions}\ntrusted "$1" || printf %s "$weak"'
    done = subprocess.run(["sh", "-c", program, "sh", str(path)], capture_output=True, text=True, check=True)
    return done.stdout or None


@pytest.mark.parametrize("case", [*REFUSED, *TRUSTED], ids=lambda case: case.__name__)
def test_bootstrap_judges_alike(case: Case, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = case(base)
    assert culprit_of_bootstrap(path) == culprit(path, shared=True)
    monkeypatch.chdir(base)
    assert culprit_of_bootstrap(str(path).removeprefix(f"{base}/")) == culprit(path, shared=True)


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.__name__)
def test_a_relative_path_starts_at_the_working_folder(case: Case, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, expected = case(base)
    monkeypatch.chdir(base)
    assert culprit(str(path).removeprefix(f"{base}/")) == str(expected)


def test_a_working_folder_of_a_users_is_on_the_way_as_well(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file(users_folder(base) / "tool")
    monkeypatch.chdir(base / "user")
    assert culprit("tool") == culprit("../user/tool") == str(base / "user")


def test_root_may_write_in_a_sticky_folder(base: Path) -> None:
    shared = folder(base / "tmp", mode=0o1777)
    assert culprit(shared, shared=True) is None
    assert culprit(shared / "new", shared=True) is None
    assert culprit(folder(base / "open", mode=0o777), shared=True) == str(base / "open")
    assert culprit(base / "open/new", shared=True) == str(base / "open")


def test_a_descriptor_leads_to_what_is_open(base: Path) -> None:
    tool, planted = file(base / "tool"), file(users_folder(base) / "tool")
    for path, expected in ((tool, None), (planted, str(base / "user"))):
        with path.open() as stream:
            assert culprit(f"/proc/self/fd/{stream.fileno()}") == expected
            assert culprit(f"/dev/fd/{stream.fileno()}") == expected


def test_a_descriptor_of_a_deleted_file_is_judged_by_what_it_is(base: Path) -> None:
    """The text of its link names nothing any more, and so tells nothing."""
    shared = folder(base / "own")
    planted = file(shared / "planted", owner=USER)
    with planted.open() as stream:
        planted.unlink()
        assert culprit(f"/proc/self/fd/{stream.fileno()}") == f"/proc/self/fd/{stream.fileno()}"
    reading, writing = os.pipe()  # as of a shell's <(...)
    try:
        assert culprit(f"/dev/fd/{reading}") is None
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.skipif(shutil.which("setfacl") is None, reason="no setfacl (acl) here")
def test_an_access_list_shows_in_the_group_bits(base: Path) -> None:
    tool = file(base / "tool", group=USER)
    done = subprocess.run(["setfacl", "-m", f"u:{USER}:rwx", tool], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("this file system has no access lists")
    assert culprit(tool) == str(tool)


def test_the_refusal_says_what_why_and_how(base: Path) -> None:
    planted = file(users_folder(base) / "tool")
    name = trust.account(USER)
    with pytest.raises(NotTrusted) as caught:
        trust.obey(planted, "run")
    error = caught.value
    assert error.message == f"root does not run {planted}"
    owner = name or f"user {USER}"
    assert error.cause == f"{base}/user is {owner}'s, who could change it (owner {owner}, mode 0755)"
    if name:
        assert error.cure == f"run it as that user: setsid --wait runuser -u {name} -- ..."
    else:
        assert error.cure == f"run it as the user with the number {USER}"
    shared = file(base / "tool", mode=0o666)
    with pytest.raises(NotTrusted) as caught:
        trust.obey(shared)
    assert caught.value.cause == f"{shared} is writable for everybody (owner root, mode 0666)"
    assert caught.value.cure == f"if nobody else needs to write there: chmod go-w {shared}"


class Step(NamedTuple):
    """A component of a random path: what it is, whose, and for a link the folder that its target lies in."""

    kind: str
    owner: int
    group: int
    mode: int
    inner: tuple[int, int, int]


MODES = st.sampled_from([0o755, 0o755, 0o755, 0o775, 0o777, 0o1777, 0o1775])
WHO = st.sampled_from([0, 0, 0, USER])
STEPS = st.builds(
    Step,
    kind=st.sampled_from(["folder", "folder", "absolute link", "relative link", "link to a link"]),
    owner=WHO,
    group=WHO,
    mode=MODES,
    inner=st.tuples(WHO, WHO, MODES),
)


def build(base: Path, steps: list[Step], end: Step | None) -> Path:
    """Make a random path; what it is made of gets its owner and mode last."""
    path = real = base
    dress: list[tuple[Path, int, int, int]] = []
    for number, step in enumerate(steps):
        path /= f"c{number}"
        if step.kind == "folder":
            real /= f"c{number}"
            real.mkdir()
            dress.append((real, step.owner, step.group, step.mode))
            continue
        outer = base / f"outer{number}"
        (outer / "inner").mkdir(parents=True)
        dress += [(outer, *step.inner), (outer / "inner", step.owner, step.group, step.mode)]
        entry, target = real / f"c{number}", outer / "inner"
        if step.kind == "link to a link":
            link(outer / "again", "inner", owner=step.inner[1])
            target = outer / "again"
        link(entry, os.path.relpath(target, real) if step.kind == "relative link" else target, owner=step.owner)
        real = outer / "inner"
    if end is not None:
        file(real / "end", "root's")
        dress.append((real / "end", end.owner, end.group, end.mode & 0o777))
    for place, owner, group, mode in dress:
        os.chown(place, owner, group)
        place.chmod(mode)
    return path / "end"


def way(path: Path) -> list[Path]:
    """Every entry that the kernel looks at, slowly: the ways of all parents, then the entry and where it leads."""
    if path == path.parent:
        return []
    entries = [*way(path.parent), path.parent.resolve() / path.name]
    return entries + (way(path.parent.resolve() / os.readlink(path)) if path.is_symlink() else [])


def attacked(entries: list[Path]) -> list[Path]:
    """The entries that a user can replace, change, or make, tried by a process of that user's."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setresgid(USER, USER, USER)
            os.setresuid(USER, USER, USER)
            os.write(writing, b"\0".join(os.fsencode(entry) for entry in entries if is_changed(entry)))
            os._exit(0)
        finally:
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        answer = stream.read()
    assert os.waitpid(pid, 0)[1] == 0
    return [Path(os.fsdecode(name)) for name in answer.split(b"\0") if name]


def is_changed(entry: Path) -> bool:
    aside = entry.with_name(entry.name + "-aside")
    with contextlib.suppress(OSError):
        if not os.path.lexists(entry):
            entry.write_text("planted")
            return True
        os.rename(entry, aside)
        os.rename(aside, entry)
        return True
    with contextlib.suppress(OSError):
        if not entry.is_symlink():
            os.chmod(entry, entry.stat().st_mode)
            return True
    with contextlib.suppress(OSError):
        if entry.is_file() and not entry.is_symlink():
            entry.open("r+").close()
            return True
    return False


@settings(deadline=None, max_examples=200)
@given(steps=st.lists(STEPS, max_size=5), end=st.none() | STEPS)
def test_a_trusted_path_withstands_a_user_and_a_refused_one_does_not(steps: list[Step], end: Step | None) -> None:
    with reachable_folder() as base:
        path = build(base, steps, end)
        entries = way(path)
        found = trust.fault(path)
        in_passing = trust.fault(path, shared=True)
        assert (culprit_of_bootstrap(path) is None) == (in_passing is None)
        changed = attacked(entries)
        if found is None:
            assert changed == []
        elif not os.path.islink(found.path):  # a user's link is refused where nobody can change it either
            assert changed != [], found


@pytest.mark.parametrize("planted", ["", "file", "folder", "mode"])
def test_a_folder_with_all_that_is_in_it(planted: str, base: Path) -> None:
    """Links in it are not followed: git, for one, takes their text as content."""
    tree = folder(base / "tree")
    deep = file(folder(tree / "deep") / "file")
    link(tree / "link", users_folder(base))
    if planted == "mode":
        deep.chmod(0o666)
    elif planted:
        os.chown(deep if planted == "file" else deep.parent, USER, USER)
    if planted:
        with pytest.raises(NotTrusted):
            trust.tree(tree)
    else:
        trust.tree(tree)


def of_another_user(module: Path) -> None:
    os.chown(module, USER, USER)


def writable_for_all(module: Path) -> None:
    module.chmod(0o666)


def led_out_by_a_link(module: Path) -> None:
    module.unlink()
    link(module, file(users_folder(module.parents[5]) / "module.py"))


OUT = "/../../../../../../user"  # from a folder beside the module


def led_out_by(text: str) -> Callable[[Path], None]:
    """Spoil by a .pth file: only ``import`` and a space at the beginning of a line begin a statement."""

    def spoil(module: Path) -> None:
        users_folder(module.parents[5])
        for name in ("imports", " #", " import x", "x\x0c#"):
            folder(module.with_name(name))
        file(module.with_name("more.pth"), text)

    return spoil


LINES = [
    f"imports{OUT}\n",
    f" #{OUT}\n",
    f" import x{OUT}\n",
    f"x\x0c#{OUT}\n",
    f"import os\x0bimports{OUT}\n",
    f"\ufeffimports{OUT}",
]


def led_out_by_a_pth_file(module: Path) -> None:
    file(module.with_name("more.pth"), f"{users_folder(module.parents[5])}\n")


class TestEnvironmentMadeOfPackages:
    """Packages are unpacked with the modes that their archives give, whatever the umask is."""

    MODULE = "lib/python3.11/site-packages/module.py"

    @pytest.fixture
    def package(self, base: Path) -> Path:
        package = folder(folder(base / "pkgs") / "module-1.0-0")
        (package / self.MODULE).parent.mkdir(parents=True)
        file(package / self.MODULE, mode=0o644)
        link(package / "lib/python3", "python3.11")
        return package

    def make(self, base: Path, package: Path) -> Path:
        """A new environment, as root's engine makes it; an unknown number of them side by side."""
        prefix = base / "envs" / f"env{len(list(base.glob('envs/*')))}"
        trust.environment(prefix)
        shutil.copytree(package, prefix, copy_function=os.link, symlinks=True)
        trust.made(prefix, [package])
        return prefix

    def test_it_needs_no_look_of_its_own(self, base: Path, package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        prefixes = [self.make(base, package) for _ in range(3)]
        monkeypatch.setattr(trust, "_obeyed", lambda *_, **__: pytest.fail("it was looked through"))
        for prefix in prefixes:
            trust.environment(prefix)

    @pytest.mark.parametrize(
        "spoil",
        [
            of_another_user,
            writable_for_all,
            led_out_by_a_link,
            led_out_by_a_pth_file,
            *map(led_out_by, LINES),
        ],
    )
    def test_a_package_that_somebody_can_change_makes_it_untrusted(
        self, spoil: Callable[[Path], None], base: Path, package: Path
    ) -> None:
        spoil(package / self.MODULE)
        with pytest.raises(NotTrusted):
            trust.environment(self.make(base, package))

    @pytest.mark.parametrize("spoil", [of_another_user, writable_for_all])
    def test_one_that_was_trusted_is_judged_again_after_such_a_package(
        self, spoil: Callable[[Path], None], base: Path, package: Path
    ) -> None:
        prefix = self.make(base, package)
        trust.environment(prefix)
        other = shutil.copytree(package, base / "pkgs/other-1.0-0", symlinks=True)
        spoil((other / self.MODULE).rename(other / "lib/python3.11/site-packages/other.py"))
        shutil.copytree(
            other, prefix, copy_function=os.link, symlinks=True, dirs_exist_ok=True, ignore=lambda *_: ["python3"]
        )
        trust.made(prefix, [package, other])
        with pytest.raises(NotTrusted):
            trust.environment(prefix)

    def test_lines_that_lead_nowhere_need_no_look_either(
        self, base: Path, package: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As in setuptools' distutils-precedence.pth."""
        file((package / self.MODULE).with_name("a.pth"), "# a comment\n\nimport os; os.environ.get('A')\n")
        prefix = self.make(base, package)
        monkeypatch.setattr(trust, "_obeyed", lambda *_, **__: pytest.fail("it was looked through"))
        trust.environment(prefix)

    @pytest.mark.parametrize("spoil", [of_another_user, writable_for_all, led_out_by_a_link, led_out_by_a_pth_file])
    def test_a_package_that_is_unpacked_again_is_judged_again(
        self, spoil: Callable[[Path], None], base: Path, package: Path
    ) -> None:
        assert trust.are_plain([package])
        again = shutil.copytree(package, base / "pkgs/again", symlinks=True)
        shutil.rmtree(package)
        again.rename(package)
        spoil(package / self.MODULE)
        assert not trust.are_plain([package])
        with pytest.raises(NotTrusted):
            trust.environment(self.make(base, package))

    def test_packages_in_a_users_folder_make_no_environment_trusted(self, base: Path, package: Path) -> None:
        prefix = self.make(base, package)
        os.chown(package.parent, USER, USER)
        beside = shutil.copytree(package, base / "pkgs/beside-1.0-0", symlinks=True)
        trust.made(prefix, [beside])
        assert (str(prefix), "whole") not in trust._trusted

    def test_one_that_was_not_judged_is_not_trusted_for_its_packages(self, base: Path, package: Path) -> None:
        prefix = shutil.copytree(package, base / "env", symlinks=True)
        os.chown(prefix / self.MODULE, USER, USER)
        trust.made(prefix, [package])
        with pytest.raises(NotTrusted):
            trust.environment(prefix)
