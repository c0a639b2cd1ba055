"""Fixtures of these tests."""

from __future__ import annotations

from tests.support.at_work import world
from tests.support.plays import playbook

__all__ = ["playbook", "world"]
