"""conda's configuration as conda reads it: files in its search order, then CONDA_* variables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec


class Condarc(msgspec.Struct, frozen=True):
    """The settings that matter here, merged."""

    channels: tuple[str, ...] = ()
    channel_alias: str = "https://conda.anaconda.org"
    default_channels: tuple[str, ...] = ()
    custom_channels: dict[str, str] = {}
    envs_dirs: tuple[str, ...] = ()
    pkgs_dirs: tuple[str, ...] = ()
    ssl_verify: bool | str = True
    warnings: tuple[str, ...] = ()


def read_condarc(env: Mapping[str, str], user_home: Path, base: Path | None, root: Path = Path("/")) -> Condarc:
    """The configuration that conda would use."""
    return Condarc()
