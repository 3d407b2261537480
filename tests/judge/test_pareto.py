from hypothesis import given
from hypothesis import strategies as st

from assay.judge.pareto import front

coordinates = st.none() | st.integers(0, 5).map(float)


def test_the_front_holds_what_nothing_beats():
    points = [(1.0, 5.0), (2.0, 4.0), (2.0, 3.0), (3.0, 1.0), (0.0, 0.0)]
    assert front(points) == (0, 1, 3)


def test_equal_points_do_not_beat_each_other_and_a_missing_coordinate_wins_nothing():
    assert front([(1.0, 1.0), (1.0, 1.0), (9.0, None)]) == (0, 1)
    assert front([]) == ()


@given(st.lists(st.tuples(coordinates, coordinates), max_size=20))
def test_every_whole_point_is_on_the_front_or_beaten_by_one_that_is(points):
    found = [points[i] for i in front(points)]
    for point in points:
        if None in point:
            assert point not in found
        elif point not in found:
            assert any(all(a >= b for a, b in zip(f, point, strict=True)) and f != point for f in found)
