"""The documentation site: no warning, no link that leads to nothing, and a search that works in a browser."""

from __future__ import annotations

import functools
import http.server
import json
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import tomlkit

from nbprovision.catalogue import Catalogue
from nbprovision.reference.definition import define
from tests.docs.conftest import PLAIN, ROOT, Site
from tests.support.at_work import until
from tests.support.browser import browser, needs_chromium

pytestmark = [pytest.mark.proof, pytest.mark.network]


class Page(HTMLParser):
    """What a page links to, what it loads, and the anchors that it has."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag == "link" and given.get("rel") not in ("canonical", "next", "prev"):
            self.loads.append(given["href"])
        elif "src" in given:
            self.loads.append(given["src"])


@pytest.fixture(scope="module")
def parsed(site: Site) -> dict[Path, Page]:
    return {path: Page(path) for path in sorted(site.html.rglob("*.html"))}


def test_it_is_built_without_a_warning(site: Site) -> None:
    assert "No issues found" in site.output
    assert not re.search(r"warning|error", site.output, re.IGNORECASE), site.output


def test_every_link_inside_leads_to_a_page_and_an_anchor(site: Site, parsed: dict[Path, Page]) -> None:
    wrong = []
    count = 0
    for path, page in parsed.items():
        if path.name == "404.html":  # shown at any address, so its links begin at the root
            continue
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            count += 1
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            anchor = unquote(parts.fragment)
            if not target.is_relative_to(site.html.resolve()) or not target.is_file():
                wrong.append(f"{path.relative_to(site.html)}: no page: {link}")
            elif anchor and target in parsed and anchor not in parsed[target].anchors | {"__codelineno"}:
                wrong.append(f"{path.relative_to(site.html)}: no anchor: {link}")
    assert wrong == []
    assert count > 2000


def test_a_link_to_another_host_is_a_whole_address(parsed: dict[Path, Page]) -> None:
    outside = {link for page in parsed.values() for link in page.links if urlsplit(link).scheme}
    assert outside
    wrong = [
        link for link in outside if not re.fullmatch(r"https://[\w.-]+\.[a-z]+(/[^\s<>\"]*)?|mailto:\S+@\S+", link)
    ]
    assert wrong == []


def test_a_page_loads_nothing_from_another_host(site: Site, parsed: dict[Path, Page]) -> None:
    for path, page in parsed.items():
        for load in page.loads:
            parts = urlsplit(load)
            assert not parts.scheme, f"{path}: {load}"
            assert path.name == "404.html" or (path.parent / parts.path).exists(), f"{path}: {load}"


def test_every_page_of_docs_is_in_the_navigation() -> None:
    navigation = tomlkit.loads((ROOT / "docs/site/zensical.toml").read_text()).unwrap()["project"]["nav"]
    listed = set(re.findall(r"[\w/-]+\.md", json.dumps(navigation)))
    made = {"playbooks/index.md", "changelog.md", "readme.md", "security.md"}  # by docs/site/build.py, of other files
    assert listed - made == {path.name for path in (ROOT / "docs").glob("*.md")}


def test_every_playbook_is_a_page(site: Site) -> None:
    index = Page(site.html / "playbooks/index.html").links
    for path in [*(ROOT / "playbooks").glob("*.yml"), *(ROOT / "playbooks/samples").glob("*.yml")]:
        name = path.relative_to(ROOT / "playbooks").with_suffix("")
        assert (site.html / f"playbooks/{name}/index.html").exists()
        assert f"{name}/" in index


def test_the_pages_of_the_api_describe_every_parameter(site: Site) -> None:
    text = (site.html / "api/index.html").read_text()
    for kind in Catalogue():
        assert f'id="nbprovision.{kind}"' in text
        function = text.partition(f'id="nbprovision.{kind}"')[2].partition('id="nbprovision.')[0]
        for parameter in define(Catalogue()[kind]).parameters:
            assert f"<code>{parameter.name.replace('except', 'except_')}</code>" in function, (kind, parameter.name)


@pytest.mark.parametrize("wrong", ["[x](no-such-page.md)", "[x](tutorial.md#no-such-anchor)"])
def test_a_warning_ends_the_build(site: Site, tmp_path: Path, wrong: str) -> None:
    """By the command that build.py gives, in a folder as it leaves it, with another page."""
    (tmp_path / "pages").mkdir()
    for name in ("tutorial.md", "how-to.md", "reference.md"):
        (tmp_path / "pages" / name).write_text("# Title\n")
    (tmp_path / "pages/index.md").write_text(f"# Home\n\n{wrong}\n")
    (tmp_path / "zensical.toml").write_text('[project]\nsite_name = "x"\ndocs_dir = "pages"\nsite_dir = "html"\n')
    done = subprocess.run(
        [site.python, "-m", "zensical", "build", "--strict"], cwd=tmp_path, env={**os.environ, **PLAIN},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode != 0
    assert "does not exist" in done.stdout + done.stderr


@pytest.fixture
def address(site: Site) -> Iterator[str]:
    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the base class
            """Nothing: the output is that of the test."""

    handler = functools.partial(Handler, directory=str(site.html))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@needs_chromium
def test_the_search_leads_to_a_task(address: str, tmp_path: Path) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    roots = 'return [...document.querySelectorAll("*")].filter(e => e.shadowRoot).map(e => e.shadowRoot)'
    typing = f'{roots}.some(root => root.activeElement?.tagName === "INPUT")'
    hits = f'{roots}.flatMap(root => [...root.querySelectorAll("a")].map(e => e.href))'
    with browser(1300, 900, tmp_path) as driver:
        driver.get(address)
        assert "nbprovision" in driver.title
        until(lambda: driver.execute_script("return document.querySelector('.md-search__button')"))
        driver.execute_script("document.querySelector('.md-search__button').click()")
        until(lambda: driver.execute_script(typing))
        ActionChains(driver).send_keys("ensure_kernel").perform()
        until(lambda: any(re.search(r"/reference/\S*#ensure_kernel$", link) for link in driver.execute_script(hits)))
        severe = [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
        assert severe == []
