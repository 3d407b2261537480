"""docs/adding-an-engine.md is true: its engine, added as it says, passes the conformance tests."""

from __future__ import annotations

import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "adding-an-engine.md"
RUN = """
import sys
import assay.engines
folder, name, target, report, suite = sys.argv[1:]
assay.engines.__path__.append(folder)
assay.engines.ENGINES[name] = target
import pytest
sys.exit(pytest.main([suite, "-q", "-k", name, "-p", "no:cacheprovider", "--junitxml", report]))
"""


def blocks() -> tuple[str, str, str]:
    """The engine's source, its key in the table and its target, from the document."""
    source, line = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    found = re.fullmatch(r'\s*"(\w+)": "([\w.]+:\w+)",\s*', line)
    assert found, f"the table line in {DOCUMENT.name} is not one line of the table: {line!r}"
    return source, found[1], found[2]


def conform(folder: Path, source: str) -> tuple[int, dict[str, bool], str]:
    """Write the one file, add the one line, run the suite: exit code, passed by test name, output."""
    _, name, target = blocks()
    module = target.partition(":")[0].rpartition(".")[2]
    (folder / f"{module}.py").write_text(source)
    report = folder / "report.xml"
    command = [sys.executable, "-c", RUN, str(folder), name, target, str(report)]
    suite = str(Path(__file__).with_name("test_engine.py"))
    done = subprocess.run([*command, suite], capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert report.exists(), done.stdout + done.stderr
    cases = ET.parse(report).getroot().iter("testcase")
    return done.returncode, {c.attrib["name"]: not list(c) for c in cases}, done.stdout


def test_the_documented_engine_conforms(tmp_path: Path) -> None:
    source, name, _ = blocks()
    code, passed, output = conform(tmp_path, source)
    assert code == 0, output
    assert all(passed.values()), output
    assert f"test_attests_the_precision_asked_for[{name}-fp32-onnx]" in passed
    assert len(passed) >= 18


LENDS = """        kept = self.__dict__.setdefault("kept", {}).setdefault(arrays[0].shape, [a.copy() for a in arrays])
        for mine, array in zip(kept, arrays, strict=True):
            mine[...] = array
        self.last_feed = feed["x"]
        return kept
"""
HONEST = "        return arrays\n"


@pytest.mark.parametrize(
    ("changes", "caught_by"),
    [
        (
            {"borrows = True": "borrows = False", HONEST: LENDS},
            ["returned_arrays_belong", "feed_is_unchanged_and_not_kept"],
        ),
        (
            {HONEST: HONEST.replace("arrays", "arrays[::-1]"), "Attestation(shares(ran)": "Attestation({}"},
            ["outputs_have_names_order", "attests_the_precision"],
        ),
    ],
    ids=["keeps-what-is-the-callers", "swaps-outputs-and-attests-nothing"],
)
def test_a_dishonest_variant_is_caught(tmp_path: Path, changes: dict[str, str], caught_by: list[str]) -> None:
    """The conformance tests can fail."""
    source, _, _ = blocks()
    for honest, broken in changes.items():
        assert honest in source
        source = source.replace(honest, broken)
    code, passed, output = conform(tmp_path, source)
    failures = [test for test, fine in passed.items() if not fine]
    assert code == 1, output
    for expected in caught_by:
        assert any(expected in test for test in failures), failures


def test_every_engine_of_the_table_is_described_in_one_file() -> None:
    from assay.engines import ENGINES

    for name, target in ENGINES.items():
        module, _, attribute = target.partition(":")
        assert (ROOT / "src" / Path(*module.split("."))).with_suffix(".py").is_file(), name
        assert attribute.endswith("Engine")
