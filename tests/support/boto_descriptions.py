"""Descriptions of AWS's services, read once for all sessions of a process: each command of a fleet has its own."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any
from unittest import mock

import botocore.loaders

_load = botocore.loaders.JSONFileLoader.load_file


@functools.cache
def _loaded(path: str) -> Any:
    return _load(botocore.loaders.JSONFileLoader(), path)


def _description(loader: Any, path: str) -> Any:
    return _loaded(path)


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Keep what was read once."""
    with mock.patch.object(botocore.loaders.JSONFileLoader, "load_file", _description):
        yield
