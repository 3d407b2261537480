"""Train the 3-D U-Net on generated vessels and save it as TorchScript, with volumes it has never seen.

    python train.py --out runs/vessel3d/made --steps 300 --volumes 24

Writes ``OUT/vessel.pt`` and the volumes ``OUT/test/{images,labels}/*.npy``.  Exits with 1, and keeps no model, when it
finds the unseen vessels no better than the best threshold on the brightness does.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from network import VesselNet
from torch.nn import functional
from volumes import volume, write

BATCH = 2
FIRST_TEST_SEED = 10_000  # training volumes have smaller seeds


def batch(seeds: range) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and masks float32 (N, 1, D, H, W)."""
    pairs = [volume(seed) for seed in seeds]
    return tuple(torch.from_numpy(np.stack(part)[:, None]).float() for part in zip(*pairs, strict=True))


def loss_of(logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Cross entropy and the soft Dice loss (Milletari et al. 2016), one of each."""
    found = torch.sigmoid(logits)
    soft = 1 - (2 * (found * masks).sum() + 1) / (found.sum() + masks.sum() + 1)
    return functional.binary_cross_entropy_with_logits(logits, masks) + soft


def dice(found: torch.Tensor, masks: torch.Tensor) -> float:
    """The mean over the volumes of 2·|A ∩ B| / (|A| + |B|); bool and 0/1 of the same shape."""
    common = (found * masks).flatten(1).sum(1)
    return float((2 * common / (found.flatten(1).sum(1) + masks.flatten(1).sum(1))).mean())


def train(steps: int) -> VesselNet:
    torch.manual_seed(0)
    model = VesselNet().train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=1e-2, total_steps=steps)
    for step in range(steps):
        images, masks = batch(range(step * BATCH, (step + 1) * BATCH))
        loss = loss_of(model(images), masks)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return model.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--volumes", type=int, default=24, help="of them to test on")
    given = parser.parse_args()
    torch.set_num_threads(1)  # the result does not depend on the number of cores
    begun = time.perf_counter()
    model = train(given.steps)
    took_s = time.perf_counter() - begun
    seeds = range(FIRST_TEST_SEED, FIRST_TEST_SEED + given.volumes)
    write(given.out / "test", seeds)
    images, masks = batch(seeds)
    with torch.inference_mode():
        found = dice(model(images) > 0, masks)
    plain = max(dice(images > limit, masks) for limit in np.linspace(0, 2, 21))
    print(f"{given.steps} steps of {BATCH} volumes in {took_s:.0f} s")
    print(f"Dice on {given.volumes} unseen volumes: {found:.3f}; of the best threshold on the brightness: {plain:.3f}")
    if found <= plain:
        raise SystemExit("the model is no better than a threshold: more --steps")
    torch.jit.script(model).save(str(given.out / "vessel.pt"))
    print(f"saved as TorchScript: {given.out / 'vessel.pt'}")


if __name__ == "__main__":
    main()
