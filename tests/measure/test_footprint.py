import sys
from types import SimpleNamespace

import pytest

from assay.core import child
from assay.measure.footprint import largest_rss, peak_rss


def test_the_peak_stays_after_the_memory_is_given_back():
    grown = child.run("builtins:bytearray", {}).value
    assert grown == bytearray()
    before = peak_rss()
    block = bytearray(b"x") * (int(before.value) + 64 * 2**20)
    size = len(block)
    del block
    after = peak_rss()
    assert after.unit == "B"
    assert after.value >= size > before.value


def test_without_proc_the_system_call_is_asked(tmp_path):
    assert peak_rss(tmp_path / "none").value > 2**20


def test_getrusage_counts_in_the_unit_of_the_system(monkeypatch):
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrusage", lambda who: SimpleNamespace(ru_maxrss=4096))
    found = {}
    for system in ("linux", "darwin", "win32"):
        monkeypatch.setattr(sys, "platform", system)
        found[system] = largest_rss()
    assert found == {"linux": 4096 * 1024, "darwin": 4096, "win32": 0}
