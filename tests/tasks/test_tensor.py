"""The task for a user's own metric."""

from __future__ import annotations

import json
import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from torch.nn import functional

from assay.core.dataset import Scored
from assay.core.errors import BadInput
from assay.core.stats import mean_interval
from assay.tasks import TaskOptions, open_task

OUTPUT = np.arange(12, dtype=np.float32).reshape(4, 3)
TARGETS = [np.array([0, 1, 1], np.float32) * i for i in range(4)]
IDS = list("abcd")


def mse(outputs: Any, targets: Any) -> float:
    return float(((outputs - targets) ** 2).mean())


def run(metric: Any, outputs: Any = None, targets: Any = None, **options: Any) -> tuple[Any, list[Scored], Any]:
    task = open_task("tensor", TaskOptions(metric=metric, **options))
    scored = task.score(IDS, {"y": OUTPUT} if outputs is None else outputs, TARGETS if targets is None else targets)
    return task, scored, task.figures(scored)


def test_the_mean_over_samples_with_its_interval() -> None:
    task, scored, found = run(mse, unit="m²", higher_is_better=False)
    each = [mse(OUTPUT[i], TARGETS[i]) for i in range(4)]
    assert [s.row for s in scored] == [{"id": i, "values": {"mse": v}} for i, v in zip(IDS, each, strict=True)]
    assert all(s.correct is None for s in scored)
    expected = mean_interval(np.array(each))
    figure = found["metric.mse"]
    assert (figure.value, figure.low, figure.high, figure.n) == (expected.value, expected.low, expected.high, 4)
    assert figure.unit == "m²"
    assert task.primary == "metric.mse"
    assert not task.higher_is_better
    json.dumps([s.row for s in scored], allow_nan=False)


def test_the_function_sees_one_sample_with_a_batch_axis() -> None:
    seen: list[Any] = []

    def look(outputs: Any, targets: Any) -> float:
        seen.append((outputs.shape, np.shape(targets), targets))
        return 1

    run(look)
    assert seen[0][:2] == ((1, 3), (1, 3))
    seen.clear()
    run(look, targets=[3, 1.5, np.int64(2), np.array(7)])
    assert [s[1] for s in seen] == [(1,)] * 4
    seen.clear()
    run(look, targets=["a", None, {"k": 1}, [1, 2]])
    assert [s[2] for s in seen] == ["a", None, {"k": 1}, [1, 2]]


def test_several_outputs_come_as_a_mapping_unless_one_is_named() -> None:
    outputs = {"y": OUTPUT, "z": OUTPUT + 1}
    _, _, both = run(lambda o, t: (o["z"] - o["y"]).mean(), outputs, metric_name="difference")
    assert both["metric.difference"].value == 1
    _, _, one = run(mse, outputs, output="z")
    _, _, alone = run(mse, {"z": OUTPUT + 1})
    assert one == alone
    with pytest.raises(BadInput, match="no output 'w'; it has y, z"):
        run(mse, outputs, output="w")


def test_a_mapping_of_several_metrics() -> None:
    def both(outputs: Any, targets: Any) -> dict[str, Any]:
        return {"mse": mse(outputs, targets), "peak": outputs.max()}

    task, scored, found = run(both)
    assert list(found) == ["metric.mse", "metric.peak"]
    assert found["metric.peak"].value == 6.5
    assert task.primary == "metric.mse"
    assert run(both, primary="peak")[0].primary == "metric.peak"
    resumed = open_task("tensor", TaskOptions(metric=both))
    rows = json.loads(json.dumps([dict(s.row) for s in scored]))
    assert resumed.figures([Scored(r["id"], r) for r in rows]) == found
    assert resumed.primary == "metric.mse"
    with pytest.raises(BadInput, match="gives mse, peak, not 'psnr'"):
        run(both, primary="psnr")


@pytest.mark.parametrize(
    ("metric", "name"),
    [
        (lambda o, t: functional.mse_loss(o, t), "value"),
        (lambda o, t: (o - t).square().mean().item(), "value"),
        (torch.nn.MSELoss(), "MSELoss"),
    ],
)
def test_a_metric_written_for_torch(metric: Any, name: str) -> None:
    _, _, found = run(metric)
    assert found[f"metric.{name}"].value == pytest.approx(run(mse)[2]["metric.mse"].value)


def test_torch_tensors_keep_bfloat16() -> None:
    seen = []

    def metric(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        seen.append(outputs.element_size() and outputs.dtype)
        return outputs.float().mean()

    _, _, found = run(metric, {"y": OUTPUT.astype(ml_dtypes.bfloat16)})
    assert set(seen) == {torch.bfloat16}
    assert found["metric.metric"].value == 5.5


def test_what_is_not_finite_is_withheld_and_said() -> None:
    _, scored, found = run(lambda o, t: math.nan if o[0, 0] == 3 else math.inf if o[0, 0] == 6 else 1.0)
    assert scored[1].row == {"id": "b", "values": {"value": None}, "reason": "value is nan"}
    assert found["metric.value"].value is None
    assert found["metric.value"].reason == "value is not a finite number for 2 of 4 samples, first b"
    json.dumps([s.row for s in scored], allow_nan=False)


def test_too_few_samples_for_an_interval_are_said() -> None:
    task = open_task("tensor", TaskOptions(metric=mse))
    figure = task.figures(task.score(["a", "b"], {"y": OUTPUT[:2]}, TARGETS[:2]))["metric.mse"]
    assert figure.low is None
    assert figure.confidence is None
    assert figure.reason == "too few samples (2) for an interval"


def broken(outputs: Any, targets: Any) -> float:
    raise ZeroDivisionError("by zero")


@pytest.mark.parametrize(
    ("metric", "says"),
    [
        (broken, "a: the metric failed with ZeroDivisionError: by zero"),
        (lambda o: 1.0, r"a: the metric failed on numpy arrays \(TypeError: .*\) and on torch tensors \(TypeError"),
        (lambda o, t: "good", "a: the metric gave str, not a number"),
        (lambda o, t: o, "a: the metric gave ndarray, not a number"),
        (lambda o, t: torch.ones(2), "a: the metric gave Tensor, not a number"),
        (lambda o, t: None, "a: the metric gave NoneType"),
        (lambda o, t: {}, "empty mapping"),
        (lambda o, t: {"one" if o[0, 0] < 5 else "two": 1}, "c: the metric gives two; before it gave one"),
    ],
)
def test_metrics_that_cannot_be_right(metric: Any, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        run(metric)


def test_a_type_error_after_the_first_call_is_told_as_it_is() -> None:
    with pytest.raises(BadInput, match="c: the metric failed with TypeError: late"):
        run(late)


def late(outputs: Any, targets: Any) -> float:
    if outputs[0, 0] > 5:
        raise TypeError("late")
    return 1.0


def test_nothing_passes_vacuously() -> None:
    with pytest.raises(BadInput, match="needs a metric"):
        open_task("tensor")
    with pytest.raises(BadInput, match="not a function"):
        open_task("tensor", TaskOptions(metric="psnr"))  # type: ignore[arg-type]
    task = open_task("tensor", TaskOptions(metric=mse))
    for ids, outputs, targets, says in [
        ([], {"y": OUTPUT[:0]}, [], "no samples"),
        (["a"], {}, [1], "no outputs"),
        (["a"], {"y": OUTPUT[:1]}, [], "1 samples and 0 targets"),
        (["a"], {"y": OUTPUT}, [1], r"shape \(4, 3\), which is not one row for each of 1"),
        (["a"], {"y": np.float32(1) * np.ones(())}, [1], r"shape \(\)"),
    ]:
        with pytest.raises(BadInput, match=says):
            task.score(ids, outputs, targets)
    with pytest.raises(BadInput, match="no samples"):
        task.figures([])


@pytest.mark.filterwarnings("error")
def test_a_metric_may_give_an_array_of_one() -> None:
    """What a function written for batches gives for a batch of one."""
    task = open_task("tensor", TaskOptions(metric=lambda outputs, targets: np.abs(outputs - targets).mean(axis=1)))
    (scored,) = task.score(["a"], {"y": np.array([[1.0, 3.0]])}, [np.array([0.0, 0.0])])
    assert list(scored.row["values"].values()) == [2.0]


def test_a_number_beyond_floats() -> None:
    task = open_task("tensor", TaskOptions(metric=lambda outputs, targets: 10**400))
    with pytest.raises(BadInput, match="not a number"):
        task.score(["a"], {"y": np.zeros((1, 2))}, [0])
