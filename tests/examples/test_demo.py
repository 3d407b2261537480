"""The demo trains, in a small setting, and says so when it does not."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

import assay
from assay.core.shapes import parse_shape
from assay.data import open_reader

FOLDER = Path(__file__).parents[2] / "examples" / "demo"


@pytest.fixture(scope="module")
def demo() -> Iterator[ModuleType]:
    """``train.py`` as a module, with one thread."""
    before, path, threads = set(sys.modules), list(sys.path), torch.get_num_threads()
    spec = importlib.util.spec_from_file_location("demo_train", FOLDER / "train.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["demo_train"] = module
    spec.loader.exec_module(module)
    torch.set_num_threads(1)
    yield module
    torch.set_num_threads(threads)
    sys.path[:] = path
    for name in {"demo_train", "model"} - before:
        sys.modules.pop(name, None)


def test_the_model(demo: ModuleType) -> None:
    module = assay.create_model("ge_resnet_digits")
    assert 250_000 < sum(p.numel() for p in module.parameters()) < 350_000
    shape = parse_shape(demo.ge_resnet_digits.assay_inputs[0])
    assert (shape.name, shape.dims) == ("input", ("batch", 1, 32, 32))
    for rows in (1, 3):
        assert module.eval()(torch.zeros(rows, 1, 32, 32)).shape == (rows, 10)
    assert any("GatherExcite" in type(m).__name__ for m in module.modules())
    reader = open_reader("digits")
    assert demo.ge_resnet_digits.assay_labels == reader.labels
    assert demo.ge_resnet_digits.assay_preprocess == reader.preprocess


@pytest.mark.parametrize("seed", [0, 1])
def test_it_learns_with_any_seed(demo: ModuleType, seed: int) -> None:
    recipe = demo.Recipe(seed=seed, epochs=8, shift=0, train_samples=800)
    images, labels = demo.load("test", 200)
    assert demo.accuracy(demo.train(recipe), images, labels) > 0.93
    assert demo.accuracy(demo.ge_resnet_digits(), images, labels) < 0.4


def test_the_same_seed_gives_the_same_weights(demo: ModuleType) -> None:
    recipe = demo.Recipe(seed=7, epochs=1, train_samples=128)
    one, two, other = (
        demo.train(recipe),
        demo.train(recipe),
        demo.train(demo.Recipe(seed=8, epochs=1, train_samples=128)),
    )
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(one.fc.weight, other.fc.weight)


def test_shifts_move_whole_images(demo: ModuleType) -> None:
    images = torch.full((50, 1, 32, 32), -1.0)
    images[:, 0, 10, 20] = 1.0
    moved = demo.shifted(images, 3, torch.Generator().manual_seed(0))
    assert moved.shape == images.shape
    where = np.argwhere(moved[:, 0].numpy() == 1)
    assert len(where) == 50
    assert set(where[:, 1]) == set(range(7, 14))
    assert set(where[:, 2]) == set(range(17, 24))
    assert demo.shifted(images, 0, torch.Generator()) is images


def test_weights_are_a_whole_state_dict(demo: ModuleType, tmp_path: Path) -> None:
    model = demo.ge_resnet_digits()
    path = demo.save(model, tmp_path / "new")
    assert [p.name for p in path.parent.iterdir()] == ["weights.pt"]
    fresh = demo.ge_resnet_digits()
    fresh.load_state_dict(torch.load(path, weights_only=True))
    assert torch.equal(fresh.fc.weight, model.fc.weight)


def test_a_model_that_is_not_good_enough_is_not_written(
    demo: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo.main(["--out", str(tmp_path), "--epochs", "1"]) == 1
    printed = capsys.readouterr()
    assert "test accuracy" in printed.out
    assert "below 97 %" in printed.err
    assert not list(tmp_path.iterdir())
