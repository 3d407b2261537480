"""What tells one state of the data from another: a run is resumed on the same data and the same preprocessing only."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from assay.graph.signature import read_signature
from assay.job.dataset import open_data
from assay.job.progress import Silent
from assay.job.request import Objects, RunRequest
from assay.job.user_code import user_transform
from assay.sources import SourceOptions, resolve_model


def identity(model: Path, data: str, preprocess: str | None = None) -> str:
    found = resolve_model(str(model), SourceOptions(out_dir=model.parent))
    objects = Objects(preprocess=user_transform(preprocess) if preprocess else None)
    return open_data(RunRequest(str(model), Path("run"), data), objects, found, read_signature(model)).identity


def shard(path: Path, grey: int) -> None:
    file = io.BytesIO()
    Image.new("L", (8, 8), grey).save(file, "PNG")
    with tarfile.open(path, "w") as tar:
        for name, content in (("a.png", file.getvalue()), ("a.cls", b"3")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


@pytest.fixture
def grey(tmp_path: Path) -> str:
    (tmp_path / "pre.py").write_text(
        "import io\nimport numpy as np\nfrom PIL import Image\n"
        "def grey(content): return np.asarray(Image.open(io.BytesIO(content)), dtype=np.float32)[None] / 255\n"
    )
    return f"{tmp_path}/pre.py:grey"


@pytest.mark.parametrize("pattern", ["s-*.tar", "s-{0..1}.tar"])
def test_the_files_of_a_pattern_count(model: Path, tmp_path: Path, grey: str, pattern: str) -> None:
    for number in range(2):
        shard(tmp_path / f"s-{number}.tar", number)
    data = f"webdataset:{tmp_path}/{pattern}"
    before = identity(model, data, grey)
    assert identity(model, data, grey) == before
    (tmp_path / "s-1.tar").unlink()
    shard(tmp_path / "s-1.tar", 200)
    assert identity(model, data, grey) != before


def test_the_files_of_a_prepared_set_count_and_not_only_their_list(model: Path, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    rows = np.zeros((1, 8, 8), "<f4")
    (tmp_path / "set" / "a.bin").write_bytes(rows.tobytes())
    (tmp_path / "set.info").write_text("0 ./set/a.bin 8 8\n")
    before = identity(model, f"prepared:{tmp_path}/set.info")
    assert identity(model, f"prepared:{tmp_path}/set.info") == before
    (tmp_path / "set" / "b.bin").write_bytes((rows + 1).tobytes())
    (tmp_path / "set" / "b.bin").replace(tmp_path / "set" / "a.bin")
    assert identity(model, f"prepared:{tmp_path}/set.info") != before


def test_the_code_of_a_users_own_preprocessing_counts(model: Path, tmp_path: Path) -> None:
    file = tmp_path / "pre.py"
    text = (model.parent / "pre.py").read_text()
    file.write_text(text)
    before = identity(model, "digits", f"{file}:unit")
    assert identity(model, "digits", f"{file}:unit") == before
    file.write_text(text.replace("/ 255", "/ 254"))
    assert identity(model, "digits", f"{file}:unit") != before


def test_a_run_with_mended_preprocessing_is_not_resumed_with_the_old_accuracy(model: Path, tmp_path: Path) -> None:
    from assay.job.pipeline import run
    from assay.job.request import Effort

    file = tmp_path / "pre.py"
    right = (model.parent / "pre.py").read_text()
    effort = Effort(measure_s=0.05, confirm_s=0.05, verify_samples=2, max_samples=200)
    tops = []
    for text in (right.replace("/ 255", "* 0"), right):
        file.write_text(text)
        asked = RunRequest(str(model), tmp_path / "r", "digits", ("onnxruntime",), ("fp32",), (1,), effort=effort)
        found = run(asked, Objects(preprocess=user_transform(f"{file}:unit")), Silent())
        tops.append(next(r.value("accuracy.top1") for r in found.records if r.kind == "evaluate"))
    assert tops[0] < 0.3 < 0.8 < tops[1]
