"""Small pictures of changed samples: bounded, from what is a picture, and never a reason for a run to fail."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from assay.core.dataset import Item
from assay.core.errors import BadInput
from assay.core.record import Record
from assay.data.digits import DigitsReader
from assay.job.pictures import FILE, LEAST_SIDE, MOST, SIDE, flipped, load_pictures, picture, save_pictures


def jpeg(size, colour=(200, 30, 30)):
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "JPEG")
    return file.getvalue()


def opened(uri):
    kind, _, text = uri.partition(";base64,")
    assert kind in ("data:image/png", "data:image/jpeg")
    return Image.open(io.BytesIO(base64.b64decode(text)))


def evaluated(flips, engine="onnxruntime"):
    told = [{"id": id, "lost": lost, "reference": {}, "candidate": {}} for id, lost in flips]
    return Record("evaluate", {"engine": engine}, details={"flipped": told})


def test_a_large_picture_becomes_small_and_a_tiny_one_can_be_seen():
    assert max(opened(picture(jpeg((640, 320)))).size) == SIDE
    digit = next(iter(DigitsReader().items(0, 1))).content
    shown = opened(picture(digit))
    assert min(shown.size) >= LEAST_SIDE and shown.mode == "L"
    factor = shown.width // digit.shape[1]
    assert np.array_equal(np.asarray(shown)[factor // 2 :: factor, factor // 2 :: factor], digit)


@pytest.mark.parametrize("shape", [(3, 20, 24), (20, 24, 3), (1, 20, 24), (20, 24)])
def test_arrays_with_channels_first_or_last(shape):
    shown = opened(picture(np.random.default_rng(0).normal(size=shape).astype(np.float32)))
    assert shown.size[0] / shown.size[1] == pytest.approx(24 / 20)
    assert picture({"x": np.zeros(shape, np.uint8), "n": np.zeros(3)}) is not None


@pytest.mark.parametrize(
    "content", [b"no picture", b"", np.zeros((2, 3, 4, 5)), np.zeros(7), np.zeros((9, 9, 5)), {"a": 1}, "text", None]
)
def test_what_is_no_picture_gives_none(content):
    assert picture(content) is None


def test_lost_ones_first_and_every_candidate_has_its_turn():
    one = evaluated([(f"a{i}", i >= 3) for i in range(60)])
    two = evaluated([("b0", False), ("a5", True)])
    ids = flipped([one, two, Record("evaluate", {}, status="skipped", reason="no data")])
    assert ids[:4] == ["a3", "a5", "a4", "b0"]
    assert len(ids) == len(set(ids)) == MOST


def test_saved_beside_the_samples_and_read_back(tmp_path):
    items = list(DigitsReader().items(0, 30))
    records = [evaluated([(items[7].id, True), (items[2].id, False), ("digits/none", True)])]
    assert save_pictures(tmp_path, records, DigitsReader(), None) == 2
    pictures, labels = load_pictures(tmp_path)
    assert list(pictures) == [items[7].id, items[2].id]
    assert labels == tuple("0123456789")
    assert opened(pictures[items[7].id]).width >= LEAST_SIDE
    assert save_pictures(tmp_path, records, DigitsReader(), ["a", "b"]) == 2
    assert load_pictures(tmp_path)[1] == ("a", "b")


def test_data_that_cannot_be_read_again_leave_the_report_without_pictures(tmp_path):
    class Gone:
        name, synthetic, labels, preprocess = "gone", False, None, None

        def __len__(self):
            return 2

        def items(self, start=0, stop=None):
            yield Item("0", jpeg((9, 9)), 0)
            raise BadInput("1: the file is gone")

    assert save_pictures(tmp_path, [evaluated([("1", True)])], Gone(), None) == 0
    assert save_pictures(tmp_path, [evaluated([])], DigitsReader(), None) == 0
    assert save_pictures(tmp_path, [evaluated([("1", True)])], None, None) == 0
    assert load_pictures(tmp_path) == ({}, ())


@pytest.mark.parametrize("text", ["", "[]", '{"pictures": 3}', '{"pictures": {}}', "{"])
def test_a_broken_file_is_no_pictures(tmp_path, text):
    (tmp_path / FILE).parent.mkdir()
    (tmp_path / FILE).write_text(text)
    assert load_pictures(tmp_path) == ({}, ())


def test_an_address_is_no_picture(tmp_path):
    (tmp_path / FILE).parent.mkdir()
    (tmp_path / FILE).write_text(json.dumps({"pictures": {"a": "https://example.org/a.png"}, "labels": []}))
    assert load_pictures(tmp_path)[0] == {}


@pytest.mark.parametrize("odd", [np.inf, -np.inf, np.nan, 1.7e308])
def test_values_that_cannot_be_spread_are_drawn_all_the_same(odd):
    content = np.arange(64, dtype=np.float64).reshape(8, 8)
    content[0, 0] = odd
    shown = np.asarray(opened(picture(content)))
    assert shown.max() == 255 and shown.min() == 0
    assert opened(picture(np.full((8, 8), odd))) is not None
    assert opened(picture(np.array([[-1.7e308, 1.7e308] * 4] * 8))) is not None
