"""JupyterLab in an environment of its own, and the extension as a person sees it there, in a real browser."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import registry_settings
from tests.support.at_work import until

# The oldest is the oldest release that Python 3.11 runs.
VERSIONS = {"oldest": "jupyterlab==4.0.0", "newest": "jupyterlab>=4,<5"}
_ITEM = "return document.querySelector('.nbprovision-item')?.innerText ?? ''"
_SHOWN = "const e = document.querySelector('.nbprovision-item'); return e !== null && e.checkVisibility()"
_CARDS = "return [...document.querySelectorAll('.jp-LauncherCard')].map(e => e.innerText.trim())"
_PANEL = "return document.querySelector('#nbprovision-panel')?.innerText ?? ''"
_LOOK_AGAIN = "document.dispatchEvent(new Event('visibilitychange'))"


def environment(cache: Path, version: str) -> Path:
    """The environment of a JupyterLab, kept in the tests' cache."""
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    prefix = cache / f"jupyterlab-{version}-{sys.version_info.major}.{sys.version_info.minor}"
    env = {**os.environ, **registry_settings(), "UV_CACHE_DIR": str(cache / "uv")}
    packages = [VERSIONS[version], "ipykernel", "setuptools<81"]
    with (cache / "jupyterlab.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (prefix / "bin/python").exists():
            subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(prefix)], env=env, check=True)
        argv = [uv, "pip", "install", "--quiet", "--upgrade", "--python", str(prefix / "bin/python"), *packages]
        done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"NO BROWSER TEST: JupyterLab cannot be installed here: {done.stderr[-300:]}")
    return prefix


class Page:
    """JupyterLab in a browser.

    Args:
        driver: The browser.
        url: The address of the server, with a slash at its end.
        token: The server's.
    """

    def __init__(self, driver: Any, url: str, token: str) -> None:
        self.driver = driver
        self._address = f"{url}lab?token={token}&reset"

    def open(self) -> None:
        """Load the page, and wait until JupyterLab is there."""
        self.driver.get(self._address)
        until(lambda: self.cards)

    def script(self, text: str) -> Any:
        """The value of a script in the page."""
        return self.driver.execute_script(text)

    @property
    def item(self) -> str:
        """The text in the status bar."""
        return str(self.script(_ITEM))

    @property
    def item_is_shown(self) -> bool:
        """Whether the status bar shows it."""
        return bool(self.script(_SHOWN))

    @property
    def cards(self) -> list[str]:
        """The texts of the launcher's cards."""
        return list(self.script(_CARDS))

    @property
    def own_cards(self) -> list[str]:
        """Those of the extension."""
        return [card for card in self.cards if "nbprovision" in card]

    @property
    def panel(self) -> str:
        """The text of the panel."""
        return str(self.script(_PANEL))

    def open_panel(self) -> None:
        """Open it by the status bar."""
        self.script("document.querySelector('.nbprovision-item').click()")
        until(lambda: self.panel)

    def look_again(self) -> None:
        """Have the extension read its file now, as when a person comes back to the page."""
        self.script(_LOOK_AGAIN)
