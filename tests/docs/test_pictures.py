"""Recording and pictures: made by their scripts, small, and without anything from elsewhere."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "scripts" / "docs"
IMAGES = ROOT / "docs" / "images"
LOADED = re.compile(r"(?:href|src)\s*=\s*[\"']http|url\(\s*[\"']?http")
"""What a browser would fetch for a picture."""


@pytest.fixture
def recording(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    spec = importlib.util.spec_from_file_location("recording", SCRIPTS / "recording.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_a_terminal_shows_is_recorded(recording: ModuleType, tmp_path: Path) -> None:
    code = r"import sys; print(sys.stdout.isatty()); print('50 %', end='\r\x1b[K'); print('\x1b[31mdone\x1b[0m')"
    (tmp_path / "speak.py").write_text(code)
    events = recording.record(f"{sys.executable} speak.py", tmp_path)
    assert recording.final_text(events).splitlines()[1:] == ["True", "\x1b[31mdone\x1b[0m"]
    assert "50 %" in "".join(text for _, text in events)
    header, *lines = [json.loads(line) for line in recording.cast(events, "t").splitlines()]
    assert (header["version"], header["width"]) == (2, recording.COLUMNS)
    assert [line[1] for line in lines] == ["o"] * len(events)
    picture = recording.svg(recording.final_text(events), "t")
    assert "done" in picture and LOADED.search(picture) is None
    assert LOADED.search("@font-face { src: url('https://fonts.example/x.woff') }")


def test_a_command_that_fails_makes_no_recording(recording: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="exit code 3"):
        recording.record(f"{sys.executable} -c 'raise SystemExit(3)'", tmp_path)


def test_the_cast_is_a_cast_of_the_command() -> None:
    header, *events = [json.loads(line) for line in (IMAGES / "terminal.cast").read_text().splitlines()]
    assert header["version"] == 2
    assert events[0][2].startswith("$ assay run ")
    times = [event[0] for event in events]
    assert times == sorted(times) and times[-1] > 10
    assert "verdict" in "".join(event[2] for event in events)


def test_pictures_are_small_and_load_nothing() -> None:
    pictures = [*IMAGES.glob("*.png"), *IMAGES.glob("*.svg"), *IMAGES.glob("*.cast")]
    assert len(pictures) >= 5
    assert {p.name: p.stat().st_size for p in pictures if not 1_000 < p.stat().st_size < 300_000} == {}
    for picture in IMAGES.glob("*.svg"):
        assert LOADED.search(picture.read_text()) is None
