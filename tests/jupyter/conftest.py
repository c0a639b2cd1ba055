"""Fixtures of these tests."""

from __future__ import annotations

from tests.support.kernel_environments import fraud, make_environment

__all__ = ["fraud", "make_environment"]
