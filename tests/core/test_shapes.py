import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core.errors import BadInput
from assay.core.shapes import ShapeSpec, parse_dims, parse_range, parse_shape


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("x:1x3x224x224", ShapeSpec("x", (1, 3, 224, 224))),
        ("x:[1,3,224,224]", ShapeSpec("x", (1, 3, 224, 224))),
        ("x:1,3,224,224", ShapeSpec("x", (1, 3, 224, 224))),
        ("[1, 3, 224, 224]", ShapeSpec(None, (1, 3, 224, 224))),
        ("1x3", ShapeSpec(None, (1, 3))),
        ("x:batchx3x224x224", ShapeSpec("x", ("batch", 3, 224, 224))),
        ("tokens:batchx12:int64", ShapeSpec("tokens", ("batch", 12), "int64")),
        ("tokens:batch,max_len", ShapeSpec("tokens", ("batch", "max_len"))),
        ("INPUT:0:1x3", ShapeSpec("INPUT:0", (1, 3))),
        ("INPUT:0:1x3:int64", ShapeSpec("INPUT:0", (1, 3), "int64")),
        ("[]", ShapeSpec(None, ())),
    ],
)
def test_every_dialect(text, spec):
    assert parse_shape(text) == spec


@pytest.mark.parametrize(
    "text", ["", "x:", "x:1xx3", "x:0x3", "x:-1x3", ":1x3", "x:1x3.5", "x:1x²", "x:1x٣", "x:" + 5000 * "9"]
)
def test_what_is_no_shape(text):
    with pytest.raises(BadInput) as caught:
        parse_shape(text)
    assert "1x3x224x224" in caught.value.remedy


def test_a_misspelt_dtype_is_no_dim():
    with pytest.raises(BadInput, match="'float33' is no dtype") as caught:
        parse_shape("x:1x3:float33")
    assert "float32" in caught.value.remedy


@given(st.lists(st.integers(1, 9999), min_size=1, max_size=6))
def test_all_spellings_agree(dims):
    spellings = ["x".join(map(str, dims)), ",".join(map(str, dims)), str(dims)]
    assert {parse_dims(s) for s in spellings} == {tuple(dims)}


def test_range():
    assert parse_range("tokens:0..30521") == ("tokens", 0.0, 30521.0)
    assert parse_range("INPUT:0:-1.5..2") == ("INPUT:0", -1.5, 2.0)


@pytest.mark.parametrize("text", ["tokens", "tokens:5", "0..3", "x:3..1", "x:a..b", "x:nan..1", "x:0..inf"])
def test_what_is_no_range(text):
    with pytest.raises(BadInput):
        parse_range(text)
