"""What a measurement says about others is read back from the words it was said in."""

import pytest

from assay.core.disturbance import cores_taken, disturbance, taken_by_host, used_by_others


@pytest.mark.parametrize("say", [used_by_others, taken_by_host])
@pytest.mark.parametrize("cores", [0.2, 1.0, 12.3])
def test_what_is_said_can_be_read(say, cores) -> None:
    warnings = ("some other warning about 3.0 of 4 cores", say(cores, 16))
    assert disturbance(warnings) == warnings[1]
    assert cores <= cores_taken(warnings) <= cores + 0.1


def test_both_add_up_and_silence_is_none() -> None:
    assert cores_taken((used_by_others(0.4, 2), taken_by_host(0.3, 2))) == pytest.approx(0.8)
    assert cores_taken(()) == cores_taken(("drifting",)) == 0.0
    assert disturbance(("drifting",)) is None
