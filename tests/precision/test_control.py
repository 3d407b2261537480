"""Accuracy control: plain int8 loses, the controlled one does not, and what was put back is named."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from assay.core.artifact import Artifact, file_artifact
from assay.core.engine import OpenOptions
from assay.core.errors import BadInput, EngineFailed
from assay.core.sample import Sample, stack
from assay.data.digits import DigitsReader
from assay.engines.onnx_precision import graph_precision
from assay.engines.onnxruntime import OnnxRuntimeEngine
from assay.graph.signature import load_model, read_signature
from assay.precision.control import Controlled, Judging, control, rank
from assay.precision.job import Calibration, Job, Layer


def rows(split: str) -> list[Sample]:
    items = DigitsReader(split).items()
    return [Sample(i.id, {"x": (i.content.astype(np.float32) / 255)[None]}, i.target) for i in items]


def run(artifact: Artifact, samples: list[Sample]) -> np.ndarray:
    precision = graph_precision(load_model(artifact.path))
    with OnnxRuntimeEngine().open(artifact, OpenOptions(precision=precision)) as session:
        return session.run(stack(samples, read_signature(artifact.path)))["scores"]


def accuracy(artifact: Artifact, samples: list[Sample]) -> float:
    return float((run(artifact, samples).argmax(1) == [s.target for s in samples]).mean())


def controlled(source: Artifact, folder: Path, method: str, max_drop: float) -> Controlled:
    from assay.core.table import resolve
    from assay.precision import METHODS

    held = rows("train")[:400]
    job = Job(source, read_signature(source.path), "int8", folder, Calibration(tuple(rows("calibration")), "c", 0))
    lowered = resolve(METHODS, method, "method")(job)
    judging = Judging(lambda a: accuracy(a, held), lambda a: {"scores": run(a, held[:16])})
    return control(source, lowered, folder / "out" / "model.onnx", max_drop, judging)


@pytest.mark.parametrize("method", ["nncf", "ort"])
def test_the_hard_model_loses_without_control_and_not_with_it(models, tmp_path, method) -> None:
    found = controlled(models.hard, tmp_path, method, 0.005)
    assert found.plain.drop > 0.01
    assert found.chosen.drop <= 0.005
    assert 0 < len(found.reverted) < found.layers
    assert "second" in {r.layer.name for r in found.reverted}
    # And on samples that had no part in it:
    unseen = rows("test")
    assert accuracy(models.hard, unseen) - accuracy(found.artifact, unseen) < 0.01
    assert [r.snr_db for r in found.ranking] == sorted(r.snr_db for r in found.ranking)
    assert not list(tmp_path.glob("**/ranking-*"))
    assert found.to_json()["reverted"][0]["op"] == "Conv"


def test_the_easy_model_needs_nothing_put_back(models, tmp_path) -> None:
    found = controlled(models.easy, tmp_path, "ort", 0.02)
    assert found.reverted == () and found.ranking == () and found.plain == found.chosen


class Sum:
    """Ten "layers"; the file says which are lowered, and each costs what ``COST`` says."""

    COST = (0.0, 0.001, 0.0, 0.2, 0.0, 0.05, 0.0, 0.004, 0.0, 0.0)
    how: dict = {"library": "none", "version": "0"}  # noqa: RUF012
    layers = tuple(Layer(f"l{i}", "Op") for i in range(len(COST)))

    def write(self, path: Path, keep=()) -> Artifact:
        path.write_text(" ".join(layer.name for layer in self.layers if layer.name not in keep))
        return file_artifact(path, "onnx")


def cost(artifact: Artifact) -> float:
    return sum(Sum.COST[int(word[1:])] for word in artifact.path.read_text().split())


def noisy(artifact: Artifact) -> dict[str, np.ndarray]:
    base = np.ones(100)
    return {"y": base + cost(artifact)}


@pytest.fixture
def source(tmp_path: Path) -> Artifact:
    path = tmp_path / "source"
    path.write_text("")
    return file_artifact(path, "onnx")


@pytest.mark.parametrize(("max_drop", "expected"), [(0.3, 0), (0.06, 1), (0.0051, 2), (0.0011, 3), (0.0, 4)])
def test_as_few_layers_as_needed_are_put_back(source, tmp_path, max_drop, expected) -> None:
    found = control(source, Sum(), tmp_path / "m", max_drop, Judging(lambda a: 0.9 - cost(a), noisy))
    assert [r.layer.name for r in found.reverted] == ["l3", "l5", "l7", "l1"][:expected]
    assert found.chosen.drop <= max_drop + 1e-12
    assert cost(found.artifact) == pytest.approx(found.chosen.drop)


def test_a_relative_drop_is_a_share_of_the_score(source, tmp_path) -> None:
    found = control(source, Sum(), tmp_path / "m", 0.01, Judging(lambda a: 30 - cost(a), noisy, relative=True))
    assert found.reverted == () and found.plain.drop == pytest.approx(0.255 / 30)


def test_nothing_left_lowered_is_an_error(source, tmp_path) -> None:
    class Each(Sum):
        COST = (0.1,) * 10

    def score(artifact: Artifact) -> float:
        return 0.9 if not artifact.path.read_text() else 0.1

    with pytest.raises(EngineFailed, match="all 10 layers"):
        control(source, Each(), tmp_path / "m", 0.01, Judging(score, noisy))


def test_a_model_that_does_not_come_back_is_an_error(source, tmp_path) -> None:
    class Stuck(Sum):
        def write(self, path: Path, keep=()) -> Artifact:
            return super().write(path, ())

    with pytest.raises(EngineFailed, match="cannot be told apart"):
        rank(source, Stuck(), tmp_path / "r", Judging(lambda a: 0.0, noisy))


def test_nan_outputs_rank_worst(source, tmp_path) -> None:
    def outputs(artifact: Artifact) -> dict[str, np.ndarray]:
        return {"y": np.full(4, np.nan if "l6" in artifact.path.read_text() else 1.0)}

    ranking = rank(source, Sum(), tmp_path / "r", Judging(lambda a: 0.0, outputs))
    assert ranking[0].layer.name == "l6" and ranking[0].snr_db == -math.inf
    assert ranking[1].snr_db == math.inf


@pytest.mark.parametrize("wrong", [-0.1, 1.0, 5.0])
def test_a_drop_that_cannot_be_is_refused(source, tmp_path, wrong) -> None:
    with pytest.raises(BadInput, match="cannot be asked"):
        control(source, Sum(), tmp_path / "m", wrong, Judging(lambda a: 0.0, noisy))


def test_a_score_that_is_no_number_is_refused(source, tmp_path) -> None:
    with pytest.raises(BadInput, match="nothing to control"):
        control(source, Sum(), tmp_path / "m", 0.1, Judging(lambda a: math.nan, noisy))


def test_ranking_leaves_nothing_and_takes_nothing_of_the_users(source, tmp_path) -> None:
    """Whatever the file is called, and whatever lies beside it under a similar name."""
    mine = tmp_path / "ranking-m[1]-notes.txt"
    mine.write_text("keep me")
    target = tmp_path / "m[1].onnx"
    control(source, Sum(), target, 0.06, Judging(lambda a: 0.9 - cost(a), noisy))
    assert sorted(tmp_path.iterdir()) == sorted([source.path, mine, target])
    assert mine.read_text() == "keep me"


def test_a_drop_that_no_layer_explains_is_told_as_that(source, tmp_path) -> None:
    """Such as one of a score that another file, if equal, does not reach."""

    def score(artifact: Artifact) -> float:
        return 0.9 if artifact.path == source.path else 0.8 - cost(artifact)

    with pytest.raises(EngineFailed, match=r"does not hold even with all 10 layers put back: it is 10\.00% then"):
        control(source, Sum(), tmp_path / "m", 0.01, Judging(score, noisy))


def test_outputs_of_another_shape_rank_worst(source, tmp_path) -> None:
    """Such as the number of boxes that are found."""

    def outputs(artifact: Artifact) -> dict[str, np.ndarray]:
        return {"y": np.ones(5 if "l6" in artifact.path.read_text() else 4)}

    ranking = rank(source, Sum(), tmp_path / "r", Judging(lambda a: 0.0, outputs))
    assert ranking[0].layer.name == "l6" and ranking[0].snr_db == -math.inf
