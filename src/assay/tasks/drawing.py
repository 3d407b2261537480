"""What a person looks at: labels written on a picture, masks laid over it, where two masks differ.

Text needs a font.  One with Chinese, Japanese and Korean glyphs is used where the system has it in one of the usual
places; without it, text that has such glyphs cannot be drawn (``can_draw``) and the caller writes English.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from assay.core.tensors import Array

# Colours of the classes 1, 2, … of a mask, told apart by most colour-blind people (Okabe and Ito 2008).
PALETTE = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167))
BOTH, ONLY_REFERENCE, ONLY_CANDIDATE = (150, 150, 150), (213, 94, 0), (0, 114, 178)
"""Of a difference picture: pixels where the two agree on a class, and where only one of them has foreground or another
class than the other."""
FONT_FOLDERS = ("/usr/share/fonts", "/usr/local/share/fonts", "/System/Library/Fonts", "C:/Windows/Fonts")
CJK_FONTS = ("NotoSansCJK", "NotoSansSC", "SourceHanSans", "wqy-", "DroidSansFallback", "PingFang", "msyh", "uming")
_FONT_SUFFIXES = frozenset((".ttf", ".ttc", ".otf"))


def overlay(picture: Array, mask: Array) -> Array:
    """uint8 (H, W, 3) and class numbers (H, W) -> uint8 (H, W, 3): half the class's colour where it is foreground."""
    blended = picture.astype(np.float64)
    covered = mask > 0
    colours = np.array(PALETTE, dtype=np.float64)
    blended[covered] = 0.5 * blended[covered] + 0.5 * colours[(mask[covered] - 1) % len(PALETTE)]
    return np.rint(blended).astype(np.uint8)


def difference(reference: Array, candidate: Array) -> Array:
    """Two masks of class numbers (H, W) -> uint8 (H, W, 3): grey where both have the same foreground class,
    orange where the reference has one that the candidate has not, blue the other way round; white is background in
    both.

    Where both have foreground of different classes the reference's colour stands.
    """
    picture = np.full((*reference.shape, 3), 255, dtype=np.uint8)
    same = reference == candidate
    picture[same & (reference > 0)] = BOTH
    picture[~same & (candidate > 0)] = ONLY_CANDIDATE
    picture[~same & (reference > 0)] = ONLY_REFERENCE
    return picture


def grey(plane: Array) -> Array:
    """Numbers (H, W) -> uint8 (H, W, 3): the darkest and the brightest hundredth are black and white, and so are what
    is no number and what is infinite."""
    known = plane[np.isfinite(plane)].astype(np.float64)
    low, high = np.percentile(known, (1, 99)) if known.size else (0.0, 1.0)
    values = np.nan_to_num(plane.astype(np.float64), nan=low, posinf=high, neginf=low)
    levels = np.clip((values - low) / max(high - low, np.finfo(np.float32).tiny), 0, 1)
    return np.repeat(np.rint(255 * levels).astype(np.uint8)[:, :, None], 3, axis=2)


def telling_place(masks: Sequence[Array]) -> int | None:
    """Of volumes (D, H, W): which slice the pictures of all of them show, the one where they differ most or, where they
    do not, with most foreground.  None for masks (H, W)."""
    if masks[0].ndim == 2:
        return None
    differing = sum((m != masks[0]).sum(axis=(1, 2)) for m in masks[1:])
    counts = np.asarray(differing) if np.any(differing) else (masks[0] > 0).sum(axis=(1, 2))
    return int(np.argmax(counts))


def with_lines(picture: Array, lines: Sequence[str]) -> Array:
    """uint8 (H, W, 3) with the lines written on a dark band below it, (H + band, W, 3)."""
    from PIL import Image, ImageDraw

    height, width = picture.shape[:2]
    size = max(11, width // 26)
    font = _font(size, any(_is_cjk(line) for line in lines))
    step = size + size // 2
    made = Image.new("RGB", (width, height + step * len(lines) + size // 2), (24, 24, 24))
    made.paste(Image.fromarray(np.ascontiguousarray(picture)), (0, 0))
    draw = ImageDraw.Draw(made)
    for number, line in enumerate(lines):
        draw.text((size // 2, height + size // 4 + number * step), line, font=font, fill=(255, 255, 255))
    return np.asarray(made)


def can_draw(text: str) -> bool:
    """Whether there is a font with the glyphs of ``text``: any text without Chinese signs, else one found here."""
    return not _is_cjk(text) or cjk_font() is not None


@lru_cache(maxsize=1)
def cjk_font() -> Path | None:
    """A font file with Chinese glyphs, in the order of CJK_FONTS; None where there is none."""
    found: list[Path] = []
    for folder in (*map(Path, FONT_FOLDERS), Path.home() / ".fonts", Path.home() / ".local/share/fonts"):
        if folder.is_dir():
            found += [p for p in sorted(folder.rglob("*")) if p.suffix.lower() in _FONT_SUFFIXES]
    for name in CJK_FONTS:
        for path in found:
            if path.name.lower().startswith(name.lower()):
                return path
    return None


def _font(size: int, cjk: bool) -> Any:
    from PIL import ImageFont

    path = cjk_font() if cjk else None
    return ImageFont.load_default(size) if path is None else ImageFont.truetype(str(path), size)


def _is_cjk(text: str) -> bool:
    return any("\u2e80" <= sign <= "\u9fff" or "\uff00" <= sign <= "\uffef" for sign in text)
