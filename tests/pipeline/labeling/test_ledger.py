"""The attempt ledger: who is blamed for a death, who is not, and what ends a job."""

import threading
import time

import pytest

from scclip.pipeline.labeling.ledger import MOST_DEATHS, AttemptLedger, Gate, TooManyDeaths
from scclip.pipeline.labeling.watch import Orders, Work

WORK = Work("label", 3, 7)


def test_only_an_image_that_was_alone_at_two_deaths_is_set_aside() -> None:
    ledger = AttemptLedger(lost=set)
    assert ledger.begin(WORK, "a") == Orders()
    assert ledger.begin(WORK, "a") == Orders()  # one death
    assert ledger.begin(WORK, "a") == Orders(one_by_one=True)  # two
    for image in (4, 5):
        ledger.alone(WORK, image)
    assert ledger.begin(WORK, "b") == Orders(one_by_one=True)  # over image 5: three, no proof
    ledger.alone(WORK, 4)
    assert ledger.begin(WORK, "b").excluded == set()  # over image 4: bad luck
    for image in (4, 5):
        ledger.alone(WORK, image)
    assert ledger.begin(WORK, "a") == Orders(True, frozenset({5}))  # over image 5 again
    ledger.done([WORK], storage_retries=2, seconds=0.5)
    ledger.done([Work("read", 3, 0)], storage_retries=1)
    assert ledger.begin(Work("decode", 3, 7), "a") == Orders()  # another stage has its own count
    totals = {"worker_deaths": {"label": 5}, "storage_retries": 3, "stage_seconds": {"label": 0.5, "read": 0.0}}
    assert ledger.totals() == totals


def test_what_is_announced_together_is_announced_piece_by_piece_after_a_death() -> None:
    ledger, work = AttemptLedger(lost=set), [Work("decode", unit, 0) for unit in range(5)]
    assert ledger.begin_all(work, "a") and ledger.now()["open"] == {"decode": 1}
    assert not ledger.begin_all(work, "a") and ledger.now()["open"] == {}  # one process died
    for piece in work:
        assert ledger.begin(piece, "a") == Orders()
        ledger.done([piece], 0)
    assert ledger.totals()["worker_deaths"] == {"decode": 1}
    assert not ledger.begin_all(work[2:], "a")  # again: another task died after it
    ledger.begin(work[2], "a")
    assert not ledger.begin_all(work, "a")  # that piece died, by itself
    assert [ledger.begin(piece, "a").one_by_one for piece in work] == [False, False, True, False, False]
    others = [Work("decode", unit, 0) for unit in (7, 8)]
    assert ledger.begin_all(others, "a")
    ledger.done(others, storage_retries=3, seconds=2)
    assert ledger.totals() == {"worker_deaths": {"decode": 2}, "storage_retries": 3, "stage_seconds": {"decode": 2}}


def test_neighbours_of_work_that_goes_on_dying_do_not_end_the_job() -> None:
    """Twenty images of a chunk kill their process, each twice while it is alone; its neighbour is done each time."""
    ledger, work = AttemptLedger(lost=set), [Work("decode", 1, 0), Work("decode", 2, 0)]
    assert ledger.begin_all(work, "a") and not ledger.begin_all(work, "a")
    for image in range(20):
        for _ in range(2):
            assert not ledger.begin_all(work, "a")
            assert ledger.begin(work[0], "a").excluded == set()
            ledger.done([work[0]], 0)
            ledger.begin(work[1], "a")
            ledger.alone(work[1], image)
    assert not ledger.begin_all(work, "a")
    assert len(ledger.begin(work[1], "a").excluded) == 20


def test_a_reader_announces_its_images_after_its_first_death() -> None:
    ledger, work = AttemptLedger(lost=set), Work("read", 3, 0)
    assert ledger.begin(work, "a") == Orders()
    assert ledger.begin(work, "a") == Orders(one_by_one=True)
    for image in (4, None):  # the chunk is read: whoever dies now waits for others
        ledger.alone(work, image)
    assert ledger.begin(work, "a") == Orders(one_by_one=True)
    for _ in range(2):
        ledger.alone(work, 4)
        orders = ledger.begin(work, "a")
    assert orders == Orders(True, frozenset({4}))


def test_what_dies_with_its_node_blames_nobody() -> None:
    lost: set[str] = set()
    ledger = AttemptLedger(lost=lambda: lost)
    for death in range(2 * MOST_DEATHS):
        lost.add(node := f"node {death}")
        assert ledger.begin(WORK, node).excluded == set()
        ledger.alone(WORK, 1)


def test_work_that_goes_on_dying_ends_the_job_with_its_name() -> None:
    ledger = AttemptLedger(lost=set)
    with pytest.raises(TooManyDeaths, match="stage commit died 33 times over chunk 2 of unit 1"):
        for _ in range(MOST_DEATHS + 2):
            ledger.begin(Work("commit", 1, 2), "a")
    for image in range(3 * MOST_DEATHS):  # every image a poison: each is set aside, and the job goes on
        for _ in range(2):
            ledger.begin(WORK, "a")
            ledger.alone(WORK, image)
    assert len(ledger.begin(WORK, "a").excluded) == 3 * MOST_DEATHS


def test_a_call_that_must_be_alone_is_alone() -> None:
    gate, inside, seen = Gate(), [0], list[tuple[bool, int]]()

    def call(alone: bool) -> None:
        for _ in range(30):
            with gate.entered(alone):
                inside[0] += 1
                time.sleep(0.0005)
                seen.append((alone, inside[0]))
                inside[0] -= 1

    threads = [threading.Thread(target=call, args=(number % 3 == 0,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(seen) == 180 and all(count == 1 for alone, count in seen if alone)
    assert max(count for _, count in seen) > 1
