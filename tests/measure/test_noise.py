import os

from assay.measure.noise import CpuTimes, cpu_times, neighbours


def at(seconds, busy, own, stolen=0.0):
    return CpuTimes(seconds, busy, stolen, own, 2)


def test_the_kernels_counters_are_read():
    found = cpu_times()
    assert found.cores == len(os.sched_getaffinity(0))
    assert found.busy_s > 0


def test_only_the_cores_this_process_may_use_count(tmp_path):
    stat = tmp_path / "stat"
    core = min(os.sched_getaffinity(0))
    stat.write_text(
        f"cpu  9 9 9 9 9 9 9 9 0 0\ncpu{core} 100 0 50 900 10 3 7 20 0 0\ncpu9999 7 7 7 7 7 7 7 7 0 0\nintr 5\n"
    )
    found = cpu_times(stat)
    tick = os.sysconf("SC_CLK_TCK")
    assert (found.busy_s, found.stolen_s, found.cores) == (160 / tick, 20 / tick, 1)


def test_no_counters(tmp_path):
    assert cpu_times(tmp_path / "none") is None
    assert neighbours(None, None) == []


def test_own_work_is_no_noise():
    assert neighbours(at(0, 10, 5), at(10, 25, 20)) == []


def test_the_work_of_others_is():
    (said,) = neighbours(at(0, 10, 5), at(10, 30, 15))
    assert "other processes used 1.0 of 2 cores" in said


def test_a_host_that_takes_cores_away():
    (said,) = neighbours(at(0, 10, 5), at(10, 20, 15, stolen=6))
    assert "took 0.6 of 2 cores" in said


def test_too_short_to_tell():
    assert neighbours(at(0, 0, 0), at(0.1, 0.1, 0)) == []
