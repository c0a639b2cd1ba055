"""Fixtures of these tests."""

from __future__ import annotations

from tests.support.locking import team

__all__ = ["team"]
