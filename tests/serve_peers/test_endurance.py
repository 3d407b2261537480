"""Small versions of scripts/soak and scripts/fuzz-serve."""

from tests.serve_peers.fuzz import compare, fuzz, held, one
from tests.serve_peers.ours import ours
from tests.serve_peers.soak import messages_for, reload_under_load, soak

GENTLE = 0.15
"""Of the capacity: other tests take their share of the processor at any moment."""


def test_a_number_always_makes_the_same_request():
    assert [one(n, 3)[2] for n in range(50)] == [one(n, 3)[2] for n in range(50)]
    assert len({one(n, 3)[2] for n in range(50)}) > 40


def test_hostile_requests_are_answered_below_500_and_leave_nothing_behind(made, tmp_path):
    names = ("small", "pair", "id_BYTES", "id_INT8")
    with ours([made[n] for n in names], tmp_path / "log") as server:
        fuzz(server, 100, seed=1)
        before = held(server)
        found = fuzz(server, 700)
        compare(server, before, found, memory=False)
    log = (tmp_path / "log").read_text()
    assert found.wrong == [] and found.left == []
    assert sum(found.outcomes.values()) == 700 and found.outcomes["rest 400"] > 100
    assert "Traceback" not in log, log[-3000:]


def test_load_and_reloads_lose_nothing(made, tmp_path):
    messages = messages_for(made["small"])
    with ours([made["small"]], tmp_path / "log", "--admin", "--max-queue", "100000") as server:
        calm = soak(server, messages, 2.0, load=GENTLE)
        found = reload_under_load(server, "small", messages, 25, load=GENTLE)
        server.process.terminate()
        code = server.process.wait(40)
    assert calm.failed == {} and calm.requests > 20
    assert found.failed == {} and found.refused_reloads == []
    assert found.reloads == 25 and found.requests > 20
    assert code == 0, (tmp_path / "log").read_text()[-3000:]
