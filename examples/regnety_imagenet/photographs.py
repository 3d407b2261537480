"""A checkpoint of regnety_016 and a small ImageFolder of real photographs, made here because nothing is downloaded.

The photographs are those that scikit-image and scikit-learn ship.  The body keeps random weights (its batch
norms are calibrated on the photographs), the head is fitted by least squares to tell the photographs apart by
crops of them.  The labels of the ImageFolder are this model's own answers in PyTorch through timm's
transform: an accuracy measured on it is agreement with PyTorch, not skill.

    python photographs.py --out runs/regnety_imagenet/made --crops 16
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import numpy as np
import skimage.data
import torch
from PIL import Image
from sklearn.datasets import load_sample_image

from assay.sources.torchvision_ops import make_importable

make_importable()  # a torchvision built for CUDA beside a torch for CPUs would stop the next import
import timm  # noqa: E402
import timm.data  # noqa: E402

MODEL = "regnety_016.pycls_in1k"
FIT_CROPS = 4  # of each photograph; others than the evaluated ones


def photographs() -> dict[str, Image.Image]:
    """Ten colour photographs by name, in sorted order."""
    found = {n: getattr(skimage.data, n)() for n in ("astronaut", "chelsea", "coffee", "hubble_deep_field")}
    found |= {n: getattr(skimage.data, n)() for n in ("immunohistochemistry", "retina", "rocket")}
    found["motorcycle"] = skimage.data.stereo_motorcycle()[0]
    found |= {n: load_sample_image(f"{n}.jpg") for n in ("china", "flower")}
    return {name: Image.fromarray(found[name]) for name in sorted(found)}


def crop(picture: Image.Image, draw: np.random.Generator) -> Image.Image:
    """A square with 60 to 100 % of the shorter side, anywhere."""
    side = int(min(picture.size) * draw.uniform(0.6, 1.0))
    left, top = (int(draw.integers(0, extent - side + 1)) for extent in picture.size)
    return picture.crop((left, top, left + side, top + side))


def fitted(pixels: torch.Tensor, classes: torch.Tensor) -> torch.nn.Module:
    """regnety_016: random body with the batch statistics of ``pixels`` (N, 3, 224, 224), head by ridge regression.

    The classes of the 1000 that do not occur in ``classes`` never win.
    """
    model = timm.create_model(MODEL, pretrained=False, zero_init_last=False)
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # a plain average over what it sees: here the one batch
    for name, module in model.named_modules():
        if name.endswith("conv3.bn"):  # random branches as strong as their shortcuts would amplify rounding
            torch.nn.init.constant_(module.weight, 0.3)
    with torch.no_grad():
        features = model.train().forward_head(model.forward_features(pixels), pre_logits=True).double()
        mean = features.mean(0)
        x = features - mean
        gram = x @ x.T
        ridge = 0.1 * gram.diagonal().mean() * torch.eye(len(x), dtype=torch.float64)
        y = torch.nn.functional.one_hot(classes).double() * 2 - 1
        weights = x.T @ torch.linalg.solve(gram + ridge, y - y.mean(0))
        head, known = model.head.fc, y.shape[1]
        head.weight.mul_(0.01)
        head.bias.fill_(-4.0)
        head.weight[:known] = weights.T.float()
        head.bias[:known] = (y.mean(0) - mean @ weights).float()
    return model.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--crops", type=int, default=16, help="evaluated crops of each photograph")
    settings = parser.parse_args()
    torch.manual_seed(0)
    draw = np.random.default_rng(0)
    pictures = photographs()
    config = timm.data.resolve_model_data_config(timm.create_model(MODEL, pretrained=False))
    assert config["crop_pct"] == 0.875 and config["interpolation"] == "bicubic", config
    transform = timm.data.create_transform(**config, is_training=False)
    cuts = [(i, crop(p, draw)) for i, p in enumerate(pictures.values()) for _ in range(FIT_CROPS)]
    model = fitted(torch.stack([transform(cut) for _, cut in cuts]), torch.tensor([i for i, _ in cuts]))

    settings.out.mkdir(parents=True, exist_ok=True)
    checkpoint = settings.out / "regnety_016.pth"
    torch.save(model.state_dict(), checkpoint)
    digest = hashlib.md5(checkpoint.read_bytes()).hexdigest()
    (settings.out / "md5").write_text(digest + "\n")
    agreed = write_folder(model, transform, pictures, (settings.out / "val", settings.crops, draw))
    print(f"{checkpoint}: md5 {digest}")
    print(f"{settings.out / 'val'}: {agreed[1]} crops of {len(pictures)} photographs, labelled by {MODEL} in PyTorch;")
    print(f"it names the photograph that a crop is of for {agreed[0]} of {agreed[1]}")


def write_folder(model, transform, pictures, where) -> tuple[int, int]:
    """JPEGs under the class that ``model`` gives each; how many of how many name their photograph."""
    root, crops, draw = where
    right = 0
    names = list(pictures)
    for index, (name, picture) in enumerate(pictures.items()):
        for number in range(crops):
            cut = root / "new.jpg"
            root.mkdir(exist_ok=True)
            crop(picture, draw).save(cut, quality=92)
            with torch.no_grad(), Image.open(cut) as read:
                answer = int(model(transform(read.convert("RGB"))[None])[0].argmax())
            right += answer == index
            # Folders in sorted order are the classes 0, 1, …, as in ImageNet.
            folder = root / f"{answer:03d}_{names[answer]}"
            folder.mkdir(exist_ok=True)
            cut.rename(folder / f"{name}_{number:02d}.jpg")
    missing = len(names) - sum(1 for _ in root.iterdir())
    if missing:
        raise SystemExit(
            f"{missing} classes were never answered, so the folders would not be the classes; more --crops"
        )
    return right, len(names) * crops


if __name__ == "__main__":
    main()
