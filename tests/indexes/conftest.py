"""Fixtures of these tests."""

from __future__ import annotations

from tests.support.index_files import pip_conf, uv_toml

__all__ = ["pip_conf", "uv_toml"]
