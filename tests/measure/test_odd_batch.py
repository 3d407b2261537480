import pytest

from assay.core.record import Figure, Record
from assay.measure.odd_batch import curve_warnings, odd_batches


def curve(rates, width=0.01):
    return [
        Record(
            "measure",
            {},
            figures={"throughput": Figure(r, "samples/s", r * (1 - width), r * (1 + width), 0.95, 50)},
            conditions={"batch": batch},
        )
        for batch, r in rates.items()
    ]


@pytest.mark.parametrize(
    ("rates", "odd"),
    [
        ({1: 100, 2: 180, 4: 300, 8: 310}, ()),
        ({1: 100, 2: 180, 4: 120, 8: 310}, (4,)),
        ({1: 100, 16: 90, 32: 200, 256: 150}, (16, 256)),
        ({1: 100, 2: 97}, ()),
        ({8: 100, 4: 200}, (8,)),
        ({}, ()),
    ],
)
def test_sizes_that_break_the_curve(rates, odd):
    assert odd_batches(curve(rates)) == odd


def test_a_dip_within_the_noise_is_none():
    assert odd_batches(curve({1: 100, 2: 92}, width=0.1)) == ()


def test_a_dip_that_stays_is_explained_and_one_that_goes_is_the_machines():
    records = curve({1: 100, 2: 180, 4: 120, 8: 100})
    found = curve_warnings(records, curve({4: 125, 8: 310}))
    by_batch = {r.conditions["batch"]: r for r in found}
    assert [r.conditions["batch"] for r in found] == [1, 2, 4, 8]
    assert by_batch[1].warnings == by_batch[2].warnings == ()
    assert by_batch[4].value("throughput") == 125
    assert "4 is slower than 2 in two measurements (the first gave 120/s)" in by_batch[4].warnings[0]
    assert by_batch[8].value("throughput") == 310
    assert "not when measured again" in by_batch[8].warnings[0]


def test_a_failed_size_neither_counts_nor_breaks():
    failed = Record("measure", {}, status="failed", reason="too large", conditions={"batch": 4})
    assert odd_batches([*curve({1: 100, 2: 180, 8: 200}), failed]) == ()


def test_a_size_that_cannot_be_measured_again_keeps_its_figure_and_says_so():
    failed = Record("measure", {}, status="failed", reason="it was stopped", conditions={"batch": 4})
    found = curve_warnings(curve({1: 100, 2: 180, 4: 120}), [failed])
    assert found[2].value("throughput") == 120
    assert found[2].warnings == ("odd batch: 4 gave 120/s and could not be measured again (it was stopped)",)
