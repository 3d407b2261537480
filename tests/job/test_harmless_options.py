"""Which provider options a stranger's bundle may set: the engines' own lists, and what assay sets by itself."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.bundle.contents import BundleContents
from assay.bundle.manifest import manifest_digest
from assay.bundle.pack import pack
from assay.cli.main import run_cli
from assay.core.artifact import file_artifact
from assay.core.engine import Candidate, OpenOptions
from assay.core.errors import UntrustedCode
from assay.engines import ENGINES
from assay.graph.signature import read_signature
from assay.job.opening import engine, harmless_options, open_candidate
from assay.job.packed import open_bundle, whole_bundle

Pairs = tuple[tuple[str, str], ...]

REACHING = re.compile(
    r"files?|paths?|dirs?|folder|libs?|library|plugins?|cache(?!_(group|precision))|dump|alloc|stream$|pointer|ptr|config"
    r"|profiling|extension|callback|url|host",
    re.IGNORECASE,
)
SOUNDS_SO = {"do_copy_in_default_stream", "use_ep_level_unified_stream", "session.use_env_allocators",
             "session.use_device_allocator_for_initializers", "trt_profile_max_shapes", "trt_profile_min_shapes",
             "trt_profile_opt_shapes", "GPU_HOST_TASK_PRIORITY"}  # fmt: skip
"""Switches and shapes that only sound like files, allocators and hosts."""


def bundle_with(model: Path, out: Path, name: str, given: Pairs) -> Path:
    found = engine(name)
    candidate = Candidate(
        file_artifact(model, "onnx"), name, found.version(), OpenOptions(provider_options=given), "cpu"
    )
    feed = {"x": np.full((1, 1, 8, 8), 0.5, np.float32)}
    with open_candidate(candidate) as session:
        goldens = ((feed, session.run(feed)),)
    tolerance = {"max_relative_rms": 1e-5, "source": "test"}
    return pack(BundleContents("means", candidate, read_signature(model), goldens, tolerance), out)


def set_by_assay() -> list[tuple[str, Pairs]]:
    rows: list[tuple[str, Pairs]] = []
    for name in ENGINES:
        found = engine(name)
        rows += [(name, options) for options in getattr(found, "tuned_options", ())]
        if hasattr(found, "shared_cores"):
            rows.append((name, found.shared_cores))
    return rows


@pytest.mark.parametrize(("name", "given"), set_by_assay())
def test_what_assay_sets_by_itself_needs_no_trust(name: str, given: Pairs, model: Path, tmp_path: Path) -> None:
    assert {key for key, _ in given} <= harmless_options(name)
    if "onnx" not in engine(name).opens:
        return
    bundle = bundle_with(model, tmp_path / "bundle", name, given)
    assert whole_bundle(bundle).candidate.options.provider_options == given
    assert run_cli(["check", str(bundle)]) == 0
    open_bundle(bundle).close()


def test_a_new_engines_tuned_options_are_harmless_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    from assay.engines.null import NullEngine

    assert harmless_options("null") == frozenset()
    monkeypatch.setattr(NullEngine, "tuned_options", ((("verbose", "1"),),), raising=False)
    assert harmless_options("null") == {"verbose"}


@pytest.mark.parametrize("name", ENGINES)
def test_no_option_on_a_list_names_a_file_or_an_address(name: str) -> None:
    assert [o for o in sorted(harmless_options(name)) if REACHING.search(o) and o not in SOUNDS_SO] == []


PERFORMANCE: list[tuple[str, Pairs]] = [
    ("onnxruntime", (("optimization.enable_gelu_approximation", "0"), ("session.set_denormal_as_zero", "1"))),
    ("onnxruntime", (("graph_optimization_level", "basic"), ("provider", "cpu"))),
    ("openvino", (("DYNAMIC_QUANTIZATION_GROUP_SIZE", "0"), ("NUM_STREAMS", "1"), ("PERFORMANCE_HINT", "LATENCY"))),
    (
        "openvino",
        (("ENABLE_CPU_PINNING", "NO"), ("ENABLE_HYPER_THREADING", "NO"), ("SCHEDULING_CORE_TYPE", "ANY_CORE")),
    ),
    ("openvino", (("INFERENCE_NUM_THREADS", "1"), ("KV_CACHE_PRECISION", "u8"))),
]


@pytest.mark.parametrize(("name", "given"), PERFORMANCE)
def test_well_known_performance_options_need_no_trust(name: str, given: Pairs, model: Path, tmp_path: Path) -> None:
    if (why := engine(name).unavailable()) is not None:
        pytest.skip(why)
    assert (
        whole_bundle(bundle_with(model, tmp_path / "bundle", name, given)).candidate.options.provider_options == given
    )


REFUSED: list[tuple[str, Pairs, str]] = [
    ("openvino", (("CACHE_DIR", "cache"), ("NUM_STREAMS", "1")), r"CACHE_DIR=cache$"),
    ("onnxruntime", (("session.optimized_model_filepath", "o.onnx"),), r"session\.optimized_model_filepath=o\.onnx$"),
    ("onnxruntime", (("session.of_a_later_version", "1"),), r"session\.of_a_later_version=1$"),
]


@pytest.mark.parametrize(("name", "given", "said"), REFUSED)
def test_any_other_option_needs_trust_or_a_pinned_digest(
    name: str, given: Pairs, said: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if (why := engine(name).unavailable()) is not None:
        pytest.skip(why)
    monkeypatch.chdir(tmp_path)  # what these options write, they write there
    bundle = bundle_with(model, tmp_path / "bundle", name, given)
    with pytest.raises(UntrustedCode) as caught:
        whole_bundle(bundle)
    assert re.search(said, caught.value.message), caught.value.message
    assert f"not known to keep {name} inside it" in caught.value.message
    assert "--trust" in str(caught.value.remedy)
    assert whole_bundle(bundle, trust=True).folder == bundle
    assert whole_bundle(bundle, digest=manifest_digest(bundle)).folder == bundle


def test_the_option_of_one_engine_is_not_harmless_in_another(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[Any]
) -> None:
    bundle = bundle_with(model, tmp_path / "bundle", "onnxruntime", (("session.intra_op.allow_spinning", "0"),))
    assert whole_bundle(bundle).why_trust(harmless_options("openvino")) is not None
    assert whole_bundle(bundle).why_trust(harmless_options("onnxruntime")) is None
    assert harmless_options("no such engine") == frozenset()
