"""Code blocks of all pages: Python compiles and its imports resolve, shell commands exist with their options."""

from __future__ import annotations

import ast
import importlib
import os
import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import click
import numpy as np
import pytest

from assay.cli.main import VERBS
from assay.core.table import load

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
FENCE = re.compile(r"^(`{3,})([^\n`]*)\n(.*?)^\1[ \t]*$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"(?<!`)`(assay [a-z][^`\n]*)`(?!`)")
RUN = {
    "concepts.md": "",
    "index.md": "",
    "batching.md": """
import onnx
from onnx import TensorProto, helper

from assay.core import clock
from assay.core.artifact import file_artifact
from assay.core.engine import OpenOptions
from assay.engines.onnxruntime import OnnxRuntimeEngine

ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in "xy"]
graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ends[:1], ends[1:])
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "net.onnx")
session = OnnxRuntimeEngine().open(file_artifact(Path("net.onnx"), "onnx"), OpenOptions(instances=2))
one_row = {"x": np.ones((1, 3), np.float32)}
feed, who, done = {"x": np.ones((2, 3), np.float32)}, "me", []
on_done = done.extend
""",
    "importing.md": """
import shutil

shutil.copy(FIXTURES / "trtexec_8_2.txt", "trtexec.log")
""",
}
"""Pages whose Python runs from top to bottom, in one namespace, after what the reader is taken to have."""
FIXTURES = ROOT / "tests" / "importers" / "fixtures"


@dataclass(frozen=True)
class Block:
    """A fenced block, or one command in a sentence: its page, its line there, its language, its text."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    """Every Markdown page a reader meets: the site's, the README, those of the examples."""
    return [*sorted(DOCS.rglob("*.md")), ROOT / "README.md", *sorted((ROOT / "examples").rglob("README.md"))]


@cache
def fenced() -> tuple[Block, ...]:
    found = []
    for page in pages():
        text = page.read_text()
        for match in FENCE.finditer(text):
            language = match[2].strip().partition(" ")[0]
            found.append(Block(page, text.count("\n", 0, match.start()) + 1, language, match[3]))
    assert len(found) > 50
    return tuple(found)


# Python


def tree_of(text: str) -> ast.Module:
    """A block, or an entry of a table (``"name": "module:attribute",``) as a dict."""
    text = textwrap.dedent(text)
    try:
        return ast.parse(text)
    except SyntaxError:
        return ast.parse("{" + text + "}")


PYTHON = [block for block in fenced() if block.language == "python"]


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_python_compiles_and_its_imports_resolve(block: Block) -> None:
    tree = tree_of(block.text)
    compile(tree, str(block), "exec")
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module or "")
            missing = [a.name for a in node.names if not hasattr(module, a.name) and not _submodule(module, a.name)]
            assert missing == [], f"{block}: {node.module} has no {missing}"
        elif isinstance(node, ast.Import):
            for alias in node.names:
                importlib.import_module(alias.name)


def _submodule(module: object, name: str) -> bool:
    try:
        importlib.import_module(f"{module.__name__}.{name}")  # type: ignore[attr-defined]
    except ImportError:
        return False
    return True


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_what_is_used_of_assay_exists(block: Block) -> None:
    import assay

    for node in ast.walk(tree_of(block.text)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "assay":
            assert hasattr(assay, node.attr), f"{block}: assay has no {node.attr}"


@pytest.mark.parametrize("page", RUN)
def test_python_of_the_page_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    texts = [block for block in PYTHON if block.page == DOCS / page]
    assert texts, f"{page} has no Python"
    names: dict[str, object] = {"np": np, "Path": Path, "FIXTURES": FIXTURES}
    exec(compile(RUN[page], f"before {page}", "exec"), names)
    for block in texts:
        exec(compile(block.text, str(block), "exec"), names)


# The shell


@dataclass(frozen=True)
class Command:
    where: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.where} {' '.join(self.words[:2])}"


def commands() -> list[Command]:
    """Every ``assay …`` of a shell block, a transcript or a sentence."""
    found = []
    for block in fenced():
        if block.language in ("", "sh", "bash", "console", "text"):
            prompt = "$ " if re.search(r"^\$ ", block.text, re.MULTILINE) else ""
            found += [Command(str(block), words) for words in _lines(block.text, prompt)]
    for page in pages():
        text = FENCE.sub(lambda match: "\n" * match[0].count("\n"), page.read_text())
        for match in INLINE.finditer(text):
            where = f"{page.relative_to(ROOT)}:{text.count(chr(10), 0, match.start()) + 1}"
            found += [Command(where, words) for words in _lines(match[1], "")]
    return found


def _lines(text: str, prompt: str) -> Iterator[tuple[str, ...]]:
    """The words of each ``assay`` command; what follows a pipe, ``&&`` or ``#`` is another matter."""
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        if not line.startswith(prompt):
            continue
        words = _words(line.removeprefix(prompt).strip())
        if words[:1] == ["assay"] and len(words) > 1 and not words[1].endswith(":"):
            end = next((i for i, word in enumerate(words) if word in ("|", "&&", ";", "&", ">", "2>&1")), len(words))
            yield tuple(words[1:end])


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line, comments=True)
    except ValueError:
        return line.split()


def problems(words: tuple[str, ...]) -> list[str]:
    """What is not so about a command: its verb, or one of its options."""
    if words[0].startswith("-"):
        return [] if words[0] in ("--help", "-h", "--version") else [f"assay has no option {words[0]}"]
    if not re.fullmatch(r"[a-z_]+", words[0]):
        return []
    if words[0] not in VERBS:
        return [f"there is no verb {words[0]!r}"]
    verb: click.Command = load(VERBS[words[0]])
    known = {text for p in verb.get_params(click.Context(verb)) for text in (*p.opts, *p.secondary_opts)} | {"-h"}
    asked = [re.split(r"[=\]|/]", word.lstrip("["))[0] for word in words[1:] if re.match(r"\[?--?[a-zA-Z]", word)]
    return [f"assay {words[0]} has no option {name}" for name in asked if name not in known]


@pytest.mark.parametrize("command", commands(), ids=str)
def test_the_command_exists(command: Command) -> None:
    assert problems(command.words) == [], command.where


def test_enough_commands_were_found() -> None:
    seen = {command.words[0] for command in commands()}
    assert set(VERBS) <= seen, f"no page shows {sorted(set(VERBS) - seen)}"


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("assay exprot m.onnx", 1),
        ("assay export m.onnx --optset 11", 1),
        ("assay run m.onnx --data digits | head", 0),
        ("assay runs --diff A B", 0),
        ("assay bench m.onnx --batch=1,8 --nothing=3", 1),
    ],
)
def test_the_test_can_fail(line: str, wrong: int) -> None:
    ((words),) = _lines(line, "")
    assert len(problems(words)) == wrong


# Links


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_files_lead_somewhere(page: Path) -> None:
    """Also those that leave the site, and those of the README, which the site does not have."""
    text = FENCE.sub("", page.read_text())
    made = {DOCS / "api.md"}  # while the site is built
    missing = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path = target.partition("#")[0]
        if not path or re.match(r"[a-z]+:", path):
            continue
        found = Path(os.path.normpath(page.parent / path))
        if found not in made and not found.exists():
            missing.append(target)
    assert missing == []
