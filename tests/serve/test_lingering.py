"""The loop stays awake for a moment after a brief batch, and no longer."""

import asyncio
from dataclasses import replace

from assay.core import clock
from assay.serve.lingering import SPELL_S, Linger


class Turns:
    """Counts the loop's turns; time passes by ``step_s`` whenever it is asked for."""

    def __init__(self, step_s):
        self.step_s = step_s
        self.asked = 0

    def now(self):
        self.asked += 1
        return self.asked * self.step_s


def turns(step_s, begins=1):
    time = Turns(step_s)

    async def main():
        linger = Linger(asyncio.get_running_loop())
        for _ in range(begins):
            linger.begin()
        before = time.asked
        for _ in range(1000):
            await asyncio.sleep(0)
        return time.asked - before

    with clock.use(replace(clock.REAL, now=time.now)):
        return asyncio.run(main())


def test_it_looks_again_until_the_spell_is_over():
    assert turns(SPELL_S / 10) in (10, 11)


def test_a_second_answer_prolongs_the_spell_and_turns_no_faster():
    assert turns(SPELL_S / 10, begins=3) in (10, 11)


def test_it_sleeps_once_the_spell_is_over():
    assert turns(2 * SPELL_S) == 1
