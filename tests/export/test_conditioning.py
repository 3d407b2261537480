"""Rounding that a model amplifies, or another function?"""

import pytest

from assay.export.conditioning import Conditioning


@pytest.mark.parametrize(
    ("own", "moved", "exact", "explained"),
    [
        (1e-7, 1e-7, 2e-3, False),  # a steady model, and float64 leaves all of the difference
        (1e-2, 1e-2, 2e-3, False),  # a model that amplifies, and a file that is another function all the same
        (1e-2, 1e-2, 1.5e-3, False),
        (1e-2, 1e-2, 1e-10, True),
        (1e-7, 1e-7, 1e-10, True),  # gone in float64: whatever moved it was rounding
        (1e-2, 1e-2, 1e-4, True),  # the file itself keeps some float32 constants
        (1e-2, None, None, True),  # float64 cannot be had: it moves as far by itself
        (1e-7, 1e-6, None, False),
        (None, None, None, False),
    ],
)
def test_what_explains_a_difference_of_two_thousandths(own, moved, exact, explained) -> None:
    assert Conditioning(own, moved, exact).explains(2e-3) is explained
