"""A deployed transform that differs in one step, on real photographs: the step is named, with its size."""

import io

import numpy as np
import pytest
from PIL import Image
from skimage import data

from assay.core.errors import BadInput
from assay.data import transform_from_json
from assay.diagnose.image_steps import Recipe, apply, levels
from assay.diagnose.preprocessing import explain, parity

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZE = 64
TRAINING = transform_from_json(
    {"kind": "image", "size": [SIZE, SIZE], "crop_pct": 0.875, "interpolation": "bicubic", "mean": MEAN, "std": STD}
)
RECIPE = Recipe(
    (SIZE, SIZE), (73, 73), tuple(1 / 255 / s for s in STD), tuple(-m / s for m, s in zip(MEAN, STD, strict=True))
)


def jpeg(array, **options):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "JPEG", quality=92, **options)
    return file.getvalue()


@pytest.fixture(scope="module")
def photographs():
    """Odd sizes, so that every kind of rounding shows."""
    return [jpeg(a) for a in (data.astronaut()[20:219, 100:350], data.chelsea()[:180, 30:301])]


def opened(content):
    return Image.open(io.BytesIO(content)).convert("RGB")


def shorter_edge(image, kernel=Image.Resampling.BICUBIC):
    short, long = sorted(image.size)
    other = int(73 * long / short)
    return image.resize((73, other) if image.width <= image.height else (other, 73), kernel)


def centre(image, rounded=round):
    left, top = (rounded((n - SIZE) / 2) for n in image.size)
    return image.crop((left, top, left + SIZE, top + SIZE))


def normalised(image, mean=MEAN, std=STD):
    x = np.asarray(image, np.float32) / np.float32(255)
    return np.ascontiguousarray(((x - np.float32(mean)) / np.float32(std)).transpose(2, 0, 1))


def without_antialias(content):
    import torch

    x = torch.from_numpy(np.array(opened(content), np.float32).transpose(2, 0, 1))[None] / 255
    height, width = shorter_edge(opened(content)).size[::-1]
    x = torch.nn.functional.interpolate(x, (height, width), mode="bicubic", antialias=False)[0].numpy()
    top, left = round((height - SIZE) / 2), round((width - SIZE) / 2)
    x = x[:, top : top + SIZE, left : left + SIZE]
    return ((x - np.float32(MEAN)[:, None, None]) / np.float32(STD)[:, None, None]).astype(np.float32)


def fast_decode(content):
    simplejpeg = pytest.importorskip("simplejpeg")
    return TRAINING(simplejpeg.decode_jpeg(content, "RGB", fastdct=True, fastupsample=True))


ONE_STEP = {
    "decode": fast_decode,
    "size before the crop": lambda c: normalised(opened(c).resize((SIZE, SIZE), Image.Resampling.BICUBIC)),
    "resize kernel": lambda c: normalised(centre(shorter_edge(opened(c), Image.Resampling.BILINEAR))),
    "antialias": without_antialias,
    "crop rounding": lambda c: normalised(centre(shorter_edge(opened(c)), lambda x: int(np.floor(x)))),
    "channel order": lambda c: TRAINING(np.ascontiguousarray(np.asarray(opened(c))[:, :, ::-1])),
    "normalise": lambda c: normalised(centre(shorter_edge(opened(c))), (0.5,) * 3, (0.5,) * 3),
}


def compared(photographs, deployed):
    return parity(RECIPE, photographs, [TRAINING(c) for c in photographs], [deployed(c) for c in photographs])


def test_the_steps_together_are_the_training_transform(photographs):
    for content in photographs:
        np.testing.assert_allclose(apply(RECIPE, content), TRAINING(content), atol=1e-6)


@pytest.mark.parametrize("step", ONE_STEP)
def test_the_one_step_that_differs_is_named_with_its_size(photographs, step):
    found = compared(photographs, ONE_STEP[step])
    assert [s.words for s in found.steps] == [step], found
    assert found.explained
    assert not found.agree
    assert found.steps[0].training != found.steps[0].deployed
    assert found.steps[0].mean == pytest.approx(found.mean, rel=0.15)
    assert 0 < found.steps[0].mean < found.steps[0].largest


def test_several_steps_are_told_apart_in_the_order_they_are_done(photographs):
    def naive(content):
        image = opened(content).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        return normalised(np.asarray(image)[:, :, ::-1])

    found = compared(photographs, naive)
    assert [s.words for s in found.steps] == ["size before the crop", "resize kernel", "channel order"]
    assert found.steps[2].deployed == "BGR"
    assert found.unexplained < 0.01


def test_equal_transforms(photographs):
    found = compared(photographs, lambda c: normalised(centre(shorter_edge(opened(c)))))
    assert found.equal
    assert found.agree
    assert found.steps == ()


def test_rounding_is_no_difference(photographs):
    found = compared(photographs, lambda c: TRAINING(c) + np.float32(1e-3))
    assert found.agree
    assert not found.equal
    assert found.largest < 0.1


def test_what_no_step_explains_is_said(photographs):
    from PIL import ImageFilter

    found = compared(photographs, lambda c: TRAINING(np.asarray(opened(c).filter(ImageFilter.GaussianBlur(2)))))
    assert not found.explained
    assert not found.agree
    assert found.unexplained > 2


def test_channels_last_is_a_layout(photographs):
    found = compared(photographs, lambda c: TRAINING(c).transpose(1, 2, 0))
    assert "channels last" in found.layout
    assert not found.agree


def test_an_exif_rotation_is_a_decode(photographs):
    turned = Image.Exif()
    turned[0x0112] = 6
    content = jpeg(data.coffee()[:200, :280], exif=turned.tobytes())
    from PIL import ImageOps

    def upright(c):
        return normalised(centre(shorter_edge(ImageOps.exif_transpose(Image.open(io.BytesIO(c))).convert("RGB"))))

    found = compared([content], upright)
    assert [(s.words, s.deployed) for s in found.steps] == [("decode", "exif")]


def test_another_size_and_no_files_are_refused(photographs):
    with pytest.raises(BadInput, match=r"gives float32 \(3, 8, 8\)"):
        compared(photographs, lambda c: np.zeros((3, 8, 8), np.float32))
    with pytest.raises(BadInput, match="no files"):
        parity(RECIPE, [], [], [])


def test_a_function_is_explained_from_its_results_alone(photographs):
    plain = Recipe((SIZE, SIZE), (SIZE, SIZE), (1 / 255,) * 3, (0.0,) * 3)
    found, left = explain(plain, photographs, [TRAINING(c) for c in photographs])
    assert left < 0.01
    for content in photographs:
        np.testing.assert_allclose(levels(found, content), levels(RECIPE, content))
    assert found.said("normalise").startswith("mean 0.485, 0.456, 0.406; std 0.229, 0.224, 0.225")


def test_nan_from_the_deployed_transform_is_refused(photographs):
    ours = [apply(RECIPE, item) for item in photographs]
    theirs = [ours[0], np.where(ours[1] > 0, ours[1], np.nan)]
    with pytest.raises(BadInput, match=r"NaN or infinity in \d+ of 12288 values"):
        parity(RECIPE, photographs, ours, theirs)
