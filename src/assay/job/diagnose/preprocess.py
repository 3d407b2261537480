"""``assay diagnose --preprocess``: the deployed transform beside the one the model was trained with, on real files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from assay.core.dataset import Item
from assay.core.errors import AssayError, BadInput
from assay.core.record import Figure, Record
from assay.core.sample import Sample
from assay.core.tensors import Array
from assay.core.transform import FunctionTransform, Transform
from assay.core.verdict import Reason, Verdict, combine
from assay.diagnose.image_steps import Recipe, apply
from assay.diagnose.preprocessing import CLOSE, Parity, StepDifference, explain, parity
from assay.job.compare_two import Pair, opened_pair
from assay.job.context import Data
from assay.job.dataset import open_data
from assay.job.drawing import some_of
from assay.job.opening import open_candidate
from assay.job.progress import Progress
from assay.job.request import Objects, RunRequest
from assay.job.single import Prepared
from assay.job.user_code import user_transform
from assay.measure.accuracy import Evaluation, compare_predictions, evaluate_session
from assay.measure.environment import environment
from assay.sources import SourceOptions

_BATCH = 8
_FITS = {"center": "shorter", "squash": "squash", "border": "longer"}


@dataclass(frozen=True)
class Transforms:
    """``deployed`` (and ``training``, where it is not the model's own) are ``FILE.py:function``; ``files`` are looked
    at step by step, ``scored`` samples say what it costs."""

    pair: Pair
    deployed: str
    training: str | None = None
    files: int = 8
    scored: int = 512


@dataclass(frozen=True)
class Cost:
    """``figure`` is the task's own, ``drop`` what is lost against the training transform (positive: worse)."""

    what: str
    figure: Figure
    drop: Figure | None

    def to_json(self) -> dict[str, Any]:
        drop = self.drop.to_json() if self.drop is not None else None
        return {"what": self.what, "figure": self.figure.to_json(), "drop": drop}


@dataclass(frozen=True)
class Compared:
    """``costs`` has the training transform first, then the deployed one, then each step alone; empty, with
    ``not_scored`` saying why, where there is no accuracy to be had."""

    found: Parity
    costs: tuple[Cost, ...]
    primary: str | None
    not_scored: str | None
    record: Record
    verdict: Verdict


def compare_transforms(asked: Transforms, source: SourceOptions, progress: Progress) -> Compared:
    """Raises BadInput without data, for data that are no pictures, and where the training transform is not known."""
    pair = asked.pair
    if pair.data is None:
        raise BadInput("preprocessing is compared on files", remedy="--preprocess FILE.py:fn --data DIR")
    deployed = FunctionTransform(user_transform(asked.deployed), asked.deployed)
    with opened_pair(pair, source, progress) as (reference, candidate):
        data = _data(asked, reference, candidate)
        assert data.reader is not None
        items = list(data.reader.items(0, asked.files))
        progress.stage("preprocess", f"{len(items)} files")
        ours = [_run(data.transform, item) for item in items]
        training = _recipe(data, ours, items)
        found = parity(training, [i.content for i in items], ours, [_run(deployed, item) for item in items])
        progress.done(_sentence(found))
        costs, primary, why = _costs(asked, candidate, data, (deployed, found), progress)
    return _made(asked, candidate, data, found, (costs, primary, why))


def _data(asked: Transforms, reference: Prepared, candidate: Prepared) -> Data:
    """With the training transform: the one given, else the model's own."""
    pair = asked.pair
    device = candidate.candidate.options.device
    request = RunRequest(pair.reference, Path(), data=pair.data, batches=pair.batches, device=device)
    given = Objects(preprocess=user_transform(asked.training) if asked.training else None)
    model = reference.model if reference.model.preprocess is not None else candidate.model
    data = open_data(request, given, model, candidate.signature)
    if data.reader is None or not data.real:
        raise BadInput(f"{data.name} holds no files to preprocess", remedy="--data DIR")
    return data


def _run(transform: Transform | None, item: Item) -> Array:
    """Raises BadInput, naming the file, for whatever the transform raises."""
    assert transform is not None
    try:
        return np.asarray(transform(item.content))
    except AssayError as error:
        raise BadInput(f"{item.id}: {error.message}") from error
    except MemoryError:
        raise
    except Exception as error:  # a user's own function may raise anything
        raise BadInput(f"{item.id}: the transform failed with {type(error).__name__}: {error}") from error


def _recipe(data: Data, ours: Sequence[Array], items: Sequence[Item]) -> Recipe:
    """The training transform step by step: as it describes itself, or, for a function, as its results tell."""
    assert data.transform is not None
    about = dict(data.transform.to_json())
    contents = [item.content for item in items]
    if about.get("kind") == "image":
        size = (int(about["size"][0]), int(about["size"][1]))
        mean, std = np.array(about["mean"], float), np.array(about["std"], float)
        fraction = float(about["crop_pct"])
        return Recipe(
            size,
            (int(size[0] / fraction), int(size[1] / fraction)),
            tuple(1 / 255 / std),
            tuple(-mean / std),
            fit=_FITS[about["crop_mode"]],
            kernel=about["interpolation"],
            order=tuple(range(int(about["channels"]))),
            fill=float(round(255 * mean[0])) if about["crop_mode"] == "border" else 0.0,
        )
    if about.get("kind") != "function" or ours[0].ndim != 3 or ours[0].shape[0] not in (1, 3):
        raise BadInput(
            f"the training transform ({about.get('kind')}) does not resize and normalise pictures",
            remedy="--training FILE.py:fn, a function of an image file's bytes that gives (channels, height, width)",
        )
    channels, height, width = ours[0].shape
    plain = (1 / 255,) * channels, (0.0,) * channels
    start = Recipe((height, width), (height, width), *plain, order=tuple(range(channels)))
    found, left = explain(start, contents, ours)
    if left > CLOSE:
        raise BadInput(
            f"{about.get('name')} does something that is none of the known steps ({left:.2g} levels rms are left), "
            "so it cannot be compared step by step"
        )
    return found


def _costs(
    asked: Transforms, candidate: Prepared, data: Data, against: tuple[Transform, Parity], progress: Progress
) -> tuple[tuple[Cost, ...], str | None, str | None]:
    """The task's figure with the training transform, the deployed one, and each step alone changed."""
    deployed, found = against
    if data.task is None or data.reader is None:
        return (), None, data.not_evaluated or "the data have no targets"
    assert data.transform is not None
    some = some_of(data, asked.scored, data.seed).reader
    assert some is not None
    items = list(some.items())
    ways: list[tuple[str, Callable[[Item], Array]]] = [("training", lambda item: _run(data.transform, item))]
    ways.append(("deployed", lambda item: _laid(_run(deployed, item), found)))
    if len(found.steps) > 1:
        ways += [(f"only the {step.words} changed", _alone(step)) for step in found.steps]
    progress.stage("accuracy", f"{len(items)} samples, {len(ways)} ways")
    name = candidate.signature.input_names[0]
    results: list[tuple[str, Evaluation]] = []
    with open_candidate(candidate.candidate) as session:
        for what, way in ways:
            rows = [Sample(i.id, {name: np.ascontiguousarray(way(i), np.float32)}, i.target) for i in items]
            results.append((what, evaluate_session(session, rows, data.task, _BATCH)))
    progress.done(f"{data.task.primary} {results[0][1].figures[data.task.primary].value}")
    primary = data.task.primary
    costs = [
        Cost(what, e.figures[primary], _drop(results[0][1], e) if n else None) for n, (what, e) in enumerate(results)
    ]
    return tuple(costs), primary, None


def _alone(step: StepDifference) -> Callable[[Item], Array]:
    return lambda item: apply(step.alone, item.content)


def _laid(array: Array, found: Parity) -> Array:
    """Channels first and without a batch axis, so that what is scored is what the other steps cost."""
    if found.layout is None:
        return array
    return array[0] if array.ndim == 4 else array.transpose(2, 0, 1)


def _drop(reference: Evaluation, other: Evaluation) -> Figure:
    """In the task's own terms where it knows right from wrong, else the plain difference of its figures."""
    paired = compare_predictions(reference.scored, other.scored).drop
    if paired.value is not None:
        return paired
    a, b = (e.figures[e.primary] for e in (reference, other))
    if a.value is None or b.value is None:
        return paired
    return Figure(a.value - b.value, a.unit, n=a.n, reason="its interval is not known")


def _sentence(found: Parity) -> str:
    if found.equal:
        return "equal bit for bit"
    rest = "" if found.explained else f"; {found.unexplained:.2g} levels rms are explained by none of the known steps"
    if not found.steps:
        if not found.explained:
            return f"they differ by {found.mean:.2g} levels on average{rest}"
        if found.layout:
            return found.layout
        return f"no step differs; rounding leaves {found.largest:.2g} levels at most"
    first = found.steps[0]
    more = f", then {', '.join(s.words for s in found.steps[1:])}" if found.steps[1:] else ""
    return (
        f"the first step that differs is {first.words}: {first.training} in training, {first.deployed} deployed "
        f"({first.mean:.2g} levels on average, at most {first.largest:.3g}){more}{rest}"
    )


def _made(
    asked: Transforms,
    candidate: Prepared,
    data: Data,
    found: Parity,
    scored: tuple[tuple[Cost, ...], str | None, str | None],
) -> Compared:
    costs, primary, why = scored
    assert data.transform is not None
    figures = {"preprocess.mean_levels": Figure(found.mean, "1", n=found.files)}
    figures["preprocess.max_levels"] = Figure(found.largest, "1", n=found.files)
    if len(costs) > 1 and costs[1].drop is not None:
        figures["accuracy.drop"] = costs[1].drop
    record = Record(
        "preprocess",
        candidate.candidate.subject(candidate.model.name),
        figures=figures,
        conditions={**data.conditions, "samples": found.files, "deployed": asked.deployed},
        environment=environment(),
        details={
            **found.to_json(),
            "training": dict(data.transform.to_json()),
            "costs": [c.to_json() for c in costs],
            "primary": primary,
            "not_scored": why,
        },
    )
    reason = Reason("preprocess", "passed" if found.agree else "failed", _sentence(found), record.id)
    not_checked = () if why is None else (f"accuracy: {why}",)
    verdict = combine([reason], not_checked, candidate.candidate.digest)
    return Compared(found, costs, primary, why, record, verdict)
