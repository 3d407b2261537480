"""Train SRCNN briefly on eight photographs; write the checkpoint and the eight held-out ones.

    python train.py --out runs/srcnn/made --steps 300

Three channels carry the bicubic enlargement through; what is trained are the others, that add what it lacks.
The checkpoint is wrapped as mmediting's is (``state_dict``, every key under ``generator.``).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from network import FACTOR, SuperResolutionNet
from photographs import as_array, halves, pair, write_pairs
from torch import nn

Pair = tuple[np.ndarray, np.ndarray]
RATE = 3e-3
PATCH = 24  # pixels along an edge of a small patch


def carry(model: SuperResolutionNet) -> None:
    """The first three channels carry the bicubic picture through, the others see edges alone; no biases.

    A brief training would not learn to leave smooth pictures as they are, so this is set again after every step.
    """
    with torch.no_grad():
        model.conv1.weight -= model.conv1.weight.mean(dim=(2, 3), keepdim=True)
        for conv in (model.conv1, model.conv2, model.conv3):
            into = conv.weight[:, :3] if conv is model.conv3 else conv.weight[:3]
            middle = conv.kernel_size[0] // 2
            into.zero_()
            for channel in range(3):
                into[channel, channel, middle, middle] = 1
            nn.init.zeros_(conv.bias)


def patches(pairs: list[Pair], batch: int, draw: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """(small, large) float32 (batch, 3, …), turned, mirrored, dimmed, colours swapped at random."""
    small, large = [], []
    for index in draw.integers(len(pairs), size=batch):
        low, high = pairs[index]
        top, left = (int(draw.integers(0, edge - PATCH + 1)) for edge in low.shape[1:])
        cut = low[:, top : top + PATCH, left : left + PATCH]
        other = high[:, FACTOR * top : FACTOR * (top + PATCH), FACTOR * left : FACTOR * (left + PATCH)]
        turns, mirror = int(draw.integers(4)), int(draw.choice((-1, 1)))
        colours, light = draw.permutation(3), np.float32(draw.uniform(0.2, 1.0))
        small.append(light * np.rot90(cut, turns, (1, 2))[colours, :, ::mirror])
        large.append(light * np.rot90(other, turns, (1, 2))[colours, :, ::mirror])
    return torch.from_numpy(np.stack(small)), torch.from_numpy(np.stack(large))


def untrained() -> SuperResolutionNet:
    """Enlarges as torch's bicubic does, and no better."""
    torch.manual_seed(0)
    model = SuperResolutionNet()
    nn.init.zeros_(model.conv3.weight)
    carry(model)
    return model.eval()


def train(pairs: list[Pair], steps: int, batch: int) -> SuperResolutionNet:
    draw = np.random.default_rng(0)
    model = untrained().train()
    optimiser = torch.optim.Adam(model.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=RATE, total_steps=steps)
    for _ in range(steps):
        small, large = patches(pairs, batch, draw)
        # A mean of PSNRs: with the mean squared error itself the rough pictures would decide alone.
        loss = (model(small) - large).square().mean(dim=(1, 2, 3)).clamp_min(1e-7).log().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        carry(model)
        schedule.step()
    return model.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=12, help="patches of a step")
    settings = parser.parse_args()
    learnt, held = halves()
    pairs = []
    for picture in learnt.values():
        small, large = pair(picture, max(picture.size))
        pairs.append((as_array(small), as_array(large)))
    model = train(pairs, settings.steps, settings.batch)
    write_pairs(held, settings.out / "held")
    checkpoint = settings.out / "srcnn.pth"
    for path, network in ((checkpoint, model), (settings.out / "untrained.pth", untrained())):
        torch.save({"state_dict": {f"generator.{k}": v for k, v in network.state_dict().items()}}, path)
    print(f"{checkpoint}: {settings.steps} steps of {settings.batch} patches of {', '.join(learnt)}")
    print(f"{settings.out / 'held'}: held out: {', '.join(held)}")


if __name__ == "__main__":
    main()
