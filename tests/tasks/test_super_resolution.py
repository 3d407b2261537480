"""PSNR and SSIM against scikit-image, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from assay.core.dataset import Scored
from assay.core.errors import BadInput
from assay.tasks import TaskOptions, open_task
from assay.tasks.super_resolution import psnr, ssim

RNG = np.random.default_rng(3)
ORIGINAL = RNG.integers(0, 256, (24, 30, 3), dtype=np.uint8)
NOISY = np.clip(ORIGINAL.astype(int) + RNG.integers(-20, 21, ORIGINAL.shape), 0, 255).astype(np.uint8)


def output(picture: Any, white: float = 1.0, order: str = "RGB") -> Any:
    values = picture[:, :, :: -1 if order == "BGR" else 1].transpose(2, 0, 1)[None].astype(np.float32)
    return {"y": values * np.float32(white / 255)}


def test_the_measures_are_scikit_images() -> None:
    assert psnr(NOISY, ORIGINAL) == pytest.approx(peak_signal_noise_ratio(ORIGINAL, NOISY), rel=1e-9)
    expected = structural_similarity(
        ORIGINAL,
        NOISY,
        channel_axis=2,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
    )
    assert ssim(NOISY, ORIGINAL) == pytest.approx(expected, rel=1e-6)
    assert ssim(ORIGINAL, ORIGINAL) == pytest.approx(1)


@pytest.mark.parametrize(("white", "order"), [(1.0, "RGB"), (255.0, "BGR")])
def test_scores_and_the_gain_over_bicubic(white: float, order: str) -> None:
    task = open_task("super_resolution", TaskOptions(white=white, order=order))
    half = ((ORIGINAL.astype(int) + NOISY) // 2).astype(np.uint8)
    scored = task.score(["a"], output(half, white, order), [{"original": ORIGINAL, "bicubic": NOISY}])
    row = scored[0].row
    assert row["psnr"] == pytest.approx(psnr(half, ORIGINAL))
    assert row["psnr.gain"] == pytest.approx(row["psnr"] - psnr(NOISY, ORIGINAL))
    assert row["psnr.gain"] > 3
    found = task.figures([Scored(s.id, json.loads(json.dumps(dict(s.row)))) for s in scored * 5])
    assert list(found) == ["psnr", "ssim", "psnr.bicubic", "ssim.bicubic", "psnr.gain"]
    assert found["psnr"].unit == "dB"
    assert found["psnr"].n == 5


def test_output_beyond_white_is_clipped_and_nan_is_black() -> None:
    task = open_task("super_resolution")
    (beyond,) = task.score(["a"], {"y": output(ORIGINAL)["y"] * 3 - 1}, [ORIGINAL])
    assert np.isfinite(beyond.row["psnr"])
    broken = output(ORIGINAL)["y"]
    broken[0, 0, 0, 0] = np.nan
    (sample,) = task.score(["a"], {"y": broken}, [ORIGINAL])
    assert "not finite" in sample.row["reason"]
    assert sample.row["psnr"] == pytest.approx(psnr(np.zeros_like(ORIGINAL), ORIGINAL))
    assert "not finite" in (task.figures([sample])["psnr"].reason or "")


def test_equal_pictures_are_said() -> None:
    task = open_task("super_resolution")
    figure = task.figures(task.score(["a"], output(ORIGINAL), [ORIGINAL]))["psnr"]
    assert figure.value == 100
    assert "1 equal their originals" in (figure.reason or "")


@pytest.mark.parametrize(
    ("outputs", "target", "says"),
    [
        (output(ORIGINAL), ORIGINAL[:-1], "a: the model made 30×24×3, the original is 30×23×3"),
        (output(ORIGINAL), None, "no original"),
        (output(ORIGINAL), ORIGINAL.astype(float), "an original is uint8"),
        ({"y": np.zeros((1, 5, 4, 4), np.float32)}, ORIGINAL, "no output is one"),
        ({**output(ORIGINAL), "z": output(ORIGINAL)["y"]}, ORIGINAL, "several outputs"),
        (output(ORIGINAL[:8]), ORIGINAL[:8], "at least 11×11"),
    ],
)
def test_what_cannot_be_right(outputs: Any, target: Any, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        open_task("super_resolution").score(["a"], outputs, [target])


def test_nothing_passes_vacuously() -> None:
    task = open_task("super_resolution")
    with pytest.raises(BadInput, match="no samples"):
        task.score([], output(ORIGINAL), [])
    with pytest.raises(BadInput, match="no samples"):
        task.figures([])
    with pytest.raises(BadInput, match="no output 'q'"):
        open_task("super_resolution", TaskOptions(output="q")).score(["a"], output(ORIGINAL), [ORIGINAL])
