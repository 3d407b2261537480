"""Train the demo model: ``python examples/demo/train.py --out DIR [--seed N]``.

Trains on ``digits:train`` (1197 images) through the transform that evaluation uses, tests on
``digits:test`` (450 images, never seen), and writes ``DIR/weights.pt``, a state_dict.  Exits with 1, and
writes nothing, when the test accuracy is below 97 %.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from assay.data import open_reader, samples, transform_from_json

sys.path.insert(0, str(Path(__file__).resolve().parent))
from model import PREPROCESS, ge_resnet_digits

WANTED = 0.97


@dataclass(frozen=True)
class Recipe:
    """``train_samples`` is None for all of them; ``shift`` is the largest move in pixels of 32."""

    seed: int = 0
    epochs: int = 16
    batch: int = 64
    learning_rate: float = 4e-3
    weight_decay: float = 0.02
    shift: int = 3
    train_samples: int | None = None


def load(split: str, limit: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Images float32 (N, 1, 32, 32), as the model is fed later, and labels int64 (N,)."""
    from assay.core.tensors import TensorSpec

    spec = TensorSpec("input", "float32", ("batch", 1, 32, 32))
    found = list(samples(open_reader(f"digits:{split}"), transform_from_json(PREPROCESS), (spec,), 0, limit))
    images = np.stack([s.inputs["input"] for s in found])
    return torch.from_numpy(images), torch.tensor([s.target for s in found])


def shifted(images: torch.Tensor, most: int, generator: torch.Generator) -> torch.Tensor:
    """Every image moved by up to ``most`` pixels each way; paper (-1 after normalising) fills the rest."""
    if most == 0:
        return images
    count, _, height, width = images.shape
    padded = functional.pad(images, (most, most, most, most), value=-1.0)
    offsets = torch.randint(0, 2 * most + 1, (2, count, 1), generator=generator)
    rows = (torch.arange(height) + offsets[0])[:, :, None]
    columns = (torch.arange(width) + offsets[1])[:, None, :]
    return padded[torch.arange(count)[:, None, None], 0, rows, columns].unsqueeze(1)


def accuracy(model: Any, images: torch.Tensor, labels: torch.Tensor) -> float:
    """The fraction of images whose highest score is their label's."""
    model.eval()
    with torch.inference_mode():
        return float((model(images).argmax(dim=1) == labels).float().mean())


def train(recipe: Recipe) -> Any:
    """The trained model, in eval mode."""
    torch.manual_seed(recipe.seed)
    generator = torch.Generator().manual_seed(recipe.seed)
    images, labels = load("train", recipe.train_samples)
    model = ge_resnet_digits()
    optimiser = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    steps = recipe.epochs * (len(images) // recipe.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=recipe.learning_rate, total_steps=steps)
    model.train()
    for _ in range(recipe.epochs):
        order = torch.randperm(len(images), generator=generator)
        for start in range(0, len(order) - recipe.batch + 1, recipe.batch):
            rows = order[start : start + recipe.batch]
            scores = model(shifted(images[rows], recipe.shift, generator))
            loss = functional.cross_entropy(scores, labels[rows], label_smoothing=0.1)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return model.eval()


def save(model: Any, folder: Path) -> Path:
    """Write ``weights.pt`` under another name first, so that half a file never bears this one."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "weights.pt"
    temporary = folder / f"weights.pt.{os.getpid()}"
    try:
        torch.save(model.state_dict(), temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Train a small Gather-Excite ResNet on scikit-learn's digits.")
    parser.add_argument("--out", type=Path, required=True, help="folder for weights.pt")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=Recipe.epochs)
    given = parser.parse_args(arguments)
    # Steps this small gain nothing from more threads, and the result no longer depends on the core count.
    torch.set_num_threads(1)
    started = time.perf_counter()
    model = train(Recipe(seed=given.seed, epochs=given.epochs))
    images, labels = load("test")
    found = accuracy(model, images, labels)
    took_s = time.perf_counter() - started
    print(f"test accuracy {100 * found:.2f} % on {len(labels)} images, seed {given.seed}, trained in {took_s:.1f} s")
    if found < WANTED:
        print(f"below {100 * WANTED:.0f} %: nothing was written", file=sys.stderr)
        return 1
    print(f"weights: {save(model, given.out)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
