"""Vendor tools' output files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from assay.core.errors import BadInput
from assay.data.dumps import find_dumps, read_dump, write_dumps

SCORES = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)


@pytest.mark.parametrize("format", ["bin", "txt", "npy"])
def test_what_is_written_is_read_back(format: str, tmp_path: Path) -> None:
    write_dumps(tmp_path, ["val_1", "val_2", "x"], {"y": SCORES, "z": -SCORES}, format)
    (tmp_path / "summary.json").write_text("{}")
    (tmp_path / "notes.txt").write_text("no dump")
    found = find_dumps(str(tmp_path), output=1)
    assert sorted(found) == ["val_1", "val_2", "x"]
    np.testing.assert_array_equal(read_dump(found["val_2"]), -SCORES[1])
    with pytest.raises(BadInput, match=r"3 samples .* have several outputs \(0, 1\)") as caught:
        find_dumps(str(tmp_path))
    assert caught.value.remedy == "choose one: --output-index 0"


def test_names_are_cut_at_the_first_dot_and_the_last_underscore(tmp_path: Path) -> None:
    (tmp_path / "ILSVRC2012_val_00000001_1.jpeg.txt").write_text("1 2 3 ")
    assert list(find_dumps(str(tmp_path))) == ["ILSVRC2012_val_00000001"]
    (tmp_path / "ILSVRC2012_val_00000001_1.txt").write_text("1 2 3")
    with pytest.raises(BadInput, match="the same output of ILSVRC2012_val_00000001"):
        find_dumps(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [("a_0.txt", b"1 two 3", "does not hold"), ("a_0.txt", b"", "holds 0 numbers"), ("a_0.npy", b"1", "does not hold")],
)
def test_a_broken_dump_is_named(name: str, content: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=f"{name.replace('.', '[.]')} {says}"):
        read_dump(tmp_path / name)


def test_a_folder_without_dumps(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no dumps in"):
        find_dumps(str(tmp_path))
