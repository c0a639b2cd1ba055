"""Fixtures of these tests."""

from __future__ import annotations

from tests.support.conda_environments import tiny
from tests.support.pip_environment import prefix, task, wheels

__all__ = ["prefix", "task", "tiny", "wheels"]
