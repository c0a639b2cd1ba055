"""Build the notebook instance: ``python docker/build.py CACHE`` prints the image's id and where the tool's wheel is.

``python docker/build.py CACHE studio`` builds a space of Studio instead, on the same base.

The wheel of the code under test is not in the image, which so outlives most changes: mount the folder at /srv/tool.

Needs a Docker engine (engine.sh) and the project's own requirements; reaches the Python package index while CACHE is
empty, and nothing at all afterwards. In CACHE is the build context: the local channel, a Python with py-rattler that
makes the provided environments inside the image, a Python for the system, and the tool's wheels.

BASE_IMAGE in the environment names another image to build the instance on (amazonlinux:2023 where a registry is
reached), STUDIO_BASE_IMAGE one with apt for the space.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import rattler
from rattler.index.index import index_fs

import nbprovision.api
from nbprovision.channel.interpreter import Interpreter, package
from nbprovision.channel.package import Package

HERE = Path(__file__).parent
PROJECT = HERE.parent
LOCAL_BASE = "nbprovision-base"
FILES = (
    "Dockerfile", "environments.py", "start-instance", "start-systemd", "run-lifecycle-hook", "start-jupyter",
    "jupyter-server.service",
)  # fmt: skip

# As on a current image: Python in python3 and the framework's environment, R's without, and the server's own.
ENVIRONMENTS: dict[str, dict[str, object]] = {
    "base": {"packages": ["python", "pip"]},
    "JupyterSystemEnv": {"packages": ["python", "pip", "ipykernel", "jupyter-server"]},
    "python3": {"packages": ["python", "pip", "ipykernel"], "kernel": "conda_python3"},
    "pytorch_p310": {"packages": ["python", "pip", "ipykernel", "six"], "kernel": "conda_pytorch_p310"},
    "R": {"packages": ["r-nbdemo"]},
}
# Studio's base is the server's environment, and the only one with a kernel.
STUDIO_PACKAGES = ["pip", "setuptools", "wheel", "ipykernel", "jupyterlab", "supervisor", "cowsay", "six"]
STUDIO_ENVIRONMENTS: dict[str, dict[str, object]] = {
    "base": {"packages": ["python", "pip", "setuptools", "ipykernel", "jupyterlab", "supervisor"]}
}


class Layout(NamedTuple):
    """What an image is built of.

    Attributes:
        name: The image's name.
        folder: The folder of its Dockerfile in the build context.
        variable: The environment variable with another base image.
        environments: The environments that the image provides.
        online: Whether apt installs packages while it is built.

    """

    name: str
    folder: str
    variable: str
    environments: dict[str, dict[str, object]]
    online: bool


INSTANCE = Layout("nbprovision-instance", ".", "BASE_IMAGE", ENVIRONMENTS, online=False)
STUDIO = Layout("nbprovision-studio", "studio", "STUDIO_BASE_IMAGE", STUDIO_ENVIRONMENTS, online=True)


def build(cache: Path, layout: Layout = INSTANCE) -> tuple[str, Path]:
    """Make what is not there, and return the image's id and the folder with the tool's wheel."""
    context = cache / "context"
    context.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs of one checkout
        for file in FILES:
            shutil.copy2(HERE / file, context)
        for folder in ("metadata", "studio"):
            shutil.copytree(HERE / folder, context / folder, dirs_exist_ok=True)
        channel = _once(context / "channel", "", _make_channel)
        if layout is STUDIO:
            _once(context / "studio-channel", " ".join(STUDIO_PACKAGES), _make_studio_channel)
        builder = _once(context / "builder", "", lambda folder: _make_builder(folder, channel))
        _once(context / "system-python", "", _make_system_python)
        python = builder / "bin/python3"
        requirements = PROJECT / "pyproject.toml"
        _once(context / "wheels", _digest([requirements]), lambda folder: _make_wheels(folder, python))
        sources = _digest(
            sorted([requirements, *(PROJECT / "scripts").iterdir(), *(PROJECT / "nbprovision").rglob("*.*")])
        )
        tool = _once(cache / "tool" / sources[:16], "", lambda folder: _make_tool(folder, python))
        return _image(cache, context, layout), tool


def _image(cache: Path, context: Path, layout: Layout) -> str:
    folders = (context, context / "metadata") if layout is INSTANCE else (context / layout.folder,)
    small = [path for path in context.rglob("*") if path.is_file() and path.parent in folders]
    key = _digest([*sorted(small), HERE / "base.sh"]) + json.dumps(layout.environments)
    key += (cache / "wheels.key").read_text()
    key += (cache / "studio-channel.key").read_text() if layout is STUDIO else ""
    stamp = cache / ("image.key" if layout is INSTANCE else f"{layout.name}.key")
    if stamp.is_file():
        built_for, _, image = stamp.read_text().partition("\n")
        if (
            built_for == key
            and not subprocess.run(["docker", "image", "inspect", image], check=False, capture_output=True).returncode
        ):
            return image
    image = _build_image(context, layout)
    stamp.write_text(f"{key}\n{image}")
    return image


def _build_image(context: Path, layout: Layout) -> str:
    base = os.environ.get(layout.variable, "")
    local = not base
    if local:
        base = f"{LOCAL_BASE}:{_digest([HERE / 'base.sh'])[:12]}"  # another one when its packages change
        subprocess.run(["sh", HERE / "base.sh", base], check=True)
    built = subprocess.run(
        ["docker", "build", "--quiet", "--tag", layout.name, "--file", str(context / layout.folder / "Dockerfile")]
        + (["--network", "host" if layout.online else "none"] if local else [])
        + ["--build-arg", f"BASE_IMAGE={base}", "--build-arg", f"ENVIRONMENTS={json.dumps(layout.environments)}"]
        + [str(context)],
        env={**os.environ, "DOCKER_BUILDKIT": "0"},
        check=False,
        capture_output=True,
        text=True,
    )
    if built.returncode:
        raise SystemExit(built.stdout + built.stderr)
    return built.stdout.split()[-1]


def _once(folder: Path, key: str, make: Callable[[Path], None]) -> Path:
    """A folder of the context, made where it is not there or was made for another key; never left half made."""
    cache = folder.parent.parent
    stamp = cache / f"{folder.name}.key"
    if folder.is_dir() and stamp.is_file() and stamp.read_text() == key:
        return folder
    partial = cache / f"{folder.name}.partial"
    for leftover in (partial, folder):
        shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir()
    make(partial)
    folder.parent.mkdir(exist_ok=True)
    partial.rename(folder)
    stamp.write_text(key)
    return folder


def _digest(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        if file.is_file() and file.suffix != ".pyc":
            digest.update(f"{file.name}\n".encode() + file.read_bytes())
    return digest.hexdigest()


def _make_channel(folder: Path) -> None:
    packages = ["pip", "setuptools", "wheel", "ipykernel", "jupyter-server", "cowsay", "six"]
    os.environ["NBPROVISION_HOME"] = str(folder.parent / "home")
    nbprovision.api.ensure_conda_channel(path=str(folder), pypi=packages)
    # A package of R without R: what conda and the tool see of it is what they see of any r-* package.
    demo = Package("r-nbdemo", "1.0", "r0_0", noarch="generic")
    demo.add("lib/R/library/nbdemo/DESCRIPTION", b"Package: nbdemo\nVersion: 1.0\nTitle: Nothing\nLicense: CC0\n")
    demo.write(folder)
    asyncio.run(index_fs(folder, force=True))


def _make_studio_channel(folder: Path) -> None:
    os.environ["NBPROVISION_HOME"] = str(folder.parent / "home")
    nbprovision.api.ensure_conda_channel(path=str(folder), pypi=STUDIO_PACKAGES)


def _make_builder(folder: Path, channel: Path) -> None:
    """A Python that runs inside the image with nothing else there, and py-rattler for it."""
    _install(folder, channel, ["python", "pip"])
    shutil.copytree(Path(rattler.__file__).parent, folder / "lib/rattler-only/rattler")


def _make_system_python(folder: Path) -> None:
    """A real CPython that is too old for the tool where this machine has one, else a program that says it is one."""
    home = Path(pwd.getpwuid(os.geteuid()).pw_dir)  # pyenv's, wherever HOME is
    for candidate in (shutil.which("python3.9"), *home.glob(".pyenv/versions/3.9.*/bin/python3.9")):
        asked = subprocess.run(
            [candidate or "false", "-I", "-c", _DESCRIBE], capture_output=True, text=True, check=False
        )
        if asked.returncode == 0:
            executable, version, base, stdlib, library = asked.stdout.splitlines()
            channel = folder.parent / "system-channel"
            package(Interpreter(executable, version, base, stdlib, library or None)).write(channel)
            (channel / "noarch").mkdir(exist_ok=True)
            asyncio.run(index_fs(channel, force=True))
            _install(folder, channel, ["python"])
            return
    (folder / "bin").mkdir()
    program = folder / "bin/python3"
    program.write_text(
        "#!/bin/sh\n# Stands for the system's Python, which is too old.\necho Python 3.9.0 >&2\nexit 1\n"
    )
    program.chmod(0o755)


_DESCRIBE = """
import os, sys, sysconfig
library = os.path.join(sys.base_prefix, "lib", sysconfig.get_config_var("INSTSONAME") or "")
version = sys.version.split()[0]
print(os.path.realpath(sys.executable), version, sys.base_prefix, os.path.dirname(os.__file__), sep="\\n")
print(library if os.path.isfile(library) else "")
"""


def _install(prefix: Path, channel: Path, packages: list[str]) -> None:
    async def work() -> None:
        records = await rattler.solve(
            [rattler.Channel(channel.as_uri())], [rattler.MatchSpec(name) for name in packages]
        )
        await rattler.install(records, prefix, cache_dir=prefix.parent / "packages", show_progress=False)

    asyncio.run(work())


def _make_wheels(folder: Path, python: Path) -> None:
    """Every wheel that the tool needs, and two small ones to install by it."""
    _pip(python, "wheel", "--wheel-dir", folder, PROJECT, "cowsay", "six")
    for wheel in folder.glob("nbprovision-*.whl"):
        wheel.unlink()


def _make_tool(folder: Path, python: Path) -> None:
    _pip(python, "wheel", "--no-deps", "--wheel-dir", folder, PROJECT)


def _pip(python: Path, *words: str | Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    command = [python, "-I", "-m", "pip", "--disable-pip-version-check", *words]
    done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)


if __name__ == "__main__":
    wanted = STUDIO if sys.argv[2:] == ["studio"] else INSTANCE
    print(*build(Path(sys.argv[1]).absolute(), wanted), sep="\n", flush=True)
    os._exit(0)  # py-rattler's threads may crash an interpreter that ends in the ordinary way
