"""``nbprovision report``: a run as a page of HTML, with what changed, what failed and where the time went."""

from __future__ import annotations

import argparse
import os
import webbrowser
from pathlib import Path

from nbprovision.cli import facts
from nbprovision.machine.machine import Machine
from nbprovision.machine.ownership import refuse_foreign_code
from nbprovision.report import history, page, status_file
from nbprovision.report.colour import print_message, shown
from nbprovision.report.history import KeptRun
from nbprovision.system import trust
from nbprovision.system.files import make_folder, remove, write_atomically
from nbprovision.system.secrets import masked

FOLDER = status_file.PAGES  # on the volume: JupyterLab does not list names that begin with a dot


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``report``."""
    parser.add_argument(
        "run", nargs="?", metavar="RUN", help="the run's id, as `nbprovision status` prints it (default: the last)"
    )
    parser.add_argument("--open", action="store_true", help="open the page in a browser")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write only this page, into FILE")
    parser.add_argument("--home", type=Path, metavar="DIR", help="folder of state, lock, log and caches")


def execute(options: argparse.Namespace) -> int:
    """Write the page of a run, and print its path.

    Returns:
        0.

    Raises:
        UsageError: the run is not kept, or this is root's, and somebody else can change the tool.
        TaskFailed: the page cannot be written.
    """
    refuse_foreign_code()
    machine = Machine(home=options.home.absolute() if options.home else None)
    run = history.run_of(machine.home, options.run)
    if options.output is None:
        path = write_pages(machine, run)
    else:
        path = options.output.absolute()
        write_page(machine, run, path)
    print(shown(str(path)))
    if options.open and not webbrowser.open(path.as_uri()):
        print_message("no browser can be started here; in JupyterLab, open the file from the list of files")
    return 0


def folder_of(machine: Machine) -> Path:
    """The folder of the pages: on a notebook instance one that JupyterLab lists, but root writes none of a user's."""
    volume = machine.platform.volume if machine.platform.kind == "notebook-instance" else None
    if volume is not None and os.access(volume, os.W_OK) and trust.fault(volume) is None:
        return volume / FOLDER
    return machine.home / "report"


def write_page(machine: Machine, run: KeptRun, path: Path) -> None:
    """Write the page of a run.

    Args:
        machine: The machine, whose kernels and space the page shows.
        run: The run.
        path: The page's file.

    Raises:
        TaskFailed: it cannot be written.
    """
    _write(_Pages(machine, listed=False), run, path)


def write_pages(machine: Machine, run: KeptRun) -> Path:
    """Write the page of a run, those of other kept runs that have none, and the page that lists them all.

    Pages of runs that are no longer kept are removed.

    Returns:
        The page of the run.

    Raises:
        TaskFailed: a page cannot be written.
    """
    folder = folder_of(machine)
    make_folder(folder, mode=0o700)
    pages = _Pages(machine, listed=True)
    wanted = {folder / f"{kept.id}.html": kept for kept in pages.runs}
    path = folder / f"{run.id}.html"
    for other, kept in wanted.items():
        if other == path or not other.is_file():
            _write(pages, kept, other)
    write_atomically(folder / "index.html", page.of_runs(pages.runs), mode=0o600, durable=False)
    for other in folder.glob("[0-9]*-[0-9]*.html"):
        if other not in wanted:
            remove(other)
    if folder.name == FOLDER:
        status_file.with_page(folder.parent, machine.home, run.id)
    return path


class _Pages:
    """What the pages of a machine share: the kept runs, the newest first, and the facts, which are read once."""

    def __init__(self, machine: Machine, *, listed: bool) -> None:
        self.runs = history.runs(machine.home)
        self.machine = masked(facts.document(machine))
        self.log = str(machine.home / "log/nbprovision.log")
        self.listed = listed


def _write(pages: _Pages, run: KeptRun, path: Path) -> None:
    drift = history.drift(run, history.before(run, pages.runs))
    content = page.of_run(run, drift=drift, machine=pages.machine, log=pages.log, listed=pages.listed)
    write_atomically(path, content, mode=0o600, durable=False)
