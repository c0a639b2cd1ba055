"""Fixtures of these tests."""

from __future__ import annotations

from tests.support.conda_environments import tiny

__all__ = ["tiny"]
