"""Check a bundle: recompute every digest, then open it here and re-run its golden inputs.

When the digests do not fit, nothing of the bundle is opened.  What this shows is integrity: the
files are those that were packed, and here they give what they gave there.  Who packed them it
cannot show, unless the digest came from somewhere the reader trusts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from assay.bundle.contents import NO_FILE, Bundle, read_bundle
from assay.bundle.goldens import Goldens, OutputCheck, compare_goldens, read_goldens
from assay.bundle.manifest import Problem, manifest_digest, parse_digest, read_manifest, verify_manifest
from assay.core.artifact import Artifact, digest_files
from assay.core.engine import OpenOptions, Session
from assay.core.errors import (
    EXIT_LIMIT_MISSED,
    EXIT_OK,
    AssayError,
    BadInput,
    EngineFailed,
    NotAvailable,
    SignatureMismatch,
    UntrustedCode,
)
from assay.core.tensors import Array
from assay.core.verdict import UNCOMPARED

OpenSession = Callable[[Artifact, OpenOptions, str], Session]
"""Opens an artifact with an engine by its table name; the caller resolves the name."""
Here = Callable[[str, str], Mapping[str, Any]]
"""(engine, device) -> what is here: ``engine_version``, ``device_name`` and anything of the environment."""
Harmless = Callable[[str], Collection[str]]
"""engine -> the provider options of it that are known to reach nothing outside a bundle."""
ORIGIN = "this proves integrity, not origin: anybody could have packed these files"


@dataclass(frozen=True)
class Step:
    """``state`` is ``passed``, ``failed``, ``not_shown`` or ``said`` (information that decides nothing)."""

    name: str
    state: str
    text: str

    def to_json(self) -> dict[str, str]:
        return {"name": self.name, "state": self.state, "text": self.text}


@dataclass(frozen=True)
class CheckResult:
    """``ok`` only when every step that decides passed.  ``error`` is what opening or running raised."""

    steps: tuple[Step, ...]
    digest: str
    problems: tuple[Problem, ...] = ()
    outputs: tuple[OutputCheck, ...] = ()
    differences: tuple[str, ...] = ()
    error: AssayError | None = None

    @property
    def ok(self) -> bool:
        return {step.state for step in self.steps} <= {"passed", "said"} and bool(self.outputs)

    @property
    def exit_code(self) -> int:
        """0; 1 when something differs; 3 when the engine is not available here."""
        if isinstance(self.error, NotAvailable):
            return self.error.exit_code
        return EXIT_OK if self.ok else EXIT_LIMIT_MISSED

    def to_json(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "digest": self.digest,
            "steps": [step.to_json() for step in self.steps],
            "problems": [str(problem) for problem in self.problems],
            "outputs": [output.to_json() for output in self.outputs],
            "differences": list(self.differences),
        }


@dataclass(frozen=True)
class _Found:
    """What a check has come to so far."""

    digest: str
    steps: tuple[Step, ...] = ()
    problems: tuple[Problem, ...] = ()
    differences: tuple[str, ...] = field(default=())

    def and_then(self, *steps: Step) -> _Found:
        return replace(self, steps=(*self.steps, *steps))

    def result(self, outputs: Sequence[OutputCheck] = (), error: AssayError | None = None) -> CheckResult:
        steps = (*self.steps, Step("origin", "said", ORIGIN))
        return CheckResult(steps, self.digest, self.problems, tuple(outputs), self.differences, error)


def check(
    folder: Path,
    open_session: OpenSession,
    digest: str | None = None,
    *,
    trust: bool = False,
    here: Here | None = None,
    harmless: Harmless | None = None,
) -> CheckResult:
    """Check the bundle at ``folder``.

    ``digest`` pins manifest.json.  A bundle that runs code when opened needs it, or ``trust``; so does one with a
    provider option that ``harmless`` does not list (nothing is listed without it).
    ``here`` says what this machine has; the packed engine version and device are compared with it.
    Raises BadInput for a folder that is no bundle or a malformed file in it, UntrustedCode.
    """
    read_manifest(folder)
    found = _integrity(folder, digest)
    if any(step.state == "failed" for step in found.steps):
        return found.and_then(Step("goldens", "not_shown", "nothing was opened")).result()
    bundle = read_bundle(folder)
    goldens = read_goldens(folder, bundle.signature)
    found = _same_file(bundle, found)
    if bundle.artifact is None:
        how = (bundle.recipe or {}).get("command") or "the recipe in bundle.json"
        text = f"this bundle has no engine file; build one with: {how}"
        return found.and_then(Step("goldens", "not_shown", text)).result()
    if found.steps[-1].state == "failed":
        return found.and_then(Step("goldens", "not_shown", "nothing was opened")).result()
    why = bundle.why_trust(harmless(bundle.candidate.engine) if harmless else ())
    if why is not None and not trust and digest is None:
        raise UntrustedCode(
            f"opening this bundle {why}",
            remedy=f"assay check {folder} --digest {found.digest}   (if that is the digest you were given), or --trust",
        )
    found = _environment(bundle, here, found).and_then(*_uncompared(bundle))
    return _rerun(bundle, goldens, open_session, found)


def _integrity(folder: Path, digest: str | None) -> _Found:
    actual = manifest_digest(folder)
    found = _Found(actual)
    if digest is not None:
        wanted = parse_digest(digest)
        same = wanted == actual
        text = f"manifest.json is {actual}" + ("" if same else f", asked for was {wanted}")
        found = found.and_then(Step("digest", "passed" if same else "failed", text))
    problems = tuple(verify_manifest(folder))
    found = replace(found, problems=problems)
    if problems:
        shown = "; ".join(map(str, problems[:3])) + (f"; and {len(problems) - 3} more" if len(problems) > 3 else "")
        return found.and_then(Step("integrity", "failed", shown))
    return found.and_then(Step("integrity", "passed", f"every file is as listed; {actual}"))


def _same_file(bundle: Bundle, found: _Found) -> _Found:
    """Whether the packed engine file is the one all the Records are about."""
    artifact = bundle.artifact
    if artifact is None or artifact.format in NO_FILE:
        text = f"{bundle.candidate.label}: there is no engine file, only a description of the model"
        return found.and_then(Step("engine file", "said", text))
    actual = digest_files((artifact.path, *artifact.companions))
    if actual != artifact.sha256:
        text = f"{artifact.path.name} has the digest {actual[:12]}, what was measured had {artifact.short}"
        return found.and_then(Step("engine file", "failed", text))
    text = f"{artifact.path.name} is the file that was measured ({bundle.candidate.label})"
    return found.and_then(Step("engine file", "passed", text))


def _uncompared(bundle: Bundle) -> tuple[Step, ...]:
    """A verdict that passed without a comparison, since its policy did without: the goldens are then the only
    witness of the outputs."""
    reasons = bundle.verdict.reasons if bundle.verdict is not None else ()
    said = [f"{r.limit}: {r.text}" for r in reasons if r.text.startswith(UNCOMPARED)]
    return tuple(Step("verdict", "said", " ".join(text.split())) for text in said)


def _environment(bundle: Bundle, here: Here | None, found: _Found) -> _Found:
    if here is None:
        return found.and_then(Step("environment", "said", "not compared"))
    candidate = bundle.candidate
    now = _flat(here(candidate.engine, candidate.options.device))
    packed = _flat(bundle.environment)
    packed |= {"engine_version": candidate.engine_version, "device_name": candidate.device_name}
    names = [name for name in packed if name in now]
    differing = tuple(
        f"{name} was {packed[name]}, here it is {now[name]}" for name in names if packed[name] != now[name]
    )
    if not names:
        text = "nothing in common to compare"
    else:
        text = "; ".join(differing) or f"the same engine and device ({candidate.engine} {candidate.engine_version})"
    return replace(found, differences=differing).and_then(Step("environment", "said", text))


def _flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in data.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        elif isinstance(value, str | int | float):
            flat[f"{prefix}{name}"] = str(value)
    return flat


def _rerun(bundle: Bundle, goldens: Goldens, open_session: OpenSession, found: _Found) -> CheckResult:
    candidate = bundle.candidate
    assert bundle.artifact is not None
    try:
        session = open_session(bundle.artifact, candidate.options, candidate.engine)
    except NotAvailable as error:
        return found.and_then(Step("open", "not_shown", error.message)).result(error=error)
    except (EngineFailed, BadInput) as error:
        return found.and_then(Step("open", "failed", error.message)).result(error=error)
    found = found.and_then(Step("open", "passed", f"{candidate.label} on {candidate.options.device}"))
    try:
        with session:
            outputs = _run(session, goldens)
    except (EngineFailed, SignatureMismatch) as error:
        return found.and_then(Step("goldens", "failed", error.message)).result(error=error)
    checks = compare_goldens(goldens, outputs)
    return found.and_then(_summary(goldens, checks)).result(checks)


def _run(session: Session, goldens: Goldens) -> list[dict[str, Array]]:
    return [dict(session.run(feed)) for feed, _ in goldens.pairs]


def _summary(goldens: Goldens, checks: Sequence[OutputCheck]) -> Step:
    bad = [c for c in checks if not c.passed]
    count = f"{len(goldens.pairs)} golden inputs, {len(checks)} outputs"
    if bad or not checks:
        text = "; ".join(f"output {c.output!r} {c.text}" for c in bad) or "nothing was compared"
        return Step("goldens", "failed", text)
    if all(c.bit_equal for c in checks):
        return Step("goldens", "passed", f"{count}: bit-equal")
    worst = max(checks, key=lambda c: c.relative_rms or 0.0)
    return Step(
        "goldens", "passed", f"{count}: within tolerance; worst {worst.output!r}: {worst.text} ({goldens.source})"
    )
