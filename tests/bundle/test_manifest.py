import hashlib
import json
import os
import resource

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.bundle.manifest import (
    NAME,
    inside,
    manifest_digest,
    parse_digest,
    read_manifest,
    unsafe_path,
    verify_manifest,
    write_manifest,
)
from assay.core.errors import BadInput


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "folder"
    (made / "sub").mkdir(parents=True)
    (made / "b.txt").write_text("b")
    (made / "sub" / "a.bin").write_bytes(b"\0\1")
    write_manifest(made, {"command": "assay run x"})
    return made


def said(folder):
    return [str(problem) for problem in verify_manifest(folder)]


def edit(folder, change):
    manifest = json.loads((folder / NAME).read_text())
    change(manifest)
    (folder / NAME).write_text(json.dumps(manifest))


def test_a_whole_folder_has_no_problems(folder):
    manifest = read_manifest(folder)
    assert [f["path"] for f in manifest["files"]] == ["b.txt", "sub/a.bin"]
    assert manifest["schema"] == "assay.bundle/1" and manifest["command"] == "assay run x" and manifest["created"]
    assert manifest["files"][1] == {
        "path": "sub/a.bin",
        "size_bytes": 2,
        "sha256": hashlib.sha256(b"\0\1").hexdigest(),
    }
    assert said(folder) == []


def test_its_digest_is_the_sha256_of_the_manifest(folder):
    expected = "sha256:" + hashlib.sha256((folder / NAME).read_bytes()).hexdigest()
    assert manifest_digest(folder) == expected
    assert write_manifest(folder, {"created": "now"}) == manifest_digest(folder)


@pytest.mark.parametrize(
    ("harm", "expected"),
    [
        (lambda f: (f / "b.txt").write_text("c"), "b.txt: was changed: its sha256 is another"),
        (lambda f: (f / "b.txt").write_text("bb"), "b.txt: has 2 bytes, the manifest says 1"),
        (lambda f: (f / "b.txt").unlink(), "b.txt: is missing"),
        (lambda f: (f / "new").write_text(""), "new: is not listed in the manifest"),
        (lambda f: (f / f"{NAME}.part").write_text(""), "manifest.json.part: is not listed in the manifest"),
        (lambda f: (f / "x.lock").write_text(""), "x.lock: is not listed in the manifest"),
        (lambda f: os.mkfifo(f / "pipe"), "pipe: is neither a file nor a folder"),
        (lambda f: (f / "up").symlink_to("/etc/hostname"), "up: is a link that leaves the folder"),
        (lambda f: (f / "gone").symlink_to("nowhere"), "gone: is a link to nothing"),
        (lambda f: (f / "dir").symlink_to("sub"), "dir: is a link to a folder"),
    ],
)
def test_every_change_is_a_problem(folder, harm, expected):
    harm(folder)
    assert expected in said(folder)


def test_a_file_replaced_by_a_link_out_of_the_folder_is_a_problem(folder, tmp_path):
    outside = tmp_path / "b.txt"
    outside.write_text("b")
    (folder / "b.txt").unlink()
    (folder / "b.txt").symlink_to(outside)
    assert said(folder) == ["b.txt: is a link that leaves the folder"]


@pytest.mark.parametrize(
    "path", ["../b.txt", "/etc/passwd", "sub/../b.txt", "./b.txt", "", ".", "C:/x", "a\\b", "a\0b"]
)
def test_paths_that_climb_are_refused_and_not_read(folder, path):
    edit(folder, lambda m: m["files"].append({"path": path, "size_bytes": 1, "sha256": "0" * 64}))
    problems = verify_manifest(folder)
    assert [p.path for p in problems] == [path]
    assert unsafe_path(path) == problems[0].text
    with pytest.raises(BadInput):
        inside(folder, path)


def test_a_path_listed_twice_and_names_that_collide(folder):
    edit(folder, lambda m: m["files"].append(m["files"][0]))
    assert "b.txt: is listed twice" in said(folder)
    (folder / "B.TXT").write_text("b")
    (folder / "Sub").mkdir()
    (folder / "Sub" / "c").write_text("c")
    assert "b.txt: differs from B.TXT only in case or in how it is spelled" in said(folder)
    assert "sub: differs from Sub only in case or in how it is spelled" in said(folder)
    with pytest.raises(BadInput, match="only in case"):
        write_manifest(folder)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '"x"',
        "{}",
        '{"schema": "assay.bundle/9", "files": []}',
        '{"schema": "assay.bundle/1"}',
        '{"schema": "assay.bundle/1", "files": []}',
        '{"schema": "assay.bundle/1", "files": [3]}',
        '{"schema": "assay.bundle/1", "files": [{"path": "b.txt", "size_bytes": true, "sha256": "00"}]}',
        '{"schema": "assay.bundle/1", "schema": "assay.bundle/1", "files": []}',
        '{"schema": "assay.bundle/1", "files": NaN}',
        "[" * 100_000,
        "\xff",
    ],
)
def test_a_corrupt_manifest_is_bad_input(folder, text):
    (folder / NAME).write_text(text, encoding="latin-1")
    with pytest.raises(BadInput):
        verify_manifest(folder)


def test_a_folder_without_a_manifest_is_no_bundle(tmp_path):
    with pytest.raises(BadInput, match="not a bundle"):
        read_manifest(tmp_path)
    with pytest.raises(BadInput):
        manifest_digest(tmp_path)


def test_a_manifest_that_is_a_link_is_refused(folder, tmp_path):
    (folder / NAME).rename(tmp_path / "elsewhere.json")
    (folder / NAME).symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(BadInput, match="link"):
        read_manifest(folder)


def test_nothing_is_written_for_a_folder_that_cannot_be_listed(folder):
    (folder / NAME).unlink()
    (folder / "out").symlink_to("/etc/hostname")
    with pytest.raises(BadInput, match="leaves the folder"):
        write_manifest(folder)
    assert not (folder / NAME).exists()


def test_a_run_folder_leaves_its_lock_out(folder):
    (folder / "records.lock").write_text("")
    write_manifest(folder, {"schema": "assay.run/1"})
    assert "records.lock" not in [f["path"] for f in read_manifest(folder)["files"]]
    assert said(folder) == []


@pytest.mark.parametrize("text", ["sha256:" + "A" * 64, "a" * 64, f"  {'a' * 64}\n"])
def test_a_digest_is_read_with_and_without_its_prefix(text):
    assert parse_digest(text) == "sha256:" + "a" * 64


@pytest.mark.parametrize("text", ["", "sha256:", "md5:" + "a" * 32, "a" * 63, "g" * 64, "a" * 65])
def test_what_is_no_digest_is_refused(text):
    with pytest.raises(BadInput):
        parse_digest(text)


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=30))
def test_a_path_called_safe_stays_inside(text):
    if unsafe_path(text) is None:
        assert not text.startswith("/") and ".." not in text.split("/")
        assert os.path.normpath(f"/base/{text}").startswith("/base/")


def test_paths_of_thousands_of_folders_take_no_memory(folder):
    """Every folder of every path is compared: two hundred such entries, a megabyte, took 1.5 GB."""
    deep = "/".join("a" * 1900)
    edit(folder, lambda m: m["files"].extend({**m["files"][0], "path": f"{i}/{deep}"} for i in range(200)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    problems = said(folder)
    assert len(problems) == 200
    assert all("deeper than 32 folders" in text and len(text) < 300 for text in problems)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kilobytes


def test_deep_folders_that_are_there_are_refused_too(folder):
    place = folder.joinpath(*["d"] * 40)
    place.mkdir(parents=True)
    (place / "x").write_text("x")
    (problem,) = said(folder)
    assert "deeper than 32 folders" in problem
    with pytest.raises(BadInput, match="deeper than 32 folders"):
        write_manifest(folder)


@pytest.mark.parametrize(("path", "fits"), [("a/" * 31 + "b", True), ("a/" * 32 + "b", False), ("b" * 1025, False)])
def test_how_deep_and_how_long_a_path_may_be(path, fits):
    assert (unsafe_path(path) is None) == fits
