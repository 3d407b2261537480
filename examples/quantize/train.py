"""Train the model that is hard to quantise: ``python examples/quantize/train.py --out DIR [--seed N]``.

Trains on ``digits:train``, makes the channels uneven (see model.py), tests on ``digits:test`` and writes
``DIR/weights.pt``, a state_dict.  Exits with 1, and writes nothing, below 95 % test accuracy or when the
scaled model is not the same function.
"""

from __future__ import annotations

import argparse
import copy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from assay.core.tensors import TensorSpec
from assay.data import open_reader, samples, transform_from_json

sys.path.insert(0, str(Path(__file__).resolve().parent))
from model import PREPROCESS, uneven, uneven_digits

WANTED = 0.95


def load(split: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Images float32 (N, 1, 16, 16), as the model is fed later, and labels int64 (N,)."""
    spec = TensorSpec("input", "float32", ("batch", 1, 16, 16))
    found = list(samples(open_reader(f"digits:{split}"), transform_from_json(PREPROCESS), (spec,)))
    return torch.from_numpy(np.stack([s.inputs["input"] for s in found])), torch.tensor([s.target for s in found])


def train(seed: int = 0, epochs: int = 12, batch: int = 48) -> Any:
    """The trained model with even channels, in eval mode."""
    torch.manual_seed(seed)
    images, labels = load("train")
    model = uneven_digits()
    steps = epochs * -(-len(images) // batch)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=1e-2, total_steps=steps)
    model.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(images)).split(batch):
            loss = functional.cross_entropy(model(images[rows]), labels[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return model.eval()


def scores(model: Any, images: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model(images)
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Train a small classifier and make it hard to quantise.")
    parser.add_argument("--out", type=Path, required=True, help="folder for weights.pt")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)  # steps this small gain nothing from more
    even = train(given.seed)
    model = copy.deepcopy(even)
    uneven(model, given.seed)
    images, labels = load("test")
    found = float((scores(model, images).argmax(1) == labels).float().mean())
    apart = float((scores(model, images) - scores(even, images)).abs().max() / scores(even, images).abs().max())
    print(f"test accuracy {found:.2%} on {len(labels)} images; scaling changed the scores by {apart:.1e} at most")
    if found < WANTED or apart > 1e-3:
        print("nothing was written", file=sys.stderr)
        return 1
    given.out.mkdir(parents=True, exist_ok=True)
    path = given.out / "weights.pt"
    torch.save(model.state_dict(), path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)
    print(f"weights: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
