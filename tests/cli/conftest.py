"""Fixtures of these tests."""

from __future__ import annotations

from tests.support.at_work import world
from tests.support.exporting import wheels

__all__ = ["wheels", "world"]
