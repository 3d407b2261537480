import numpy as np

from assay.core.workload import StopRule
from assay.measure.series import warmup_end
from assay.measure.stopping import Stopper

STOP = StopRule(min_calls=20, min_s=0.0, max_s=100.0, within=0.02)


def jitter(n, mean, seed):
    return mean * (1 + 0.001 * np.random.default_rng(seed).random(n))


def test_a_series_that_is_known_well_enough_is_long_enough():
    assert Stopper(STOP, 0.0).enough(list(jitter(200, 1e-3, 0)), 1.0)
    assert not Stopper(STOP, 0.0).enough(list(jitter(10, 1e-3, 0)), 1.0)


def test_a_warm_up_that_has_not_ended_is_never_long_enough_but_ends_with_the_time():
    values = np.concatenate([jitter(200, 2e-3, 1), jitter(200, 1e-3, 2)])
    assert not warmup_end(values).settled
    assert not Stopper(STOP, 0.0).enough(list(values), 1.0)
    assert Stopper(STOP, 0.0).enough(list(values), 100.0)
    longer = np.concatenate([values, jitter(200, 1e-3, 3)])
    assert Stopper(STOP, 0.0).enough(list(longer), 1.0)
