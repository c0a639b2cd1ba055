"""The pages of ``nbprovision report``: HTML with neither script nor anything from elsewhere.

JupyterLab shows such a page in a sandbox without asking whether the file is trusted
(https://jupyterlab.readthedocs.io/en/stable/user/files.html).
"""

from __future__ import annotations

import datetime as dt
import os
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jinja2

from nbprovision.model.result import Change
from nbprovision.report.facts_text import size_of
from nbprovision.report.history import KeptRun, KeptTask
from nbprovision.report.progress import moment
from nbprovision.report.terminal import called, difference, from_to, summarised

_SIGNS = {"+": "plus", "-": "minus", "@": "place"}


def of_run(run: KeptRun, *, drift: Sequence[KeptTask], machine: dict[str, Any], log: str, listed: bool = False) -> str:
    """The page of a run.

    Args:
        run: The run, secrets masked.
        drift: The tasks whose work had to be done again.
        machine: The document of ``nbprovision facts``, secrets masked, whose kernels and space the page shows.
        log: The path of the log.
        listed: The page ``index.html`` lies beside it.
    """
    template = environment().get_template("run.html")
    return template.render(run=run, drift=drift, machine=machine, log=log, listed=listed, now=time.time())


def of_runs(runs: Sequence[KeptRun]) -> str:
    """The page that leads to the pages of several runs, which lie beside it as ``ID.html``."""
    return environment().get_template("index.html").render(runs=runs)


def environment(package: str = "nbprovision.report") -> jinja2.Environment:
    """Templates with the style and the filters of these pages.

    Args:
        package: The package with a folder ``pages`` of templates; they may extend ``base.html``.
    """
    packages = dict.fromkeys((package, "nbprovision.report"))
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(name, "pages") for name in packages]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "difference": _difference,
        "duration": duration,
        "from_to": from_to,
        "iso": lambda seconds: dt.datetime.fromtimestamp(seconds, dt.timezone.utc).isoformat(timespec="seconds"),
        "moment": moment,
        "name": os.path.basename,
        "share": lambda part, whole: min(100, round(100 * part / whole)) if whole else 0,
        "size": size_of,
        "summary": summarised,
        "title": lambda task: called(task.task, task.name),
    }
    return environment


def duration(seconds: float) -> str:
    """A duration for a person: ``0.02 s``, ``12.3 s``, ``3 min 20 s``."""
    if seconds < 10:
        return f"{seconds:.2f} s"
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{int(seconds) // 60} min {int(seconds) % 60} s"


def _difference(change: Change) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(difference(change)):
        yield ("soft" if number < 2 else _SIGNS.get(line[:1], "")), line
