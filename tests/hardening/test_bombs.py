"""Small files that would fill the memory once they are unpacked: refused within 2 GB and a minute, and said why.

The watched process is ended above 2 GB, which fails the test.
"""

from __future__ import annotations

import gzip
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.hardening.attack import told
from tests.hardening.corpus import NET, call, command, digits_by_mean, enlarger
from tests.hardening.fuzz import Worker

from assay.bundle.manifest import write_manifest

ZEROS = zlib.compress(bytes(10**8), 9)
"""A hundred million zeros in a hundred kilobytes."""


def deflated(path: Path, name: str, head: bytes, hundreds: int) -> None:
    """A zip of one member: ``head`` and then ``hundreds`` times 10⁸ zeros."""
    member = zipfile.ZipInfo(name)
    member.compress_type = zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(path, "w") as archive, archive.open(member, "w", force_zip64=True) as file:
        file.write(head)
        for _ in range(hundreds):
            file.write(bytes(10**8))


def npy_head(shape: tuple[int, ...]) -> bytes:
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return head.getvalue()


@pytest.fixture(scope="session")
def npz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1.2 GB of zeros in 1.2 MB."""
    path = tmp_path_factory.mktemp("bomb") / "bomb.npz"
    deflated(path, "image.npy", npy_head((300, 1, 1000, 1000)), 12)
    assert path.stat().st_size < 1_500_000
    return path


def test_npz_data_and_volumes(npz: Path, worker: Worker, tmp_path: Path) -> None:
    for side in ("images", "labels"):
        (tmp_path / "v" / side).mkdir(parents=True)
        (tmp_path / "v" / side / "a.npz").symlink_to(npz)
    model = digits_by_mean(tmp_path)
    for case in (
        call("read_all", f"npz:{npz}"),
        command("evaluate", model, "--data", f"npz:{npz}"),
        call("read_all", f"volumes:{tmp_path / 'v'}"),
    ):
        code, said = told(worker, case)
        assert code == 2, said
        assert "would unpack to 1200000128" in said


def test_numbers_that_compress_well_are_read(worker: Worker, tmp_path: Path) -> None:
    """What is small once unpacked is no bomb, however well it compresses."""
    np.savez_compressed(tmp_path / "x.npz", x=np.zeros((4000, 1, 28, 28), np.float32), target=np.zeros(4000, np.int64))
    assert told(worker, call("read_all", f"npz:{tmp_path / 'x.npz'}"))[0] == 0


def test_a_checkpoint(worker: Worker, tmp_path: Path) -> None:
    """Tensors whose bytes are deflated, and tensors that claim far more values than they have bytes."""
    import torch

    (tmp_path / "net.py").write_text(NET)
    torch.save({"conv.weight": torch.zeros(4)}, tmp_path / "plain.pt")
    with zipfile.ZipFile(tmp_path / "plain.pt") as plain, zipfile.ZipFile(tmp_path / "bomb.pt", "w") as made:
        for name in plain.namelist():
            if not name.endswith("data/0"):
                made.writestr(name, plain.read(name))
        member = zipfile.ZipInfo("plain/data/0")
        member.compress_type = zipfile.ZIP_DEFLATED
        with made.open(member, "w", force_zip64=True) as file:
            for _ in range(12):
                file.write(bytes(10**8))
    code, said = told(worker, call("load_checkpoint", tmp_path / "bomb.pt"))
    assert code == 2 and "would unpack to" in said
    wide = torch.zeros(1).expand(200_000, 200_000)
    torch.save({"conv.weight": wide, "more": wide}, tmp_path / "wide.pt")
    code, said = told(worker, call("load_checkpoint", tmp_path / "wide.pt"))
    assert code == 2 and "200000" in said
    deep: dict[str, object] = {}
    deep["state_dict"] = deep
    torch.save(deep, tmp_path / "itself.pt")
    code, said = told(worker, call("load_checkpoint", tmp_path / "itself.pt"))
    assert code == 2 and "holds no weights by name" in said


def png(width: int, height: int, packed: bytes) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def jpeg(width: int, height: int) -> bytes:
    """A whole small JPEG whose header claims another size."""
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "JPEG")
    content = bytearray(file.getvalue())
    place = content.index(b"\xff\xc0") + 5
    content[place : place + 4] = struct.pack(">HH", height, width)
    return bytes(content)


def gif(width: int, height: int) -> bytes:
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
    return head + b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x4c\x01\x00;"


def text_chunk(_: int, __: int) -> bytes:
    """Pixels as they should be, and a hundred megabytes of text beside them, five times."""
    whole = png(1, 1, zlib.compress(bytes(4)))
    content = b"a\x00\x00" + ZEROS
    chunk = struct.pack(">I", len(content)) + b"zTXt" + content + struct.pack(">I", zlib.crc32(b"zTXt" + content))
    return whole[:33] + 5 * chunk + whole[33:]


PICTURES: dict[str, Callable[[int, int], bytes]] = {
    "a.png": lambda w, h: png(w, h, ZEROS),
    "a.jpg": jpeg,
    "a.gif": gif,
    "text.png": text_chunk,
}


@pytest.mark.parametrize("size", [(50_000, 50_000), (65_000, 2_000), (16_000, 9_000)])
@pytest.mark.parametrize("name", PICTURES)
def test_pictures(name: str, size: tuple[int, int], worker: Worker, tmp_path: Path) -> None:
    """Above Pillow's limit of 89 million pixels nothing is decoded: not from a data set, a command or a request."""
    folder = tmp_path / "set" / "0"
    folder.mkdir(parents=True)
    (folder / name).write_bytes(PICTURES[name](*size))
    model = enlarger(tmp_path / "m.onnx")
    for case in (
        call("decode_alone", folder / name),
        command("predict", model, folder / name, "--as", "picture", "-o", tmp_path / "o.png"),
        call("decode_served", folder / name),
    ):
        code, said = told(worker, case)
        assert code == 2, said


def test_postscript_in_a_pictures_clothes_is_not_run(worker: Worker, tmp_path: Path) -> None:
    """Pillow would give an EPS file to Ghostscript."""
    path = tmp_path / "a.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n")
    for name in ("decode_alone", "decode_served"):
        code, said = told(worker, call(name, path))
        assert code == 2 and "hostscript" not in said


def test_a_bundles_golden_inputs(finished: Path, worker: Worker, tmp_path: Path) -> None:
    """One array under a thousand names, members over one another, a deflated one, a list as wide as the file."""
    import shutil

    bundle = tmp_path / "bundle"
    shutil.copytree(finished / "bundle", bundle)
    described = json.loads((bundle / "goldens.json").read_text())
    whole = (bundle / "goldens.npz").read_bytes()
    first = described["arrays"][0]
    many = [{**first, "name": f"{number}/in/x"} for number in range(1000)]
    (bundle / "goldens.json").write_text(json.dumps({**described, "arrays": many}))
    write_manifest(bundle)
    code, said = told(worker, command("check", bundle))
    assert code == 2 and "one key" in said
    (bundle / "goldens.json").write_text(json.dumps(described))
    deflated(bundle / "goldens.npz", "a0.npy", npy_head((300, 1000, 1000)), 12)
    write_manifest(bundle)
    code, said = told(worker, command("check", bundle))
    assert code == 2 and "goldens.npz" in said
    (bundle / "goldens.npz").write_bytes(whole)
    (bundle / "labels.json").write_text("[" + "[]," * 20_000_000 + "[]]")
    write_manifest(bundle)
    for case in (command("check", bundle), call("serve_bundle", bundle)):
        code, said = told(worker, case)
        assert code == 2 and "too large" in said


def test_predictions_and_raw_values_of_a_run(finished: Path, npz: Path, worker: Worker, tmp_path: Path) -> None:
    """A run folder from elsewhere: its compressed files, and Records that name files outside of it."""
    path = tmp_path / "p.jsonl.gz"
    path.write_bytes(24 * gzip.compress(b" " * 10**8))  # a .gz file may have many members
    for case in (call("read_rows", path), call("read_raw", npz)):
        code, said = told(worker, case)
        assert code == 2 and "would unpack to" in said
    code, said = told(worker, call("read_raw_outside", npz))
    assert code == 2 and "outside its own folder" in said
