"""``assay doctor`` knows every library that an extra installs."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from assay.job import doctor

NOT_LISTED = {"assay", "fastervit", "protobuf", "scikit-image"}
"""Ourselves; a walkthrough's models; what onnx brings anyhow; what no verb needs."""


def extras() -> dict[str, str]:
    """Distribution -> the extra it belongs to; those for people who work on assay itself left out."""
    file = Path(doctor.__file__).parents[3] / "pyproject.toml"
    if not file.is_file():
        pytest.skip("the sources are not here")
    found = tomllib.loads(file.read_text())["project"]["optional-dependencies"]
    names = {}
    for extra, listed in found.items():
        if extra not in ("all", "dev", "docs"):
            names |= {re.split(r"[\[><=; ]", one)[0]: extra for one in listed}
    return {name: extra for name, extra in names.items() if name not in NOT_LISTED}


def test_it_names_what_every_extra_brings() -> None:
    known = {distribution: extra for distribution, _, _, extra in doctor.OPTIONAL}
    assert known == extras()


def test_what_is_missing_is_told_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "version", lambda name: None)
    found = {f.part: f.remedy for f in doctor._packages()}
    assert found["nncf"] == "pip install 'assay[quantize]'"
