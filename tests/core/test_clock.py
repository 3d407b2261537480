from datetime import UTC, datetime

import pytest

from assay.core import clock
from assay.core.clock import Clock


def test_replaced_and_put_back():
    slept = []
    fake = Clock(now=lambda: 42.0, sleep=slept.append, wall=lambda: datetime(2020, 1, 2, tzinfo=UTC))
    before = clock.current()
    with clock.use(fake):
        clock.sleep(3.0)
        assert clock.now() == 42.0
        assert clock.timestamp() == "2020-01-02T00:00:00+00:00"
    assert slept == [3.0]
    assert clock.current() is before


def test_put_back_after_an_error():
    before = clock.current()
    with pytest.raises(RuntimeError), clock.use(Clock(lambda: 0.0, lambda _: None, lambda: datetime.now(UTC))):
        raise RuntimeError
    assert clock.current() is before


def test_the_real_one_never_goes_back():
    readings = [clock.now() for _ in range(100)]
    assert readings == sorted(readings)
