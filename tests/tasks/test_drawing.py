"""Pictures for people: labels, overlays, differences."""

from __future__ import annotations

import numpy as np
import pytest

from assay.core.errors import UnknownName
from assay.tasks import drawing
from assay.tasks.drawing import (
    BOTH,
    ONLY_CANDIDATE,
    ONLY_REFERENCE,
    difference,
    grey,
    overlay,
    telling_place,
    with_lines,
)
from assay.tasks.labels import CHINESE, english, in_language


def test_an_overlay_colours_foreground_alone() -> None:
    picture = np.full((4, 4, 3), 100, np.uint8)
    mask = np.zeros((4, 4), np.int64)
    mask[0, 0], mask[1, 1] = 1, 9
    made = overlay(picture, mask)
    assert made[0, 0].tolist() == [round((100 + c) / 2) for c in drawing.PALETTE[0]]
    assert made[1, 1].tolist() == [round((100 + c) / 2) for c in drawing.PALETTE[(9 - 1) % 7]]
    assert (made[2:] == 100).all()


def test_a_difference_tells_the_two_apart() -> None:
    reference, candidate = np.array([[1, 1, 0, 0, 1]]), np.array([[1, 0, 1, 0, 2]])
    white = (255, 255, 255)
    expected = [BOTH, ONLY_REFERENCE, ONLY_CANDIDATE, white, ONLY_REFERENCE]
    assert [tuple(p) for p in difference(reference, candidate)[0].tolist()] == expected


def test_of_volumes_the_slice_where_they_differ_most() -> None:
    a, b = np.zeros((5, 3, 3), np.int64), np.zeros((5, 3, 3), np.int64)
    a[1] = b[1] = 1
    assert telling_place([a, b]) == 1
    b[3, 0, 0] = 1
    assert telling_place([a, b]) == 3
    assert telling_place([a[0], b[0]]) is None


def test_lines_are_written_below_the_picture() -> None:
    picture = np.full((60, 200, 3), 9, np.uint8)
    made = with_lines(picture, ["91.0 %  tabby", "3.1 %  tiger cat"])
    assert made.shape[1] == 200
    assert made.shape[0] > 60
    assert (made[:60] == 9).all()
    assert (made[60:] > 200).any()


def test_chinese_names_and_the_font_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = in_language(("goldfish, Carassius auratus", "crane", "tench"), "zh")
    assert labels == (f"{CHINESE['goldfish']} (goldfish)", "crane", "tench")
    assert [english(label) for label in labels] == ["goldfish", "crane", "tench"]
    assert in_language(("goldfish",), "en") == ("goldfish",)
    with pytest.raises(UnknownName):
        in_language(("goldfish",), "fr")
    monkeypatch.setattr(drawing, "cjk_font", lambda: None)
    assert drawing.can_draw("tench")
    assert not drawing.can_draw(labels[0])


def test_every_chinese_name_belongs_to_one_class_of_imagenet() -> None:
    from assay.sources.torchvision_ops import make_importable

    pytest.importorskip("torch")
    make_importable()
    info = pytest.importorskip("timm.data").ImageNetInfo()
    firsts = [info.index_to_description(i).partition(",")[0].strip() for i in range(1000)]
    assert len(CHINESE) > 400
    for name in CHINESE:
        assert sum(first.lower() == name.lower() for first in firsts) == 1, name


def test_numbers_become_grey_levels() -> None:
    plane = np.linspace(-3.0, 5.0, 400).reshape(20, 20)
    made = drawing.grey(plane)
    assert made.shape == (20, 20, 3) and made.dtype == np.uint8
    assert made[0, 0].tolist() == [0, 0, 0] and made[-1, -1].tolist() == [255, 255, 255]
    assert (np.diff(made[..., 0].ravel().astype(int)) >= 0).all()
    assert (drawing.grey(np.ones((2, 2))) == 0).all()


@pytest.mark.filterwarnings("error")
def test_grey_of_what_is_no_number() -> None:
    plane = np.linspace(0, 1, 100, dtype=np.float32).reshape(10, 10)
    plane[0, :3] = np.nan, np.inf, -np.inf
    made = grey(plane)
    assert made[0, :3, 0].tolist() == [0, 255, 0]
    assert grey(np.full((4, 4), np.nan)).max() == 0
