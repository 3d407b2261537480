"""Transcripts were written by their script, from the commands that stand above them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from assay.cli.main import VERBS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("transcripts", ROOT / "scripts" / "docs" / "transcripts.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["transcripts"] = module  # a dataclass looks its module up
    spec.loader.exec_module(module)
    return module


TRANSCRIPTS = script()


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_real_run(verb: str) -> None:
    text = (DOCS / "verbs" / f"{verb}.md").read_text()
    commands = [line for match in TRANSCRIPTS.BLOCK.finditer(text) for line in match["commands"].splitlines()]
    assert any(line.startswith(f"assay {verb}") for line in commands), f"no transcript runs assay {verb}"


@pytest.mark.parametrize("page", TRANSCRIPTS.ORDER)
def test_transcripts_were_not_typed(page: str) -> None:
    text = (DOCS / f"{page}.md").read_text()
    found = list(TRANSCRIPTS.BLOCK.finditer(text))
    assert len(found) == text.count("<!-- transcript") >= 1
    for match in found:
        again = f"python scripts/docs/transcripts.py {page}"
        assert match["digest"] == TRANSCRIPTS.digest_of(match["shown"]), f"{page}: changed by hand; run {again}"
        shown = [line.removeprefix("$ ") for line in match["shown"].splitlines() if line.startswith("$ ")]
        assert shown == match["commands"].splitlines(), f"{page}: other commands than were run; run {again}"


def test_every_page_with_a_transcript_is_in_the_order() -> None:
    marked = {
        p.relative_to(DOCS).with_suffix("").as_posix() for p in DOCS.rglob("*.md") if "<!-- transcript" in p.read_text()
    }
    assert marked == set(TRANSCRIPTS.ORDER)


def test_a_block_is_run_and_cut(tmp_path: Path) -> None:
    shown = TRANSCRIPTS.block(tmp_path, "seq 1 9\necho $PWD; exit 3", " head=2 tail=1")
    assert shown == "```console\n$ seq 1 9\n1\n2\n…\n9\n$ echo $PWD; exit 3\n.\n(exit code 3)\n```\n"


def test_lines_with_a_text_are_left_out(tmp_path: Path) -> None:
    shown = TRANSCRIPTS.block(tmp_path, "printf 'a\\nb1\\nb2\\nc\\n'", " cut=b")
    assert shown.splitlines()[2:-1] == ["a", "…", "c"]


def test_what_runs_in_the_background_is_ended(tmp_path: Path) -> None:
    line = "python -u -c \"import time; print('ready'); time.sleep(60)\" &"
    shown = TRANSCRIPTS.block(tmp_path, f"{line}\necho beside", "")
    assert shown.splitlines()[2:5] == ["ready", "$ echo beside", "beside"]
    assert "^C" in shown


def test_a_page_gets_its_results(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- transcript\necho one\n-->\n<!-- /transcript -->\nafter\n")
    assert TRANSCRIPTS.write(page, tmp_path) == 1
    text = page.read_text()
    assert "$ echo one\none\n" in text and text.startswith("before\n") and text.endswith("after\n")
    (match,) = TRANSCRIPTS.BLOCK.finditer(text)
    assert match["digest"] == TRANSCRIPTS.digest_of(match["shown"])
    assert TRANSCRIPTS.write(page, tmp_path) == 1
    assert page.read_text() == text
