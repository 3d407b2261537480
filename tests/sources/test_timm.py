from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from assay.core.errors import BadInput, NotAvailable, UnknownName
from assay.core.shapes import parse_shape
from assay.sources import resolve_model
from assay.sources.timm import cached_file, import_timm

timm = import_timm()
SMALL = "timm:test_resnet.r160_in1k"  # 0.5 M parameters


def test_describes_inputs_and_preprocessing(options) -> None:
    model = resolve_model("timm:resnet18", options())
    assert str(model.inputs[0]) == "input:batchx3x224x224:float32"
    assert model.preprocess == {
        "kind": "image",
        "size": [224, 224],
        "crop_pct": 0.95,
        "crop_mode": "center",
        "interpolation": "bicubic",
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "channels": 3,
    }
    assert (model.name, model.spec, model.artifact.format) == ("resnet18", "timm:resnet18", "source")
    assert len(model.labels) == 1000
    assert not model.runs_code
    assert not model.artifact.runs_code
    assert model.randomised
    assert "randomised with seed 0" in model.weights
    assert any("pretrained=true" in w for w in model.warnings)


def test_weight_tags(options) -> None:
    model = resolve_model("timm:regnety_016.pycls_in1k", options())
    assert model.name == "regnety_016.pycls_in1k"
    assert model.preprocess["crop_pct"] == 0.875


def test_arguments_change_the_input(options) -> None:
    model = resolve_model("timm:vit_tiny_patch16_224?in_chans=1&img_size=96&num_classes=5&depth=2", options())
    assert str(model.inputs[0]) == "input:batchx1x96x96:float32"
    assert model.preprocess["size"] == [96, 96]
    assert len(model.preprocess["mean"]) == len(model.preprocess["std"]) == model.preprocess["channels"] == 1
    assert model.labels is None
    assert model.artifact.module()(torch.zeros(2, 1, 96, 96)).shape == (2, 5)


def test_module_is_built_once_and_in_eval_mode(options) -> None:
    model = resolve_model(SMALL, options())
    assert model.artifact.module() is model.artifact.module()
    assert not any(m.training for m in model.artifact.module().modules())


def test_shape_fixes_the_batch(options) -> None:
    model = resolve_model(SMALL, options(shapes=(parse_shape("x:1x3x96x96"),)))
    assert str(model.inputs[0]) == "x:1x3x96x96:float32"


def test_shape_that_does_not_fit(options) -> None:
    with pytest.raises(BadInput, match="does not accept x:1x4x96x96:float32") as caught:
        resolve_model(SMALL, options(shapes=(parse_shape("x:1x4x96x96"),)))
    assert "--shape" in caught.value.remedy


def test_two_shapes_for_one_input(options) -> None:
    with pytest.raises(BadInput, match="2 shapes were given"):
        resolve_model(SMALL, options(shapes=(parse_shape("1x3x96x96"), parse_shape("1x3x96x96"))))


def test_unknown_name_suggests(options) -> None:
    with pytest.raises(UnknownName, match="resnet81") as caught:
        resolve_model("timm:resnet81", options())
    assert "resnet18" in caught.value.remedy


def test_unknown_tag_suggests(options) -> None:
    with pytest.raises(UnknownName, match="weight tag") as caught:
        resolve_model("timm:regnety_016.pycls_in2k", options())
    assert "pycls_in1k" in caught.value.remedy


@pytest.mark.parametrize("query", ["nonsense=3", "num_classes=many", "in_chans=-1"])
def test_wrong_argument(options, query: str) -> None:
    with pytest.raises(BadInput, match="could not be built with"):
        resolve_model(f"timm:resnet18?{query}", options())


def test_pretrained_is_true_or_false(options) -> None:
    with pytest.raises(BadInput, match="neither true nor false"):
        resolve_model("timm:resnet18?pretrained=maybe", options())


def test_pretrained_false_says_nothing_about_a_cache(options) -> None:
    assert resolve_model(f"{SMALL}?pretrained=false", options()).warnings == ()


def test_insisting_on_weights_that_do_not_exist(options) -> None:
    configs = {n: timm.get_pretrained_cfg(n) for n in timm.list_models()}
    name = next(n for n, c in configs.items() if c is None or not c.has_weights)
    with pytest.raises(NotAvailable, match="no pretrained weights"):
        resolve_model(f"timm:{name}?pretrained=true", options())


def test_insisting_offline_fails_fast_and_clearly(options, monkeypatch: pytest.MonkeyPatch) -> None:
    from assay.sources import timm as source

    monkeypatch.setattr(source, "reachable", lambda url: f"{url}: Name or service not known")
    with pytest.raises(NotAvailable, match="not cached and cannot be fetched") as caught:
        resolve_model(f"{SMALL}?pretrained=true", options())
    assert "--weights" in caught.value.remedy
    assert caught.value.exit_code == 3


def test_two_sets_of_weights(options) -> None:
    with pytest.raises(BadInput, match="two sets of weights"):
        resolve_model(f"{SMALL}?pretrained=true", options(weights="w.pt"))


def test_cached_pretrained_weights_are_used_without_a_network(options, tmp_path: Path, monkeypatch) -> None:
    from safetensors.torch import save_file

    name = SMALL.partition(":")[2]
    trained = timm.create_model(name)
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.fill_(0.25)
    snapshot = tmp_path / "hub" / f"models--timm--{name}" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("abc")
    save_file(trained.state_dict(), snapshot / "model.safetensors")

    assert cached_file(timm.get_pretrained_cfg(name)) == snapshot / "model.safetensors"
    model = resolve_model(SMALL, options())
    assert not model.randomised
    assert "pretrained" in model.weights
    assert "cache" in model.weights
    assert torch.equal(model.artifact.module().fc.weight, trained.fc.weight)
    weights = tmp_path / "w.pt"
    torch.save(timm.create_model(name).state_dict(), weights)
    given = resolve_model(SMALL, options(weights=str(weights)))
    assert "w.pt" in given.weights  # what is given goes before what is cached


def test_source_json_says_what_it_is(options) -> None:
    model = resolve_model(f"{SMALL}?num_classes=7", options(seed=3))
    written = json.loads(model.artifact.path.read_text())
    assert written["schema"] == "assay.source/1"
    assert written["architecture"] == {
        "builder": "timm",
        "name": "test_resnet.r160_in1k",
        "arguments": {"num_classes": 7},
    }
    assert written["seed"] == 3
    assert written["sha256"] == model.artifact.sha256
    assert written["randomised"] is True
    assert written["code"] == []


@pytest.mark.parametrize(("asked", "wanted"), [("0", False), ("false", False), ("1", True), ("true", True)])
def test_numbers_count_as_true_and_false(options, monkeypatch, tmp_path: Path, asked: str, wanted: bool) -> None:
    from assay.sources.arguments import split_arguments
    from assay.sources.timm import _pretrained

    (tmp_path / "w.safetensors").write_bytes(b"")
    monkeypatch.setattr("assay.sources.timm.cached_file", lambda config: tmp_path / "w.safetensors")
    value = split_arguments(f"resnet18?pretrained={asked}")[1]["pretrained"]
    assert _pretrained(timm, "resnet18", value, options()).wanted == wanted
