"""Checkpoints: what is read, unwrapped, stripped, refused."""

from __future__ import annotations

import argparse
import hashlib
import pickle
import signal
from pathlib import Path

import pytest
import torch
from torch import nn

from assay.core.errors import BadInput, NotAvailable, StorageFailed, UntrustedCode
from assay.sources import resolve_model
from assay.sources.weights import find_state, fit, load_into, read_checkpoint


def net(width: int = 4) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, width, 3, padding=1), nn.BatchNorm2d(width), nn.Flatten(), nn.Linear(width * 64, 3)
    )


@pytest.fixture
def arch(tmp_path: Path) -> str:
    path = tmp_path / "arch.py"
    path.write_text(
        "from torch import nn\n"
        "def net(width=4):\n"
        "    return nn.Sequential(nn.Conv2d(2, width, 3, padding=1), nn.BatchNorm2d(width), nn.Flatten(),\n"
        "                         nn.Linear(width * 64, 3))\n"
        'net.assay_inputs = ["x:batchx2x8x8"]\n'
    )
    return f"{path}:net"


def saved(tmp_path: Path, content: object, name: str = "c.pth") -> str:
    torch.save(content, tmp_path / name)
    return str(tmp_path / name)


@pytest.mark.parametrize("name", ["c.pt", "c.pth", "c.pth.tar", "c.safetensors"])
def test_every_suffix(options, tmp_path: Path, arch: str, name: str) -> None:
    trained = net()
    if name.endswith("safetensors"):
        from safetensors.torch import save_file

        save_file(trained.state_dict(), tmp_path / name)
        path = str(tmp_path / name)
    else:
        path = saved(tmp_path, trained.state_dict(), name)
    model = resolve_model(path, options(arch=arch))
    assert torch.equal(model.artifact.module()[3].weight, trained[3].weight)
    assert (model.name, model.spec, model.randomised) == ("c", path, False)
    assert name in model.weights
    assert str(model.inputs[0]) == "x:batchx2x8x8:float32"
    assert model.runs_code == (arch.rpartition(":")[0],)


def test_older_torch_format(options, tmp_path: Path, arch: str) -> None:
    path = tmp_path / "old.pt"
    torch.save(net().state_dict(), path, _use_new_zipfile_serialization=False)
    assert "old.pt" in resolve_model(str(path), options(arch=arch)).weights


def test_weights_option_equals_arch_option(options, tmp_path: Path, arch: str) -> None:
    path = saved(tmp_path, net().state_dict())
    one = resolve_model(path, options(arch=arch))
    other = resolve_model(arch, options(weights=path))
    assert one.artifact.sha256 == other.artifact.sha256


def test_a_changed_weight_changes_the_digest(options, tmp_path: Path, arch: str) -> None:
    trained = net()
    first = resolve_model(saved(tmp_path, trained.state_dict()), options(arch=arch))
    with torch.no_grad():
        trained[3].bias[0] += 1e-6
    second = resolve_model(saved(tmp_path, trained.state_dict()), options(arch=arch))
    assert first.artifact.sha256 != second.artifact.sha256


@pytest.mark.parametrize(
    "key", ["state_dict", "model", "model_state_dict", "state_dict_ema", "model_ema", "params_ema"]
)
@pytest.mark.parametrize("prefix", ["", "module.", "generator.", "module.backbone.", "_orig_mod."])
def test_wrappers_and_prefixes(tmp_path: Path, key: str, prefix: str) -> None:
    trained, other = net(), net()
    state = {prefix + k: v for k, v in trained.state_dict().items()}
    path = Path(saved(tmp_path, {key: state, "epoch": 3, "args": argparse.Namespace(lr=0.1)}))
    words, warnings = load_into(other, read_checkpoint(path, trust=False), path, strict=True)
    assert torch.equal(other[3].weight, trained[3].weight)
    assert warnings == ()
    assert f"under {key}" in words
    assert ("without the prefix" in words) == bool(prefix)


def test_nested_wrappers_and_averaged_weights_first() -> None:
    plain, averaged = net().state_dict(), net().state_dict()
    state, under = find_state({"model": {"state_dict": plain, "state_dict_ema": averaged}}, Path("c"))
    assert under == ("model", "state_dict_ema")
    assert torch.equal(state["3.weight"], averaged["3.weight"])


def test_a_prefix_is_kept_unless_the_rest_fits_exactly() -> None:
    state = {f"module.{k}": v for k, v in net().state_dict().items() if not k.startswith("3")}
    found, prefix = fit(state, net())
    assert prefix == ""
    assert not found.state
    assert len(found.unexpected) == len(state)


def test_num_batches_tracked_may_be_missing() -> None:
    state = {k: v for k, v in net().state_dict().items() if "num_batches" not in k}
    assert fit(state, net())[0].is_exact


def test_missing_and_unexpected_keys(options, tmp_path: Path, arch: str) -> None:
    state = net().state_dict()
    del state["3.weight"]
    state["extra"] = torch.zeros(1)
    path = saved(tmp_path, state)
    with pytest.raises(BadInput, match=r"1 missing \(3\.weight\); 1 unexpected \(extra\)") as caught:
        resolve_model(path, options(arch=arch))
    assert "--no-strict" in caught.value.remedy
    model = resolve_model(path, options(arch=arch, strict=False))
    assert any("1 missing (3.weight); 1 unexpected (extra)" in w for w in model.warnings)
    assert torch.equal(model.artifact.module()[3].bias, state["3.bias"])
    assert model.artifact.sha256 != resolve_model(path, options(arch=arch, strict=False, seed=1)).artifact.sha256


def test_another_architecture_is_told(options, tmp_path: Path) -> None:
    from torchvision.models import squeezenet1_1

    path = saved(tmp_path, squeezenet1_1().state_dict())
    with pytest.raises(BadInput, match="another architecture: 0 of the keys fit") as caught:
        resolve_model(path, options(arch="timm:resnet18"))
    assert "--arch" in caught.value.remedy
    with pytest.raises(BadInput, match="another architecture"):
        resolve_model(path, options(arch="timm:resnet18", strict=False))


def test_another_width_is_told(options, tmp_path: Path, arch: str) -> None:
    with pytest.raises(BadInput, match=r"of another shape \(0\.weight \(6, 2, 3, 3\) for \(4, 2, 3, 3\)"):
        resolve_model(saved(tmp_path, net(6).state_dict()), options(arch=arch))
    assert resolve_model(saved(tmp_path, net(6).state_dict()), options(arch=f"{arch}?width=6")).name == "c"


def test_nan_weights_are_refused(options, tmp_path: Path, arch: str) -> None:
    state = net().state_dict()
    state["0.bias"][1] = float("nan")
    with pytest.raises(BadInput, match=r"NaN in 1 tensors \(0\.bias\)"):
        resolve_model(saved(tmp_path, state), options(arch=arch))


def test_bare_state_dict_needs_an_architecture(options, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"a checkpoint \(9 tensors\)") as caught:
        resolve_model(saved(tmp_path, net().state_dict()), options())
    assert "--arch timm:NAME" in caught.value.remedy


@pytest.mark.parametrize("arch", ["tim:resnet18", "resnet18", "timm:resnet81"])
def test_unknown_architecture_suggests(options, tmp_path: Path, arch: str) -> None:
    with pytest.raises(BadInput) as caught:
        resolve_model(saved(tmp_path, net().state_dict()), options(arch=arch))
    assert "timm" in caught.value.remedy or "resnet18" in caught.value.remedy


def test_architecture_that_is_a_finished_model(options, tmp_path: Path) -> None:
    plan = tmp_path / "m.plan"
    plan.write_bytes(b"x")
    with pytest.raises(BadInput, match="not an architecture"):
        resolve_model(saved(tmp_path, net().state_dict()), options(arch=str(plan)))


def test_two_checkpoints(options, tmp_path: Path, arch: str) -> None:
    with pytest.raises(BadInput, match="a second one"):
        resolve_model(saved(tmp_path, net().state_dict()), options(arch=arch, weights="other.pt"))


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, {}, {"state_dict": {}}, torch.zeros(2)])
def test_files_without_weights(options, tmp_path: Path, arch: str, content: object) -> None:
    with pytest.raises(BadInput, match=r"holds"):
        resolve_model(saved(tmp_path, content), options(arch=arch))


@pytest.mark.parametrize("name", ["c.pt", "c.pth", "c.safetensors"])
@pytest.mark.parametrize("content", [b"", b"hello world, this is not a pickle", b"\x80\x02}q\x00."])
def test_damaged_files(options, tmp_path: Path, arch: str, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(BadInput, match=r"c\."):
        resolve_model(str(path), options(arch=arch))


@pytest.mark.parametrize("keep", [0.3, 0.9, 0.999])
def test_cut_short(options, tmp_path: Path, arch: str, keep: float) -> None:
    path = Path(saved(tmp_path, net().state_dict()))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(BadInput, match="damaged or cut short"):
        resolve_model(str(path), options(arch=arch))


class Evil:
    """Writes a file when unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.target,))


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_pickle_is_refused_without_running(options, tmp_path: Path, arch: str, zipped: bool) -> None:
    target = tmp_path / "ran"
    path = tmp_path / "evil.pt"
    torch.save({"state_dict": Evil(target)}, path, _use_new_zipfile_serialization=zipped)
    for given in ({"arch": arch}, {}):
        with pytest.raises(UntrustedCode, match="would run code") as caught:
            resolve_model(str(path), options(**given))
        assert "--trust" in caught.value.remedy
    with pytest.raises(UntrustedCode):
        resolve_model(arch, options(weights=str(path)))
    assert not target.exists()


def test_plain_pickle_is_refused_without_running(options, tmp_path: Path, arch: str) -> None:
    target = tmp_path / "ran"
    path = tmp_path / "plain.pt"
    path.write_bytes(pickle.dumps(Evil(target)))
    with pytest.raises(BadInput):
        resolve_model(str(path), options(arch=arch))
    assert not target.exists()


def test_whole_module_needs_trust(options, tmp_path: Path) -> None:
    trained = net()
    path = saved(tmp_path, trained, "whole.pt")
    with pytest.raises(UntrustedCode, match=r"torch\.nn\.modules"):
        resolve_model(path, options())
    model = resolve_model(path, options(trust=True))
    assert model.runs_code == (path,)
    assert model.artifact.runs_code
    assert not model.randomised
    assert torch.equal(model.artifact.module()[3].weight, trained[3].weight)


def test_whole_module_as_weights(options, tmp_path: Path, arch: str) -> None:
    trained = net()
    path = saved(tmp_path, trained, "whole.pt")
    with pytest.raises(UntrustedCode):
        resolve_model(path, options(arch=arch))
    model = resolve_model(path, options(arch=arch, trust=True))
    assert torch.equal(model.artifact.module()[3].weight, trained[3].weight)
    assert path in model.runs_code


def test_module_whose_class_is_gone(options, tmp_path: Path, monkeypatch) -> None:
    import sys
    import types

    gone = types.ModuleType("assay_test_gone")
    exec("from torch import nn\nclass Gone(nn.Linear): pass", gone.__dict__)
    gone.Gone.__module__ = "assay_test_gone"
    monkeypatch.setitem(sys.modules, "assay_test_gone", gone)
    path = saved(tmp_path, gone.Gone(1, 1), "gone.pt")
    monkeypatch.delitem(sys.modules, "assay_test_gone")
    with pytest.raises(BadInput, match="cannot be found here") as caught:
        resolve_model(path, options(trust=True))
    assert "state_dict" in caught.value.remedy


@pytest.mark.parametrize("kind", ["md5", "sha256"])
def test_digests_are_checked_before_loading(options, tmp_path: Path, arch: str, kind: str) -> None:
    path = saved(tmp_path, net().state_dict())
    right = hashlib.new(kind, Path(path).read_bytes()).hexdigest()
    assert resolve_model(path, options(arch=arch, **{kind: right.upper()})).name == "c"
    Path(path).write_bytes(b"not even a checkpoint")
    with pytest.raises(BadInput, match=f"not the file that was pinned: its {kind}"):
        resolve_model(path, options(arch=arch, **{kind: right}))
    with pytest.raises(BadInput, match=f"not a {kind} digest"):
        resolve_model(path, options(arch=arch, **{kind: "abc"}))


def test_digest_of_a_finished_file(options, tmp_path: Path) -> None:
    path = tmp_path / "m.plan"
    path.write_bytes(b"engine")
    right = hashlib.sha256(b"engine").hexdigest()
    assert resolve_model(str(path), options(sha256=right)).artifact.sha256 == right
    with pytest.raises(BadInput, match="not the file that was pinned"):
        resolve_model(str(path), options(sha256="0" * 64))


def test_digest_without_a_file(options, arch: str) -> None:
    with pytest.raises(BadInput, match="pin a weights file"):
        resolve_model(arch, options(sha256="0" * 64))


def test_missing_weights_file(options, arch: str) -> None:
    with pytest.raises(BadInput, match=r"no weights file gone\.pt"):
        resolve_model(arch, options(weights="gone.pt"))


def test_url_is_fetched_once_and_checked(options, tmp_path: Path, arch: str, served) -> None:
    url, folder = served
    torch.save(net().state_dict(), folder / "w.pth")
    right = hashlib.sha256((folder / "w.pth").read_bytes()).hexdigest()
    cache = tmp_path / "cache"
    first = resolve_model(arch, options(weights=f"{url}/w.pth", sha256=right, cache_dir=cache))
    assert len(list(cache.iterdir())) == 1
    (folder / "w.pth").unlink()
    again = resolve_model(arch, options(weights=f"{url}/w.pth", cache_dir=cache))
    assert first.artifact.sha256 == again.artifact.sha256
    with pytest.raises(BadInput, match="HTTP 404"):
        resolve_model(arch, options(weights=f"{url}/other.pth", cache_dir=cache))
    assert len(list(cache.iterdir())) == 1


def test_url_with_a_wrong_digest_is_not_kept(options, tmp_path: Path, arch: str, served) -> None:
    url, folder = served
    torch.save(net().state_dict(), folder / "w.pth")
    with pytest.raises(BadInput, match="not the file that was pinned"):
        resolve_model(arch, options(weights=f"{url}/w.pth", md5="0" * 32, cache_dir=tmp_path / "cache"))
    assert list((tmp_path / "cache").iterdir()) == []


def test_url_offline(options, tmp_path: Path, arch: str) -> None:
    with pytest.raises(NotAvailable, match="cannot be reached from here") as caught:
        resolve_model(arch, options(weights="http://127.0.0.1:9/w.pth"))
    assert "--weights FILE" in caught.value.remedy
    assert not list((tmp_path / "out" / "downloads").iterdir())


def test_a_tensor_beside_the_weights_is_no_weight(options, tmp_path: Path, arch: str) -> None:
    """PyTorch's own ImageNet script keeps the best accuracy so far as a tensor."""
    content = {"epoch": 3, "arch": "net", "state_dict": net().state_dict(), "best_acc1": torch.tensor(76.1)}
    state, under = find_state(content, Path("c"))
    assert under == ("state_dict",)
    assert len(state) == 9
    assert "under state_dict" in resolve_model(saved(tmp_path, content, "c.pth.tar"), options(arch=arch)).weights


def test_settings_under_a_wrappers_name_are_no_weights() -> None:
    state, under = find_state({**net().state_dict(), "params": {"lr": 0.1}, "model": {"depth": 2}}, Path("c"))
    assert (len(state), under) == (9, ())


def test_a_file_that_wraps_itself_ends() -> None:
    content: dict[str, object] = {}
    content |= dict.fromkeys(("state_dict", "model", "module", "net", "params", "weights"), content)
    with pytest.raises(BadInput, match="holds no weights by name"):
        find_state(content, Path("c"))


@pytest.mark.parametrize(
    ("url", "says"),
    [("http://[bad/w.pth", "is no URL"), ("http://localhost:80a/w.pth", "is no URL")],
)
def test_a_url_that_is_none(options, arch: str, url: str, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        resolve_model(arch, options(weights=url))


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"garbage\r\n\r\n", "cannot be reached"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "broke off"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab", "broke off after 2 of 9 bytes"),
    ],
)
def test_a_server_that_breaks_off(options, tmp_path: Path, arch: str, answers, answer: bytes, says: str) -> None:
    with pytest.raises(NotAvailable, match=says):
        resolve_model(arch, options(weights=f"{answers(answer)}/w.pth", cache_dir=tmp_path / "cache"))
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_full_disk_is_not_called_an_unreachable_server(options, tmp_path: Path, arch: str, answers) -> None:
    """A limit on the size of files stands in for a disk that is full: writing fails in the same place."""
    resource = pytest.importorskip("resource")
    body = bytes(3 * 2**20)
    url = answers(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, limits[1]))
    try:
        with pytest.raises(StorageFailed, match="could not be written"):
            resolve_model(arch, options(weights=f"{url}/w.pth", cache_dir=tmp_path / "cache"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_digest_that_is_none_leaves_what_was_fetched(options, tmp_path: Path, arch: str, served) -> None:
    url, folder = served
    torch.save(net().state_dict(), folder / "w.pth")
    cache = tmp_path / "cache"
    resolve_model(arch, options(weights=f"{url}/w.pth", cache_dir=cache))
    with pytest.raises(BadInput, match="not a sha256 digest"):
        resolve_model(arch, options(weights=f"{url}/w.pth", sha256="abc", cache_dir=cache))
    assert len(list(cache.iterdir())) == 1
