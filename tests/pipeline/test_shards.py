"""Shards on disk: whole or absent, and never mixed with another evaluation's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from assay.core.dataset import Scored
from assay.core.errors import BadInput, StorageFailed
from assay.pipeline.shards import MANIFEST, Finished, Shard, ShardStore

ABOUT = {"model": "m", "samples": 5}


def scored(*names: str) -> tuple[Scored, ...]:
    return tuple(Scored(n, {"id": n, "rank": np.int64(3), "v": 0.1}, n > "b") for n in names)


@pytest.fixture(params=["jsonl", "parquet"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ShardStore:
    if request.param == "parquet":
        pytest.importorskip("pyarrow")
    found = ShardStore(tmp_path / "out", ABOUT, request.param)
    found.write(Shard(1, scored("c", "d"), ()))
    found.write(Shard(0, scored("a", "b"), (("x", "torn"),)))
    return found


def test_rows_come_back_in_order(store: ShardStore) -> None:
    for found in (store, ShardStore(store.folder, ABOUT)):
        rows = found.rows()
        assert len(rows) == 4
        assert [r.id for r in rows] == ["a", "b", "c", "d"]
        assert [r.correct for r in rows] == [False, False, True, True]
        assert rows[2].row == {"id": "c", "rank": 3, "v": 0.1}
        assert [r.id for r in rows[1:3]] == ["b", "c"]
        assert found.finished[0].failures == (("x", "torn"),)
        with pytest.raises(IndexError):
            rows[4]
    assert not list(store.folder.glob(".*"))


def test_a_changed_or_lost_shard_is_done_again(store: ShardStore) -> None:
    path = store.folder / store.finished[1].file
    path.write_bytes(path.read_bytes()[:-3])
    assert set(ShardStore(store.folder, ABOUT).finished) == {0}
    (store.folder / store.finished[0].file).unlink()
    assert ShardStore(store.folder, ABOUT).finished == {}


def test_a_torn_line_is_dropped_and_later_ones_kept(store: ShardStore) -> None:
    manifest = store.folder / MANIFEST
    manifest.write_text(manifest.read_text()[:-9])
    again = ShardStore(store.folder, ABOUT)
    assert set(again.finished) == {1}
    again.write(Shard(0, scored("a", "b"), ()))
    assert set(ShardStore(store.folder, ABOUT).finished) == {0, 1}


def test_another_evaluation_is_refused(store: ShardStore) -> None:
    with pytest.raises(BadInput, match=r"another evaluation .*samples was 5, is now 6"):
        ShardStore(store.folder, {**ABOUT, "samples": 6})
    (store.folder / MANIFEST).write_text("hello\n")
    with pytest.raises(BadInput, match="not a manifest"):
        ShardStore(store.folder, ABOUT)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageFailed, match="cannot be written"):
        ShardStore(tmp_path / "file" / "out", ABOUT, "jsonl")


def test_rows_are_those_of_the_moment(store: ShardStore) -> None:
    """Workers may finish a shard while the results so far are counted."""

    class Meanwhile(Finished):
        @property
        def scored(self) -> int:  # type: ignore[override]
            store.finished.setdefault(9, store.finished[0])
            return 2

    first = store.finished[0]
    meanwhile = object.__new__(Meanwhile)
    for name in ("file", "sha256", "failures"):
        object.__setattr__(meanwhile, name, getattr(first, name))
    store.finished = {0: meanwhile, 1: store.finished[1]}
    rows = store.rows()
    assert 9 in store.finished
    assert len(rows) == len(list(rows)) == 4


def test_a_manifest_of_an_unknown_format(store: ShardStore) -> None:
    manifest = store.folder / MANIFEST
    manifest.write_text(manifest.read_text().replace(f'"{store.format}"', '"csv"', 1))
    with pytest.raises(BadInput, match="its shards are 'csv'"):
        ShardStore(store.folder, ABOUT)
