"""ImageTransform against timm's real evaluation transform, bit for bit."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from assay.core.errors import BadInput
from assay.core.transform import Transform
from assay.data import transform_from_json
from assay.data.image import CROP_MODES, INTERPOLATIONS, ImageSettings, ImageTransform

RGB = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
# (settings that both understand); size, crop and statistics all vary.
CASES: dict[str, dict[str, Any]] = {
    f"{mode}-{interpolation}": {"size": [64, 64], "crop_pct": 0.875, "crop_mode": mode, "interpolation": interpolation}
    for mode, interpolation in itertools.product(CROP_MODES, INTERPOLATIONS)
}
CASES |= {
    "wide": {"size": [48, 96], "crop_pct": 0.9, "crop_mode": "center", "interpolation": "bicubic"},
    "tall-border": {"size": [97, 61], "crop_pct": 0.95, "crop_mode": "border", "interpolation": "bilinear"},
    "tall-squash": {"size": [97, 61], "crop_pct": 1.0, "crop_mode": "squash", "interpolation": "lanczos"},
    "imagenet": {"size": [224, 224], "crop_pct": 0.875, "crop_mode": "center", "interpolation": "bicubic"},
    "odd": {"size": [75, 75], "crop_pct": 0.965, "crop_mode": "center", "interpolation": "bicubic"},
    "pad": {"size": [80, 80], "crop_pct": 1.3, "crop_mode": "center", "interpolation": "bilinear"},
    "pad-squash": {"size": [81, 70], "crop_pct": 1.25, "crop_mode": "squash", "interpolation": "bilinear"},
    "half": {"size": [64, 64], "crop_pct": 1.0, "mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic"},
    "inception-border": {
        "size": [64, 64],
        "crop_mode": "border",
        "crop_pct": 0.8,
        "mean": [0.1, 0.7, 1],
        "std": [1, 1, 3],
    },
}


def reference(timm_data: ModuleType, settings: dict[str, Any]) -> Any:
    config = {**RGB, "crop_pct": 0.875, "crop_mode": "center", "interpolation": "bicubic", **settings}
    size = config.pop("size")
    channels = config.pop("channels", 3)
    return timm_data.create_transform(
        input_size=(channels, *size),
        is_training=False,
        **{k: tuple(v) if isinstance(v, list) else v for k, v in config.items()},
    )


@pytest.mark.parametrize("case", CASES)
def test_every_bit_is_timms(
    case: str, timm_data: ModuleType, zoo: dict[str, bytes], decoded_as_timm: Callable[[bytes, str], Any]
) -> None:
    ours = transform_from_json({"kind": "image", **RGB, **CASES[case]})
    theirs = reference(timm_data, CASES[case])
    for name, content in zoo.items():
        expected = theirs(decoded_as_timm(content, "RGB")).numpy()
        found = ours(content)
        assert found.dtype == np.float32
        assert found.shape == (3, *CASES[case]["size"])
        assert found.tobytes() == expected.tobytes(), name


@pytest.mark.parametrize("mode", CROP_MODES)
def test_one_channel_is_timms_too(
    mode: str, timm_data: ModuleType, zoo: dict[str, bytes], decoded_as_timm: Callable[[bytes, str], Any]
) -> None:
    settings = {"size": [32, 40], "crop_mode": mode, "mean": [0.13], "std": [0.31], "channels": 1}
    ours = transform_from_json({"kind": "image", **settings})
    theirs = reference(timm_data, settings)
    for name, content in zoo.items():
        expected = theirs(decoded_as_timm(content, "L")).numpy()
        assert ours(content).tobytes() == expected.tobytes(), name


def test_every_byte_value_is_normalised_as_torchvision_does(timm_data: ModuleType) -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    for mean, std in [(0.485, 0.229), (0.5, 0.5), (0.1307, 0.3081), (0.0, 1.0), (0.48145466, 0.26862954)]:
        settings = {"size": [16, 16], "crop_pct": 1.0, "mean": [mean], "std": [std], "channels": 1}
        expected = reference(timm_data, settings)(Image.fromarray(ramp)).numpy()
        assert transform_from_json({"kind": "image", **settings})(ramp).tobytes() == expected.tobytes()


def make(**changes: Any) -> ImageTransform:
    return ImageTransform(ImageSettings(**{"size": (32, 32), **changes}))


def test_bytes_images_and_arrays_give_the_same(zoo: dict[str, bytes]) -> None:
    transform = make()
    image = Image.open(io.BytesIO(zoo["420"])).convert("RGB")
    expected = transform(zoo["420"])
    for same in (image, np.asarray(image), bytearray(zoo["420"]), memoryview(zoo["420"])):
        np.testing.assert_array_equal(transform(same), expected)
    grey = np.asarray(image.convert("L"))
    np.testing.assert_array_equal(transform(grey), transform(grey[:, :, None]))
    rgba = np.dstack([np.asarray(image), np.full(grey.shape, 9, np.uint8)])
    np.testing.assert_array_equal(transform(rgba), expected)


def test_the_given_image_is_not_changed(zoo: dict[str, bytes]) -> None:
    image = Image.open(io.BytesIO(zoo["palette-transparent-png"]))
    image.load()
    before = dict(image.info)
    make()(image)
    assert image.info == before
    assert isinstance(image.info["transparency"], bytes)


@pytest.mark.parametrize("name", ["444", "progressive", "palette-png", "bmp", "gif"])
def test_a_truncated_file_is_refused(name: str, zoo: dict[str, bytes]) -> None:
    for part in (0.02, 0.5, 0.9):
        content = zoo[name][: int(len(zoo[name]) * part)]
        with pytest.raises(BadInput, match="not a whole image"):
            make()(content)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"this is text, not a picture", "not a whole image"),
        (b"\xff\xd8\xff\xe0" + b"\0" * 100, "not a whole image"),
        (np.zeros((4, 4), np.float32), "float32"),
        (np.zeros((3, 8, 8), np.uint8), "uint8"),
        (np.zeros((0, 4), np.uint8), "no pixels"),
        ("photo.jpg", "not str"),
    ],
)
def test_what_is_not_an_image_is_refused(content: Any, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        make()(content)


def test_a_decompression_bomb_is_refused(encoded: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    content = encoded(Image.new("L", (200, 100)), "PNG")
    assert make()(content).shape == (3, 32, 32)
    for limit in (15_000, 5_000):  # above Pillow's warning, above its error
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(BadInput, match=r"too large|more than Pillow's limit"):
            make()(content)
        with pytest.raises(BadInput, match="more than Pillow's limit"):
            make()(Image.new("L", (200, 100)))


def test_too_thin_for_the_border_mode_is_refused() -> None:
    with pytest.raises(BadInput, match="too thin"):
        make(crop_mode="border")(np.zeros((1000, 1), np.uint8))


def test_it_survives_being_written_down(zoo: dict[str, bytes]) -> None:
    first = make(crop_mode="border", interpolation="hamming", crop_pct=0.9)
    data = first.to_json()
    again = transform_from_json(data)
    assert isinstance(again, Transform)
    assert again.to_json() == data
    np.testing.assert_array_equal(first(zoo["422"]), again(zoo["422"]))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"size": [32]}, "size"),
        ({"size": [0, 32]}, "size"),
        ({"size": "big"}, "size"),
        ({"crop_pct": 0}, "crop_pct"),
        ({"crop_pct": "most"}, "crop_pct"),
        ({"crop_mode": "centre"}, "crop_mode"),
        ({"interpolation": "cubic"}, "interpolation"),
        ({"mean": [0.5]}, "mean"),
        ({"std": [1, 1, 0]}, "std must not be zero"),
        ({"std": [1, 1, float("nan")]}, "std"),
        ({"channels": 4}, "channels"),
        ({"channels": 1}, "one channel needs mean and std"),
        ({"colour": "RGB"}, "unknown setting 'colour'"),
    ],
)
def test_settings_that_cannot_be_right(change: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        transform_from_json({"kind": "image", "size": [32, 32], **change})


def test_settings_need_a_size() -> None:
    with pytest.raises(BadInput, match="no size"):
        transform_from_json({"kind": "image"})


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("shape", [(1, 5000, 3), (5000, 1, 3)])
def test_a_thread_of_pixels_is_not_made_a_mountain(fast: bool, shape: tuple[int, ...]) -> None:
    """Its longer edge would have more than a million pixels."""
    transform = ImageTransform(ImageSettings((224, 224)), fast=fast)
    with pytest.raises(BadInput, match=r"pixels is too thin for 224×224"):
        transform(np.zeros(shape, np.uint8))


def test_a_picture_longer_than_the_compiled_resize_takes() -> None:
    settings = ImageSettings((2, 4), crop_mode="squash", crop_pct=1.0)
    row = np.random.default_rng(0).integers(0, 256, (1, 2**20 + 1, 3), dtype=np.uint8)
    assert ImageTransform(settings)(row).tobytes() == ImageTransform(settings, fast=False)(row).tobytes()
