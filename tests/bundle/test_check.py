import json
from dataclasses import replace

import numpy as np
import pytest
from onnx import load_model, numpy_helper, save_model

from assay.bundle.check import ORIGIN, check
from assay.bundle.contents import DESCRIPTION
from assay.bundle.goldens import DESCRIPTION as GOLDENS
from assay.bundle.manifest import manifest_digest, write_manifest
from assay.bundle.pack import pack
from assay.core.artifact import file_artifact
from assay.core.errors import BadInput, EngineFailed, NotAvailable, UnknownName, UntrustedCode
from assay.core.verdict import UNCOMPARED, Reason, combine

from .conftest import contents_for, open_session, write_model
from .test_pack import from_source


def never(*_):
    raise AssertionError("nothing may be opened")


def step(result, name):
    (found,) = [s for s in result.steps if s.name == name]
    return found


def reseal(bundle, change=None, name=DESCRIPTION):
    """Change a JSON file and write a manifest that fits: what whoever holds the folder can do."""
    if change is not None:
        data = json.loads((bundle / name).read_text())
        change(data)
        (bundle / name).write_text(json.dumps(data))
    write_manifest(bundle)


def test_a_whole_bundle_passes_bit_equal(bundle):
    result = check(bundle, open_session, manifest_digest(bundle))
    assert result.ok and result.exit_code == 0
    assert [s.state for s in result.steps] == ["passed", "passed", "passed", "said", "passed", "passed", "said"]
    assert step(result, "goldens").text == "3 golden inputs, 2 outputs: bit-equal"
    assert result.digest == manifest_digest(bundle)
    assert step(result, "origin").text == ORIGIN
    assert json.loads(json.dumps(result.to_json()))["ok"] is True


def test_openvino_opens_its_own_file(tmp_path):
    pytest.importorskip("openvino")
    from assay.core.engine import BuildOptions
    from assay.core.table import resolve
    from assay.engines import ENGINES

    onnx_file = write_model(tmp_path / "small.onnx")
    built = resolve(ENGINES, "openvino", "engine")().build(onnx_file, BuildOptions(), tmp_path / "ir")
    bundle = pack(contents_for(built, "openvino"), tmp_path / "bundle")
    assert check(bundle, open_session).ok


def test_external_data_is_found_in_the_bundle(tmp_path):
    artifact = write_model(tmp_path / "small.onnx", external=True)
    bundle = pack(contents_for(artifact), tmp_path / "bundle")
    (tmp_path / "weights.bin").unlink()
    assert check(bundle, open_session).ok


@pytest.mark.parametrize("name", ["model/small.onnx", "goldens.npz", "bundle.json", "records.jsonl"])
def test_one_changed_byte_and_nothing_is_opened(bundle, name):
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    result = check(bundle, never)
    assert not result.ok and result.exit_code == 1
    assert step(result, "integrity").state == "failed"
    assert [p.path for p in result.problems] == [name]
    assert step(result, "goldens").state == "not_shown"


def test_another_digest_than_the_pinned_one(bundle):
    result = check(bundle, never, "sha256:" + "0" * 64)
    assert not result.ok and step(result, "digest").state == "failed"
    assert manifest_digest(bundle) in step(result, "digest").text
    with pytest.raises(BadInput):
        check(bundle, never, "latest")


def test_a_resealed_bundle_is_caught_by_its_digest_alone(bundle):
    """Whoever can write the folder can write a fitting manifest: integrity passes, the pinned digest does not."""
    pinned = manifest_digest(bundle)
    (bundle / "labels.json").write_text('["x"]')
    reseal(bundle)
    assert step(check(bundle, open_session), "integrity").state == "passed"
    assert step(check(bundle, never, pinned), "digest").state == "failed"


def test_an_engine_file_exchanged_for_another_is_not_opened(bundle):
    path = bundle / "model" / "small.onnx"
    model = load_model(path)
    weights = numpy_helper.to_array(model.graph.initializer[0]) * np.float32(1.01)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, "W"))
    save_model(model, path)
    reseal(bundle)
    result = check(bundle, never)
    assert not result.ok and step(result, "engine file").state == "failed"


def test_a_model_that_gives_something_else_fails(tmp_path):
    """The packed outputs are those of other weights: as if the library computed differently here."""
    contents = contents_for(write_model(tmp_path / "small.onnx"))
    wrong = tuple((f, {**o, "scores": o["scores"] * np.float32(1.001)}) for f, o in contents.goldens)
    bundle = pack(replace(contents, goldens=wrong), tmp_path / "wrong")
    result = check(bundle, open_session)
    assert not result.ok and result.exit_code == 1
    assert "noise over signal 0.001, allowed 1e-05" in step(result, "goldens").text
    near = tuple((f, {**o, "scores": o["scores"] * np.float32(1.000001)}) for f, o in contents.goldens)
    result = check(pack(replace(contents, goldens=near), tmp_path / "near"), open_session)
    assert result.ok and "within tolerance" in step(result, "goldens").text
    assert "a test's own limit" in step(result, "goldens").text


class Spoiled:
    """A session whose outputs were tampered with, or which breaks."""

    def __init__(self, inner, spoil):
        self.inner, self.spoil = inner, spoil

    def run(self, feed, out=None, spans=None):
        return self.spoil(self.inner.run(feed))

    def __enter__(self):
        self.inner.__enter__()
        return self

    def __exit__(self, *why):
        return self.inner.__exit__(*why)


def raise_failure(_):
    raise EngineFailed("the vendor says 42")


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda o: {**o, "scores": np.full_like(o["scores"], np.nan)}, "output 'scores' holds NaN for golden 0"),
        (lambda o: {"scores": o["scores"]}, "output 'best' is missing for golden 0"),
        (lambda o: {}, "output 'scores' is missing for golden 0"),
        (raise_failure, "the vendor says 42"),
        (lambda o: {**o, "scores": o["scores"] * 2}, "noise over signal 1, allowed"),
    ],
)
def test_bad_outputs_fail(bundle, spoil, text):
    result = check(bundle, lambda *what: Spoiled(open_session(*what), spoil))
    assert not result.ok and text in step(result, "goldens").text


def test_an_engine_that_is_not_here_is_not_shown(bundle):
    def missing(*_):
        raise NotAvailable("onnxruntime is not installed", remedy="pip install onnxruntime")

    result = check(bundle, missing)
    assert not result.ok and result.exit_code == 3
    assert step(result, "open").state == "not_shown" and result.error.remedy


def test_an_engine_name_is_a_table_key_and_no_import_path(bundle):
    def evil(data):
        from assay.bundle.contents import read_bundle
        from assay.core.engine import Candidate

        packed = read_bundle(bundle).candidate
        candidate = Candidate(packed.artifact, "os:system", packed.engine_version, packed.options, packed.device_name)
        data["candidate"].update(engine="os:system", digest=candidate.digest)

    reseal(bundle, evil)
    result = check(bundle, open_session)
    assert not result.ok and isinstance(result.error, UnknownName)


def test_what_differs_here_is_said_and_decides_nothing(bundle, contents):
    def here(engine, device):
        assert (engine, device) == ("onnxruntime", "cpu")
        return {"engine_version": "0.1", "device_name": "a processor", "versions": {"numpy": "0.0", "other": "1"}}

    result = check(bundle, open_session, here=here)
    assert result.ok
    assert result.differences == (
        f"versions.numpy was {np.__version__}, here it is 0.0",
        f"engine_version was {contents.candidate.engine_version}, here it is 0.1",
    )
    same = check(bundle, open_session, here=lambda *_: {"device_name": "a processor"})
    assert same.differences == () and "the same engine and device" in step(same, "environment").text
    none = check(bundle, open_session, here=lambda *_: {})
    assert "nothing in common" in step(none, "environment").text


def test_a_verdict_without_a_comparison_is_said(contents, tmp_path):
    reason = Reason("numeric", "passed", f"{UNCOMPARED}: it is the reference itself; the policy accepts that")
    told = check(pack(replace(contents, verdict=combine([reason])), tmp_path / "out"), open_session)
    assert told.ok and step(told, "verdict").state == "said" and UNCOMPARED in step(told, "verdict").text


def test_a_recipe_without_a_file_is_not_shown(contents, tmp_path):
    bundle = pack(from_source(contents, tmp_path / "gone"), tmp_path / "out")
    result = check(bundle, never)
    assert not result.ok and result.exit_code == 1
    assert "assay run small.onnx" in step(result, "goldens").text


def test_code_needs_trust_or_a_pinned_digest(contents, tmp_path):
    (tmp_path / "source.json").write_text("{}")
    bundle = pack(from_source(contents, tmp_path / "source.json"), tmp_path / "out")
    with pytest.raises(UntrustedCode, match=r"net\.py") as caught:
        check(bundle, never)
    assert manifest_digest(bundle) in caught.value.remedy
    opened = []

    def opens(artifact, options, engine):
        opened.append((artifact.format, engine))
        raise EngineFailed("seen")

    check(bundle, opens, trust=True)
    check(bundle, opens, manifest_digest(bundle))
    assert opened == [("source", "torch")] * 2


def with_options(contents, **given):
    options = replace(contents.candidate.options, provider_options=tuple(sorted(given.items())))
    return replace(contents, candidate=replace(contents.candidate, options=options))


def test_an_option_that_is_not_known_to_be_harmless_needs_trust_or_a_pinned_digest(contents, tmp_path):
    set_so = with_options(contents, **{"session.intra_op.allow_spinning": "0", "session.set_denormal_as_zero": "1"})
    bundle = pack(set_so, tmp_path / "out")
    asked = []

    def harmless(engine):
        asked.append(engine)
        return {"session.intra_op.allow_spinning"}

    with pytest.raises(UntrustedCode, match=r"onnxruntime inside it: session\.set_denormal_as_zero=1") as caught:
        check(bundle, never, harmless=harmless)
    assert "allow_spinning" not in str(caught.value) and "runs code" not in str(caught.value)
    assert manifest_digest(bundle) in caught.value.remedy
    with pytest.raises(UntrustedCode, match=r"allow_spinning=0, session\.set_denormal"):  # nothing is known without it
        check(bundle, never)
    assert check(bundle, open_session, trust=True).ok
    assert check(bundle, open_session, manifest_digest(bundle), harmless=harmless).ok
    assert check(bundle, open_session, harmless=lambda _: dict(set_so.candidate.options.provider_options)).ok
    assert set(asked) == {"onnxruntime"}


def test_code_and_an_unknown_option_are_both_named(contents, tmp_path):
    (tmp_path / "source.json").write_text("{}")
    made = with_options(from_source(contents, tmp_path / "source.json"), CACHE_DIR="/elsewhere")
    with pytest.raises(UntrustedCode, match=r"runs code: net\.py and sets provider options .*: CACHE_DIR=/elsewhere"):
        check(pack(made, tmp_path / "out"), never)


def test_a_format_that_runs_code_is_noticed_whatever_the_bundle_says(contents, tmp_path):
    path = tmp_path / "model.bin"
    path.write_bytes(b"a module")
    artifact = replace(file_artifact(path, "torchscript"), runs_code=False)
    candidate = replace(contents.candidate, artifact=artifact, engine="torch")
    bundle = pack(replace(contents, candidate=candidate), tmp_path / "out")
    with pytest.raises(UntrustedCode, match=r"model\.bin"):
        check(bundle, never)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(pairs=2),
        lambda d: d.update(pairs=0, arrays=[]),
        lambda d: d["arrays"].pop(),
        lambda d: d["arrays"][0].update(name="../x"),
        lambda d: d["arrays"][0].update(name="99999999/in/x"),
        lambda d: d.pop("tolerance"),
        lambda d: d["tolerance"].update(max_relative_rms=None),
    ],
)
def test_malformed_goldens_are_bad_input(bundle, change):
    reseal(bundle, change, GOLDENS)
    with pytest.raises(BadInput):
        check(bundle, never)


def test_a_folder_that_is_no_bundle(tmp_path):
    with pytest.raises(BadInput, match="not a bundle"):
        check(tmp_path, never)
