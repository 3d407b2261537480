"""Files that would run code when they are opened: refused, named, and nothing of them ran."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.hardening.attack import Payload, told
from tests.hardening.corpus import NET, call, command, digits_by_mean
from tests.hardening.fuzz import Worker

from assay.bundle.manifest import manifest_digest, write_manifest


def weights() -> dict[str, Any]:
    space: dict[str, Any] = {}
    exec(NET, space)
    state: dict[str, Any] = space["Net"]().state_dict()
    return state


def saved(content: Any, **how: Any) -> bytes:
    import torch

    file = io.BytesIO()
    torch.save(content, file, **how)
    return file.getvalue()


def renamed_in_zip(content: bytes) -> bytes:
    """A checkpoint whose pickle is that of ``content``, in an archive with the entries of a plain one."""
    source, made = zipfile.ZipFile(io.BytesIO(saved(weights()))), io.BytesIO()
    with zipfile.ZipFile(made, "w") as target:
        for name in source.namelist():
            target.writestr(name, content if name.endswith("data.pkl") else source.read(name))
    return made.getvalue()


CHECKPOINTS: dict[str, Callable[[Payload], bytes]] = {
    "beside.pt": lambda p: saved({"state_dict": weights(), "args": p}),
    "inside.pth": lambda p: saved({**weights(), "conv.weight": p}),
    "older.pth": lambda p: saved({**weights(), "x": p}, _use_new_zipfile_serialization=False),
    "bare.pth.tar": lambda p: pickle.dumps({"state_dict": {}, "x": p}),
    "bare.pt": lambda p: pickle.dumps(p, protocol=0),
    "exchanged.pt": lambda p: renamed_in_zip(pickle.dumps(p, protocol=2)),
    "disguised.safetensors": lambda p: pickle.dumps(p),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_checkpoint_that_would_run_code(name: str, worker: Worker, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NET)
    path, mark = tmp_path / name, tmp_path / "ran"
    path.write_bytes(CHECKPOINTS[name](Payload(mark)))
    code, said = told(worker, call("load_checkpoint", path))
    assert code == 2, said
    assert name in said
    assert not mark.exists()


def test_the_refusal_names_what_it_asks_for_and_trust_is_what_runs_it(worker: Worker, tmp_path: Path) -> None:
    """The attack is a live one: with --trust it does run."""
    (tmp_path / "net.py").write_text(NET)
    path, mark = tmp_path / "beside.pt", tmp_path / "ran"
    path.write_bytes(CHECKPOINTS["beside.pt"](Payload(mark)))
    words = ("export", path, "--arch", f"{tmp_path / 'net.py'}:net", "--shape", "x:1x1x8x8", "-o", tmp_path / "o.onnx")
    code, said = told(worker, command(*words))
    assert code == 2, said
    assert "posix.mkdir" in said and "--trust" in said
    assert not mark.exists()
    told(worker, command(*words, "--trust"))
    assert mark.is_dir()


def test_weights_from_a_file_are_read_the_same_way(worker: Worker, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NET)
    path, mark = tmp_path / "w.pt", tmp_path / "ran"
    path.write_bytes(saved({**weights(), "x": Payload(mark)}))
    words = (
        "export",
        f"{tmp_path / 'net.py'}:net",
        "--weights",
        path,
        "--shape",
        "x:1x1x8x8",
        "-o",
        tmp_path / "o.onnx",
    )
    code, said = told(worker, command(*words))
    assert code == 2 and "would run code" in said
    assert not mark.exists()


BATCH = {b"data": np.zeros((1, 3072), np.uint8), b"labels": [3], b"batch_label": b"testing"}
CIFAR: dict[str, Callable[[Payload], bytes]] = {
    "a label": lambda p: pickle.dumps({**BATCH, b"labels": [p]}, protocol=2),
    "a key": lambda p: pickle.dumps({**BATCH, b"more": p}, protocol=4),
    "the whole": lambda p: pickle.dumps(p, protocol=0),
    "eval": lambda p: b"cbuiltins\neval\n(V__import__('os').mkdir('" + str(p.mark).encode() + b"')\ntR.",
    "INST": lambda p: b"(S'" + str(p.mark).encode() + b"'\nios\nmkdir\n.",
    "OBJ": lambda p: b"(cos\nmkdir\nS'" + str(p.mark).encode() + b"'\no.",
    "numpy's own loader": lambda p: b"cnumpy\nload\n(S'" + str(p.mark).encode() + b"'\ntR.",
    "an attribute of an allowed name": lambda p: b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__class__\x93)R.",
    "a persistent id": lambda p: b"Pos.mkdir\n.",
    "the registry of extensions": lambda p: b"\x80\x02\x82\x01.",
}


@pytest.mark.parametrize("protocol", CIFAR)
def test_a_cifar_pickle_that_would_run_code(protocol: str, worker: Worker, tmp_path: Path) -> None:
    base, mark = tmp_path / "cifar-10-batches-py", tmp_path / "ran"
    base.mkdir()
    (base / "test_batch").write_bytes(CIFAR[protocol](Payload(mark)))
    code, said = told(worker, call("read_all", f"cifar10:{base}"))
    assert code == 2, said
    assert "test_batch" in said
    assert not mark.exists()


def test_arrays_of_objects_are_not_unpickled(worker: Worker, tmp_path: Path) -> None:
    mark, model = tmp_path / "ran", digits_by_mean(tmp_path)
    objects = np.array([Payload(mark)], object)
    np.save(tmp_path / "x.npy", objects, allow_pickle=True)
    (tmp_path / "pickled.npy").write_bytes(pickle.dumps(Payload(mark)))
    np.savez(tmp_path / "x.npz", x=objects, target=objects)
    for side in ("images", "labels"):
        (tmp_path / "v" / side).mkdir(parents=True)
        np.save(tmp_path / "v" / side / "a.npy", objects, allow_pickle=True)
    (tmp_path / "dumps").mkdir()
    np.save(tmp_path / "dumps" / "a_0.npy", objects, allow_pickle=True)
    (tmp_path / "labels.txt").write_text("a.bin 0\n")
    for case in (
        command("predict", model, tmp_path / "x.npy"),
        command("predict", model, tmp_path / "pickled.npy"),
        call("read_all", f"npz:{tmp_path / 'x.npz'}"),
        call("read_all", f"volumes:{tmp_path / 'v'}"),
        command("evaluate", "--from-dumps", tmp_path / "dumps", "--labels", tmp_path / "labels.txt"),
    ):
        code, said = told(worker, case)
        assert code == 2, said
    assert not mark.exists()
    np.load(tmp_path / "x.npy", allow_pickle=True)
    assert mark.is_dir()


def resealed(finished: Path, folder: Path, change: Callable[[dict[str, Any]], None], name: str = "bundle.json") -> Path:
    """A copy of the bundle with one JSON file changed and a manifest that fits, as any stranger can write."""
    bundle = folder / "bundle"
    shutil.copytree(finished / "bundle", bundle)
    data = json.loads((bundle / name).read_text())
    change(data)
    (bundle / name).write_text(json.dumps(data))
    write_manifest(bundle)
    return bundle


def as_candidate(data: dict[str, Any]) -> None:
    """The candidate's digest made to fit what else was changed."""
    from assay.core.artifact import Artifact
    from assay.core.engine import Candidate, OpenOptions

    said = data["candidate"]
    artifact = Artifact(Path("x"), said["artifact_format"], said["artifact_sha256"])
    options = OpenOptions.from_json(said["options"])
    said["digest"] = Candidate(artifact, said["engine"], said["engine_version"], options, said["device_name"]).digest


def verbs(bundle: Path, folder: Path) -> list[dict[str, Any]]:
    """Everything that opens a bundle."""
    picture = folder / "picture.npy"
    np.save(picture, np.zeros((1, 8, 8), np.float32))
    return [
        command("check", bundle),
        call("serve_bundle", bundle),
        command("replay", bundle, "--duration", "50ms"),
        command("bench", bundle, "--batch", 1, "--duration", 0.05),
        command("predict", bundle, picture),
    ]


def test_a_bundle_that_is_torchscript_inside(finished: Path, worker: Worker, tmp_path: Path) -> None:
    """TorchScript may hold code: format, name and digest all fit, and it is not opened all the same."""

    def script(data: dict[str, Any]) -> None:
        data["artifact"]["format"] = data["candidate"]["artifact_format"] = "torchscript"
        data["candidate"]["engine"] = "torch"
        as_candidate(data)

    bundle = resealed(finished, tmp_path, script)
    for case in verbs(bundle, tmp_path):
        code, said = told(worker, case)
        assert code == 2, said
        assert "runs code" in said


REACHING = ("trt_extra_plugin_lib_paths", "CACHE_DIR", "CONFIG_FILE", "ep.context_file_path", "gpu_external_alloc",
            "session.model_external_initializers_file_folder_path", "user_compute_stream", "trt_engine_cache_enable",
            "session.resource_cuda_partitioning_settings", "of_a_later_version")  # fmt: skip


@pytest.mark.parametrize("option", REACHING)
def test_a_bundle_whose_options_reach_out_of_it(option: str, finished: Path, worker: Worker, tmp_path: Path) -> None:
    def reach(data: dict[str, Any]) -> None:
        data["candidate"]["options"]["provider_options"] = {option: str(tmp_path / "there")}
        as_candidate(data)

    bundle = resealed(finished, tmp_path, reach)
    for case in verbs(bundle, tmp_path):
        code, said = told(worker, case)
        assert code == 2, said
        assert option in said
    assert not (tmp_path / "there").exists()
    code, said = told(worker, command("check", bundle, "--digest", manifest_digest(bundle)))
    assert "not known to keep" not in said


def test_a_bundles_names_are_never_import_paths(finished: Path, worker: Worker, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    (tmp_path / "evil.py").write_text(f"import os\nos.mkdir({str(mark)!r})\ndef fn(image): return image\n")
    spec = f"{tmp_path / 'evil.py'}:fn"

    def engine(data: dict[str, Any]) -> None:
        data["candidate"]["engine"] = spec
        as_candidate(data)

    def recipe(data: dict[str, Any]) -> None:
        data["recipe"], data["model"], data["command"] = {"command": f"assay build {spec}"}, spec, f"assay run {spec}"

    for number, change in enumerate((engine, recipe)):
        bundle = resealed(finished, tmp_path / str(number), change)
        for case in verbs(bundle, tmp_path)[:2]:
            told(worker, case)
    bundle = resealed(finished, tmp_path / "kind", lambda data: None)
    for kind in ("function", spec, "assay.data.image:image_transform"):
        (bundle / "preprocess.json").write_text(json.dumps({"kind": kind, "name": spec}))
        write_manifest(bundle)
        for case in verbs(bundle, tmp_path)[:2]:
            told(worker, case)
        assert told(worker, verbs(bundle, tmp_path)[-1])[0] == 2
    assert not mark.exists()


def test_a_policy_and_a_server_table_name_no_code(finished: Path, worker: Worker, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    (tmp_path / "evil.py").write_text(f"import os\nos.mkdir({str(mark)!r})\nlimit = 1\n")
    spec = f"{tmp_path / 'evil.py'}:limit"
    (tmp_path / "p.toml").write_text(f'[numeric]\naccept_reference = "{spec}"\n[accuracy]\nmax_drop = "{spec}"\n')
    (tmp_path / "s.toml").write_text(f'policy = "{spec}"\n[[model]]\nsource = "{finished / "bundle"}"\n')
    assert told(worker, command("gate", finished, "--policy", tmp_path / "p.toml"))[0] == 2
    assert told(worker, command("serve", "--config", tmp_path / "s.toml", "--http-port", 0))[0] == 2
    assert not mark.exists()
