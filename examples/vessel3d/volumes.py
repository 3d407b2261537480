"""Generated volumes with branching tubes in them: the images of a vessel tree, and its mask.

A tree is a smooth random walk through the volume with branches that start on it.  The image is the tree, blurred and
of uneven brightness, above a cloudy background with noise and a few bright specks that are no vessels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import ndimage

SHAPE = (32, 40, 28)  # the document's 128×160×112, a quarter of each side
BRANCHES = 4
SPECKS = 6


def tree(draw: np.random.Generator, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """The mask of one tree, bool (D, H, W)."""
    mask = np.zeros(shape, dtype=bool)
    size = np.array(shape)
    starts = [(draw.uniform(0.2, 0.8, 3) * size, draw.uniform(2.0, 2.8))]
    for _ in range(BRANCHES):
        at, radius = starts[int(draw.integers(len(starts)))]
        direction = _unit(draw.normal(size=3))
        line = np.zeros(shape, dtype=bool)
        for step in range(int(size.max() * 1.5)):
            cell = np.rint(at).astype(int)
            if (cell < 0).any() or (cell >= size).any():
                break
            line[tuple(cell)] = True
            if step % 8 == 7:
                starts.append((at.copy(), max(1.1, radius * 0.8)))
            direction = _unit(direction + 0.35 * draw.normal(size=3))
            at = at + direction
        mask |= ndimage.distance_transform_edt(~line) <= radius
    return mask


def image(mask: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """What a scanner might make of it, float32 (D, H, W)."""
    brightness = 1.0 + 0.5 * _clouds(mask.shape, 5.0, draw)
    vessels = ndimage.gaussian_filter(mask * np.clip(brightness, 0.5, None), 0.6)
    found = 1.6 * vessels + 0.5 * _clouds(mask.shape, 3.0, draw) + 0.35 * draw.normal(size=mask.shape)
    for _ in range(SPECKS):
        found[tuple(int(draw.integers(extent)) for extent in mask.shape)] += draw.uniform(5, 20)
    return found.astype(np.float32)


def volume(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Image float32 (D, H, W) and mask uint8 (D, H, W); the same for the same seed."""
    draw = np.random.default_rng(seed)
    mask = tree(draw)
    return image(mask, draw), mask.astype(np.uint8)


def write(folder: Path, seeds: range) -> None:
    """``images/`` and ``labels/`` with an .npy file for each seed, as ``volumes:DIR`` reads them."""
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        for kind, array in zip(("images", "labels"), volume(seed), strict=True):
            np.save(folder / kind / f"tree_{seed:05d}.npy", array)


def _clouds(shape: tuple[int, ...], sigma: float, draw: np.random.Generator) -> np.ndarray:
    """Smooth noise with a standard deviation of 1."""
    smooth = ndimage.gaussian_filter(draw.normal(size=shape), sigma)
    return np.asarray((smooth - smooth.mean()) / smooth.std())


def _unit(vector: np.ndarray) -> np.ndarray:
    return np.asarray(vector / np.linalg.norm(vector))
