"""What the benchmarks stand on: the tool freshly installed, a bare user, a real local channel, a local index."""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT))
ENVIRONMENTS = 12
PYPI = ("pip", "ipykernel")  # with what they need these are about 30 conda packages
DISTRIBUTIONS = ("nbbench-alpha", "nbbench-beta", "nbbench-gamma")
_REACHES_AN_INDEX = (
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "PIP_CERT",
    "PIP_INDEX_URL",
)


def arguments(purpose: str, *, runs: int, **switches: str) -> argparse.Namespace:
    """The options that all benchmarks have, and switches of one of them with their help."""
    parser = argparse.ArgumentParser(description=purpose)
    parser.add_argument("--cache", type=Path, default=PROJECT / ".benchmark-cache", help="what is costly to make")
    parser.add_argument("--runs", type=int, default=runs, help="pairs to measure (default: %(default)s)")
    for name, text in switches.items():
        parser.add_argument(f"--{name.replace('_', '-')}", action="store_true", help=text)
    options = parser.parse_args()
    options.cache = options.cache.absolute()
    options.cache.mkdir(parents=True, exist_ok=True)
    return options


class Scene:
    """A user of a bare machine, with the tool installed as a user installs it.

    Args:
        folder: Everything of this scene.
        cache: Where the channel and the tool's own downloads are kept from one benchmark to the next.

    """

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder = folder
        self.cache = cache
        self.home = folder / "home"
        self.home.mkdir()
        self.tool_home = folder / "nbprovision"
        # Nothing of the caller's that changes how Python starts: byte code may be written and read.
        self.env = {
            "HOME": str(self.home),
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "NBPROVISION_HOME": str(self.tool_home),
            **{name: os.environ[name] for name in _REACHES_AN_INDEX if name in os.environ},
        }
        tool = folder / "tool"
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run([uv(), "venv", "--python", sys.executable, tool], check=True, **quiet)
        self.python = str(tool / "bin/python3")
        self.command = str(tool / "bin/nbprovision")
        install = [uv(), "pip", "install", "--compile-bytecode", "--reinstall-package", "nbprovision"]
        subprocess.run([*install, "--python", self.python, PROJECT], check=True, **quiet)

    def run(self, playbook: Path, *options: str) -> str:
        """Run a playbook to its end; a status other than 0 ends the benchmark."""
        done = subprocess.run(
            [self.command, "run", str(playbook), *options],
            check=False,
            env=self.env,
            capture_output=True,
            text=True,
            cwd="/",
        )
        if done.returncode != 0:
            raise SystemExit(f"nbprovision ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def playbook(self, tasks: Iterable[str], name: str = "playbook.yml", *, root: Iterable[str] = ()) -> Path:
        """Write a playbook of these tasks, and of these for root."""
        path = self.folder / name
        lists = {"root_tasks": [*root], "tasks": [*tasks]}
        lines = [
            f"  {key}:\n" + "".join(f"    - {task}\n" for task in entries) for key, entries in lists.items() if entries
        ]
        path.write_text("-" + "".join(lines)[1:])
        return path

    def channel(self, pypi: Iterable[str] = PYPI, name: str = "channel") -> Path:
        """A conda channel with python and these distributions, made once by ensure_conda_channel."""
        path = self.cache / f"{name}-{sys.version_info.major}.{sys.version_info.minor}"
        task = f"ensure_conda_channel: {{path: '{path}', pypi: [{', '.join(pypi)}]}}"
        self.run(self.playbook([task], "channel.yml"))
        return path

    def channel_with_byte_code(self) -> Path:
        """The channel with a Python that brings the byte code of its standard library, as conda-forge's does."""
        from nbprovision.channel.package import NATIVE, Package, decompressed

        plain = self.channel()
        path = plain.with_name(f"{plain.name}-byte-code")
        if (path / "noarch/repodata.json").exists():
            return path
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(plain, path, ignore=shutil.ignore_patterns("*repodata*"))
        [archive] = (path / NATIVE).glob("python-3*.conda")
        with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(archive) as members:
            for part in ("pkg", "info"):
                content = decompressed(members.read(f"{part}-{archive.stem}.tar.zst"))
                with tarfile.open(fileobj=io.BytesIO(content)) as files:
                    files.extractall(folder, filter="tar")
            [library] = Path(folder).glob("lib/python3*")
            words = ["-I", "-S", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", library]
            subprocess.run([f"{folder}/bin/python", *words], check=False)  # some of lib2to3's sources are not valid
            fields = json.loads(Path(folder, "info/index.json").read_text())
            made = Package("python", fields["version"], fields["build"], license=fields["license"])
            for entry in json.loads(Path(folder, "info/paths.json").read_text())["paths"]:
                file = Path(folder, entry["_path"])
                if entry["path_type"] == "softlink":
                    made.link(entry["_path"], os.readlink(file))
                    continue
                runs, placeholder = os.access(file, os.X_OK), "prefix_placeholder" in entry
                made.add(entry["_path"], file.read_bytes(), executable=runs, placeholder=placeholder)
            for file in library.rglob("*.pyc"):
                made.add(str(file.relative_to(folder)), file.read_bytes())
        made.write(path)
        self.index_channel(path)
        return path

    def index(self) -> str:
        """The URL of a package index (PEP 503) with a few distributions of a hundred modules each."""
        folder = self.cache / "simple"
        for name in DISTRIBUTIONS:
            _write_wheel(folder / name, name)
        return folder.as_uri()

    def index_channel(self, channel: Path) -> None:
        """Write the index of a channel; in a process of its own, which py-rattler may crash at its end."""
        code = (
            "import asyncio, os, sys, pathlib\n"
            "from rattler.index.index import index_fs\n"
            "asyncio.run(index_fs(pathlib.Path(sys.argv[1]), write_zst=False, write_shards=False, force=True))\n"
            "os._exit(0)"
        )
        subprocess.run([self.python, "-c", code, channel], check=True)

    def forget_home(self) -> None:
        """What a restart does: all of HOME goes, and HOME itself is another folder."""
        self.home.rename(self._aside() / "home")  # so that the new one cannot have the inode of the old one
        self.home.mkdir()

    def empty(self, folder: Path, *kept: str) -> None:
        """Leave a folder with nothing but the entries of these names, and nothing of it to be written to the disk."""
        folder.mkdir(exist_ok=True)
        aside = self._aside()
        for entry in folder.iterdir():
            if entry.name not in kept:
                entry.rename(aside / entry.name)
        os.sync()  # what one run wrote is not the next one's to wait for

    def _aside(self) -> Path:
        """A new folder for what a run left, removed with the scene.

        Removed at once, it would slow the next run down: for some minutes ext4 does not use an inode again, and for
        each new folder it searches past all of those (recently_deleted in fs/ext4/ialloc.c).
        """
        (self.folder / "earlier").mkdir(exist_ok=True)
        return Path(tempfile.mkdtemp(dir=self.folder / "earlier"))


@contextmanager
def scene(options: argparse.Namespace) -> Iterator[Scene]:
    """A scene in a temporary folder on the file system of the cache, so that packages are linked and not copied."""
    with tempfile.TemporaryDirectory(dir=options.cache) as folder:
        yield Scene(Path(folder).resolve(), options.cache)


def uv() -> str:
    """The uv beside this interpreter, else one on the PATH."""
    found = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        raise SystemExit("the benchmarks need uv: pip install uv")
    return found


def typical_tasks(channel: Path, index: str, *, environments: int = ENVIRONMENTS) -> list[str]:
    """Of each environment itself, its index, its pip packages and its kernel; two kernels more and the user's index."""
    tasks = [f"ensure_pip_index: {{url: '{index}'}}"]
    for number in range(environments):
        tasks += environment_tasks(f"team{number:02}", channel, index)
    del tasks[-2]  # fifty tasks in all
    return [
        *tasks,
        "ensure_kernel: {env: team00, name: quiet, display_name: Quiet, environment: {LEVEL: '0'}}",
        "ensure_kernel: {name: other, argv: [/bin/cat, '{connection_file}'], display_name: Other, language: text}",
    ]


def environment_tasks(name: str, channel: Path, index: str) -> list[str]:
    """Four tasks of one environment."""
    return [
        f"ensure_conda_env: {{name: {name}, channels: ['{channel}'], packages: [python, pip, ipykernel]}}",
        f"ensure_pip_index: {{scope: env, env: {name}, url: '{index}'}}",
        f"ensure_pip_pkg: {{env: {name}, packages: [{', '.join(DISTRIBUTIONS)}]}}",
        f"ensure_kernel: {{env: {name}, display_name: 'Team {name}'}}",
    ]


def _write_wheel(folder: Path, name: str) -> None:
    module = name.replace("-", "_")
    wheel = folder / f"{module}-1.0-py3-none-any.whl"
    if wheel.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{module}-1.0.dist-info"
    files = {f"{module}/part{number}.py": f"NUMBER = {number}\n".encode() for number in range(100)}
    files[f"{module}/__init__.py"] = b""
    files[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode()
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: benchmark\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    rows = [f"{path},sha256={_digest(content)},{len(content)}" for path, content in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,", ""]).encode()
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)
    (folder / "index.html").write_text(f'<!DOCTYPE html><a href="{wheel.name}">{wheel.name}</a>\n')


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
