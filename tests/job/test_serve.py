"""``assay serve`` put together: what a file says, and nothing left open when a model cannot be served."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.bundle.contents import BundleContents
from assay.bundle.pack import pack
from assay.core.artifact import file_artifact
from assay.core.engine import Candidate, OpenOptions
from assay.core.errors import BadInput
from assay.engines.onnxruntime import OnnxRuntimeEngine
from assay.graph.signature import read_signature
from assay.job.serve import opening
from assay.job.serve.config import read_config, request_of
from assay.job.serve.loading import Models
from assay.job.serve.options import Serving
from assay.job.serve.run import Serve


@pytest.fixture
def bundle(model: Path, tmp_path: Path) -> Path:
    artifact, engine = file_artifact(model, "onnx"), OnnxRuntimeEngine()
    candidate = Candidate(artifact, "onnxruntime", engine.version(), OpenOptions(), "a processor")
    feed = {"x": np.full((1, 1, 8, 8), 0.5, np.float32)}
    with engine.open(artifact, candidate.options) as session:
        goldens = ((feed, session.run(feed)),)
    tolerance = {"max_relative_rms": 1e-5, "source": "test"}
    return pack(BundleContents("means", candidate, read_signature(model), goldens, tolerance), tmp_path / "bundle")


def test_files_beside_the_configuration_are_found_from_elsewhere(tmp_path: Path) -> None:
    for name in ("config.pbtxt", "pre.py", "net.py"):
        (tmp_path / name).write_text("")
    (tmp_path / "serve.toml").write_text(
        'preprocess = "pre.py:fn"\n[[model]]\nsource = "net.py:build"\ntriton_config = "config.pbtxt"\n'
        '[[model]]\nsource = "timm:resnet18"\nname = "b"\npreprocess = "none.py:fn"\n'
    )
    first, second = request_of(read_config(tmp_path / "serve.toml")).models
    assert first.preprocess == f"{tmp_path}/pre.py:fn"
    assert first.source == f"{tmp_path}/net.py:build"
    assert first.triton_config == f"{tmp_path}/config.pbtxt"
    assert (second.source, second.preprocess) == ("timm:resnet18", "none.py:fn")


@pytest.mark.parametrize("every", [0, "0s", float("inf"), "48h"])
def test_a_folder_is_not_watched_without_a_pause(tmp_path: Path, every: Any) -> None:
    with pytest.raises(BadInput, match="cannot be looked at every"):
        request_of({"watch": str(tmp_path), "watch_every": every})


def test_a_watched_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    heard: list[tuple[str, Any]] = []
    serve = Serve(request_of({"watch": str(tmp_path / "modles")}), lambda event, about: heard.append((event, about)))
    serve._load()
    serve._close()
    assert [about["message"] for event, about in heard if event == "warning"] == [
        f"there is no folder {tmp_path / 'modles'}: what it is to hold is served once it is there"
    ]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Every session that was opened for serving."""
    sessions: list[Any] = []
    for name in ("open_packed", "open_candidate"):
        inner = getattr(opening, name)
        monkeypatch.setattr(opening, name, lambda *a, _inner=inner: sessions.append(_inner(*a)) or sessions[-1])
    yield sessions
    for session in sessions:
        session.close()


def closed(session: Any) -> bool:
    try:
        session.run({"x": np.zeros((1, 1, 8, 8), np.float32)})
    except Exception as error:
        return "closed" in str(error)
    return False


def test_what_cannot_be_served_is_closed_again(bundle: Path, tmp_path: Path, opened: list[Any]) -> None:
    """A watched folder is looked at every second: what a failed attempt leaves open fills the machine."""
    threads = threading.active_count()
    request = request_of({"model": [{"source": str(bundle), "name": "m", "preprocess": f"{tmp_path}/none.py:fn"}]})
    with pytest.raises(BadInput):
        Models(request, lambda *_: None).open("m", "1")
    assert opened and all(map(closed, opened))
    assert threading.active_count() == threads
    opened.clear()
    broken = tmp_path / "broken"
    shutil.copytree(bundle, broken)
    (broken / "goldens.json").chmod(0o644)
    (broken / "goldens.json").write_text("{")
    from assay.bundle.manifest import write_manifest

    write_manifest(broken)
    with pytest.raises(BadInput):
        Models(replace(request, models=(Serving(str(broken), name="m"),)), lambda *_: None).open("m", "1")
    assert all(map(closed, opened))
