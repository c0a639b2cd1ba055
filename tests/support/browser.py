"""Debian's chromium, without a screen, for the pages that a person reads."""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

DRIVER = shutil.which("chromedriver")
needs_chromium = pytest.mark.skipif(
    DRIVER is None or shutil.which("chromium") is None,
    reason="no chromium and chromium-driver here: apt-get install chromium chromium-driver",
)


@contextlib.contextmanager
def browser(width: int, height: int, folder: Path, *, scheme: Literal["light", "dark"] = "light") -> Iterator[Any]:
    """A browser with a viewport of this size, in CSS pixels.

    Args:
        width: The width.
        height: The height.
        folder: Its profile; created.
        scheme: What the user prefers.
    """
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(argument)
    options.add_argument(f"--user-data-dir={folder / 'profile'}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        yield driver
    finally:
        driver.quit()


# What a browser makes of it: the contrast of each text with what is behind it (WCAG 2.2, 1.4.3), and what is cut off.
CONTRAST = """
const parts = text => text.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
const behind = e => { for (; e; e = e.parentElement) {
    const c = parts(getComputedStyle(e).backgroundColor); if (c.length == 3 || c[3] > 0) return c; } return [255, 255, 255]; };
return [...document.querySelectorAll("body *")].filter(e => [...e.childNodes].some(n => n.nodeType == 3 && n.data.trim()))
    .map(e => { const [a, b] = [light(parts(getComputedStyle(e).color)), light(behind(e))].sort((x, y) => y - x);
    return [(a + .05) / (b + .05), e.textContent.trim().slice(0, 40)]; }).filter(([ratio]) => ratio < 4.5);
"""


def assert_readable(path: Path, width: int, height: int, scheme: Literal["light", "dark"], folder: Path) -> None:
    """A page can be read at this size: contrast, width, headings, named sections; no error is reported.

    Args:
        path: The page.
        width: The width of the viewport, in CSS pixels.
        height: The height of the viewport.
        scheme: What the user prefers.
        folder: For the profile of the browser, and the picture.
    """
    picture = folder / "page.png"
    with browser(width, height, folder, scheme=scheme) as driver:
        driver.get(path.as_uri())
        driver.execute_script("for (const e of document.querySelectorAll('details')) e.open = true")
        assert driver.execute_script(CONTRAST) == []
        assert driver.execute_script("return document.documentElement.scrollWidth") <= width
        levels = driver.execute_script("return [...document.querySelectorAll('h1, h2, h3')].map(e => +e.tagName[1])")
        assert levels[0] == 1
        assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
        unnamed = "return [...document.querySelectorAll('section')].filter(e => !document.getElementById(e.getAttribute('aria-labelledby'))).length"
        assert driver.execute_script(unnamed) == 0
        assert [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"] == []
        assert driver.get_screenshot_as_file(str(picture))
        assert picture.stat().st_size > 10_000
