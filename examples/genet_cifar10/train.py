"""Train the small GENet on CIFAR-10's files: ``python train.py --data DIR --out genet.pth.tar``.

The checkpoint is wrapped as the port's is: ``state_dict``, every key under ``module.``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from network import genet
from torch import nn

from assay.core.tensors import TensorSpec
from assay.data import open_reader, samples, transform_from_json


def load(data: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures float32 (N, 3, 32, 32), normalised as the reader says, and labels int64 (N,)."""
    reader = open_reader(data)
    assert reader.preprocess is not None
    spec = TensorSpec("image", "float32", ("batch", 3, 32, 32))
    found = list(samples(reader, transform_from_json(reader.preprocess), (spec,)))
    return torch.from_numpy(np.stack([s.inputs["image"] for s in found])), torch.tensor([s.target for s in found])


def train(images: torch.Tensor, labels: torch.Tensor, epochs: int, batch: int = 64) -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = genet()
    steps = epochs * -(-len(images) // batch)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=1e-2, total_steps=steps)
    model.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(images)).split(batch):
            pictures = images[rows].flip(3) if torch.rand(()) < 0.5 else images[rows]
            loss = nn.functional.cross_entropy(model(pictures), labels[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return model.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds CIFAR-10's files")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=8)
    given = parser.parse_args()
    torch.set_num_threads(1)  # steps this small gain nothing from more
    images, labels = load(f"cifar10:{given.data}:train")
    model = train(images, labels, given.epochs)
    torch.save({"state_dict": {f"module.{k}": v for k, v in model.state_dict().items()}}, given.out)
    count = sum(p.numel() for p in model.parameters())
    print(f"{given.out}: {count} parameters, {given.epochs} epochs of {len(images)} pictures")


if __name__ == "__main__":
    main()
