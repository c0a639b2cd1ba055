"""Three tiers of tests: the default ones, ``proof`` and ``campaign``; a run says which it left out and how to run them.

A run without ``-m`` leaves out both marks; where it names files or folders, only the campaign.

Of a file with the mark ``sampled(N)``, a run of the whole suite has one test in N: always the same ones, by their
names. The others are part of the campaign. A run that names the file has all of them.
"""

from __future__ import annotations

import os
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

# A test with both marks is the long form in a file of proofs.
COMMANDS = {"campaign": "sh tests/campaign.sh", "proof": "sh tests/run.sh -m 'not campaign'"}

_ALL = Path(__file__).parents[1]
_samples = pytest.StashKey[bool]()
_left_out = pytest.StashKey[Counter[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Choose the tiers where the command line does not; xdist's workers get the same command line."""
    named = config.args_source is pytest.Config.ArgsSource.ARGS
    paths = [(config.invocation_params.dir / argument.partition("::")[0]).resolve() for argument in config.args]
    for argument, path in zip(config.args, paths, strict=True):
        if named and not path.exists():  # xdist's workers would only find no tests
            raise pytest.UsageError(f"file or folder not found: {argument}")
    everything = not named or any(path == _ALL or path in _ALL.parents for path in paths)
    config.stash[_samples] = everything
    if not config.option.markexpr:
        config.option.markexpr = "not proof and not campaign" if everything else "not campaign"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A test whose size a variable gives, ``scaled("VARIABLE")``, is part of the campaign where the variable is set."""
    for item in items:
        if config.stash[_samples] and any(_number(item.name) % mark.args[0] for mark in item.iter_markers("sampled")):
            item.add_marker(pytest.mark.campaign)
        if any(mark.args[0] in os.environ for mark in item.iter_markers("scaled")):
            item.add_marker(pytest.mark.campaign)


def _number(name: str) -> int:
    return zlib.crc32(name.encode())


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    """Count them by tier; with xdist this is in a worker, and each worker collects all tests."""
    for item in items:
        tiers = [tier for tier in COMMANDS if item.get_closest_marker(tier)]
        item.config.stash.setdefault(_left_out, Counter()).update(tiers[:1])


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand the counts to the process that writes the summary."""
    if hasattr(session.config, "workeroutput"):
        left_out = session.config.stash.setdefault(_left_out, Counter())
        session.config.workeroutput["left_out"] = dict(left_out)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Take the counts of one worker; those of the others are the same."""
    output = getattr(node, "workeroutput", None) or {}
    node.config.stash[_left_out] = Counter(output.get("left_out", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what was left out, with the command that runs it."""
    if config.option.keyword:  # -k has left out most
        return
    for tier, count in sorted(config.stash.setdefault(_left_out, Counter()).items()):
        terminalreporter.write_line(f"NOT RUN: {count} {tier} tests; run them by: {COMMANDS[tier]}", yellow=True)
