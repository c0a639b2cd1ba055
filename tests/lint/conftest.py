"""Fixtures of these tests."""

from __future__ import annotations

from tests.support.linting import linted

__all__ = ["linted"]
