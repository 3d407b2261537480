"""Where an image goes: its size after resizing and the window that is cut out, rounded as timm and torchvision do."""

from __future__ import annotations

from dataclasses import dataclass

from assay.core.errors import BadInput

MOST_EDGE = 2**20
"""In pixels, of a resized image; ``_resample.c`` has the same limit, for what it is given too."""


@dataclass(frozen=True)
class Placement:
    """``resized`` is (height, width); the window of the output's size begins at (``top``, ``left``) of the resized
    image, negative where it is smaller than the output and what is missing is filled up."""

    resized: tuple[int, int]
    top: int
    left: int


def place(image: tuple[int, int], size: tuple[int, int], scale: tuple[int, int], crop_mode: str) -> Placement:
    """For an image of (height, width), an output of ``size`` and a ``scale`` size before the crop.

    Raises BadInput for an image so thin that an edge would have no pixel left, or more than MOST_EDGE.
    """
    if crop_mode == "squash":
        resized = scale
    elif crop_mode == "center" and scale[0] == scale[1]:
        resized = _shorter_edge(image, scale[0])
    else:
        resized = _keep_ratio(image, scale, longest=crop_mode == "border")
    if min(resized) < 1 or max(resized) > MOST_EDGE:
        raise BadInput(f"an image of {image[1]}×{image[0]} pixels is too thin for {size[1]}×{size[0]}")
    return Placement(resized, _offset(resized[0], size[0]), _offset(resized[1], size[1]))


def _shorter_edge(image: tuple[int, int], size: int) -> tuple[int, int]:
    """The shorter edge at ``size``; torchvision cuts the longer one's fraction off."""
    short, long = sorted(image)
    other = int(size * long / short)
    return (other, size) if image[1] <= image[0] else (size, other)


def _keep_ratio(image: tuple[int, int], target: tuple[int, int], *, longest: bool) -> tuple[int, int]:
    """What fits into ``target`` (``longest``) or covers it, rounded to even at .5 as timm does."""
    ratios = (image[0] / target[0], image[1] / target[1])
    ratio = max(ratios) if longest else min(ratios)
    return round(image[0] / ratio), round(image[1] / ratio)


def _offset(have: int, want: int) -> int:
    """Half of what is too much, rounded to even; or minus half of what is missing, rounded down."""
    return round((have - want) / 2.0) if have >= want else -((want - have) // 2)
