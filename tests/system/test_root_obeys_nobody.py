"""Root provides for itself on a machine where a user has planted what root might run, obey or write to."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from nbprovision.catalogue import Catalogue
from tests.conftest import Channel
from tests.support.pip_environment import venv
from tests.support.planted import USER, folder, reachable_folder, root_only
from tests.support.wheels import make_wheel

pytestmark = [root_only, pytest.mark.sampled(2)]
ROOT = Path(__file__).parents[2]


class World(NamedTuple):
    """Root's folder; a user's, with programs in it that leave a proof where only root can; root's variables."""

    own: Path
    user: Path
    proof: Path
    env: dict[str, str]

    def run(self, playbook: str, *options: str, **env: str) -> subprocess.CompletedProcess[str]:
        path = self.own / "playbook.yml"
        path.write_text(playbook.replace("USER", str(self.user)).replace("OWN", str(self.own)))
        return self.run_file(path, *options, **env)

    def run_file(self, path: Path, *options: str, **env: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "nbprovision", "run", str(path), *options]
        variables = {name: text.replace("USER", str(self.user)) for name, text in env.items()}
        return subprocess.run(
            words, env={**self.env, **variables}, capture_output=True, text=True, check=False, cwd="/", timeout=120
        )

    def holdings(self) -> dict[str, tuple[int, float]]:
        """Whose each path in the user's folder is, and when it was changed."""
        paths = [self.user, *sorted(self.user.rglob("*"))]
        return {str(path): (path.lstat().st_uid, path.lstat().st_ctime_ns) for path in paths}


@pytest.fixture
def world(channel: Channel) -> Iterator[World]:
    with reachable_folder() as base:
        own, user = folder(base / "root", mode=0o700), folder(base / "user")
        proof = own / "proof"
        planted = f'#!/bin/sh\necho as $(id -u) >>{proof}\nexec {sys.executable} "$@"\n'
        prefix = user / "envs/python3"
        minor = f"python3.{sys.version_info.minor}"
        packages = prefix / "lib" / minor / "site-packages"
        for place in (prefix / "bin", prefix / "conda-meta", packages, user / "bin", user / "repo/.git"):
            place.mkdir(parents=True)
        for name in ("python", "python3", minor, "pip", "jupyter", "conda"):
            (prefix / "bin" / name).write_text(planted)
        for name in ("systemctl", "git", "uv", "conda"):
            (user / "bin" / name).write_text(planted)
        for script in (*(prefix / "bin").iterdir(), *(user / "bin").iterdir()):
            script.chmod(0o755)
        (prefix / "bin/R").write_text(f"{planted}R_HOME_DIR={prefix}/lib/R\n")
        (prefix / "lib/R/library/base").mkdir(parents=True)
        (prefix / "lib/R/library/base/DESCRIPTION").write_text("Package: base\nVersion: 4.2.2\n")
        (packages / "sitecustomize.py").write_text(f"open({str(proof)!r}, 'a').write('imported')\n")
        (prefix / "conda-meta/history").write_text("==> 2026-01-01 00:00:00 <==\n")
        version = ".".join(map(str, sys.version_info[:3]))
        (prefix / f"conda-meta/python-{version}-0.json").write_text(f'{{"name": "python", "version": "{version}"}}')
        (user / "repo/.git/HEAD").write_text("ref: refs/heads/main\n")
        (user / "repo/.git/config").write_text("[core]\n")
        (user / "settings").write_text("old\n")
        for path in (user, *user.rglob("*")):
            os.chown(path, USER, USER)
        venv(own / "env")
        make_wheel(own / "wheels", "apple", "1.0")
        folder(own / "home")
        for name in (".bashrc", ".profile"):
            (own / "home" / name).symlink_to(user / "settings")
        (own / "home/.condarc").write_text(f"envs_dirs: [{user}/envs]\nchannels: [{channel.url}]\n")
        env = {
            "HOME": str(own / "home"),
            "NBPROVISION_HOME": str(own / "nbprovision"),
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": str(ROOT),
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(own / "wheels"),
        }
        yield World(own, user, proof, env)


def check_refused(world: World, done: subprocess.CompletedProcess[str], before: object, *statuses: int) -> None:
    said = done.stdout + done.stderr
    assert done.returncode in statuses, said
    assert not world.proof.exists(), world.proof.read_text()
    assert world.holdings() == before
    assert f"{world.user} is nobody's, who could change it (owner nobody, mode 0755)" in said, said
    assert "setsid --wait runuser -u nobody -- ..." in said, said


TASKS = {
    "ensure_pip_pkg": [
        "{env: python3, packages: [apple]}",
        "{env: USER/envs/python3, packages: [apple]}",
        "{env: USER/envs/python3, packages: [apple], engine: pip}",
        "{python: USER/envs/python3/bin/python, packages: [apple]}",
        "{env: OWN/env, target: USER/target, packages: [apple]}",
        "{env: python3, packages: [apple], state: latest}",
    ],
    "ensure_conda_pkg": ["{env: python3, packages: [six]}", "{env: USER/envs/python3, packages: [six]}"],
    "ensure_conda_env": [
        "{prefix: USER/envs/new, packages: [python]}",
        "{name: new, packages: [python]}",
        "{name: python3, packages: [six]}",
        "{name: python3, state: absent}",
        "{prefix: USER/envs/copy, clone: python3}",
    ],
    "ensure_venv": [
        "{path: USER/envs/new}",
        "{path: OWN/venv, python: USER/envs/python3/bin/python}",
        "{path: OWN/venv, packages: [apple], python: USER/envs/python3/bin/python}",
    ],
    "ensure_kernel": ["{env: python3, name: mine}", "{env: USER/envs/python3, name: mine, scope: env}"],
    "ensure_jupyter_extension": ["{env: python3, packages: [apple]}", "{env: python3, lab: {planted: false}, scope: env}"],
    "ensure_command": [
        "{argv: [USER/envs/python3/bin/python, -c, pass]}",
        "{argv: [python, -c, pass], env: python3}",
        "{argv: ['true'], chdir: USER}",
        "{argv: [git], environment: {PATH: 'USER/bin:/usr/bin:/bin'}}",
        "{shell: 'true', executable: USER/bin/git}",
        "{argv: ['true'], unless: [USER/bin/git]}",
        "{argv: [USER/envs/python3/bin/python, -c, pass], background: true}",
        "{shell: 'true', executable: USER/bin/git, background: true, once_per: boot}",
        "{argv: ['true'], chdir: USER, background: true}",
    ],
    "ensure_file": [
        "{path: USER/new, content: x}",
        "{path: USER/settings, content: x}",
        "{path: USER/settings, state: absent}",
        "{path: USER/folder/new, state: directory}",
    ],
    "ensure_line": ["{path: USER/settings, line: x}"],
    "ensure_block": ["{path: USER/settings, block: x}"],
    "ensure_json": ["{path: USER/settings.json, values: {a: 1}}", "{path: OWN/settings.json, values: {a: 1}, validate: USER/bin/git %s}"],
    "ensure_ini": ["{path: USER/settings, values: {a: {b: 1}}}", "{path: OWN/settings, values: {a: {b: 1}}, validate: [USER/bin/git, '%s']}"],
    "ensure_git_config": ["{repo: USER/repo, name: core.editor, value: vi}"],
    "ensure_git_repo": [
        "{url: 'file:///nowhere', path: USER/clone}",
        "{url: 'file:///nowhere', path: USER/repo}",
        "{url: USER/repo, path: OWN/clone}",
    ],
    "ensure_download": [
        f"{{url: 'http://127.0.0.1:9/a', path: USER/new, sha256: {'0' * 64}}}",
        f"{{url: 'http://127.0.0.1:9/a', path: USER/settings, sha256: {'0' * 64}}}",
        f"{{url: 'http://127.0.0.1:9/a', path: USER/folder, sha256: {'0' * 64}, unpack: true}}",
    ],
    "ensure_r_pkg": ["{packages: [apple], env: python3, repos: OWN/cran}", "{packages: [apple], env: USER/envs/python3}"],
    "ensure_s3_sync": [
        "{source: 's3://backups/a', path: USER/new}",
        "{source: 's3://backups/a', path: USER/repo}",
        "{source: 's3://backups/a', path: USER/repo, direction: up}",
        "{source: 's3://backups/a.tar', path: USER/repo, direction: up, archive: true}",
    ],
    "ensure_ca_cert": ["{path: USER/settings}"],
    "ensure_conda_channel": ["{path: USER/channel, pypi: [apple]}", "{path: OWN/channel, pypi: [apple], interpreter: USER/envs/python3/bin/python}"],
    "ensure_condarc": ["{scope: env, env: python3, channels: [x]}"],
    "ensure_pip_index": ["{scope: env, env: python3, url: 'https://index.example/simple'}"],
    "ensure_env_var": ["{where: shells, name: A, value: b, follow: true}"],
    "restart_jupyter": [],
}  # fmt: skip


def test_every_task_is_tried() -> None:
    catalogue = Catalogue()
    assert set(TASKS) == {kind for kind in catalogue if catalogue[kind].in_root != "always"}


@pytest.mark.parametrize(("kind", "parameters"), [(kind, text) for kind, texts in TASKS.items() for text in texts])
def test_no_task_of_roots_runs_or_writes_what_is_a_users(kind: str, parameters: str, world: World) -> None:
    before = world.holdings()
    done = world.run(f"- tasks:\n    - {kind}: {parameters}\n")
    check_refused(world, done, before, 2, 4)


def test_a_service_is_not_restarted_by_a_users_program(world: World) -> None:
    before = world.holdings()
    playbook = """
- tasks:
    - {ensure_file: {path: OWN/new, content: x}, notify: restart}
  handlers:
    - {name: restart, restart_jupyter: {}}
"""
    check_refused(world, world.run(playbook, PATH="USER/bin:/usr/bin:/bin"), before, 2)


def test_a_users_git_is_not_run(world: World) -> None:
    before = world.holdings()
    done = world.run("- tasks:\n    - ensure_git_config: {name: a.b, value: c}\n", PATH="USER/bin:/usr/bin:/bin")
    check_refused(world, done, before, 2)


def test_a_budget_changes_nothing(world: World) -> None:
    before = world.holdings()
    done = world.run("- tasks:\n    - ensure_pip_pkg: {env: python3, packages: [apple]}\n", "--deadline", "60")
    check_refused(world, done, before, 2)


def test_the_process_of_a_budget_imports_nothing_from_the_working_folder(world: World) -> None:
    (world.user / "msgspec.py").write_text(f"open({str(world.proof)!r}, 'w')\n")
    path = world.own / "playbook.yml"
    path.write_text(f"- tasks:\n    - ensure_file: {{path: {world.own}/new, content: x}}\n")
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/nbprovision", "run", path, "--deadline", "60"],
        env=world.env, cwd=world.user, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (world.own / "new").exists()
    assert not world.proof.exists()


PLANTED = "- tasks:\n    - ensure_command: {shell: 'id >OWN/proof'}\n"


def test_root_obeys_no_playbook_of_a_users(world: World) -> None:
    path = world.user / "playbook.yml"
    path.write_text(PLANTED.replace("OWN", str(world.own)))
    before = world.holdings()
    check_refused(world, world.run_file(path), before, 4)
    link = world.own / "link.yml"
    link.symlink_to(path)
    check_refused(world, world.run_file(link), before, 4)


@pytest.mark.parametrize(
    "playbook",
    [
        "- vars_files: [USER/vars.yml]\n  tasks:\n    - ensure_command: {shell: '{{ text }}'}\n",
        "- tasks:\n    - import_tasks: USER/tasks.yml\n",
        "- tasks:\n    - include_tasks: USER/tasks.yml\n",
        "- import_playbook: USER/plays.yml\n",
    ],
)
def test_root_obeys_no_file_of_a_users_that_a_playbook_is_made_of(playbook: str, world: World) -> None:
    command = PLANTED.replace("OWN", str(world.own))
    (world.user / "vars.yml").write_text(f"text: id >{world.proof}\n")
    (world.user / "plays.yml").write_text(command)
    (world.user / "tasks.yml").write_text(command.partition("\n    ")[2])
    before = world.holdings()
    check_refused(world, world.run(playbook), before, 4)


def test_root_takes_no_variables_from_a_users_file(world: World) -> None:
    (world.user / "vars.yml").write_text(f"text: id >{world.proof}\n")
    before = world.holdings()
    playbook = "- tasks:\n    - ensure_command: {shell: '{{ text }}'}\n"
    check_refused(world, world.run(playbook, "-e", f"@{world.user}/vars.yml"), before, 4)


@pytest.mark.parametrize(
    "task",
    [
        "ensure_pip_pkg: {env: OWN/env, requirements: USER/list}",
        "ensure_pip_pkg: {env: OWN/env, packages: [apple], constraints: USER/list}",
        "ensure_conda_env: {prefix: OWN/env, file: USER/environment.yml}",
        "ensure_file: {path: OWN/new, template: USER/list}",
    ],
)
def test_root_installs_from_no_list_of_a_users(task: str, world: World) -> None:
    (world.user / "list").write_text("apple\n")
    (world.user / "environment.yml").write_text("dependencies: [python]\n")
    before = world.holdings()
    check_refused(world, world.run(f"- tasks:\n    - {task}\n"), before, 2, 4)


def test_root_is_refused_by_a_tool_that_a_user_can_change(world: World) -> None:
    shutil.copytree(ROOT / "nbprovision", world.user / "nbprovision", ignore=shutil.ignore_patterns("__pycache__"))
    for path in (world.user / "nbprovision").rglob("*"):
        os.chown(path, USER, USER)
    world.env.update(PYTHONPATH=str(world.user), PYTHONDONTWRITEBYTECODE="1")
    before = world.holdings()
    check_refused(world, world.run("- tasks: []\n"), before, 5)


@pytest.mark.parametrize("name", ["PYTHONPYCACHEPREFIX", "PYTHONUSERBASE", "PYTHONPATH"])
def test_root_is_refused_where_its_python_looks_in_a_users_folder(name: str, world: World) -> None:
    value = f"{ROOT}:USER/bin" if name == "PYTHONPATH" else "USER/bin"
    before = world.holdings()
    done = world.run(
        "- tasks:\n    - ensure_file: {path: OWN/new, content: x}\n", PYTHONDONTWRITEBYTECODE="1", **{name: value}
    )
    check_refused(world, done, before, 5)
    assert f"root does not obey {name}, which leads to {world.user}/bin" in done.stderr
    assert not (world.own / "new").exists()


class TestStatus:
    """`sudo nbprovision status`: root looks at what a user's runs have left."""

    @pytest.fixture
    def home(self, world: World) -> Path:
        """The tool's home of a user whose run has failed, as that user's own process left it."""
        if shutil.which("setpriv") is None:
            pytest.skip("no setpriv (util-linux) here")
        playbook = world.user / "own.yml"
        playbook.write_text("- tasks:\n    - ensure_command: {shell: 'echo no licence >&2; exit 1'}\n")
        folder(world.user / "home", owner=USER, group=USER)
        # The tests' Python may lie where only root gets to: this user may read everything.
        reading = ["--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"]
        words = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", *reading, sys.executable]
        env = {**world.env, "HOME": f"{world.user}/home", "NBPROVISION_HOME": f"{world.user}/home/tool"}
        done = subprocess.run(
            [*words, "-m", "nbprovision", "run", playbook],
            env={**env, "PYTHONDONTWRITEBYTECODE": "1"}, capture_output=True, text=True, check=False, cwd="/", timeout=120,
        )  # fmt: skip
        assert done.returncode == 2, done.stderr
        return world.user / "home/tool"

    def status(self, world: World, home: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "nbprovision", "status", "--home", home, *words],
            env={**world.env, **env}, capture_output=True, text=True, check=False, cwd="/", timeout=120,
        )  # fmt: skip

    def test_shows_the_state_and_leaves_nothing(self, home: Path, world: World) -> None:
        before = world.holdings()
        done = self.status(world, home)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"failed: {world.user}/own.yml (")
        assert "no licence" in done.stdout
        assert self.status(world, home, "--follow").returncode == 0
        assert world.holdings() == before
        assert not world.proof.exists()

    def test_follows_no_link_and_waits_for_no_pipe(self, home: Path, world: World) -> None:
        secret = world.own / "secret.json"
        shutil.copy(home / "last-run.json", secret)
        secret.write_text(secret.read_text().replace("no licence", "roots secret"))
        secret.chmod(0o600)
        for name in ("last-run.json", "status.json", "progress.json", "lock.holder", "log/nbprovision.log"):
            (home / name).unlink(missing_ok=True)
            (home / name).symlink_to(secret)
        done = self.status(world, home)
        assert done.returncode == 0, done.stderr
        assert "roots secret" not in done.stdout
        assert done.stdout.startswith("never: ")
        for name in ("last-run.json", "status.json", "progress.json", "lock.holder", "log/nbprovision.log", "lock"):
            (home / name).unlink()
            os.mkfifo(home / name)
        done = self.status(world, home)
        assert done.stdout.startswith("never: "), done.stderr

    def test_no_control_sequence_reaches_roots_terminal(self, home: Path, world: World) -> None:
        record = home / "status.json"
        record.write_text(record.read_text().replace("no licence", "\\u001b]0;title\\u0007\\u202e"))
        os.chown(record, USER, USER)
        done = self.status(world, home)
        assert "\\x1b]0;title\\x07\\u202e" in done.stdout

    def test_by_a_users_program_is_refused(self, home: Path, world: World) -> None:
        shutil.copytree(ROOT / "nbprovision", world.user / "nbprovision", ignore=shutil.ignore_patterns("__pycache__"))
        for path in (world.user / "nbprovision", *(world.user / "nbprovision").rglob("*")):
            os.chown(path, USER, USER)
        before = world.holdings()
        done = self.status(world, home, PYTHONPATH=str(world.user), PYTHONDONTWRITEBYTECODE="1")
        check_refused(world, done, before, 5)


def test_root_provides_for_itself_as_before(world: World) -> None:
    """What is root's own works beside what is a user's."""
    done = world.run("- tasks:\n    - ensure_pip_pkg: {env: OWN/env, packages: [apple]}\n")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not world.proof.exists()
    done = world.run("- tasks:\n    - ensure_file: {path: OWN/new, content: x}\n")
    assert done.returncode == 0, done.stdout + done.stderr
