"""What every engine must do, run over the engine table: a new table line is tested unasked.

conftest.py parametrises ``case`` over engine x precision available here x artifact format, and
``name`` over the table's keys.
"""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.core.artifact import Artifact
from assay.core.engine import BuildOptions, Engine, OpenOptions, Session
from assay.core.errors import BadInput, EngineFailed, NotAvailable, SignatureMismatch
from assay.core.table import resolve
from assay.engines import ENGINES

Case = Any  # conftest.Case; under the importlib mode a conftest cannot be imported by name
TOLERANCE = {"fp64": 1e-6, "fp32": 1e-5, "tf32": 1e-2, "bf16": 5e-2, "fp16": 1e-2, "int8": 2e-1}


def feed_of(rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(seed).random((rows, 3, 8, 8), dtype=np.float32)}


def assert_close(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], precision: str) -> None:
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], atol=TOLERANCE[precision], rtol=TOLERANCE[precision])


def test_is_an_engine_and_is_tested_or_says_why_not(name: str, tested: dict[str, list[str]]) -> None:
    """``tested`` is what conftest.py found to test, by engine."""
    engine = resolve(ENGINES, name, "engine")()
    assert isinstance(engine, Engine)
    assert engine.name == name
    assert engine.reads and engine.opens and engine.precisions
    if tested[name]:
        assert engine.version()
    else:
        assert all(engine.unavailable("cpu", p) for p in engine.precisions), "no recipe for its formats in conftest.py"


def test_signature_and_parallelism(opened: Session) -> None:
    assert isinstance(opened, Session)
    found = opened.signature
    assert found.input_names == ("x",)
    assert found.output_names == ("map", "scores")
    assert found.input("x").shape[1:] == (3, 8, 8)
    assert found.input("x").batch_axis == 0 and isinstance(found.input("x").batch, str)
    assert found.is_batched
    assert opened.parallelism >= 1


def test_outputs_have_names_order_dtypes_and_shapes(opened: Session) -> None:
    for rows in (1, 3):
        result = opened.run(feed_of(rows))
        assert list(result) == ["map", "scores"]
        assert result["map"].shape == (rows, 4, 8, 8)
        assert result["scores"].shape == (rows, 5)
        for array in result.values():
            assert array.dtype == np.float32
            assert np.isfinite(array).all()


def test_rows_are_independent_and_distinct(case: Case, opened: Session) -> None:
    feed = feed_of(3)
    together = opened.run(feed)
    alone = [opened.run({"x": feed["x"][i : i + 1]}) for i in range(3)]
    assert_close(together, {n: np.concatenate([a[n] for a in alone]) for n in together}, case.precision)
    assert not np.array_equal(alone[0]["map"], alone[1]["map"])


def test_repeatable(opened: Session) -> None:
    feed = feed_of(2)
    first = opened.run(feed)
    opened.run(feed_of(2, seed=1))
    second = opened.run(feed)
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])


def test_feed_is_unchanged_and_not_kept(opened: Session) -> None:
    feed = feed_of(2)
    array = feed["x"]
    before, references = array.copy(), sys.getrefcount(array)
    opened.run(feed)
    assert feed["x"] is array
    np.testing.assert_array_equal(array, before)
    assert sys.getrefcount(array) == references


def test_feeds_of_any_layout(case: Case, opened: Session) -> None:
    """Read-only, strided and reversed arrays mean the same as their copies, and cost no warning."""
    plain = feed_of(2)["x"]
    expected = opened.run({"x": plain})
    locked = plain.copy()
    locked.flags.writeable = False
    strided = np.repeat(plain, 2, axis=3)[..., ::2]
    backwards = np.ascontiguousarray(plain[..., ::-1])[..., ::-1]
    for variant in (locked, strided, backwards, np.asfortranarray(plain)):
        assert_close(opened.run({"x": variant}), expected, case.precision)


def test_returned_arrays_belong_to_the_caller(case: Case, artifacts: Callable[[Case], Artifact]) -> None:
    with case.new_engine().open(artifacts(case), OpenOptions(precision=case.precision)) as session:
        kept = session.run(feed_of(2))
        copies = {n: a.copy() for n, a in kept.items()}
        for seed in range(1, 5):
            session.run(feed_of(2, seed))
        for name in kept:
            np.testing.assert_array_equal(kept[name], copies[name])
        for array in kept.values():
            array[...] = 7  # writing into them must not reach the model either
        again = session.run(feed_of(2))
        for name in copies:
            np.testing.assert_array_equal(again[name], copies[name])
        again_copies = {n: a.copy() for n, a in again.items()}
    del session
    for name in again:
        np.testing.assert_array_equal(again[name], again_copies[name])


def test_out_buffers_are_written_and_returned(opened: Session) -> None:
    feed = feed_of(2)
    expected = opened.run(feed)
    out = {n: np.full_like(a, np.nan) for n, a in expected.items()}
    result = opened.run(feed, out=out)
    for name in expected:
        assert result[name] is out[name]
        np.testing.assert_array_equal(out[name], expected[name])
    some = opened.run(feed, out={"scores": out["scores"]})
    assert some["scores"] is out["scores"] and list(some) == ["map", "scores"]


def test_out_buffers_that_do_not_fit_are_refused(opened: Session) -> None:
    feed = feed_of(2)
    wrong = [
        ("nothing", np.zeros((2, 5), np.float32)),
        ("scores", np.zeros((2, 5), np.float64)),
        ("scores", np.zeros((2, 6), np.float32)),
        ("scores", np.zeros((3, 5), np.float32)),
        ("scores", np.zeros((5,), np.float32)),
    ]
    for name, buffer in wrong:
        with pytest.raises(SignatureMismatch, match=name):
            opened.run(feed, out={name: buffer})


def test_wrong_feeds_are_refused_and_the_expected_is_listed(opened: Session) -> None:
    good = feed_of(1)["x"]
    wrong = [
        ({"y": good}, "expected: x"),
        ({}, "expected: x"),
        ({"x": good, "y": good}, "expected: x"),
        ({"x": good.astype(np.float64)}, "float32.*float64"),
        ({"x": good.astype(np.float16)}, "float32.*float16"),
        ({"x": good[0]}, "4 dims"),
        ({"x": good[:, :, :7]}, "must be 8"),
        ({"x": good.tolist()}, "numpy array"),
    ]
    for feed, said in wrong:
        with pytest.raises(SignatureMismatch, match=said):
            opened.run(feed)  # type: ignore[arg-type]
    opened.run({"x": good})


def test_each_thread_gets_its_own_answer(case: Case, artifacts: Callable[[Case], Artifact]) -> None:
    feeds = [feed_of(1 + i % 3, seed=i) for i in range(8)]
    with case.new_engine().open(artifacts(case), OpenOptions(precision=case.precision)) as session:
        expected = [session.run(feed) for feed in feeds]
        start = threading.Barrier(4)

        def work(first: int) -> None:
            start.wait()
            for turn in range(12):
                index = (first * 2 + turn) % len(feeds)
                assert_close(session.run(feeds[index]), expected[index], case.precision)

        with ThreadPoolExecutor(4) as pool:
            for done in [pool.submit(work, i) for i in range(4)]:
                done.result()


def test_instances_run_side_by_side(case: Case, artifacts: Callable[[Case], Artifact]) -> None:
    options = OpenOptions(precision=case.precision, instances=2)
    with case.new_engine().open(artifacts(case), options) as session:
        assert session.parallelism >= 2
        feeds = [feed_of(2, seed=i) for i in range(6)]
        with ThreadPoolExecutor(3) as pool:
            found = list(pool.map(session.run, feeds))
        for feed, result in zip(feeds, found, strict=True):
            assert_close(session.run(feed), result, case.precision)


def test_buckets_change_no_bit_of_real_rows(case: Case, artifacts: Callable[[Case], Artifact]) -> None:
    """Within one bucket real rows are bit-equal whatever fills it up; between buckets within tolerance."""
    engine, artifact = case.new_engine(), artifacts(case)
    if not getattr(engine, "has_buckets", False) or artifact.format == "aoti":
        return  # that it refuses them is tested above
    with engine.open(artifact, OpenOptions(precision=case.precision, buckets=(2, 5))) as session:
        assert isinstance(session, Session)
        assert isinstance(session.signature.input("x").batch, str)
        feed = feed_of(5)
        proof = session.prove(feed)
        assert proof.padding_is_harmless and proof.between[5]["scores"].n == 5
        together = session.run(feed)
        for rows in (1, 2, 3, 4):
            part = session.run({"x": feed["x"][:rows]})
            for name in together:
                assert part[name].shape[0] == rows
                if rows > 2:  # the same bucket of five
                    np.testing.assert_array_equal(part[name], together[name][:rows])
            assert_close(part, {n: a[:rows] for n, a in together.items()}, case.precision)
        assert (session.padding.real, session.padding.added) == (5 + 1 + 2 + 3 + 4, 1 + 2 + 1)
        many = feed_of(12, seed=3)
        out = {"scores": np.empty((12, 5), np.float32)}
        found = session.run(many, out=out)
        assert found["scores"] is out["scores"]
        singly = [session.run({"x": many["x"][i : i + 1]}) for i in range(12)]
        assert_close(found, {n: np.concatenate([r[n] for r in singly]) for n in found}, case.precision)
        if case.multiplies:
            assert session.attest().share(None, case.precision) > 0.99
    for wrong in ((4, 2), (0, 2), (2, 2)):
        with pytest.raises(BadInput, match="rising"):
            engine.open(artifact, OpenOptions(precision=case.precision, buckets=wrong))


def test_attests_the_precision_asked_for(case: Case, opened: Session) -> None:
    attestation = opened.attest()
    assert attestation.how
    if not case.multiplies:
        assert not attestation.shares
        return
    assert sum(attestation.shares.values()) == pytest.approx(1)
    assert attestation.share(None, case.precision) > 0.99
    assert attestation.check(None, case.precision) == []
    opened.run(feed_of(1))  # attesting leaves the session usable


def test_closing_is_idempotent_and_final(case: Case, artifacts: Callable[[Case], Artifact]) -> None:
    session = case.new_engine().open(artifacts(case), OpenOptions(precision=case.precision))
    session.run(feed_of(1))
    session.close()
    session.close()
    for use in (lambda: session.run(feed_of(1)), session.attest):
        with pytest.raises(EngineFailed, match="closed"):
            use()


def test_closing_waits_for_calls_in_flight(case: Case, artifacts: Callable[[Case], Artifact]) -> None:
    """Every call either answers right or is told that the session is closed; none hangs or crashes."""
    session = case.new_engine().open(artifacts(case), OpenOptions(precision=case.precision))
    expected = session.run(feed_of(2))
    started, answered, refused = threading.Semaphore(0), [], []

    def work() -> None:
        while True:
            try:
                answered.append(session.run(feed_of(2)))
            except EngineFailed as error:
                refused.append(str(error))
                started.release()
                return
            started.release()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(6):
        started.acquire()
    session.close()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert len(refused) == 3 and all("closed" in text for text in refused)
    for result in answered:
        assert_close(result, expected, case.precision)


def test_damaged_and_missing_files_are_told(case: Case, artifacts: Callable[[Case], Artifact], tmp_path: Path) -> None:
    engine, artifact = case.new_engine(), artifacts(case)
    damaged = tmp_path / artifact.path.name
    damaged.write_bytes(b"\x08\x01 this is not a model \xff\x00")
    for part in artifact.companions:
        shutil.copy(part, tmp_path / part.name)
    if artifact.module is None:
        with pytest.raises((BadInput, EngineFailed)) as told:
            engine.open(replace(artifact, path=damaged), OpenOptions(precision=case.precision))
        assert str(told.value).strip() and "Traceback" not in str(told.value)
        with pytest.raises(BadInput, match="gone"):
            engine.open(replace(artifact, path=tmp_path / "gone"), OpenOptions(precision=case.precision))
        return

    def broken() -> object:
        raise RuntimeError("the module cannot be loaded\nsecond line")

    with pytest.raises(EngineFailed, match="the module cannot be loaded"):
        engine.open(replace(artifact, module=broken), OpenOptions(precision=case.precision))


def test_options_that_cannot_be_are_refused(case: Case, artifacts: Callable[[Case], Artifact]) -> None:
    engine, artifact = case.new_engine(), artifacts(case)
    asked = OpenOptions(precision=case.precision)
    for wrong in (replace(asked, instances=0), replace(asked, threads=0)):
        with pytest.raises(BadInput, match="at least 1"):
            engine.open(artifact, wrong)
    refused = [replace(asked, precision="int3"), replace(asked, device="cuda:7")]
    if not getattr(engine, "has_buckets", False):
        refused.append(replace(asked, buckets=(1, 4)))
    for wrong in refused:
        with pytest.raises(NotAvailable):
            engine.open(artifact, wrong)
    with pytest.raises(BadInput, match="ascend"):
        engine.open(replace(artifact, format="ascend"), asked)
    with pytest.raises(BadInput, match="ascend"):
        engine.build(replace(artifact, format="ascend"), BuildOptions(), Path("nowhere"))


def test_what_is_unavailable_has_a_readable_reason(name: str) -> None:
    engine = resolve(ENGINES, name, "engine")()
    for device, precision in (
        ("cuda:7", "fp32"),
        ("cpu", "int3"),
        ("no device!", "fp32"),
        ("tpu", "fp32"),
        ("", "fp32"),
    ):
        why = engine.unavailable(device, precision)
        assert why and len(why) > 15 and "Traceback" not in why
    for precision in engine.precisions:
        assert engine.unavailable("cpu", precision) is None or len(engine.unavailable("cpu", precision)) > 15


def test_a_missing_library_is_a_reason_with_the_command(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = resolve(ENGINES, name, "engine")()
    fine = engine.unavailable()
    for library in ("torch", "onnx", "onnxruntime", "openvino", "tritonclient"):
        monkeypatch.setitem(sys.modules, library, None)
    why = engine.unavailable()
    assert why == fine or (why is not None and "pip install" in why)
    if why != fine:
        with pytest.raises(NotAvailable, match="not installed"):
            engine.version()
