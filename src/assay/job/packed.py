"""A bundle where a MODEL is asked for: the packed engine file with everything that was packed beside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from assay.bundle.contents import DESCRIPTION, Bundle, read_bundle
from assay.bundle.manifest import NAME, manifest_digest, parse_digest, verify_manifest
from assay.core.engine import Candidate, Session
from assay.core.errors import BadInput, NotAvailable, UntrustedCode
from assay.core.model import Model
from assay.core.shapes import ShapeSpec
from assay.core.tensors import Signature
from assay.job.open_request import OpenRequest, plain_device
from assay.job.opening import harmless_options, open_candidate, with_module
from assay.sources.inputs import fit_shapes


def bundle_folder(spec: str) -> Path | None:
    """The bundle that ``spec`` names (its folder, or the run folder it lies in); None for any other MODEL."""
    folder = Path(spec)
    for found in (folder / "bundle", folder):
        if (found / NAME).is_file():
            return found
    return None


def whole_bundle(folder: Path, *, trust: bool = False, digest: str | None = None) -> Bundle:
    """A bundle whose digests were recomputed, and its engine file with it.

    ``digest`` (of manifest.json) pins the bundle: nothing in it is a stranger's then, as with ``trust``.
    Raises BadInput for a bundle that is not whole or another than the pinned one; NotAvailable where only a
    recipe travels; UntrustedCode where opening it runs code, or may have an engine reach outside it, untrusted.
    """
    if (folder / "run.json").is_file() and not (folder / DESCRIPTION).is_file():
        raise BadInput(f"{folder} has no bundle: no configuration was chosen, or the run did not finish")
    problems = verify_manifest(folder)
    if problems:
        raise BadInput(f"{folder} is not whole: {problems[0]}", remedy=f"assay check {folder}")
    found = manifest_digest(folder)
    if digest is not None and parse_digest(digest) != found:
        raise BadInput(f"{folder} is not the bundle that was pinned: its manifest is {found}")
    bundle = read_bundle(folder)
    if bundle.artifact is None:
        how = (bundle.recipe or {}).get("command")
        raise NotAvailable(f"{folder} holds no engine file, only the recipe to build one", remedy=how)
    why = bundle.why_trust(harmless_options(bundle.candidate.engine))
    if why is not None and not trust and digest is None:
        raise UntrustedCode(
            f"opening {folder} {why}",
            remedy="--trust (in Python trust=True), or the digest of its manifest that you were given: --sha256 HEX "
            "(assay serve: --digest)",
        )
    return bundle


def packed_model(
    folder: Path,
    engine_name: str | None,
    asked: OpenRequest | None = None,
    *,
    trust: bool = False,
    digest: str | None = None,
    shapes: tuple[ShapeSpec, ...] = (),
) -> tuple[Model, Candidate, Signature]:
    """What the bundle holds; it is opened as it was proved.  ``shapes`` gives sizes to free dims of its
    inputs.  Raises as ``whole_bundle`` and ``refuse_other``, and SignatureMismatch for shapes that do not fit.
    """
    bundle = whole_bundle(folder, trust=trust, digest=digest)
    assert bundle.artifact is not None
    candidate = bundle.candidate
    refuse_other(bundle, engine_name, asked or OpenRequest())
    artifact = with_module(bundle.artifact)
    model = Model(
        name=bundle.model,
        spec=str(folder),
        artifact=artifact,
        weights=f"packed in {folder.name}",
        inputs=fit_shapes(bundle.signature.inputs, shapes),
        preprocess=bundle.preprocess,
        labels=bundle.labels,
        runs_code=bundle.runs_code,
    )
    return model, replace(candidate, artifact=artifact), bundle.signature


def refuse_other(bundle: Bundle, engine_name: str | None, asked: OpenRequest) -> None:
    """Raises BadInput for another engine, precision, device or number of threads than the bundle was proved with.

    A device is the same one however it is spelled: ``cuda`` and ``cuda:0``.
    """
    candidate, proved = bundle.candidate, bundle.candidate.options
    other = [f"not {engine_name}"] if engine_name not in (None, candidate.engine) else []
    same = {
        "precision": asked.precision in (None, proved.precision),
        "device": asked.device is None or plain_device(asked.device) == plain_device(proved.device),
        "threads": asked.threads in (None, proved.threads),
    }
    other += [f"not {name} {wanted}" for name, wanted in asked.asked.items() if not same[name]]
    if other:
        how = f"{candidate.label} on {proved.device}"
        if not same["threads"]:
            label = replace(candidate, options=replace(proved, threads=None)).label
            how = f"{label} on {proved.device} with {_threads(proved.threads)}"
        raise BadInput(
            f"{bundle.folder} is for {how}, {', '.join(other)}: a bundle is opened as it was proved",
            remedy="give the MODEL it was made from to choose",
        )


def _threads(count: int | None) -> str:
    return "all cores" if count is None else f"{count} thread{'' if count == 1 else 's'}"


def open_bundle(folder: Path, asked: OpenRequest | None = None, *, trust: bool = False) -> Session:
    """The Session a bundle was packed with, opened here.  Raises as ``whole_bundle`` and ``refuse_other``."""
    _, candidate, _ = packed_model(folder, None, asked, trust=trust)
    return open_candidate(candidate)
