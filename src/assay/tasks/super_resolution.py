"""super_resolution: how near an enlarged picture comes to its original, and whether it beats bicubic.

Both are compared as 8-bit pictures, since that is what is looked at: the output is clipped to
0 … ``white``, scaled to 255 and rounded.  PSNR is 10·log10(255² / mean squared error) over all channels;
SSIM is Wang et al. (2004): an 11×11 Gaussian window of σ 1.5, K1 0.01, K2 0.03, mean over the places where
the window lies wholly on the picture, and over channels.  Equal pictures have no finite PSNR: they, and those
beyond it, count as 100 dB, and their number is said.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from assay.core.dataset import Scored
from assay.core.errors import BadInput
from assay.core.record import Figure
from assay.core.tensors import Array
from assay.tasks.means import mean_figure
from assay.tasks.options import TaskOptions

MOST_DB = 100.0
_UNITS = {"psnr": "dB", "ssim": "index", "psnr.bicubic": "dB", "ssim.bicubic": "index", "psnr.gain": "dB"}


class SuperResolution:
    """Targets are originals, uint8 (H, W, channels), or ``{"original": …, "bicubic": …}``; outputs (N, C, H, W)."""

    name = "super_resolution"
    primary = "psnr"
    higher_is_better = True

    def __init__(self, options: TaskOptions) -> None:
        self._options = options

    def score(self, ids: Sequence[str], outputs: Mapping[str, Array], targets: Sequence[Any]) -> list[Scored]:
        """One row per sample: ``psnr``, ``ssim`` and, where the target brings it, both of ``bicubic``.

        Raises BadInput for no samples and for pictures of other sizes than their originals.
        """
        pictures = select_pictures(outputs, self._options.output)
        if not ids:
            raise BadInput("no samples to score")
        if not len(ids) == len(targets) == len(pictures):
            raise BadInput(f"{len(ids)} samples, {len(targets)} originals and {len(pictures)} pictures do not fit")
        return [self._row(*row) for row in zip(ids, pictures, targets, strict=True)]

    def figures(self, scored: Sequence[Scored]) -> dict[str, Figure]:
        """Means over samples: ``psnr`` and ``ssim``, then bicubic's, and ``psnr.gain`` over it."""
        if not scored:
            raise BadInput("no samples were scored, so there is no PSNR")
        values: dict[str, list[float]] = {}
        equal = broken = 0
        for sample in scored:
            row = sample.row
            equal += row["psnr"] == MOST_DB
            broken += "reason" in row
            for name in _UNITS:
                if name in row:
                    values.setdefault(name, []).append(row[name])
        reasons = [f"{equal} equal their originals, or nearly, and count as {MOST_DB:g} dB"] if equal else []
        reasons += [f"{broken} of {len(scored)} outputs are not finite and count as black"] if broken else []
        reason = "; ".join(reasons) or None
        return {name: mean_figure(found, _UNITS[name], reason) for name, found in values.items()}

    def _row(self, id: str, output: Array, target: Any) -> Scored:
        original, bicubic = _originals(id, target)
        wide = output.astype(np.float64)
        row: dict[str, Any] = {"id": id}
        if not np.isfinite(wide).all():
            row["reason"] = "the output holds values that are not finite"
            wide = np.zeros_like(wide)
        picture = to_picture(wide, self._options)
        if picture.shape != original.shape:
            raise BadInput(f"{id}: the model made {_size(picture)}, the original is {_size(original)}")
        row |= {"psnr": psnr(picture, original), "ssim": ssim(picture, original)}
        if bicubic is not None:
            row |= {"psnr.bicubic": psnr(bicubic, original), "ssim.bicubic": ssim(bicubic, original)}
            row["psnr.gain"] = row["psnr"] - row["psnr.bicubic"]
        return Scored(id, row)


def super_resolution(options: TaskOptions) -> SuperResolution:
    return SuperResolution(options)


def to_picture(output: Array, options: TaskOptions) -> Array:
    """(channels, H, W) of any float dtype, 0 … white -> uint8 (H, W, channels), red first."""
    values = np.asarray(output, dtype=np.float64) * (255 / options.white)
    pixels = np.rint(np.clip(values, 0, 255)).astype(np.uint8).transpose(1, 2, 0)
    return pixels[:, :, ::-1] if options.order == "BGR" else pixels


def select_pictures(outputs: Mapping[str, Array], name: str | None) -> Array:
    """The output that is pictures (N, 1 or 3, H, W): the one named, else the only one."""
    shown = ", ".join(f"{n}: {a.dtype} {a.shape}" for n, a in outputs.items()) or "none"
    if name is not None and name not in outputs:
        raise BadInput(f"the model has no output {name!r}; it has {shown}")
    fitting = [n for n, a in outputs.items() if a.ndim == 4 and a.shape[1] in (1, 3) and name in (None, n)]
    if len(fitting) != 1:
        what = "no output is" if not fitting else f"several outputs could be it ({', '.join(fitting)}):"
        raise BadInput(f"super-resolution needs pictures (N, 1 or 3, H, W); {what} one: {shown}")
    return outputs[fitting[0]]


def psnr(picture: Array, original: Array) -> float:
    """In dB, of two uint8 arrays; MOST_DB for equal ones."""
    error = float(np.mean((picture.astype(np.float64) - original.astype(np.float64)) ** 2))
    return MOST_DB if error == 0 else min(MOST_DB, 10 * math.log10(255**2 / error))


def ssim(picture: Array, original: Array) -> float:
    """Of two uint8 (H, W, channels).  Raises BadInput for less than 11 pixels along an edge."""
    if min(picture.shape[:2]) < 11:
        raise BadInput(f"SSIM needs pictures of at least 11×11 pixels, not {_size(picture)}")
    x, y = picture.astype(np.float64), original.astype(np.float64)
    mean_x, mean_y = _blur(x), _blur(y)
    var_x, var_y = _blur(x * x) - mean_x**2, _blur(y * y) - mean_y**2
    both = _blur(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    top = (2 * mean_x * mean_y + c1) * (2 * both + c2)
    bottom = (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    return float(np.mean(top / bottom))


_KERNEL = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
_KERNEL /= _KERNEL.sum()


def _blur(image: Array) -> Array:
    """The Gaussian window along both edges, only where it lies wholly on the picture."""
    height, width = image.shape[0] - 10, image.shape[1] - 10
    rows = sum(w * image[i : i + height] for i, w in enumerate(_KERNEL))
    return np.asarray(sum(w * rows[:, i : i + width] for i, w in enumerate(_KERNEL)))


def _originals(id: str, target: Any) -> tuple[Array, Array | None]:
    original = target.get("original") if isinstance(target, Mapping) else target
    bicubic = target.get("bicubic") if isinstance(target, Mapping) else None
    for array in (original, bicubic):
        if array is not None and not (isinstance(array, np.ndarray) and array.dtype == np.uint8 and array.ndim == 3):
            raise BadInput(f"{id}: an original is uint8 (H, W, channels), not {type(array).__name__}")
    if original is None:
        raise BadInput(f"{id} has no original to compare with", remedy="use data with originals: pairs:DIR")
    return original, bicubic


def _size(picture: Array) -> str:
    return f"{picture.shape[1]}×{picture.shape[0]}×{picture.shape[2]}"
