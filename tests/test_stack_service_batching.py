import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from stack.service.batching import Batcher, Full, Room


def doubled(numbers):
    return [2 * number for number in numbers]


def asked(work, ask, **options):
    """Run a batcher for as long as `ask` takes."""

    async def run():
        with ThreadPoolExecutor(1) as thread:
            batcher = Batcher(work, thread, **options)
            running = asyncio.create_task(batcher.run())
            try:
                return await asyncio.wait_for(ask(batcher), 20)
            finally:
                running.cancel()

    return asyncio.run(run())


def test_each_asker_gets_the_answer_to_its_own_question():
    async def ask(batcher):
        return await asyncio.gather(*(batcher.ask([n]) for n in range(100)))

    assert asked(doubled, ask) == [[2 * n] for n in range(100)]


def test_those_who_ask_at_once_are_answered_together():
    sizes = []

    def work(numbers):
        sizes.append(len(numbers))
        return doubled(numbers)

    async def ask(batcher):
        return await asyncio.gather(*(batcher.ask([n]) for n in range(40)))

    asked(work, ask, most=16)
    assert sizes == [16, 16, 8]


def test_many_items_of_one_asker_come_back_in_order():
    async def ask(batcher):
        return await batcher.ask(range(101))

    assert asked(doubled, ask, most=8) == [2 * n for n in range(101)]


def test_who_asks_for_much_does_not_keep_others_waiting_till_the_end():
    order, started, go = [], threading.Event(), threading.Event()

    def work(numbers):
        started.set()
        go.wait(10)
        order.extend(numbers)
        return doubled(numbers)

    async def ask(batcher):
        much = asyncio.create_task(batcher.ask(range(100)))
        await asyncio.to_thread(started.wait, 10)
        late = asyncio.create_task(batcher.ask([-1]))
        await asyncio.sleep(0)  # it asks
        go.set()
        await late
        return await much

    asked(work, ask, most=4)
    assert order.index(-1) < 20


def test_an_item_that_fails_does_not_fail_those_it_was_joined_with():
    def work(numbers):
        if 3 in numbers:
            raise RuntimeError("three")
        return doubled(numbers)

    async def ask(batcher):
        every = (batcher.ask([n]) for n in range(6))
        return await asyncio.gather(*every, return_exceptions=True)

    *others, failed = sorted(
        asked(work, ask), key=lambda one: isinstance(one, Exception)
    )
    assert others == [[0], [2], [4], [8], [10]]
    assert isinstance(failed, RuntimeError)


def test_what_nobody_waits_for_is_not_worked_on():
    started, go, seen = threading.Event(), threading.Event(), []

    def work(numbers):
        seen.extend(numbers)
        started.set()
        go.wait(10)
        return doubled(numbers)

    async def ask(batcher):
        first = asyncio.create_task(batcher.ask([1]))
        await asyncio.to_thread(started.wait, 10)
        gone = asyncio.create_task(batcher.ask([2]))
        last = asyncio.create_task(batcher.ask([3]))
        await asyncio.sleep(0.01)
        gone.cancel()
        go.set()
        return await first, await last

    assert asked(work, ask) == ([2], [6])
    assert seen == [1, 3]


def test_a_room_never_holds_more_than_it_may():
    room = Room(10)
    with room.take(6):
        with pytest.raises(Full), room.take(5):
            pass
        with room.take(4):
            assert room.taken == 10
    assert room.taken == 0


def test_a_room_is_given_back_after_a_failure():
    room = Room(3)
    with pytest.raises(ValueError, match="inside"), room.take(3):
        raise ValueError("inside")
    assert room.taken == 0
