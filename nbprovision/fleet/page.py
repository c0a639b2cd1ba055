"""The page of ``nbprovision fleet status --html``, in the style of the pages of ``nbprovision report``."""

from __future__ import annotations

from nbprovision.fleet import overview as overviews
from nbprovision.fleet.overview import Overview
from nbprovision.report.page import environment
from nbprovision.system.secrets import masked

# The class of each state in the style sheet.
_STATES = {"ok": "ok", "failed": "failed", "silent": "changed", "starting": "deferred", "stopped": "skipped"}
_COUNTS = ("instances", *_STATES, "behind", "drift")


def of_fleet(overview: Overview, now: float) -> str:
    """The page of a fleet, secrets masked.

    Args:
        overview: The fleet.
        now: The time of the look, in seconds since the epoch.
    """
    return (
        environment("nbprovision.fleet")
        .get_template("fleet.html")
        .render(
            fleet=masked(overviews.document(overview)),
            remarks=masked(overviews.remarks(overview)),
            states=_STATES,
            counts=_COUNTS,
            now=now,
        )
    )
