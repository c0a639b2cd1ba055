"""Killed in whichever kind of task, the next run leaves a machine that is file by file like one on which nobody was killed.

The short form is part of every test run; NBPROVISION_TEST_KILLS says how many kills the long form makes:

    sh tests/campaign.sh tests/reliability/test_kill_tasks.py
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import Channel, registry_settings
from tests.reliability import killing
from tests.reliability.world import Ran, read_document
from tests.support import moto_server
from tests.support.authority_file import AUTHORITY
from tests.support.file_server import EMPTY_ZIP, FileServer
from tests.support.git_repositories import Origin
from tests.support.r_repository import HAS_R, Repository
from tests.support.wheels import make_wheel

pytestmark = [pytest.mark.engine, pytest.mark.proof]

KILLS = int(os.environ.get("NBPROVISION_TEST_KILLS", "100"))
SEED = os.environ.get("NBPROVISION_TEST_SEED", "1")

PLAYBOOKS = {
    "channel": """
- tasks:
    - ensure_conda_channel: {path: ROOT/project/channel, pypi: [ROOT/wheels/apple-1.0-py3-none-any.whl]}
""",
    "all": """
- tasks:
    - ensure_condarc: {channels: [CHANNEL], envs_dirs: ROOT/tool/envs, settings: {remote_max_retries: 5}}
    - ensure_pip_index: {url: "https://blue.example/simple"}
    - ensure_conda_env: {name: one, packages: [python, pip], channels: [CHANNEL]}
    - ensure_conda_pkg: {env: one, packages: [six=1.16.0], channels: [CHANNEL]}
    - ensure_conda_env: {name: two, clone: one}
    - ensure_pip_pkg: {env: one, packages: [apple==1.0], engine: pip}
    - ensure_pip_pkg: {env: two, packages: [apple==1.1, pear]}
    - ensure_pip_pkg: {env: one, target: ROOT/home/lib, packages: [pear==1.0]}
    - ensure_kernel: {name: tool, argv: [/bin/sh, "-c", "exit", "{connection_file}"], environment: {A: b}}
    - ensure_env_var: {name: FRUIT, value: pear, kernels: [tool]}
    - ensure_env_var: {name: SHELLS, value: pear, where: shells}
    - ensure_file: {path: ROOT/home/conf/a.txt, content: "hello\\n", mode: "0600"}
    - ensure_line: {path: ROOT/home/conf/b.txt, line: "x = 1", create: true}
    - ensure_block: {path: ROOT/home/.bashrc, block: "export EDITOR=nano", create: true}
    - ensure_json: {path: ROOT/home/conf/a.json, values: {a: {b: [1]}}, validate: "python3 -m json.tool %s"}
    - ensure_ini: {path: ROOT/home/.aws/config, values: {profile x: {s3: {a: 1}}}}
    - ensure_ca_cert: {url: SERVER/ca, name: team, sha256: CA256}
    - ensure_git_config: {name: user.email, value: ada@example.org}
    - ensure_git_repo: {url: "file://ROOT/origin", path: ROOT/home/clone, ref: main, update: ff}
    - ensure_download: {url: SERVER/a, path: ROOT/home/data/a, sha256: SHA256}
    - ensure_download: {url: SERVER/zip, path: ROOT/home/unpacked, sha256: ZIP256, unpack: true}
    - ensure_s3_sync: {source: s3://backups/ada, path: ROOT/home/restored}
    - ensure_s3_sync: {source: s3://backups/a.tar, path: ROOT/home/restored, direction: up, archive: true}
    - ensure_command: {shell: "echo made > ROOT/home/made", creates: ROOT/home/made}
    - ensure_env_var: {name: FRUIT, value: pear, where: server}
    - ensure_command: {shell: "echo made > ROOT/home/once", once_per: ever}
    - ensure_venv: {path: ROOT/tool/envs/venv, packages: [pear]}
    - ensure_r_pkg: {packages: [pear], repos: ROOT/cran}
    - ensure_jupyter_extension: {env: one, lab: {"@acme/theme": false}, server: {acme: true}}
""",
}
# The tool's own records and caches, and what says when it was written.
BESIDE = (
    "tool/cache", "tool/commands", "tool/log", "tool/s3", "tool/state", "tool/runs", "tool/last-run.json", "tool/status.json", "home/.local/share/uv",
)  # fmt: skip
DATED = (
    ".pyc",
    "/history",
    "/RECORD",
    "/.git/index",
    "/.git/logs/HEAD",
    "/.git/logs/refs/heads/main",
    "/.git/logs/refs/remotes/origin/HEAD",
)
# Knows of what a killed run had begun as well: two digests, and folders that were there when the next one came.
DATED += (".nbprovision-before",)
# R writes the time of a build and its temporary folder into these, and two builds of one package differ in the others.
DATED += ("/DESCRIPTION", ".rds", ".rdb", ".rdx")


class Place(NamedTuple):
    """A machine in a folder."""

    root: Path
    text: str

    def begin(self, *, cold: bool) -> None:
        """Nothing has been done; the caches are kept unless it is ``cold``."""
        for name in (
            "home",
            "project",
            "tmp",
            *(["tool"] if cold else ["tool/commands", "tool/envs", "tool/s3", "tool/state"]),
        ):
            shutil.rmtree(self.root / name, ignore_errors=True)
        for name in ("home", "project", "tmp"):
            (self.root / name).mkdir()
        (self.root / "home/.bashrc").write_text("# mine\n")
        (self.root / "project/playbook.yml").write_text(self.text)

    def start(self) -> subprocess.Popen[bytes]:
        """A run, in a process group of its own."""
        env = {name: value for name, value in registry_settings().items() if not name.startswith(("PIP_", "UV_"))}
        places = {"HOME": self.root / "home", "NBPROVISION_HOME": self.root / "tool", "TMPDIR": self.root / "tmp"}
        env |= {name: str(path) for name, path in places.items()}
        env |= {"PATH": f"{self.root}/bin:/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
        env |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.root / "wheels")}
        return killing.start_with(env, self.root / "project/playbook.yml")

    def run(self) -> Ran:
        """A run to its end."""
        process = self.start()
        out, errors = process.communicate(timeout=600)
        return read_document(process.returncode, out.decode(), errors.decode())

    def files(self) -> dict[str, str]:
        """Every file and folder with its mode, and what is in it unless that says when."""
        return dict(self._files())

    def _files(self) -> Iterator[tuple[str, str]]:
        for place, folders, names in os.walk(self.root):
            inside = os.path.relpath(place, self.root)
            if inside in (*BESIDE, "wheels") or inside.endswith(("__pycache__", "/shards")):
                folders.clear()
                continue
            for name in (*names, *folders):
                path = Path(place, name)
                key = os.path.normpath(f"{inside}/{name}")
                mode = f"{path.lstat().st_mode:o}"
                if key in BESIDE:
                    continue
                if path.is_symlink():
                    target = os.readlink(path)
                    # The Python that a virtual environment is made from has several names.
                    yield key, f"{mode} {os.path.realpath(target) if key.endswith('venv/bin/python') else target}"
                elif path.is_file() and not key.endswith(DATED) and "/conda-meta/" not in key:
                    yield key, f"{mode} {hashlib.blake2b(path.read_bytes()).hexdigest()}"
                else:
                    yield key, mode

    def litter(self) -> list[str]:
        """What engines and the tool have in the making in the tool's caches."""
        made = (path.relative_to(self.root) for path in (self.root / "tool/cache").rglob("*"))
        return [str(path) for path in made if path.name.startswith((".tmp", "tmp")) or "nbprovision-tmp" in path.name]


class Whole(NamedTuple):
    """A place, and what a run that nobody kills makes of it."""

    place: Place
    files: dict[str, str]
    seconds: float


@pytest.fixture(scope="module", params=PLAYBOOKS)
def whole(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, channel: Channel
) -> Iterator[Whole]:
    root = tmp_path_factory.mktemp("tasks")
    (root / "wheels").mkdir()
    for name, version in (("apple", "1.0"), ("apple", "1.1"), ("pear", "1.0")):
        make_wheel(root / "wheels", name, version)
    Origin(root / "origin")
    if HAS_R:
        repository = Repository(root / "cran")
        repository.add("apple", "1.0", index=False)
        repository.add("pear", "1.0", Imports="apple")
    server = FileServer()
    server.files |= {"/a": bytes(5_000_000), "/zip": EMPTY_ZIP, "/ca": AUTHORITY.encode()}
    text = PLAYBOOKS[request.param].replace("ROOT", str(root)).replace("CHANNEL", channel.url)
    if not HAS_R:
        text = "".join(line for line in text.splitlines(keepends=True) if "ensure_r_pkg" not in line)
    text = text.replace("SERVER", server.url).replace("SHA256", hashlib.sha256(bytes(5_000_000)).hexdigest())
    text = text.replace("CA256", hashlib.sha256(AUTHORITY.encode()).hexdigest())
    place = Place(root, text.replace("ZIP256", hashlib.sha256(EMPTY_ZIP).hexdigest()))
    with moto_server.serving() as address:
        moto_server.put(address, "backups", "ada/a", bytes(5_000_000))
        moto_server.put(address, "backups", "ada/b", b"1")
        moto_server.make_command(root / "bin", address)
        place.begin(cold=True)
        began = time.monotonic()
        done = place.run()
        seconds = time.monotonic() - began
        assert done.status == 0, done
        assert place.run().all_ok
        yield Whole(place, place.files(), seconds)


def wrong_after_a_kill(whole: Whole, chance: random.Random) -> list[str] | None:
    """What is not as without a kill; None where the kill came too late."""
    place = whole.place
    place.begin(cold=chance.random() < 0.3)
    process = place.start()
    time.sleep(chance.random() * whole.seconds)
    if not killing.kill(process):
        return None
    done = place.run()
    if done.status != 0:
        return [json.dumps(done.document.get("tasks")), done.errors]
    found = place.files()
    wrong = [f"{name}: {found.get(name)}, not {whole.files.get(name)}"
             for name in sorted(found.keys() | whole.files) if found.get(name) != whole.files.get(name)]  # fmt: skip
    again = place.run()
    return wrong + place.litter() + ([] if again.all_ok else [f"not at rest: {again.document}"])


def test_killed_in_any_kind_of_task(whole: Whole) -> None:
    chance = random.Random(SEED)
    landed = 0
    while landed < 2:
        wrong = wrong_after_a_kill(whole, chance)
        assert not wrong, wrong
        landed += wrong is not None


@pytest.mark.campaign
def test_random_kills(whole: Whole) -> None:
    wrong = {}
    landed = number = 0
    while landed < KILLS:
        number += 1
        found = wrong_after_a_kill(whole, random.Random(f"{SEED} {number}"))
        landed += found is not None
        if found:
            wrong[number] = found
        print(f"{SEED}/{number} {landed} {found or ''}", flush=True)
    assert wrong == {}
