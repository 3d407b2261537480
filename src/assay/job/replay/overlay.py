"""Another version of a library for one replay: installed into a folder of its own, put before the others on the path.

The user's environment stays as it is.  The replay runs in a new interpreter that looks into the folder first.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import distributions
from pathlib import Path

from assay.core.child import interpreter
from assay.core.errors import BadInput, ChildFailed, NotAvailable

_REQUIREMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9.+!_-]*")
INSTALL_S = 600
IMPORT_S = 120
_MOST_NEEDS = 6


def check_requirement(text: str) -> str:
    """``onnxruntime==1.22.0``: one package at one version.  Raises BadInput for anything else."""
    if not _REQUIREMENT.fullmatch(text):
        raise BadInput(f"--with {text}: one package at one version", remedy="--with onnxruntime==1.22.0")
    return text


def install(requirements: Sequence[str], folder: Path) -> None:
    """Install the packages, without what they depend on, into ``folder``.

    Raises NotAvailable with pip's last lines where there is no such version or no network.
    """
    # -P, here and below: a file that happens to lie in the current folder is not to be run as a library.
    command = [sys.executable, "-P", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    try:
        done = subprocess.run(
            [*command, "--target", str(folder), *requirements], capture_output=True, text=True, timeout=INSTALL_S
        )
    except subprocess.TimeoutExpired:
        raise NotAvailable(f"installing {' '.join(requirements)} took more than {INSTALL_S} s") from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        said = lines[-1].removeprefix("ERROR: ") if lines else "pip failed"
        remedy = "give a version that your package index has for this Python"
        if "No module named pip" in said:
            remedy = f"{sys.executable} -m ensurepip"
        raise NotAvailable(f"cannot install {' '.join(requirements)}: {said}", remedy=remedy)


def check_imports(requirements: Sequence[str], folder: Path, environ: Mapping[str, str]) -> None:
    """Import what was installed, in a new interpreter: a version that was built for another numpy can crash there.

    Raises NotAvailable with what it said and what it asks for.
    """
    names = sorted(p.parent.name for p in folder.glob("*/__init__.py") if p.parent.name.isidentifier())
    command = [sys.executable, "-P", "-c", f"import {', '.join(names)}" if names else "pass"]
    try:
        done = subprocess.run(
            command, env=_environment(folder, environ), capture_output=True, text=True, errors="replace",
            stdin=subprocess.DEVNULL, timeout=IMPORT_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise NotAvailable(f"importing {', '.join(names)} took more than {IMPORT_S} s") from None
    # The first error: what comes after it was raised while it was handled.  A module written in C may print one and go
    # on, only to crash when it is used.
    errors = [line for line in done.stderr.splitlines() if re.match(r"[A-Za-z_.]+(?:Error|Exception): ", line)]
    if done.returncode == 0 and not any(line.startswith(("ImportError", "SystemError")) for line in errors):
        return
    said = errors[0] if errors else _how(done.returncode)
    needs = _needs(folder)
    asked = f"; of its dependencies it asks for {', '.join(needs)}" if needs else ""
    raise NotAvailable(
        f"{' '.join(requirements)} cannot be imported beside what is installed here: {said}{asked}",
        remedy="give a version that fits, or what it asks for by another --with PACKAGE==VERSION",
    )


def _needs(folder: Path) -> list[str]:
    """What the packages in ``folder`` depend on, without what only extras need; the pinned ones first."""
    found = [r for d in distributions(path=[str(folder)]) for r in d.requires or () if "extra ==" not in r]
    return sorted(found, key=lambda r: not set(r) & set("<>=~"))[:_MOST_NEEDS]


def run_with(folder: Path, arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """``assay replay ARGUMENTS`` in a new interpreter that finds ``folder`` first; its exit code.

    Raises ChildFailed where it crashed.
    """
    command = interpreter("assay.cli.replay", *arguments)
    code = subprocess.run(command, env=_environment(folder, environ)).returncode
    if code < 0:
        raise ChildFailed(f"the replay with other versions died ({_how(code)})", remedy="give another version")
    return code


def _environment(folder: Path, environ: Mapping[str, str]) -> dict[str, str]:
    path = [str(folder), *filter(None, [environ.get("PYTHONPATH")])]
    return {**environ, "PYTHONPATH": os.pathsep.join(path)}


def _how(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
