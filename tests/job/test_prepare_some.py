"""``assay prepare``: drawn samples, the same that ``assay evaluate --limit`` scores, and what is said of the data."""

from __future__ import annotations

import io
import json
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from assay.cli.main import run_cli
from assay.core.errors import BadInput
from assay.data import ReaderContext, open_reader
from assay.job.prepare_set import Preparation, PreparedSet, prepare_set
from assay.job.progress import Silent
from assay.measure.predictions import read_predictions
from assay.sources import SourceOptions

CLASSES = ("cat", "dog", "owl")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty pictures of each of three classes."""
    root = tmp_path_factory.mktemp("pictures")
    for place, name in enumerate(CLASSES):
        (root / name).mkdir()
        for i in range(40):
            Image.new("L", (8, 8), 6 * i + place).save(root / name / f"{name}{i:02}.png")
    return root


def prepared(pictures: Path, out: Path, **how: object) -> PreparedSet:
    asked = Preparation(f"imagefolder:{pictures}", out, mode="jpg", **how)  # type: ignore[arg-type]
    return prepare_set(asked, SourceOptions(), Silent())


def names(found: PreparedSet) -> list[str]:
    return [Path(line.split()[1]).stem for line in found.info.read_text().splitlines()]


def test_they_are_of_all_classes_and_in_their_order(pictures: Path, tmp_path: Path) -> None:
    found = prepared(pictures, tmp_path / "set", limit=30)
    assert (found.written, found.drawn_from) == (30, 120)
    assert names(found) == sorted(set(names(found)))
    assert Counter(name[:3] for name in names(found)).keys() == set(CLASSES)
    said = json.loads((tmp_path / "set" / "prepared.json").read_text())
    assert said["drawn"] == {"from": 120, "seed": 0}
    assert said["counts"] == {"read": 30, "written": 30, "failed": 0}


def test_the_seed_draws_them_and_as_many_as_there_are_are_all(pictures: Path, tmp_path: Path) -> None:
    first, again, other = (
        names(prepared(pictures, tmp_path / str(i), limit=30, seed=seed)) for i, seed in enumerate((0, 0, 1))
    )
    assert first == again != other
    assert set(names(prepared(pictures, tmp_path / "fewer", limit=12))) < set(first)
    for limit in (120, 500, None):
        found = prepared(pictures, tmp_path / f"all{limit}", limit=limit)
        assert (found.written, found.drawn_from) == (120, None)
        assert json.loads((tmp_path / f"all{limit}" / "prepared.json").read_text())["drawn"] is None


def test_evaluate_with_the_same_limit_scores_the_same_samples(
    pictures: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pre.py").write_text(
        "import io\nimport numpy as np\nfrom PIL import Image\n"
        "def unit(content):\n    return np.asarray(Image.open(io.BytesIO(content)), np.float32)[None] / 255\n"
    )
    data = ["--data", f"imagefolder:{pictures}", "--preprocess", f"{tmp_path / 'pre.py'}:unit", "--trust"]
    some = ["--limit", "25", "--seed", "7"]
    assert run_cli(["evaluate", str(model), *data, *some, "-o", str(tmp_path / "out")]) == 0
    assert run_cli(["prepare", *data, *some, "-o", str(tmp_path / "set")]) == 0
    said = capsys.readouterr()
    assert "25 files, 0 failed, drawn from 120 samples with seed 7" in said.out
    assert "25 samples drawn from 120 with seed 7" in said.err
    scored = {Path(s.id).stem for s in read_predictions(tmp_path / "out" / "predictions.jsonl.gz")}
    files = {p.stem for p in (tmp_path / "set" / "prep_dataset").iterdir()}
    assert scored == files and len(files) == 25
    again = ["evaluate", str(model), "--data", f"prepared:{tmp_path / 'set' / 'prep_bin.info'}"]
    assert run_cli([*again, "-o", str(tmp_path / "again")]) == 0
    rows = [{Path(s.id).stem: s.correct for s in read_predictions(tmp_path / o / "predictions.jsonl.gz")}
            for o in ("out", "again")]  # fmt: skip
    assert rows[0] == rows[1]


def test_json_says_that_they_were_drawn(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["prepare", "--data", f"imagefolder:{pictures}", "--mode", "jpg", "--json"]
    assert run_cli([*asked, "--limit", "5", "-o", str(tmp_path / "some")]) == 0
    assert json.loads(capsys.readouterr().out)["drawn"] == {"from": 120, "seed": 0}
    assert run_cli([*asked, "-o", str(tmp_path / "all")]) == 0
    assert json.loads(capsys.readouterr().out)["drawn"] is None


def test_one_that_cannot_be_read_goes_by_its_place_in_the_data_and_the_rest_stay_the_same(tmp_path: Path) -> None:
    rows = np.arange(40, dtype=np.float32).reshape(40, 1, 1, 1)
    lines = []
    for place, row in enumerate(rows):
        row.tofile(tmp_path / f"r{place:02}.bin")
        lines.append(f"{place} ./r{place:02}.bin 1 1\n")
    (tmp_path / "set.info").write_text("".join(lines))
    (tmp_path / "same.py").write_text("def same(x): return x\n")
    data, same = f"prepared:{tmp_path / 'set.info'}", f"{tmp_path / 'same.py'}:same"
    asked = Preparation(data, tmp_path / "whole", preprocess=same, limit=10)
    whole = names(prepare_set(asked, SourceOptions(), Silent()))
    (tmp_path / f"{whole[3]}.bin").unlink()
    broken = Preparation(data, tmp_path / "broken", preprocess=same, limit=10, max_failures=1)
    found = prepare_set(broken, SourceOptions(), Silent())
    assert [id for id, _ in found.failures] == [f"item {int(whole[3][1:])}"]
    assert names(found) == [name for name in whole if name != whole[3]]
    assert (found.written, found.drawn_from) == (9, 40)


def test_an_interrupted_one_begins_anew_and_a_finished_one_is_not_added_to(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a killed process left beside the place, of the first samples say, is in no set."""
    left = tmp_path / ".set.tmp" / "prep_dataset"
    left.mkdir(parents=True)
    (left / "cat00.png").write_bytes(b"half")
    (left / "stray.png").write_bytes(b"of the first ones")
    found = prepared(pictures, tmp_path / "set", limit=12)
    assert {p.stem for p in (tmp_path / "set" / "prep_dataset").iterdir()} == set(names(found))
    assert "stray" not in names(found) and not left.exists()

    class Interrupting(Silent):
        def advance(self, done: int, total: int) -> None:
            raise KeyboardInterrupt

    asked = Preparation(f"imagefolder:{pictures}", tmp_path / "again", mode="jpg", limit=12)
    with pytest.raises(KeyboardInterrupt):
        prepare_set(asked, SourceOptions(), Interrupting())
    assert not (tmp_path / "again").exists()
    assert names(prepare_set(asked, SourceOptions(), Silent())) == names(found)
    with pytest.raises(BadInput, match="exists and is not empty"):
        prepared(pictures, tmp_path / "set", limit=13)


def test_what_the_reader_warns_of_is_said(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for place, name in enumerate((*CLASSES, "yak")):
        (tmp_path / "tree" / name).mkdir(parents=True)
        if name != "owl":
            Image.new("L", (8, 8), place).save(tmp_path / "tree" / name / f"{name}.png")
    command = ["prepare", "--data", f"imagefolder:{tmp_path / 'tree'}", "--mode", "jpg", "--json"]
    for out, more in (("all", []), ("some", ["--limit", "2"])):
        assert run_cli([*command, *more, "-o", str(tmp_path / out)]) == 0
        told = capsys.readouterr()
        (warning,) = json.loads(told.out)["warnings"]
        assert "1 of 4 class folders" in warning and "hold" in warning and "owl" in warning
        assert "warning: 1 of 4 class folders" in told.err
        assert json.loads((tmp_path / out / "prepared.json").read_text())["warnings"] == [warning]
    assert prepared(pictures, tmp_path / "whole").warnings == ()


def shard(path: Path, unlabelled: tuple[int, ...]) -> str:
    """Six samples, those at these places without a label."""
    with tarfile.open(path, "w") as tar:
        for i in range(6):
            picture = io.BytesIO()
            Image.new("L", (8, 8), i).save(picture, "png")
            files = {f"s{i}.png": picture.getvalue()} | ({} if i in unlabelled else {f"s{i}.cls": b"%d" % (i % 3)})
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return f"webdataset:{path}"


def test_samples_without_a_label_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for without, said in (((4,), "1 of 6 samples has no label"), ((1, 4), "2 of 6 samples have no label")):
        data, out = shard(tmp_path / "a.tar", without), tmp_path / f"out{len(without)}"
        assert run_cli(["prepare", "--data", data, "--mode", "jpg", "-o", str(out)]) == 0
        told = " ".join(capsys.readouterr().err.split())
        assert f"warning: {said}: val_label.txt has {6 - len(without)} lines" in told
        assert len((out / "val_label.txt").read_text().splitlines()) == 6 - len(without)
        with pytest.raises(BadInput, match="have no label"):
            open_reader(f"prepared:{out / 'prep_jpg.info'}", ReaderContext())
    for without in ((), tuple(range(6))):
        asked = Preparation(shard(tmp_path / "a.tar", without), tmp_path / f"quiet{len(without)}", mode="jpg")
        found = prepare_set(asked, SourceOptions(), Silent())
        assert (found.warnings, found.labels is None) == ((), len(without) == 6)
