"""Pictures side by side from the run in the folder named on the command line, each with its PSNR.

``side_by_side.png``: bicubic, SRCNN as ``assay predict`` wrote it, and the original.  ``scales.png``: one photograph
enlarged by several factors with the file whose scale is free, where there is one.
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from photographs import as_array
from PIL import Image, ImageDraw

import assay

EDGE, BAND = 240, 18  # pixels of a shown square, and of the line of text above it
SCALES = (1.5, 2.0, 3.0, 4.0)


def tile(picture: Image.Image, text: str, edge: int = EDGE) -> Image.Image:
    """The middle of ``picture`` with a line of text above it."""
    left, top = ((extent - edge) // 2 for extent in picture.size)
    made = Image.new("RGB", (edge, edge + BAND), "white")
    made.paste(picture.crop((left, top, left + edge, top + edge)), (0, BAND))
    ImageDraw.Draw(made).text((2, 2), text, fill="black")
    return made


def grid(rows: list[list[Image.Image]], gap: int = 4) -> Image.Image:
    width = max(sum(t.width + gap for t in row) for row in rows)
    made = Image.new("RGB", (width, sum(max(t.height for t in row) + gap for row in rows)), "white")
    top = 0
    for row in rows:
        left = 0
        for one in row:
            made.paste(one, (left, top))
            left += one.width + gap
        top += max(t.height for t in row) + gap
    return made


def side_by_side(out: Path) -> Path:
    with gzip.open(out / "predictions-onnxruntime.jsonl.gz", "rt") as lines:
        measured: dict[str, dict[str, Any]] = {one["id"]: one["row"] for one in map(json.loads, lines)}
    rows = []
    for name, row in sorted(measured.items()):
        original = Image.open(out / "made" / "held" / "hr" / name)
        small = Image.open(out / "made" / "held" / "lr" / name)
        bicubic = small.resize(original.size, Image.Resampling.BICUBIC)
        rows.append(
            [
                tile(bicubic, f"bicubic {row['psnr.bicubic']:.2f} dB"),
                tile(Image.open(out / "enlarged" / name), f"SRCNN {row['psnr']:.2f} dB"),
                tile(original, Path(name).stem),
            ]
        )
    target = out / "side_by_side.png"
    # Two photographs to a line.
    grid([a + b for a, b in zip(rows[::2], [*rows[1::2], []], strict=False)]).save(target)
    return target


def scales(out: Path, file: Path) -> Path:
    small = Image.open(out / "made" / "held" / "lr" / "astronaut.png")
    feed = {"input": as_array(small)[None]}
    tiles = []
    with assay.open(file) as session:
        for factor in SCALES:
            (found,) = session.run({**feed, "scale": np.array(factor, np.float32)}).values()
            pixels = np.rint(np.clip(found[0], 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)
            expected = tuple(int(factor * extent) for extent in small.size)
            made = Image.fromarray(pixels)
            if made.size != expected:
                raise SystemExit(f"{file}: {made.size} at the scale {factor}, not {expected}")
            tiles.append(tile(made, f"scale {factor:g}: {made.width}x{made.height}", min(made.size)))
    target = out / "scales.png"
    grid([tiles]).save(target)
    return target


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    print(side_by_side(folder))
    free = folder / "srcnn_any_scale.onnx"
    if free.exists():
        print(scales(folder, free))
