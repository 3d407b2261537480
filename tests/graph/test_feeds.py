from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core.errors import BadInput, UnknownName
from assay.core.tensors import DTYPES, Signature, TensorSpec
from assay.graph.feeds import draw_feed

IMAGE = TensorSpec("x", "float32", ("batch", 3, "h", 8))
TOKENS = TensorSpec("tokens", "int64", ("batch", 12))


@given(st.sampled_from(sorted(DTYPES)), st.integers(1, 4), st.integers(0, 99))
def test_every_dtype_fits_its_signature_and_repeats(dtype: str, batch: int, seed: int) -> None:
    spec = TensorSpec("x", dtype, ("batch", 3))
    feed = draw_feed([spec], batch, seed)
    assert Signature((spec,), ()).check_feed(feed) == {"batch": batch}
    assert (draw_feed([spec], batch, seed)["x"] == feed["x"]).all()


def test_sizes_and_seeds() -> None:
    feed = draw_feed([IMAGE, TOKENS], 2, 0, None, {"h": 5})
    assert feed["x"].shape == (2, 3, 5, 8)
    assert (draw_feed([IMAGE, TOKENS], 2, 1, None, {"h": 5})["x"] != feed["x"]).any()
    assert (draw_feed([TOKENS], 2)["tokens"] == feed["tokens"]).all()


def test_integers_are_small_unless_a_range_says_otherwise() -> None:
    drawn = draw_feed([TOKENS], 200)["tokens"]
    assert set(np.unique(drawn)) == set(range(10))
    ranged = draw_feed([TOKENS], 200, 0, {"tokens": (100.0, 102.0)})["tokens"]
    assert set(np.unique(ranged)) == {100, 101, 102}


def test_float_ranges_are_uniform() -> None:
    drawn = draw_feed([IMAGE], 4, 0, {"x": (0.0, 1.0)}, {"h": 8})["x"]
    assert 0 <= drawn.min() < 0.1 < 0.9 < drawn.max() <= 1
    assert drawn.dtype == np.float32


def test_unbatched_inputs_keep_their_size() -> None:
    assert draw_feed([TensorSpec("k", "float32", (4, 2), None)], 3)["k"].shape == (4, 2)


@pytest.mark.parametrize(
    ("specs", "arguments", "error"),
    [
        ([IMAGE], {}, "no size is given for the free dim 'h'"),
        ([TensorSpec("x", "float32", (4, 2))], {"batch": 2}, "fixed batch of 4"),
        ([TOKENS], {"ranges": {"tokens": (0.5, 2.0)}}, "whole numbers"),
        ([TensorSpec("x", "uint8", (1,))], {"ranges": {"x": (0, 256)}}, "does not fit"),
    ],
)
def test_what_cannot_be_drawn(specs, arguments, error: str) -> None:
    with pytest.raises(BadInput, match=error):
        draw_feed(specs, **arguments)


def test_a_range_for_no_input() -> None:
    with pytest.raises(UnknownName, match="tokns"):
        draw_feed([TOKENS], 1, 0, {"tokns": (0, 1)})


def test_a_scalar_stays_without_dims() -> None:
    drawn = draw_feed([TensorSpec("scale", "float32", (), None)], 2, 0, {"scale": (1.5, 4.0)})["scale"]
    assert drawn.shape == () and 1.5 <= drawn <= 4


def test_ranges_of_what_is_no_number() -> None:
    flags = TensorSpec("f", "bool", (64,), None)
    assert set(draw_feed([flags])["f"].tolist()) == {False, True}
    assert not draw_feed([flags], ranges={"f": (0.0, 0.0)})["f"].any()
    assert draw_feed([flags], ranges={"f": (1.0, 1.0)})["f"].all()
    with pytest.raises(BadInput, match="does not fit"):
        draw_feed([flags], ranges={"f": (0.0, 2.0)})
    with pytest.raises(BadInput, match="has no range"):
        draw_feed([TensorSpec("t", "string", (2,), None)], ranges={"t": (0.0, 1.0)})
