"""Bundles packed by strangers: links, paths that climb, devices, and the digest that pins one of them."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.hardening.attack import told
from tests.hardening.corpus import call, command
from tests.hardening.fuzz import Worker

from assay.bundle.manifest import manifest_digest, write_manifest
from assay.core.artifact import digest_file

ORIGIN = "this proves integrity, not origin"


@pytest.fixture
def bundle(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished / "bundle", tmp_path / "bundle"))


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    path = tmp_path / "outside" / "secret"
    path.write_text('"kept to myself"')
    return path


def listed(bundle: Path, path: str, at: Path) -> None:
    """The manifest with one more entry, digest and size as they are at ``at``."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    files = [entry for entry in manifest["files"] if entry["path"] != path]
    entry = {"path": path, "size_bytes": at.stat().st_size, "sha256": digest_file(at)}
    (bundle / "manifest.json").write_text(json.dumps({**manifest, "files": [*files, entry]}))


def refused(bundle: Path, worker: Worker, says: str) -> None:
    """By everything that takes a bundle, before anything of it is opened or copied."""
    copied = bundle.parent / "copied"
    for case in (
        command("check", bundle),
        call("serve_bundle", bundle),
        command("pack", bundle, "-o", copied),
        command("pack", bundle, "-o", copied, "--layout", "triton", "--name", "m"),
        command("bench", bundle, "--batch", 1, "--duration", 0.05),
        command("replay", bundle, "--duration", "50ms"),
    ):
        code, said = told(worker, case)
        assert code == (1 if case.get("argv", [""])[0] in ("check", "replay") else 2), said
        assert says in said or "lies outside" in said, said
        assert "kept to myself" not in said
    assert not copied.exists()


CLIMBING = ("../outside/secret", "model/../../outside/secret", "model/../../../etc/passwd", "./labels.json", "a\\..\\b")


@pytest.mark.parametrize("path", CLIMBING)
def test_a_path_that_climbs_out(path: str, bundle: Path, outside: Path, worker: Worker) -> None:
    listed(bundle, path, outside)
    refused(bundle, worker, path)


def test_an_absolute_path(bundle: Path, outside: Path, worker: Worker) -> None:
    listed(bundle, str(outside), outside)
    refused(bundle, worker, "is an absolute path")


def _file_link(bundle: Path, outside: Path) -> str:
    target = bundle / "labels.json"
    target.unlink(missing_ok=True)
    target.symlink_to(outside)
    listed(bundle, "labels.json", outside)
    return "is a link that leaves the folder"


def _relative_link(bundle: Path, outside: Path) -> str:
    (bundle / "model" / "more").symlink_to(Path("../../outside/secret"))
    listed(bundle, "model/more", outside)
    return "is a link that leaves the folder"


def _folder_link(bundle: Path, outside: Path) -> str:
    (bundle / "more").symlink_to(outside.parent)
    listed(bundle, "more/secret", outside)
    return "is a link that leaves the folder"


def _link_to_a_link(bundle: Path, outside: Path) -> str:
    (outside.parent / "hop").symlink_to(outside)
    (bundle / "more").symlink_to(outside.parent / "hop")
    listed(bundle, "more", outside)
    return "is a link that leaves the folder"


def _endless_link(bundle: Path, outside: Path) -> str:
    (bundle / "more").symlink_to("more")
    return "more"


def _model_link(bundle: Path, outside: Path) -> str:
    (model,) = (bundle / "model").iterdir()
    shutil.move(model, outside.parent / model.name)
    model.symlink_to(outside.parent / model.name)
    return "is a link that leaves the folder"


def _pipe(bundle: Path, outside: Path) -> str:
    """Reading it would wait for ever."""
    os.mkfifo(bundle / "pipe")
    return "is neither a file nor a folder"


LINKS = (_file_link, _relative_link, _folder_link, _link_to_a_link, _endless_link, _model_link, _pipe)


@pytest.mark.parametrize("plant", LINKS)
def test_links_and_pipes(plant: Callable[[Path, Path], str], bundle: Path, outside: Path, worker: Worker) -> None:
    refused(bundle, worker, plant(bundle, outside))


def test_a_description_that_names_a_file_outside(bundle: Path, outside: Path, worker: Worker) -> None:
    """The manifest fits; bundle.json is what reaches out."""
    described = json.loads((bundle / "bundle.json").read_text())
    for place in ("../outside/secret", str(outside), "model/../../outside/secret"):
        for key, value in (("path", place), ("companions", [place])):
            changed = {**described, "artifact": {**described["artifact"], key: value}}
            (bundle / "bundle.json").write_text(json.dumps(changed))
            write_manifest(bundle)
            for case in (command("check", bundle), call("serve_bundle", bundle)):
                code, said = told(worker, case)
                assert code == 2, said
                assert "secret" in said and "kept to myself" not in said


def test_a_zip_of_a_bundle_is_never_unpacked(bundle: Path, worker: Worker) -> None:
    """assay unpacks no archive: a zip with climbing names is no bundle, and is said to be none."""
    path = bundle.parent / "bundle.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../climbed", "x")
        archive.write(bundle / "manifest.json", "manifest.json")
    for case in (command("check", path), call("serve_bundle", path), command("pack", path, "-o", bundle.parent / "o")):
        assert told(worker, case)[0] == 2
    assert not (bundle.parent.parent / "climbed").exists()


def test_check_says_that_it_proves_integrity_and_not_origin(bundle: Path, worker: Worker) -> None:
    """Whoever changes a file can write a manifest that fits: only a digest that came another way tells."""
    pinned = manifest_digest(bundle)
    code, said = told(worker, command("check", bundle))
    assert code == 0 and ORIGIN in said and pinned in said and "--digest" in said
    code, said = told(worker, command("check", bundle, "--digest", pinned))
    assert code == 0 and "passed    digest" in said

    records = bundle / "records.jsonl"
    records.write_text(records.read_text().replace('"ok"', '"ok" '))
    code, said = told(worker, command("check", bundle))
    assert code == 1 and "records.jsonl" in said
    write_manifest(bundle)
    code, said = told(worker, command("check", bundle))
    assert code == 0 and ORIGIN in said
    for verb in (("check",), ("replay", "--duration", "50ms")):
        code, said = told(worker, command(verb[0], bundle, *verb[1:], "--digest", pinned))
        assert code == 1, said
        assert (
            "digest: manifest.json is" in said
            and "failed" in said
            and pinned in said
            and manifest_digest(bundle) in said
        )


@pytest.mark.parametrize(
    "digest", ["", "sha256:", "latest", "sha256:" + "0" * 63, "md5:" + "0" * 32, "sha256:" + "g" * 64]
)
def test_a_digest_that_is_none_pins_nothing_and_is_refused(digest: str, bundle: Path, worker: Worker) -> None:
    code, said = told(worker, command("check", bundle, "--digest", digest))
    assert code == 2 and "sha256: and 64 hexadecimal digits" in said


def test_the_digest_is_that_of_the_file(bundle: Path, worker: Worker) -> None:
    """What sha256sum prints, with and without its prefix, in either case."""
    plain = digest_file(bundle / "manifest.json")
    for form in (plain, plain.upper(), f"sha256:{plain}"):
        assert told(worker, command("check", bundle, "--digest", form))[0] == 0


def test_json_shows_all_of_it(bundle: Path, worker: Worker) -> None:
    code, _ = told(worker, command("check", bundle, "--json", bundle.parent / "said.json"))
    told_json: dict[str, Any] = json.loads((bundle.parent / "said.json").read_text())["check"]
    assert code == 0 and told_json["digest"] == manifest_digest(bundle)
    assert any(ORIGIN in step["text"] for step in told_json["steps"])
