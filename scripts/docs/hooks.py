"""What mkdocs cannot do by itself: menus from folders, options of verbs, the API page, links into the repository,
scripts that fetch nothing.

A link that leaves ``docs/`` works in the repository but not on a site.  Each file so linked becomes a page that
shows it, each folder a page that lists it, below ``repository/``; one that is not there is a warning, which
``strict`` turns into a failure.
"""

from __future__ import annotations

import logging
import os
import re
import subprocess
from pathlib import Path, PurePosixPath
from typing import Any

from api import api_page  # mkdocs puts this folder on the path while it loads this file
from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"

log = logging.getLogger("mkdocs.hooks.assay")
OPTIONS = re.compile(r"<!-- options: (\w+) -->")
OUTSIDE = re.compile(r"(?<=\]\()((?:\.\./)+[^)#\s]*)(#[^)\s]*)?(?=\))")
FETCHED = re.compile(r"https?://unpkg\.com/[^\"'`]*")
LANGUAGES = {".py": "python", ".toml": "toml", ".yml": "yaml", ".yaml": "yaml", ".json": "json", ".sh": "sh"}
MOST_BYTES = 200_000


def on_config(config: Any) -> Any:
    """Fill the menus that follow folders."""
    from assay.cli.main import GROUPS

    verbs = [name for _, names in GROUPS for name in names]
    written = {path.stem for path in (DOCS / "verbs").glob("*.md")}
    folders = {
        "Verbs": [f"verbs/{name}.md" for name in verbs if name in written],
        "Walkthroughs": _pages("walkthroughs"),
        "Decisions": _pages("decisions"),
        "More": sorted({path.name for path in DOCS.glob("*.md")} - _named(config.nav)),
    }
    for entry in config.nav:
        for title in entry.keys() & folders.keys():
            entry[title] = folders[title]
    config.nav = [entry for entry in config.nav if all(entry.values())]  # a menu without pages is none
    config.extra["polyfills"] = ["assets/search-in-folder.js"]  # the theme's name for what it loads first
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the API page, and a page for everything outside ``docs/`` that a page links to."""
    files.append(File.generated(config, "api.md", content=api_page()))
    for target in sorted(_linked(files)):
        page = File.generated(config, _page_of(target), content=_shown(target), inclusion=InclusionLevel.NOT_IN_NAV)
        files.append(page)
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Options in place of their mark, and links that leave ``docs/`` turned to the pages made for them."""
    markdown = OPTIONS.sub(lambda match: options_table(match[1]), markdown)
    here = PurePosixPath(page.file.src_uri).parent

    def turned(match: re.Match[str]) -> str:
        target = _target(here, match[1])
        if target is None:
            return match[0]
        if not (ROOT / target).exists():
            log.warning("%s links to %s, which is not in the repository", page.file.src_uri, target)
            return match[0]
        return os.path.relpath(_page_of(target), str(here))

    return OUTSIDE.sub(turned, markdown)


def on_post_build(config: Any) -> None:
    """Two scripts that the theme would fetch from elsewhere are not; and the search works from a folder, too."""
    index = Path(config.site_dir, "search", "search_index.json")
    index.with_suffix(".js").write_text(f"var __index = {index.read_text()}")
    for path in Path(config.site_dir, "assets", "javascripts").rglob("*.js"):
        text = path.read_text()
        if (without := FETCHED.sub("data:text/javascript,", text)) != text:
            path.write_text(without)


def options_table(verb: str) -> str:
    """A verb's arguments and options as a Markdown table."""
    import click

    from assay.cli.main import VERBS
    from assay.core.table import load

    command: click.Command = load(VERBS[verb])
    context = click.Context(command, info_name=f"assay {verb}")
    lines = [f"`{command.get_usage(context).removeprefix('Usage: ')}`", "", "| option | |", "|---|---|"]
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None:
            name, text = (_cell(part) for part in record)
            lines.append(f"| `{name}` | {text} |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    """Text for one cell: a pipe would end it, an angle bracket would be read as HTML."""
    return " ".join(text.split()).replace("|", "\\|")


def _named(nav: list[Any]) -> set[str]:
    """The pages that mkdocs.yml itself puts into a menu."""
    return {page for menu in nav for entries in menu.values() for entry in entries for page in entry.values()}


def _pages(folder: str) -> list[str]:
    return [f"{folder}/{path.name}" for path in sorted((DOCS / folder).glob("*.md"))]


def _target(here: PurePosixPath, link: str) -> str | None:
    """The path in the repository that a link on a page leads to; None when it stays within ``docs/``."""
    path = os.path.normpath(f"docs/{here}/{link}")
    return None if path.startswith("docs/") else path


def _page_of(target: str) -> str:
    return f"repository/{target}.md" if not target.endswith(".md") else f"repository/{target}"


def _linked(files: Files) -> set[str]:
    """Everything outside ``docs/`` that a page links to, and what is in such a folder."""
    found: set[str] = set()
    for file in files.documentation_pages():
        here = PurePosixPath(file.src_uri).parent
        text = file.content_string if file.src_uri == "api.md" else (DOCS / file.src_uri).read_text()
        found |= {t for match in OUTSIDE.finditer(text) if (t := _target(here, match[1])) and (ROOT / t).exists()}
    return found | {child for target in found if (ROOT / target).is_dir() for child in _children(target)}


def _children(folder: str) -> list[str]:
    """The files of a folder that belong to the repository, whether committed yet or not."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", folder]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.splitlines() if (ROOT / name).is_file()]


def _shown(target: str) -> str:
    """The page for a file or folder of the repository; links inside a shown document stay text."""
    path = ROOT / target
    if path.is_dir():
        rows = [f"- [`{name}`]({os.path.relpath(_page_of(name), _parent(target))})" for name in _children(target)]
        return f"# {target}/\n\n" + "\n".join(rows) + "\n"
    data = path.read_bytes()
    if b"\0" in data or len(data) > MOST_BYTES:
        return f"# {target}\n\n{len(data):,} bytes, in the repository.\n"
    text = data.decode()
    fence = "`" * 3 if "```" not in text else "`" * 5
    return f"# {target}\n\n{fence}{LANGUAGES.get(path.suffix, 'text')}\n{text.rstrip()}\n{fence}\n"


def _parent(target: str) -> str:
    return str(PurePosixPath(_page_of(target)).parent)
