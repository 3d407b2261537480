#!/usr/bin/env python3
"""Records a real run in a real terminal: docs/images/terminal.cast (asciinema v2) and terminal.svg.

    python scripts/docs/recording.py [--work DIR]

The command runs in a pseudo-terminal, in the folder of the transcripts.  The cast holds every byte with its time
(players skip pauses longer than ``IDLE_S``); the picture is the text at the end, without what was overwritten.
"""

from __future__ import annotations

import argparse
import codecs
import fcntl
import io
import json
import os
import pty
import re
import select
import shlex
import shutil
import struct
import subprocess
import termios
import time
from pathlib import Path

from transcripts import ROOT, environment, prepare

COMMAND = "assay run model.py:ge_resnet_digits --weights weights.pt --data digits --quick --out runs/recorded"
IMAGES = ROOT / "docs" / "images"
COLUMNS, ROWS = 122, 50
IDLE_S, LIMIT_S = 0.7, 280
Event = tuple[float, str]
FONT_FACE = re.compile(r"@font-face\s*\{.*?\}\s*", re.DOTALL)


def record(command: str, work: Path) -> list[Event]:
    """Run a command in a pseudo-terminal; what it wrote, with the seconds since its start.

    Raises SystemExit when it fails or takes longer than ``LIMIT_S``.
    """
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    told = {**environment(), "TERM": "xterm-256color", "COLUMNS": str(COLUMNS)}
    told.pop("NO_COLOR")
    start = time.perf_counter()
    process = subprocess.Popen(
        shlex.split(command), cwd=work, env=told, stdin=follower, stdout=follower, stderr=follower, close_fds=True
    )
    os.close(follower)
    events: list[Event] = [(0.0, f"$ {command}\r\n")]
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    try:
        while time.perf_counter() - start < LIMIT_S:
            if not select.select([leader], [], [], 0.5)[0]:
                continue
            try:
                data = os.read(leader, 65536)
            except OSError:  # the last writer is gone
                break
            if text := decoder.decode(data):
                events.append((round(time.perf_counter() - start, 3), text.replace(str(work), ".")))
        else:
            raise SystemExit(f"not done after {LIMIT_S} s: {command}")
    finally:
        os.close(leader)
        if process.poll() is None and time.perf_counter() - start >= LIMIT_S:
            process.kill()
        code = process.wait()
    if code:
        raise SystemExit(f"exit code {code}: {command}\n{''.join(text for _, text in events)}")
    return events


def cast(events: list[Event], title: str) -> str:
    """asciinema's file format, version 2: a header, then one event a line."""
    header = {"version": 2, "width": COLUMNS, "height": ROWS, "idle_time_limit": IDLE_S, "title": title}
    lines = [header, *([seconds, "o", text] for seconds, text in events)]
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def final_text(events: list[Event]) -> str:
    """The lines as they stand at the end: what a carriage return went back over is gone."""
    lines = "".join(text for _, text in events).replace("\r\n", "\n").split("\n")
    return "\n".join(line.rsplit("\r", 1)[-1].replace("\x1b[K", "").rstrip() for line in lines).rstrip()


def svg(text: str, title: str) -> str:
    """A picture of a terminal, by rich; in the reader's own monospaced font: none is loaded from elsewhere."""
    from rich.console import Console
    from rich.text import Text

    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, legacy_windows=False)
    console.print(Text.from_ansi(text), highlight=False, soft_wrap=False)
    picture = console.export_svg(title=title, unique_id="assay")
    return FONT_FACE.sub("", picture).replace("Fira Code, monospace", "monospace")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "docs", help="the folder the command runs in")
    work = parser.parse_args().work.resolve()
    prepare(work)
    shutil.rmtree(work / "runs" / "recorded", ignore_errors=True)  # it would be resumed
    events = record(COMMAND, work)
    IMAGES.mkdir(exist_ok=True)
    text, picture = cast(events, "assay run"), svg(final_text(events), "assay run")
    (IMAGES / "terminal.cast").write_text(text)
    (IMAGES / "terminal.svg").write_text(picture)
    print(f"{len(events)} events, {events[-1][0]:.0f} s")


if __name__ == "__main__":
    main()
