"""Fixtures of these tests."""

from __future__ import annotations

from tests.support.conda_environments import tiny
from tests.support.exact_packages import server, write

__all__ = ["server", "tiny", "write"]
