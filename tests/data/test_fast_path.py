"""The fast path gives the reference's bits, or is not used."""

from __future__ import annotations

import importlib.util
import itertools
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest
from PIL import Image

from assay.core.errors import BadInput
from assay.data import fast_path, pillow_path
from assay.data.fast_path import FILTERS, ORDERS, Finish
from assay.data.geometry import Placement
from assay.data.image import CROP_MODES, INTERPOLATIONS, ImageSettings, ImageTransform

compiled = pytest.mark.skipif(
    importlib.util.find_spec("assay.data._resample") is None, reason="installed without the compiled resampler"
)
IDENTITY = Finish(np.tile(np.arange(256, dtype=np.float32), (3, 1)), bytes(3))


def test_what_is_used_here_was_checked() -> None:
    found = fast_path.ways()
    assert found is fast_path.ways()
    assert found.decoder in ("simplejpeg", "pillow")
    assert bool(found.notes) == ("pillow" in (found.decoder, found.resampler))
    assert found.to_json()["pillow"]


@pytest.mark.parametrize(("mode", "interpolation"), list(itertools.product(CROP_MODES, INTERPOLATIONS)))
@pytest.mark.parametrize("channels", [1, 3])
def test_fast_and_plain_have_the_same_bits(mode: str, interpolation: str, channels: int, zoo: dict[str, bytes]) -> None:
    settings = ImageSettings(
        (45, 66),
        crop_pct=0.8,
        crop_mode=mode,
        interpolation=interpolation,
        mean=(0.4, 0.5, 0.6)[:channels],
        std=(0.2, 0.3, 0.4)[:channels],
        channels=channels,
    )
    fast, plain = ImageTransform(settings), ImageTransform(settings, fast=False)
    assert plain.ways() == fast_path.PILLOW
    for name, content in zoo.items():
        assert fast(content).tobytes() == plain(content).tobytes(), name
        assert fast.pixels(content).tobytes() == plain.pixels(content).tobytes(), name


@compiled
@pytest.mark.parametrize("vector", [True, False])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_compiled_resize_is_pillows(channels: int, vector: bool) -> None:
    from assay.data import _resample

    rng = np.random.default_rng(7)
    order = ORDERS[fast_path.ways().order]
    table = np.ascontiguousarray(IDENTITY.table[:channels])
    for _ in range(150):
        h, w, to_h, to_w = (int(v) for v in rng.integers(1, 90, 4))
        pixels = rng.integers(0, 256, (h, w, channels), dtype=np.uint8)
        filter = list(FILTERS)[int(rng.integers(len(FILTERS)))]
        image = Image.fromarray(pixels if channels == 3 else pixels[:, :, 0])
        resized = pillow_path.resize(image, Placement((to_h, to_w), 0, 0), filter)
        top, left = int(rng.integers(-5, to_h)), int(rng.integers(-5, to_w))
        out_h, out_w = (int(v) for v in rng.integers(1, 60, 2))
        out = np.full((channels, out_h, out_w), -1, np.float32)
        window = (top, left, out_h, out_w)
        _resample.resample(
            pixels, pixels.shape, (to_h, to_w, order(h, w, to_h, to_w)), FILTERS[filter], window, b"\x07\x08\x09"[
                :channels
            ], table, out, not vector
        )  # fmt: skip
        expected = np.empty((channels, out_h, out_w), np.float32)
        expected[:] = np.array([7, 8, 9], np.float32)[:channels, None, None]
        whole = pillow_path.pixels(resized)
        y0, x0 = max(0, top), max(0, left)
        part = whole[y0 : max(0, top + out_h), x0 : max(0, left + out_w)].transpose(2, 0, 1)
        expected[:, y0 - top : y0 - top + part.shape[1], x0 - left : x0 - left + part.shape[2]] = part
        np.testing.assert_array_equal(out, expected, err_msg=f"{filter} {(h, w)} -> {(to_h, to_w)} {window}")


@compiled
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"pixels": np.zeros(11, np.uint8)}, "pixels do not fit"),
        ({"shape": (2, 2, 2)}, "channels"),
        ({"shape": (0, 2, 3)}, "below 1"),
        ({"resized": (2, 1 << 21, False)}, "above"),
        ({"filter": 9}, "unknown filter"),
        ({"window": (0, 0, 0, 2)}, "output size"),
        ({"fill": b""}, "fill"),
        ({"table": np.zeros(3, np.float32)}, "table"),
        ({"out": np.zeros(5, np.float32)}, "out is"),
    ],
)
def test_the_compiled_part_refuses_sizes_that_do_not_fit(change: dict[str, Any], says: str) -> None:
    from assay.data import _resample

    good: dict[str, Any] = {
        "pixels": np.zeros(12, np.uint8),
        "shape": (2, 2, 3),
        "resized": (2, 2, False),
        "filter": 1,
        "window": (0, 0, 2, 2),
        "fill": b"abc",
        "table": IDENTITY.table,
        "out": np.zeros(12, np.float32),
    }
    _resample.resample(*good.values())
    with pytest.raises(ValueError, match=says):
        _resample.resample(*(good | change).values())


@pytest.mark.parametrize(("order", "h", "to_h", "w", "to_w", "first"), [
    ("by-loss", 500, 256, 375, 256, True),
    ("by-loss", 500, 300, 375, 256, False),
    ("by-loss", 50, 100, 50, 90, False),
    ("tall", 500, 256, 4, 4, True),
    ("tall", 400, 256, 4, 4, False),
    ("rows", 5000, 1, 1, 1, False),
])  # fmt: skip
def test_which_pass_comes_first(order: str, h: int, to_h: int, w: int, to_w: int, first: bool) -> None:
    assert ORDERS[order](h, w, to_h, to_w) is first


@pytest.mark.filterwarnings("default::RuntimeWarning")
def test_a_differing_bit_turns_the_resampler_off(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = pillow_path.resize

    def other(image: Any, placement: Placement, interpolation: str) -> Any:
        resized = honest(image, placement, interpolation)
        if interpolation == "hamming":
            resized = Image.fromarray(np.asarray(resized) ^ 1)
        return resized

    monkeypatch.setattr(pillow_path, "resize", other)
    with pytest.warns(RuntimeWarning, match="compiled resize .* differs from the Pillow"):
        found = fast_path.check(fast_path.packaged())
    assert found.resampler == "pillow"
    assert "slower and right" in found.notes[-1]


def test_a_differing_bit_turns_the_decoder_off(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("simplejpeg")
    honest = fast_path.decode_jpeg

    def other(content: bytes, channels: int) -> Any:
        found = honest(content, channels)
        return None if found is None else found ^ (found == 200)

    monkeypatch.setattr(fast_path, "decode_jpeg", other)
    with pytest.warns(RuntimeWarning, match="simplejpeg decodes the packaged .* to other bits"):
        found = fast_path.check(fast_path.packaged())
    assert found.decoder == "pillow"


def test_without_the_optional_parts_pillow_does_it(monkeypatch: pytest.MonkeyPatch, zoo: dict[str, bytes]) -> None:
    for module in ("simplejpeg", "assay.data._resample"):
        monkeypatch.setitem(sys.modules, module, None)
    found = fast_path.check(fast_path.packaged())
    assert (found.decoder, found.resampler) == ("pillow", "pillow")
    assert "pip install simplejpeg" in found.notes[0]
    assert "with equal bits" in found.notes[1]
    monkeypatch.setattr(fast_path, "_found", found)
    transform = ImageTransform(ImageSettings((20, 20)))
    expected = ImageTransform(ImageSettings((20, 20)), fast=False)(zoo["420"])
    np.testing.assert_array_equal(transform(zoo["420"]), expected)


def test_only_what_is_surely_equal_is_decoded_fast(zoo: dict[str, bytes]) -> None:
    pytest.importorskip("simplejpeg")
    for name in ("444", "422", "420", "progressive", "odd-size", "grey-jpeg", "rotated-by-exif"):
        found = fast_path.decode_jpeg(zoo[name], 3)
        assert found is not None, name
        np.testing.assert_array_equal(found, pillow_path.pixels(pillow_path.decode(zoo[name], 3)))
    assert fast_path.decode_jpeg(zoo["420"], 1) is None
    assert fast_path.decode_jpeg(zoo["grey-jpeg"], 1) is not None
    for content in (zoo["cmyk-jpeg"], zoo["rgba-png"], zoo["420"][:900], zoo["420"][:-30], b"\xff\xd8\xff", b""):
        assert fast_path.decode_jpeg(content, 3) is None


def test_into_a_row_of_a_batch(zoo: dict[str, bytes]) -> None:
    transform = ImageTransform(ImageSettings((16, 24)))
    batch = np.full((3, 3, 16, 24), 9, np.float32)
    transform.into(zoo["420"], batch[1])
    np.testing.assert_array_equal(batch[1], transform(zoo["420"]))
    assert (batch[[0, 2]] == 9).all()
    for wrong in (batch, batch[0].astype(np.float64), batch[0, :, :, ::-1], batch[0].transpose(1, 2, 0)):
        with pytest.raises(BadInput, match="out must be contiguous float32"):
            transform.into(zoo["420"], wrong)


def test_many_threads_at_once(zoo: dict[str, bytes]) -> None:
    transform = ImageTransform(ImageSettings((32, 32)))
    names = ["444", "422", "420", "grey-jpeg", "tall", "rgba-png"]
    expected = {name: transform(zoo[name]).tobytes() for name in names}
    wrong: list[str] = []

    def work(offset: int) -> None:
        for i in range(30):
            name = names[(i + offset) % len(names)]
            if transform(zoo[name]).tobytes() != expected[name]:
                wrong.append(name)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_the_buffer_for_a_giant_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_path, "LARGEST_KEPT_BYTES", 100)
    monkeypatch.setattr(fast_path, "_buffers", threading.local())
    small = fast_path._buffer(100)
    assert fast_path._buffer(90).base is small.base
    assert fast_path._buffer(101).base is not small.base
    assert fast_path._buffers.pixels.size == 100


GUARDED = """
import ctypes, mmap
import numpy as np
from assay.data import _resample

page = mmap.PAGESIZE
memory = mmap.mmap(-1, 2 * page)
start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(start + page), page, 0) == 0
table = np.tile(np.arange(256, dtype=np.float32), (3, 1))
rng = np.random.default_rng(0)
for h in range(1, 7):
    for w in range(1, 10):
        pixels = np.frombuffer(memory, np.uint8, h * w * 3, page - h * w * 3).reshape(h, w, 3)
        pixels[...] = rng.integers(0, 256, pixels.shape)
        for to in ((h, w + 3), (h + 2, w + 3), (h, max(1, w - 1)), (3, 3)):
            for columns_first in (False, True):
                found = []
                for plain in (False, True):
                    out = np.empty((3, *to), np.float32)
                    args = (*to, columns_first), 3, (0, 0, *to), bytes(3), table, out, plain, False
                    _resample.resample(pixels, pixels.shape, *args)
                    found.append(out)
                assert np.array_equal(*found)
"""


@compiled
@pytest.mark.skipif(sys.platform != "linux", reason="mprotect is called by its Linux name")
def test_nothing_is_read_behind_the_last_pixel() -> None:
    """The pixels end where memory ends that may be read: a byte too many ends the process."""
    done = subprocess.run([sys.executable, "-c", GUARDED], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
