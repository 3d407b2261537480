"""Makes ``frozen`` and ``frozen_checkpoints`` here: a run with a bundle, and weights, for damage that stays the same.

    .venv/bin/python -m tests.hardening.freeze

Every run has its own times and ids, so what a seed does to a fresh one cannot be done again.  To be run when the
format of Records changes; the old folder is replaced.
"""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from tests.hardening.corpus import NET, digits_by_mean, run_words

from assay.bundle.manifest import write_manifest
from assay.core.artifact import digest_file

FROZEN = Path(__file__).parent / "frozen"
CHECKPOINTS = Path(__file__).parent / "frozen_checkpoints"
"""torch writes addresses of memory and counters of its process into its files."""
MOST_RAW = 400
"""Raw values of a series that are kept; what reads them has read them all by then."""
_LEFT_OUT = ("report.html", "report.md", "report.csv", "records.lock")


def freeze(folder: Path) -> Path:
    """A fresh run in ``folder``, named by relative paths alone, without what is only drawn from it."""
    model = digits_by_mean(folder)
    words = [word.replace(f"{folder}/", "") for word in run_words(model, folder / "run")]
    subprocess.run([sys.executable, "-m", "assay.cli.main", *words], check=True, cwd=folder, timeout=300)
    run = folder / "run"
    for name in _LEFT_OUT:
        (run / name).unlink(missing_ok=True)
    digests = {}
    for path in sorted((run / "samples").glob("*.npz")):
        before = digest_file(path)
        with np.load(path) as raw:
            kept = {name: array[:MOST_RAW] if array.ndim else array for name, array in raw.items()}
        np.savez_compressed(path, **kept)
        digests[before] = digest_file(path)
    for records in (run / "records.jsonl", run / "bundle" / "records.jsonl"):
        text = records.read_text()
        for before, after in digests.items():
            text = text.replace(before, after)
        records.write_text(text)
    for part in (run / "bundle", run):
        _sealed_again(part)
    return run


def _sealed_again(folder: Path) -> None:
    """A manifest that fits, all else in it as it was."""
    manifest = json.loads((folder / "manifest.json").read_text())
    write_manifest(folder, {k: v for k, v in manifest.items() if k not in ("files", "assay")})


def freeze_checkpoints(folder: Path) -> None:
    """The weights of corpus.NET in the four forms that are read."""
    import torch
    from safetensors.torch import save_file

    space: dict[str, Any] = {}
    exec(NET, space)
    torch.manual_seed(0)
    net = space["Net"]().eval()
    state = net.state_dict()
    folder.mkdir(exist_ok=True)
    torch.save({"state_dict": state, "epoch": 3}, folder / "bad.pt")
    torch.save(state, folder / "older.pth", _use_new_zipfile_serialization=False)
    save_file(state, folder / "bad.safetensors")
    script = io.BytesIO()
    torch.jit.save(torch.jit.trace(net, torch.zeros(1, 1, 8, 8)), script)
    with zipfile.ZipFile(script) as whole, zipfile.ZipFile(folder / "script.pt", "w") as made:
        for member in whole.infolist():
            if not member.filename.endswith(".debug_pkl"):  # where its lines came from: places on this machine
                made.writestr(zipfile.ZipInfo(member.filename), whole.read(member))


def frozen_run(folder: Path) -> Path:
    """A copy of the frozen run in ``folder``: reports and indexes may be written into it."""
    return Path(shutil.copytree(FROZEN, folder / "frozen", dirs_exist_ok=True))


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="assay-freeze-") as folder:
        run = freeze(Path(folder))
        shutil.rmtree(FROZEN, ignore_errors=True)
        shutil.copytree(run, FROZEN)
    freeze_checkpoints(CHECKPOINTS)
    print(FROZEN, CHECKPOINTS)


if __name__ == "__main__":
    main()
