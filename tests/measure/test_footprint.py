from assay.core import child
from assay.measure.footprint import peak_rss


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
