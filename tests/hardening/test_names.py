"""Names with paths, options and terminal escapes in them: of models, files, labels, Records and tables."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
from tests.hardening.attack import told
from tests.hardening.corpus import call, command, digits_by_mean
from tests.hardening.fuzz import Worker

from assay.bundle.manifest import write_manifest
from assay.core.errors import BadInput
from assay.job.folder import default_folder
from assay.job.serve.loading import served_name
from assay.job.serve.options import Serving

NAMES = (
    "../../x", "/etc/passwd", "..", ".", "-rf", "--help", "a\0b", "a\nb", "x" * 10_000, "三" * 3000, "~/x",
    "$(touch x)", "`x`", "a;b", "C:\\x", "\u202egnp", "a\x1b[2Jb", "\udcff", " ", "", "con",
    "a/b\\c", "%2e%2e%2f", ".hidden",
)  # fmt: skip
PLAIN = ("$(touch x)", "`x`", "a;b", " ", "%2e%2e%2f")
"""Odd, and one folder's name all the same."""
ESCAPES = "\x1b[2J\x1b]0;title\x07\x1b[31mred\x9b31m\r\x08\u202egnp"


@pytest.mark.parametrize("name", NAMES)
def test_a_run_folder_stays_in_its_place(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = default_folder(name)
    assert folder.parent == Path("runs") and folder.name[0] not in ".-"
    folder.mkdir(parents=True)
    assert list((tmp_path / "runs").iterdir()) == [tmp_path / folder]
    assert folder.name.isprintable()


@pytest.mark.parametrize("name", NAMES)
def test_a_served_model_has_a_name_that_a_url_and_a_folder_can_have(name: str) -> None:
    fit = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
    assert fit.fullmatch(served_name(Serving(f"nowhere/{name}.onnx".replace("\0", ""))))
    assert fit.fullmatch(served_name(Serving(f"timm:{name}")))
    if name in ("", "con"):
        return
    with pytest.raises(BadInput, match="a model's name has"):
        served_name(Serving("a.onnx", name=name))


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("", "con")])
def test_a_repository_is_not_left(name: str, finished: Path, worker: Worker, tmp_path: Path) -> None:
    """As --name, and as what the bundle says its model is called."""
    out = tmp_path / "in" / "repository"
    ways = [command("pack", finished / "bundle", "-o", out, "--layout", "triton", "--name", name)]
    bundle = tmp_path / "bundle"
    shutil.copytree(finished / "bundle", bundle)
    described = json.loads((bundle / "bundle.json").read_text())
    (bundle / "bundle.json").write_text(json.dumps({**described, "model": name}))
    write_manifest(bundle)
    ways.append(command("pack", bundle, "-o", out, "--layout", "triton"))
    for case in ways:
        code, said = told(worker, case)
        assert code == (0 if name in PLAIN else 2), said
        assert code == 2 or (out / name).is_dir()
        shutil.rmtree(out, ignore_errors=True)
    left = (
        {p.name for p in tmp_path.iterdir()} | {p.name for p in (tmp_path / "in").iterdir()}
        if out.parent.exists()
        else set()
    )
    assert left <= {"bundle", "in", "repository"}


@pytest.mark.parametrize("field", ["model", "engine", "id", "raw", "kind"])
def test_records_with_paths_for_names(field: str, finished: Path, worker: Worker, tmp_path: Path) -> None:
    """A run folder from elsewhere: nothing is written or read outside of it."""
    for number, name in enumerate(("../../../climbed", "/etc/passwd", "a\0b", "x" * 5000)):
        run = tmp_path / str(number) / "run"
        shutil.copytree(finished, run)
        lines = [json.loads(line) for line in (run / "records.jsonl").read_text().splitlines()]
        for line in lines:
            if field in ("model", "engine"):
                line["subject"][field] = name
            elif field == "raw":
                line["raw"] = {"path": name, "sha256": "0" * 64, "unit": "s"}
            else:
                line[field] = name
        (run / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        about = json.loads((run / "run.json").read_text())
        (run / "run.json").write_text(json.dumps({**about, "model": name, "spec": name}))
        before = _tree(tmp_path)
        for case in (
            command("report", run),
            command("compare", run, finished, "--allow", "basis"),
            command("gate", run),
        ):
            code, said = told(worker, case)
            assert code in (0, 1, 2), said
            assert "root:" not in said
        new = {path for path in _tree(tmp_path) - before if not path.is_relative_to(run)}
        assert new == set()


def _tree(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def test_files_whose_names_are_not_text(worker: Worker, tmp_path: Path) -> None:
    """Bytes that are no UTF-8, line ends and quotes in a file's name."""
    made = digits_by_mean(tmp_path)
    for number, name in enumerate(
        (b"\xff\xfe.onnx", b"a\nb.onnx", b"-rf.onnx", b"'\".onnx", ESCAPES.encode() + b".onnx")
    ):
        path = tmp_path / os.fsdecode(name)
        shutil.copyfile(made, path)
        code, said = told(worker, command("inspect", path))
        assert code == (2 if b"\xff" in name else 0), said
        if code:
            assert "not UTF-8" in said
            continue
        out = tmp_path / str(number)
        case = command("build", path, "--engine", "openvino", "-o", out)
        assert told(worker, case)[0] == 0
        assert told(worker, command("bench", path, "--batch", 1, "--duration", 0.05, "--out", out))[0] == 0
        assert told(worker, call("serve_model", path))[0] == 0


def hostile_model(folder: Path) -> Path:
    """Escapes wherever an ONNX file has a name."""
    path = digits_by_mean(folder)
    model = onnx.load(path)
    graph = model.graph
    graph.name = model.producer_name = model.doc_string = graph.node[0].name = graph.node[1].name = ESCAPES
    graph.node[0].output[0] = graph.node[1].input[0] = f"c{ESCAPES}"
    graph.input[0].name = graph.node[0].input[0] = f"x{ESCAPES}"
    graph.output[0].name = graph.node[1].output[0] = f"y{ESCAPES}"
    graph.input[0].type.tensor_type.shape.dim[0].dim_param = "n"
    model.metadata_props.add(key=ESCAPES, value=ESCAPES)
    made = folder / f"m{ESCAPES}.onnx"
    onnx.save(model, str(made))
    return made


def on_a_terminal(words: list[str], folder: Path) -> str:
    """What a terminal would be sent: both streams of the tool are one."""
    ours, theirs = pty.openpty()
    code = "import sys; from assay.cli.main import main; sys.exit(main())"
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "200"}
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words], stdin=theirs, stdout=theirs, stderr=theirs, cwd=folder, env=environment
    )
    os.close(theirs)
    text = b"".join(_pieces(ours))
    process.wait(timeout=60)
    os.close(ours)
    return text.decode(errors="replace")


def _pieces(descriptor: int) -> Iterator[bytes]:
    while True:
        try:
            piece = os.read(descriptor, 65536)
        except OSError:  # the other end was closed
            return
        if not piece:
            return
        yield piece


OURS = re.compile(r"\x1b\[[0-9;]*m|\r\x1b\[K|\r\n")
"""Colours, a progress line written anew, line ends: what assay itself sends."""


def test_a_terminal_is_sent_no_escapes_of_a_stranger(finished: Path, tmp_path: Path) -> None:
    """Titles, cursor, screen and reversed text: a model's names could hide a verdict or forge one."""
    model = hostile_model(tmp_path)
    labels = tmp_path / "bundle"
    shutil.copytree(finished / "bundle", labels)
    described: dict[str, Any] = json.loads((labels / "bundle.json").read_text())
    (labels / "bundle.json").write_text(json.dumps({**described, "model": ESCAPES}))
    (labels / "labels.json").write_text(json.dumps([ESCAPES] * 10))
    (labels / "preprocess.json").write_text(json.dumps({"kind": "none"}))
    write_manifest(labels)
    import numpy as np

    np.save(tmp_path / f"{ESCAPES}.npy", np.zeros((1, 8, 8), np.float32))
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    lines = [json.loads(line) for line in (run / "records.jsonl").read_text().splitlines()]
    for line in lines:
        line["subject"]["engine"] = line["subject"]["model"] = ESCAPES
        line["warnings"] = [ESCAPES]
    (run / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for words in (
        ["inspect", str(model), "--nodes"],
        ["bench", str(model), "--batch", "1", "--duration", "0.05"],
        ["verify", str(model), str(model), "--samples", "2", "--batch", "1"],
        ["predict", str(labels), str(tmp_path / f"{ESCAPES}.npy")],
        ["check", str(labels)],
        ["runs", str(tmp_path)],
        ["compare", str(run), str(run)],
        ["inspect", f"nothing{ESCAPES}.onnx"],
        [f"verb{ESCAPES}"],
    ):
        text = on_a_terminal(words, tmp_path)
        assert len(text) > 20, words
        rest = OURS.sub("", text)
        assert [c for c in rest if c != "\t" and c != "\n" and not c.isprintable()] == [], (words, rest)


FORGED = "it went wrong\nFORGED passed  sha256:0000\r\nFORGED verdict: passed\u2028FORGED x"
"""A sentence of several lines, as a message, a note or a reason of a stranger's file may be."""


def forged(value: Any) -> Any:
    """Every sentence of a JSON value replaced; what is looked up by name stays."""
    if isinstance(value, dict):
        free = ("reason", "warnings", "text", "limit", "not_checked", "source", "command", "label", "environment", "os")
        return {
            k: v if k == "label" and not isinstance(v, str) else _lines(v) if k in free else forged(v)
            for k, v in value.items()
        }
    return [forged(v) for v in value] if isinstance(value, list) else value


def _lines(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _lines(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_lines(v) for v in value] or [FORGED]
    return FORGED if isinstance(value, str) else value


def test_a_sentence_of_several_lines_forges_no_line(finished: Path, worker: Worker, tmp_path: Path) -> None:
    """In Records, verdicts, goldens and descriptions: none of its lines stands at the beginning of one of ours."""
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    bundle = run / "bundle"
    for file in ("bundle.json", "goldens.json", "verdict.json"):
        (bundle / file).write_text(json.dumps(forged(json.loads((bundle / file).read_text()))))
    for file in ("run.json", "verdict.json"):
        (run / file).write_text(json.dumps(forged(json.loads((run / file).read_text()))))
    for place in (run, bundle):
        lines = [json.loads(line) for line in (place / "records.jsonl").read_text().splitlines()]
        failed = {**lines[-1], "id": "x", "kind": "build", "status": "failed", "reason": FORGED}
        (place / "records.jsonl").write_text("".join(json.dumps(forged(r)) + "\n" for r in (*lines, failed)))
    write_manifest(bundle)
    shown = 0
    for case in (
        command("check", bundle),
        command("replay", bundle, "--duration", "50ms"),
        command("gate", run),
        command("compare", run, finished, "--allow", "basis"),
        command("runs", tmp_path),
        command("runs", tmp_path, "--records"),
        command("runs", tmp_path, "--diff", run, finished),
        command("pack", bundle, "-o", tmp_path / "triton", "--layout", "triton"),
        command("report", run),
    ):
        code, said = told(worker, case)
        assert code in (0, 1, 2), said
        assert not [line for line in said.splitlines() if line.startswith("FORGED")], said
        shown += said.count("FORGED")
    assert shown > 5  # the sentences were shown, so they could have forged something
    recipe = json.loads((bundle / "bundle.json").read_text())
    (bundle / "bundle.json").write_text(json.dumps({**recipe, "artifact": None, "recipe": {"command": FORGED}}))
    shutil.rmtree(bundle / "model")
    write_manifest(bundle)
    _, said = told(worker, command("check", bundle))
    assert "  | FORGED" in said
    assert not [line for line in said.splitlines() if line.startswith("FORGED")], said
