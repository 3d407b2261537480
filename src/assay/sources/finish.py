"""The last steps every module source shares: weights settled, digest taken, ``source.json`` written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.core.artifact import Artifact, digest_file, digest_json
from assay.core.errors import BadInput, StorageFailed
from assay.core.model import Model
from assay.core.tensors import TensorSpec
from assay.sources.digest import code_files, digest_code, digest_state
from assay.sources.fetch import local_file
from assay.sources.inputs import apply_shapes, probe
from assay.sources.options import Architecture, SourceOptions
from assay.sources.randomise import calibrate, randomise, silent_branches
from assay.sources.weights import load_into, read_checkpoint

if TYPE_CHECKING:
    from torch import nn

SCHEMA = "assay.source/1"


@dataclass(frozen=True)
class Settled:
    """Where the weights came from, in words and as a digest."""

    words: str
    digest: str
    randomised: bool = False
    seed: int | None = None
    runs_code: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def finish(found: Architecture, options: SourceOptions) -> Model:
    """Settle the weights (given, brought along, or randomised), try one forward, digest, describe.

    Writes ``source.json`` into ``options.out_dir``.  Raises BadInput for weights or shapes that do
    not fit, StorageFailed when the folder cannot be written.
    """
    module = found.module.eval()
    inputs = apply_shapes(found.inputs, options.shapes)
    settled = _settle(found, inputs, options)
    if inputs is not None and not settled.randomised:
        probe(module, inputs, found.name)
    files = code_files(module, found.code)
    description: dict[str, Any] = {
        "schema": SCHEMA,
        "architecture": dict(found.identity),
        "state_sha256": settled.digest,
        "code": digest_code(files),
        "seed": settled.seed,
    }
    if settled.randomised:  # the shapes decide what the weights are calibrated on
        description["calibrated_for"] = [s.to_json() for s in inputs or ()]
    sha256 = digest_json(description)
    runs_code = tuple(dict.fromkeys((*found.runs_code, *settled.runs_code)))
    description |= {
        "sha256": sha256,
        "name": found.name,
        "spec": found.spec,
        "weights": settled.words,
        "randomised": settled.randomised,
        "inputs": None if inputs is None else [s.to_json() for s in inputs],
        "preprocess": None if found.preprocess is None else dict(found.preprocess),
        "runs_code": list(runs_code),
    }
    artifact = Artifact(
        path=write_json(options.out_dir / "source.json", description),
        format="source",
        sha256=sha256,
        runs_code=bool(runs_code),
        module=lambda: module,
    )
    return Model(
        name=found.name,
        spec=found.spec,
        artifact=artifact,
        weights=settled.words,
        randomised=settled.randomised,
        inputs=inputs,
        preprocess=found.preprocess,
        labels=found.labels,
        runs_code=runs_code,
        warnings=(*found.warnings, *settled.warnings),
    )


def write_json(path: Path, value: Mapping[str, Any]) -> Path:
    """Write through a temporary name.  Raises StorageFailed."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        temporary.rename(path)
    except OSError as error:
        raise StorageFailed(f"{path} could not be written: {error}") from error
    return path


def _settle(found: Architecture, inputs: tuple[TensorSpec, ...] | None, options: SourceOptions) -> Settled:
    module = found.module
    if options.weights is not None:
        return _given(found, options)
    if (options.md5 or options.sha256) and found.identity.get("builder") != "pickle":
        raise BadInput(
            f"--md5 and --sha256 pin a weights file, and {found.spec} has none",
            remedy="give the file with --weights",
        )
    if found.weights is not None:
        return Settled(found.weights, digest_state(module), warnings=_silent(module))
    if not any(True for _ in module.parameters()):
        return Settled("none: the module has no parameters", digest_state(module))
    count = randomise(module, options.seed, found.keep)
    digest = digest_state(module)  # before calibration, whose last bits depend on the machine
    warnings = [] if inputs is None else calibrate(module, inputs, options.seed, found.name)
    if inputs is None:
        warnings = ["the input shape is not known, so the randomised weights were not calibrated; give --shape"]
    kept = f", {len(found.keep)} left as the builder made them" if found.keep else ""
    words = f"randomised with seed {options.seed} ({count} tensors{kept})"
    return Settled(words, digest, randomised=True, seed=options.seed, warnings=tuple(warnings))


def _given(found: Architecture, options: SourceOptions) -> Settled:
    assert options.weights is not None
    path = local_file(options.weights, options)
    content = read_checkpoint(path, options.trust)
    if not options.strict:  # whatever the file lacks must carry signal too
        randomise(found.module, options.seed, frozenset())
    words, warnings = load_into(found.module, content, path, options.strict)
    pickled = options.trust and not path.name.endswith(".safetensors")
    return Settled(
        words=f"{words} (sha256 {digest_file(path)[:12]})",
        digest=digest_state(found.module),
        seed=None if options.strict else options.seed,
        runs_code=(str(path),) if pickled else (),
        warnings=(*warnings, *_silent(found.module)),
    )


def _silent(module: nn.Module) -> tuple[str, ...]:
    names = silent_branches(module)
    if not names:
        return ()
    more = ", …" if len(names) > 3 else ""
    return (
        f"{len(names)} normalisation layers have all-zero weights ({', '.join(names[:3])}{more}): what is computed "
        "before them does not reach the output, and verifying the outputs says nothing about it",
    )
