"""Another ONNX file in the place of the one a bundle was made from: does it fit, how is it built, what changed?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from assay.bundle.check import CheckResult, Step
from assay.bundle.contents import Bundle, read_bundle
from assay.core.artifact import Artifact
from assay.core.engine import BuildOptions, Candidate, OpenOptions, Session
from assay.core.errors import AssayError, BadInput, ChildFailed, EngineFailed, NotAvailable, SignatureMismatch
from assay.core.record import Record
from assay.core.tensors import Signature, TensorSpec
from assay.graph.describe import GraphDescription, describe
from assay.graph.signature import read_signature
from assay.job.building import build_in_folder
from assay.job.opening import engine, make_candidate, open_packed, precision_of
from assay.job.replay.same_model import judged_steps
from assay.job.single import file_model
from assay.measure.environment import device_name
from assay.precision.openvino_ir import ir_precision

MADE_BY_QUANTIZE = ("int8", "bf16", "fp16")
"""Precisions a file may have been converted to: what that took (samples, layers put back) is not in the bundle."""


def read_other(path: Path) -> Artifact:
    """The ONNX file at ``path``.  Raises BadInput for a file that is missing, damaged or of another kind."""
    if path.is_dir():
        raise BadInput(
            f"--model {path} is a folder: an ONNX file takes the place of the one that the bundle was made from",
            remedy=f"give the .onnx file itself, with the weights beside it: --model {path}/model.onnx",
        )
    if not path.is_file():
        raise BadInput(f"--model {path}: there is no such file")
    if path.suffix.lower() != ".onnx":
        raise BadInput(
            f"--model {path}: an ONNX file takes the place of the one that the bundle was made from",
            remedy=f"assay export {path} -o model.onnx   (what is not ONNX: assay verify BUNDLE {path})",
        )
    return file_model(path)


@dataclass
class OtherFile:
    """``given`` in the place of the file of the bundle in ``bundle``; what is built of it lies in ``folder``.

    ``candidate`` is what was opened, once it was: the bundle's engine and options with this file.  ``refused`` says why
    it cannot stand there, ``own_error`` why the bundle's own file cannot be opened here either, once the given one
    could not be.
    """

    bundle: Path
    path: Path
    given: Artifact
    folder: Path
    candidate: Candidate | None = field(default=None)
    refused: BadInput | None = field(default=None)
    own_error: AssayError | None = field(default=None)

    def open(self, packed: Artifact, options: OpenOptions, engine_name: str) -> Session:
        """This file, as ``packed`` is opened; see ``bundle.check.OpenSession``."""
        try:
            self._check(read_bundle(self.bundle))
        except BadInput as error:
            self.refused = error
            raise
        try:
            return self._open(packed, options, engine_name)
        except AssayError:
            self._try_own(packed, options, engine_name)
            raise

    def _open(self, packed: Artifact, options: OpenOptions, engine_name: str) -> Session:
        try:
            made = self._built(packed, options, engine_name)
        except ChildFailed as error:
            raise EngineFailed(f"{engine_name} could not build {self.path}: {error.message}") from error
        self.candidate = make_candidate(made, engine_name, options, device_name(options.device))
        return open_packed(made, options, engine_name)

    def _try_own(self, packed: Artifact, options: OpenOptions, engine_name: str) -> None:
        """Is it the file?  With the engine or the options at fault, the bundle's own cannot be opened either."""
        try:
            open_packed(packed, options, engine_name).close()
        except AssayError as error:
            self.own_error = error

    def why_unmeasured(self, checked: CheckResult) -> str:
        """What a check that did not pass found fault with: this file, or the bundle and how it is opened."""
        if all(step.name != "open" for step in checked.steps):
            return f"the bundle did not pass its check; {self.path} was not run"
        if self.own_error is not None:
            return f"the bundle's own file cannot be opened here either; {self.path} was not checked"
        return f"{self.path} did not pass its check"

    @property
    def opened(self) -> Candidate:
        """``candidate``, of a check that came so far."""
        assert self.candidate is not None
        return self.candidate

    def to_json(self) -> dict[str, Any]:
        return {"file": str(self.path), "sha256": self.given.sha256, "candidate": self.opened.digest}

    def told(self, checked: CheckResult) -> CheckResult:
        """What the check found, said of this file.

        Raises SignatureMismatch for other inputs or outputs than the bundle's, BadInput for what the bundle's engine
        cannot be given.
        """
        if self.refused is not None:
            raise self.refused
        steps = tuple(
            replace(step, text=f"{self.path}: {step.text}") if step.name in ("open", "goldens") else step
            for step in checked.steps
        )
        if all(step.name != "open" for step in steps):  # the bundle was not whole, or has no file to stand in for
            return checked
        if self.own_error is not None:
            text = f"it cannot be opened here either: {self.own_error.message}"
            return replace(checked, steps=(*steps, Step("the bundle's own file", "said", text)))
        return replace(checked, steps=(*steps, Step("model", "said", f"{self.path} {_NOT_THE_BUNDLES}")))

    def judged(self, checked: CheckResult, batches: Sequence[int]) -> CheckResult:
        """``checked`` with what the comparisons at ``batches`` say: is it the same model?"""
        bundle = read_bundle(self.bundle)
        steps, error = list(checked.steps), None
        if self.is_the_bundles(bundle):
            steps.append(Step("model", "said", f"{self.path} is the very file that the bundle was made from"))
        try:
            for step in judged_steps(bundle, self.opened, self.given, batches):
                steps.append(step)
        except AssayError as failure:
            state = "not_shown" if isinstance(failure, NotAvailable) else "failed"
            steps.append(Step("same model", state, f"{self.path} could not be compared: {failure.message}"))
            error = failure
        return replace(checked, steps=tuple(steps), error=error)

    def _check(self, bundle: Bundle) -> None:
        reads = engine(bundle.candidate.engine).reads
        if "onnx" not in reads:
            raise BadInput(
                f"{bundle.folder} was proved with {bundle.candidate.label}, which reads {', '.join(reads)} and no ONNX",
                remedy=self._elsewhere(),
            )
        found = differences(bundle.signature, read_signature(self.path))
        if found:
            raise SignatureMismatch(
                f"{self.path} does not fit the bundle: {'; '.join(found)}",
                remedy="export it with the names and shapes of the bundle (assay export --input-names, --output-names, "
                "--shape)",
            )
        self._check_precision(bundle)

    def _elsewhere(self) -> str:
        """The commands for a file that is another configuration than the bundle's."""
        written = precision_of(self.path)
        so = "" if written == "fp32" else f" --precision {written}"
        return f"assay verify {self.bundle} {self.path}{so}   and   assay bench {self.path}{so} --against {self.bundle}"

    def _check_precision(self, bundle: Bundle) -> None:
        """A precision that the file itself is written in must be the bundle's."""
        allowed, now = _written(bundle), precision_of(self.path)
        if now in allowed:
            return
        then = allowed[0]
        text = f"{self.path} computes in {now}, the file that the bundle was made from in {then}"
        if then in MADE_BY_QUANTIZE and now == "fp32":
            asked = f"--precision {then}" + (" --data DATA" if then == "int8" else "")
            raise BadInput(
                f"{text}, and how that one was converted cannot be repeated: the samples and the layers that were put "
                "back are not in a bundle",
                remedy=f"assay quantize {self.path} {asked} -o DIR, then --model with the file it wrote",
            )
        raise BadInput(text, remedy=self._elsewhere())

    def _built(self, packed: Artifact, options: OpenOptions, engine_name: str) -> Artifact:
        """Made as the packed file was: opened as it is, or built for the engine in a process of its own."""
        if packed.format == "onnx":
            return self.given
        asked = BuildOptions(precision=options.precision, device=options.device)
        return build_in_folder(engine_name, self.given, asked, self.folder / "built").artifact

    def is_the_bundles(self, bundle: Bundle) -> bool:
        """Whether it is, byte by byte, the file that the bundle's engine file is or was made from."""
        assert bundle.artifact is not None
        return self.given.sha256 in (bundle.artifact.sha256, *bundle.artifact.parents)

    def changes(self, bundle: Bundle, records: Sequence[Record]) -> tuple[str, ...]:
        """What of the model's file is not what it was, one sentence each."""
        assert bundle.artifact is not None
        if self.is_the_bundles(bundle):
            return ()
        then, now = _facts_then(bundle.artifact, records), _facts(describe(self.path), self.given)
        return tuple(
            f"model: {name} {then.get(name, 'not recorded')} then, {value} now"
            for name, value in now.items()
            if then.get(name) != value and (name in then or name in _TOLD_ANYWAY)
        )


_NOT_THE_BUNDLES = "stood in the place of the bundle's file: what was found is evidence of it, not of the bundle"
_TOLD_ANYWAY = ("opset", "digest")
"""Facts that are told even where the bundle does not say what they were."""


def _facts(graph: GraphDescription, artifact: Artifact) -> dict[str, str]:
    return {
        "opset": _opsets(graph.opsets),
        "producer": graph.producer or "not said",
        "nodes": str(sum(graph.op_counts.values())),
        "parameters": f"{graph.parameters:,}",
        "digest": artifact.short,
    }


def _facts_then(packed: Artifact, records: Sequence[Record]) -> dict[str, str]:
    """Of the packed file where it is ONNX; of a compiled one, what the Records say of the file it was built from."""
    if packed.format == "onnx":
        return _facts(describe(packed.path), packed)
    found = {"digest": packed.parents[0][:12]} if packed.parents else {}
    for record in records:
        opset = record.details.get("opset_obtained")
        if record.kind == "export" and record.subject.get("artifact") in packed.parents and isinstance(opset, int):
            found["opset"] = str(opset)
    return found


def _opsets(opsets: Mapping[str, int]) -> str:
    """``18``, or ``18, com.microsoft 1`` where operators of others are used."""
    own = str(opsets.get("", opsets.get("ai.onnx", "not said")))
    others = [f"{domain} {version}" for domain, version in sorted(opsets.items()) if domain not in ("", "ai.onnx")]
    return ", ".join([own, *others])


def _written(bundle: Bundle) -> tuple[str, ...]:
    """The precisions that an ONNX file in the place of the bundle's own may be written in, its own first.

    A compiled file does not tell; what is not int8 was built from fp32, or from a file in the bundle's precision.
    """
    packed, precision = bundle.artifact, bundle.candidate.options.precision
    assert packed is not None
    if packed.format == "onnx":
        return (precision_of(packed.path),)
    if precision == "int8" or (packed.format == "openvino" and ir_precision(packed.path) == "int8"):
        return ("int8",)
    return tuple(dict.fromkeys(("fp32", precision)))


def differences(then: Signature, now: Signature) -> list[str]:
    """What keeps ``now`` from being fed and read as ``then`` is, in words; none where it fits.

    The names of free dims do not matter, nor the order of inputs and outputs.  An output's free dims are for the
    golden outputs to say: exporters write them in many ways.
    """
    found = [
        f"the {what} were {', '.join(sorted(a))}, here they are {', '.join(sorted(b)) or 'none'}"
        for what, a, b in (
            ("inputs", then.input_names, now.input_names),
            ("outputs", then.output_names, now.output_names),
        )
        if set(a) != set(b)
    ]
    if found:
        return found
    for old in then.inputs:
        new = now.input(old.name)
        if old.dtype != new.dtype or _fixed(old) != _fixed(new):
            found.append(f"input {old} then, {new} now")
        elif old.batch_axis != new.batch_axis:
            found.append(f"input {old.name}: rows lie along axis {old.batch_axis} then, {new.batch_axis} now")
    for old in then.outputs:
        new = now.output(old.name)
        sizes = zip(_fixed(old), _fixed(new), strict=False)
        resized = any(a != b for a, b in sizes if a is not None and b is not None)
        if resized or old.dtype != new.dtype or (new.shape and len(new.shape) != len(old.shape)):
            found.append(f"output {old} then, {new} now")
    return found


def _fixed(spec: TensorSpec) -> tuple[int | None, ...]:
    return tuple(d if isinstance(d, int) else None for d in spec.shape)
