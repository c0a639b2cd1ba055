"""Makes the pictures of the documentation from real runs: ``.venv-test/bin/python docs/pictures/make.py``.

A user of a bare machine has the playbook of docs/index.md. conda-forge is a mirror in their ``.condarc``: the channel
that the tests build. Nothing is put in its place or drawn: the terminal's picture is what the commands print, the page
of a run and the panel of JupyterLab are those that a browser shows.

    python docs/pictures/make.py                       all of them, beside this script
    python docs/pictures/make.py terminal --folder X   one of them, into another folder
"""

from __future__ import annotations

import argparse
import io
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.conftest import registry_settings
from tests.support import channel, on_volume
from tests.support.browser import browser
from tests.support.pages import blocks

PLAYBOOK = next(block.text for block in blocks("docs/index.md") if block.language == "yaml")
PACKAGE = "humanize"  # of it, from PyPI
WIDTH = 92  # columns of the terminal


class User:
    """A user with the playbook.

    Args:
        folder: Their machine.
        cache: The tests' cache.
        package: The package that the playbook installs from PyPI.

    """

    def __init__(self, folder: Path, cache: Path, *, package: str = PACKAGE) -> None:
        self.volume = folder / "SageMaker"
        home, mirror = folder / "home", folder / "mirror"
        for made in (self.volume, home, mirror):
            made.mkdir()
        (mirror / "conda-forge").symlink_to(channel.build(cache))
        (home / ".condarc").write_text(f"custom_channels:\n  conda-forge: {mirror.as_uri()}\n")
        (self.volume / "team.yml").write_text(PLAYBOOK.replace(PACKAGE, package))
        self.env = {
            "HOME": str(home),
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "COLUMNS": str(WIDTH),
            "FORCE_COLOR": "1",
            "NBPROVISION_HOME": str(folder / "nbprovision"),
            "PYTHONPATH": str(ROOT),
            **registry_settings(),
        }

    def type(self, *words: str, status: int = 0) -> str:
        """Run the command in the folder of the playbook, and return what it prints."""
        argv = [sys.executable, "-m", "nbprovision", *words]
        done = subprocess.run(
            argv,
            env=self.env,
            cwd=self.volume,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode != status:
            raise SystemExit(f"nbprovision {' '.join(words)} ended with {done.returncode}:\n{done.stdout}")
        return done.stdout


@contextmanager
def machine(cache: Path, **settings: str) -> Iterator[User]:
    """A machine in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="notebook-") as folder:
        yield User(Path(folder), cache, **settings)


def terminal(folder: Path, cache: Path) -> None:
    """A check, a first run and a second one, as a terminal shows them."""
    from rich.console import Console
    from rich.text import Text

    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    with machine(cache) as user:
        for words in (("run", "team.yml", "--check"), ("run", "team.yml"), ("run", "team.yml")):
            console.print(Text(f"$ nbprovision {' '.join(words)}", style="bold"))
            console.print(Text.from_ansi(user.type(*words)))
    drawing = console.export_svg(title="Fraud team")
    # rich names a font of another host; the reader's own monospace font does as well.
    drawing = re.sub(r"@font-face \{.*?\}\s*", "", drawing, flags=re.DOTALL)
    (folder / "terminal.svg").write_text(re.sub(r"[ \t]+$", "", drawing, flags=re.MULTILINE))


def report(folder: Path, cache: Path) -> None:
    """The page of a first run."""
    with machine(cache) as user, tempfile.TemporaryDirectory() as profile:
        page = user.volume / "run.html"
        user.type("run", "team.yml", "--report", str(page))
        with browser(1000, 900, Path(profile)) as driver:
            driver.get(page.as_uri())
            driver.save_screenshot(str(folder / "report.png"))


def panel(folder: Path, cache: Path) -> None:
    """The panel of JupyterLab after a run that failed: a package that no index has."""
    from tests.labextension.test_in_jupyterlab import Lab
    from tests.support.at_work import until
    from tests.support.jupyter_server import TOKEN, Server
    from tests.support.jupyterlab import Page, environment

    with machine(cache, package="no-such-package-anywhere") as user:
        extension = user.volume / "extension.yml"
        extension.write_text("- tasks:\n    - ensure_jupyter_extension: {name: nbprovision}\n")
        for playbook, status in ((extension, 0), (user.volume / "team.yml", 2)):
            done = on_volume.nbprovision(user.env, user.volume, "run", playbook)
            if done.returncode != status:
                raise SystemExit(f"{playbook} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        extension.unlink()
        lab = Lab(environment(cache, "newest"), user.env, user.volume.parent)
        process = lab.serve()
        try:
            server = Server(lab.home, process.pid)
            with browser(1200, 800, user.volume.with_name("browser")) as driver:
                page = Page(driver, server.url, TOKEN)
                page.open()
                until(lambda: page.item.startswith("nbprovision: failed"))
                page.open_panel()
                page.script("document.querySelectorAll('.Toastify').forEach(toast => toast.remove())")
                driver.save_screenshot(str(folder / "panel.png"))
        finally:
            process.terminate()
            process.wait()


PICTURES: dict[str, Callable[[Path, Path], None]] = {"terminal": terminal, "report": report, "panel": panel}


def main() -> None:
    """Make the pictures that are named, or all of them."""
    parser = argparse.ArgumentParser(description="Make the pictures of the documentation from real runs.")
    parser.add_argument("pictures", nargs="*", metavar="PICTURE", help=f"default: {', '.join(PICTURES)}")
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent, help="default: this script's")
    default = Path(os.environ.get("NBPROVISION_TEST_CACHE") or ROOT / ".test-cache")
    parser.add_argument("--cache", type=Path, default=default, help="the tests' cache; default: %(default)s")
    options = parser.parse_args()
    for name in options.pictures or PICTURES:
        PICTURES[name](options.folder.absolute(), options.cache.absolute())


if __name__ == "__main__":
    main()
