"""The built site: strict, nothing from elsewhere, every verb and every public name on a page."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import assay
from assay.cli.main import VERBS

ROOT = Path(__file__).parents[2]
LOADS = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "object": "data"}
FETCHED = re.compile(r"https?://(?:[\w.-]*cdn|unpkg|fonts)[\w.-]*/|[\"'`]https?://[^\"'`]+\.(?:m?js|css|woff2?)[\"'`]")
"""In a script: what it would load when a browser or a page asked for it."""
STYLES = re.compile(r"@import|url\(\s*['\"]?(?:https?:)?//", re.IGNORECASE)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Strict, so a dead link, a missing anchor or a page in no menu fails here."""
    pytest.importorskip("material", reason="pip install 'assay[docs]'")
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


class Loaded(HTMLParser):
    """What a browser fetches by itself: scripts, styles, fonts, pictures, frames; not what a person may click."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = dict(attrs)
        self._style = tag == "style"
        url = said.get(LOADS.get(tag, ""))
        if tag == "link" and (said.get("rel") or "") != "canonical":
            url = said.get("href")
        if url is not None:
            self.found.append(url)
        if STYLES.search(said.get("style") or ""):
            self.found.append(said["style"] or "")

    def handle_data(self, data: str) -> None:
        if self._style and STYLES.search(data):
            self.found.append(data)


def from_elsewhere(html: str) -> list[str]:
    parser = Loaded()
    parser.feed(html)
    return [url for url in parser.found if re.match(r"(?:[a-z]+:)?//", url, re.IGNORECASE) or STYLES.search(url)]


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 50
    assert {str(p): found for p in pages if (found := from_elsewhere(p.read_text()))} == {}
    styles = list(site.rglob("*.css"))
    assert styles
    assert [str(p) for p in styles if STYLES.search(p.read_text())] == []
    scripts = list(site.rglob("*.js"))
    assert len(scripts) > 1
    assert [str(p) for p in scripts if FETCHED.search(p.read_text())] == []


@pytest.mark.parametrize(
    "html",
    [
        '<script src="https://cdn.example/x.js"></script>',
        '<link rel="stylesheet" href="//fonts.example/css">',
        '<style>@import "x.css"</style>',
        '<img src="http://example/pixel.gif">',
    ],
)
def test_the_test_can_fail(html: str) -> None:
    assert from_elsewhere(html)
    assert not from_elsewhere('<a href="https://example">elsewhere</a><script src="assets/x.js"></script>')
    assert FETCHED.search('load("https://unpkg.com/mermaid@11/dist/mermaid.min.js")')


def test_every_verb_has_its_page_with_its_options(site: Path) -> None:
    for verb in VERBS:
        text = (site / "verbs" / f"{verb}.html").read_text()
        assert "--json [FILE]" in text, f"{verb}: the options are not there"
        assert "<!-- options" not in text


def test_every_public_name_is_on_the_api_page(site: Path) -> None:
    text = (site / "api.html").read_text()
    missing = [n for n in assay.__all__ if not n.startswith("__") and f'id="assay{n.lower()}"' not in text]
    assert missing == []
    for said in ("float32 (C, H, W)", "Raises BadInput", "in seconds", "SignatureMismatch"):
        assert said in text, f"the API page lost {said!r}"


def test_a_link_that_leaves_the_folder_shows_the_file(site: Path) -> None:
    assert (site / "repository" / "examples" / "github-actions" / "regression.yml.html").exists()
    assert (
        "--fail-on regression"
        in (site / "repository" / "examples" / "github-actions" / "regression.yml.html").read_text()
    )


def test_every_page_is_in_a_menu(site: Path) -> None:
    """Also those that mkdocs.yml does not name: walkthroughs, decisions, verbs and what somebody adds."""
    menu = (site / "index.html").read_text()
    docs = ROOT / "docs"
    pages = [path.relative_to(docs).with_suffix(".html").as_posix() for path in docs.rglob("*.md")]
    assert len(pages) > 50
    assert [page for page in pages if f'href="{page}"' not in menu and page != "index.html"] == []


def test_search_finds_a_verb(site: Path) -> None:
    assert "verbs/export.html" in (site / "search" / "search_index.json").read_text()


def test_search_works_from_a_folder(site: Path) -> None:
    """A page opened as a file may neither fetch the index nor start a worker."""
    index = (site / "search" / "search_index.js").read_text()
    assert index.startswith("var __index = {") and "verbs/export.html" in index
    for page, script in (("index", "assets"), ("verbs/export", "../assets")):
        assert f'<script src="{script}/search-in-folder.js">' in (site / f"{page}.html").read_text()
