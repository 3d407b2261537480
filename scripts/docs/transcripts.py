#!/usr/bin/env python3
"""Runs the commands between the transcript marks of the pages and writes down what they said.

    python scripts/docs/transcripts.py [--work DIR] [PAGE…]        such as: verbs/export verbs/verify

A page says what is to be run::

    <!-- transcript head=20 tail=5
    assay inspect digits.onnx
    -->
    <!-- /transcript -->

and gets the block below it.  Lines run one after the other in one folder, ``--work``, which all pages share
and which ``prepare`` fills; what a page writes there, a later one may use, so without PAGE they run in the
order of ``ORDER`` in an empty folder.  A line that ends in ``&`` runs until the block is over.  A mark may also say
``cut=TEXT``: lines with that text in them are left out, as are all but the first ``head`` and last ``tail``
lines; "…" stands in their place.  The folder's own path is shown as ``.``.  Nothing else is changed: the digest
in the closing mark is over the block, and the tests refuse one that was typed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
ORDER = (
    "index",
    "verbs/run",
    "verbs/export",
    "verbs/inspect",
    "verbs/build",
    "verbs/quantize",
    "verbs/verify",
    "verbs/diagnose",
    "verbs/prepare",
    "verbs/predict",
    "verbs/evaluate",
    "verbs/bench",
    "verbs/tune",
    "verbs/import",
    "verbs/compare",
    "verbs/gate",
    "verbs/report",
    "verbs/runs",
    "verbs/pack",
    "verbs/check",
    "verbs/replay",
    "verbs/serve",
    "verbs/doctor",
    "verbs/engines",
    "verbs/models",
    "verbs/completion",
)
BLOCK = re.compile(
    r"<!-- transcript(?P<options>[^\n]*)\n(?P<commands>.*?)\n-->\n"
    r"(?P<shown>.*?)<!-- /transcript(?: (?P<digest>\w+))? -->",
    re.DOTALL,
)
WIDTH = 100
READY = re.compile(r"ready|listening|serving", re.IGNORECASE)
STRICT = """\
[accuracy]
max_drop = "0.5%"
required = true

[latency]
batch = 1
p99 = "50us"
"""
DAMAGE = """\
import onnx
from onnx import numpy_helper

model = onnx.load("digits.onnx")
conv = [node for node in model.graph.node if node.op_type == "Conv"][5]
weight = next(t for t in model.graph.initializer if t.name == conv.input[1])
weight.CopyFrom(numpy_helper.from_array(1.02 * numpy_helper.to_array(weight), weight.name))
onnx.save(model, "damaged.onnx")
print("2 % more in the weights of", conv.name)
"""
LOOK = """\
import io

import numpy as np
from PIL import Image


def pixels(data):
    picture = Image.open(io.BytesIO(data)).convert("L").resize((32, 32), Image.Resampling.BILINEAR)
    return (np.asarray(picture, np.float32)[None] / 255 - 0.5) / 0.5
"""
START_TIMEOUT_S, COMMAND_TIMEOUT_S, STOP_TIMEOUT_S = 60, 280, 30


@dataclass(frozen=True)
class Cut:
    """What of an output is shown."""

    head: int = 60
    tail: int = 20
    text: str | None = None

    @classmethod
    def parse(cls, options: str) -> Cut:
        said = dict(part.partition("=")[::2] for part in options.split())
        if set(said) - {"head", "tail", "cut"}:
            raise SystemExit(f"a transcript knows head=, tail= and cut=, not {options.strip()!r}")
        return cls(int(said.get("head", cls.head)), int(said.get("tail", cls.tail)), said.get("cut"))

    def __call__(self, lines: list[str]) -> list[str]:
        kept: list[str] = []
        for line in lines:
            left_out = self.text is not None and self.text in line
            if not left_out or kept[-1:] != ["…"]:
                kept.append("…" if left_out else line)
        if len(kept) <= self.head + self.tail:
            return kept
        return [*kept[: self.head], "…", *kept[len(kept) - self.tail :]]


def digest_of(shown: str) -> str:
    """The digest a closing mark carries."""
    return hashlib.sha256(shown.encode()).hexdigest()[:16]


def prepare(work: Path) -> None:
    """The demo's model and trained weights, a picture, a second and a damaged file, and another tool's log."""
    if (work / "seven.png").exists():
        return
    work.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "examples" / "demo" / "model.py", work / "model.py")
    python = [sys.executable]
    train = [*python, str(ROOT / "examples" / "demo" / "train.py"), "--out", str(work / "trained")]
    subprocess.run(train, check=True, cwd=work)
    shutil.copy(work / "trained" / "weights.pt", work / "weights.pt")
    shutil.rmtree(work / "trained")
    fixtures = ROOT / "tests" / "importers" / "fixtures"
    shutil.copy(fixtures / "benchmark_app_sync.txt", work / "benchmark_app.log")
    shutil.copy(fixtures / "document_card_comparison.md", work / "report-of-a-port.md")
    (work / "strict.toml").write_text(STRICT)
    (work / "damage.py").write_text(DAMAGE)
    (work / "look.py").write_text(LOOK)
    from PIL import Image
    from sklearn.datasets import load_digits

    found = load_digits()
    seven = found.images[[i for i, label in enumerate(found.target) if label == 7][-1]]
    picture = Image.fromarray((seven * (255 / 16)).astype("uint8")).resize((64, 64))
    picture.save(work / "seven.png")


def empty(work: Path) -> None:
    """Remove an earlier work folder.  Refuses a folder that ``prepare`` did not make."""
    if work.exists() and any(work.iterdir()) and not (work / "damage.py").exists():
        raise SystemExit(f"{work} is not a folder of transcripts; give another --work")
    shutil.rmtree(work, ignore_errors=True)


def environment() -> dict[str, str]:
    """As a newcomer's shell has it, with this checkout's ``assay`` on the path."""
    said = {name: value for name, value in os.environ.items() if not name.startswith(("ASSAY", "_ASSAY", "CI"))}
    bin_dir = str(Path(sys.executable).parent)
    return {**said, "PATH": f"{bin_dir}:{said['PATH']}", "COLUMNS": str(WIDTH), "NO_COLOR": "1"}


class Shell:
    """Runs lines in the work folder; what runs in the background is ended with the block."""

    def __init__(self, work: Path) -> None:
        self._work = work
        self._background: list[tuple[subprocess.Popen[str], Path]] = []

    def run(self, line: str) -> list[str]:
        if line.endswith("&"):
            return self._start(line)
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=self._work,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
        )
        lines = self._clean(done.stdout)
        return [*lines, f"(exit code {done.returncode})"] if done.returncode else lines

    def _start(self, line: str) -> list[str]:
        log = self._work / f".background-{len(self._background)}.log"
        with log.open("w") as file:
            process = subprocess.Popen(
                ["bash", "-c", "exec " + line[:-1].strip()],
                cwd=self._work,
                env=environment(),
                stdout=file,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                text=True,
            )
        self._background.append((process, log))
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and process.poll() is None and not READY.search(log.read_text()):
            time.sleep(0.1)
        time.sleep(0.5)
        return self._clean(log.read_text())

    def close(self) -> list[str]:
        said: list[str] = []
        for process, log in self._background:
            before = len(self._clean(log.read_text()))
            process.send_signal(signal.SIGINT)
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            said += ["^C", *self._clean(log.read_text())[before:]]
            log.unlink()
        return said

    def _clean(self, text: str) -> list[str]:
        shown = text.replace(str(self._work), ".").replace(str(ROOT), "assay")
        return [line.rsplit("\r", 1)[-1].rstrip() for line in shown.splitlines()]


def block(work: Path, commands: str, options: str) -> str:
    """The fenced text for the commands of one mark."""
    cut, shell, lines = Cut.parse(options), Shell(work), []
    try:
        for command in commands.splitlines():
            lines.append(f"$ {command}")
            lines += cut(shell.run(command))
    finally:
        lines += shell.close()
    while lines and not lines[-1]:
        lines.pop()
    return "```console\n" + "\n".join(lines) + "\n```\n"


def write(page: Path, work: Path) -> int:
    """Run every block of a page and put the results in; the number of blocks."""
    count = 0

    def filled(match: re.Match[str]) -> str:
        nonlocal count
        count += 1
        shown = block(work, match["commands"], match["options"])
        print(shown, flush=True)
        return (
            f"<!-- transcript{match['options']}\n{match['commands']}\n-->\n"
            f"{shown}<!-- /transcript {digest_of(shown)} -->"
        )

    page.write_text(BLOCK.sub(filled, page.read_text()))
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("pages", nargs="*", metavar="PAGE", help="such as verbs/export; default: all, in order")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "docs", help="the folder the commands run in")
    said = parser.parse_args()
    unknown = set(said.pages) - set(ORDER)
    if unknown:
        raise SystemExit(f"no such page: {', '.join(sorted(unknown))}; there are {', '.join(ORDER)}")
    work = said.work.resolve()
    if not said.pages:  # a folder of results would be resumed, and not show a first run
        empty(work)
    prepare(work)
    for name in said.pages or ORDER:
        print(f"== {name}", flush=True)
        write(DOCS / f"{name}.md", work)


if __name__ == "__main__":
    main()
