from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from assay.core.errors import BadInput, NotAvailable, UnknownName
from assay.core.shapes import parse_shape
from assay.sources import resolve_model
from assay.sources.torchvision import cached_file, crop_fraction, import_models

SMALL = "torchvision:squeezenet1_1"


def test_describes_inputs_and_preprocessing(options) -> None:
    model = resolve_model("torchvision:mobilenet_v3_small", options())
    assert str(model.inputs[0]) == "input:batchx3x224x224:float32"
    assert model.preprocess["interpolation"] == "bilinear"
    assert math.floor(224 / model.preprocess["crop_pct"]) == 256
    assert model.randomised
    assert len(model.labels) == 1000
    assert any("not in the local cache" in w for w in model.warnings)


def test_arguments(options) -> None:
    model = resolve_model(f"{SMALL}?num_classes=4&weights=none", options())
    assert model.labels is None
    assert model.artifact.module()(torch.zeros(1, 3, 64, 64)).shape == (1, 4)


def test_segmentation_builds_offline(options) -> None:
    shape = parse_shape("input:batchx3x64x64")
    model = resolve_model("torchvision:lraspp_mobilenet_v3_large", options(shapes=(shape,)))
    assert (model.preprocess["crop_mode"], model.preprocess["size"]) == ("squash", [520, 520])
    assert set(model.artifact.module()(torch.zeros(1, 3, 64, 64))) == {"out"}


def test_video_models_need_shapes(options) -> None:
    with_shape = resolve_model("torchvision:s3d?weights=none", options())
    assert with_shape.inputs is None
    assert with_shape.preprocess is None
    assert any("not known" in w for w in with_shape.warnings)


def test_detection_is_refused(options) -> None:
    with pytest.raises(BadInput, match="lists of images"):
        resolve_model("torchvision:ssdlite320_mobilenet_v3_large", options())


def test_unknown_name_suggests(options) -> None:
    with pytest.raises(UnknownName) as caught:
        resolve_model("torchvision:resnet81", options())
    assert "resnet18" in caught.value.remedy


def test_unknown_weights_entry(options) -> None:
    with pytest.raises(UnknownName, match="IMAGENET1K_V9"):
        resolve_model(f"{SMALL}?weights=IMAGENET1K_V9", options())


def test_wrong_argument(options) -> None:
    with pytest.raises(BadInput, match="could not be built with nonsense=1"):
        resolve_model(f"{SMALL}?nonsense=1", options())


@pytest.mark.parametrize("query", ["weights=DEFAULT", "pretrained=true"])
def test_insisting_offline_fails_fast_and_clearly(options, query: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from assay.sources import torchvision as source

    monkeypatch.setattr(source, "reachable", lambda url: f"{url}: Name or service not known")
    with pytest.raises(NotAvailable, match="cannot be fetched"):
        resolve_model(f"{SMALL}?{query}", options())


def test_two_sets_of_weights(options) -> None:
    with pytest.raises(BadInput, match="two sets"):
        resolve_model(f"{SMALL}?weights=DEFAULT", options(weights="w.pt"))


def test_cached_weights_are_used(options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import hashlib

    models = import_models()
    entry = models.get_model_weights("squeezenet1_1").DEFAULT
    trained = models.get_model("squeezenet1_1", weights=None)
    path = cached_file(entry)
    path.parent.mkdir(parents=True)
    torch.save(trained.state_dict(), path)
    assert hashlib.sha256(path.read_bytes()).hexdigest()  # torch trusts its cache by name
    model = resolve_model(SMALL, options())
    assert not model.randomised
    assert "from the cache" in model.weights
    assert torch.equal(model.artifact.module().classifier[1].weight, trained.classifier[1].weight)


@pytest.mark.parametrize(("size", "resized"), [(224, 256), (224, 232), (224, 230), (299, 342), (384, 384), (480, 482)])
def test_crop_fraction_gives_the_size_back(size: int, resized: int) -> None:
    assert math.floor(size / crop_fraction(size, resized)) == resized


def test_weights_none_does_without_though_some_are_cached(options) -> None:
    entry = import_models().get_model_weights("squeezenet1_1").DEFAULT
    module = import_models().squeezenet1_1()
    cached_file(entry).parent.mkdir(parents=True, exist_ok=True)
    torch.save(module.state_dict(), cached_file(entry))
    shapes = (parse_shape("input:batchx3x32x32"),)
    assert not resolve_model(SMALL, options(shapes=shapes)).randomised
    assert resolve_model(f"{SMALL}?weights=none", options(shapes=shapes)).randomised


@pytest.mark.parametrize("query", ["weights=DEFAULT&pretrained=false", "weights=none&pretrained=true"])
def test_weights_and_pretrained_that_contradict_each_other(options, query: str) -> None:
    with pytest.raises(BadInput, match="contradict"):
        resolve_model(f"{SMALL}?{query}", options())
