"""Another version of a library for one replay: installed into a folder of its own, put before the others on the path.

The user's environment stays as it is.  The replay runs in a new interpreter that looks into the folder first.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from assay.core.errors import BadInput, NotAvailable

_REQUIREMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9.+!_-]*")
INSTALL_S = 600


def check_requirement(text: str) -> str:
    """``onnxruntime==1.22.0``: one package at one version.  Raises BadInput for anything else."""
    if not _REQUIREMENT.fullmatch(text):
        raise BadInput(f"--with {text}: one package at one version", remedy="--with onnxruntime==1.22.0")
    return text


def install(requirements: Sequence[str], folder: Path) -> None:
    """Install the packages, without what they depend on, into ``folder``.

    Raises NotAvailable with pip's last lines where there is no such version or no network.
    """
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    try:
        done = subprocess.run(
            [*command, "--target", str(folder), *requirements], capture_output=True, text=True, timeout=INSTALL_S
        )
    except subprocess.TimeoutExpired:
        raise NotAvailable(f"installing {' '.join(requirements)} took more than {INSTALL_S} s") from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        raise NotAvailable(
            f"cannot install {' '.join(requirements)}: {lines[-1].removeprefix('ERROR: ') if lines else 'pip failed'}",
            remedy="give a version that your package index has for this Python",
        )


def run_with(folder: Path, arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """``assay replay ARGUMENTS`` in a new interpreter that finds ``folder`` first; its exit code."""
    path = [str(folder), *filter(None, [environ.get("PYTHONPATH")])]
    environment = {**environ, "PYTHONPATH": os.pathsep.join(path)}
    command = [sys.executable, "-c", "import sys; from assay.cli.main import main; sys.exit(main())", "replay"]
    return subprocess.run([*command, *arguments], env=environment).returncode
