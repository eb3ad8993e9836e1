"""Shards that wait, are taken, come back, and are set aside."""

from softlab.teacher.engines.shard_queue import MAX_SET_ASIDE, MAX_TRIES, ShardQueue


def take_all(queue: ShardQueue) -> list[int]:
    return list(iter(queue.take, None))


def test_shards_are_handed_out_in_their_order_and_the_queue_is_over_when_all_are_done() -> None:
    queue = ShardQueue([3, 1, 2])

    taken = take_all(queue)
    before = (queue.is_over, queue.num_left)
    for number in taken:
        queue.done(number)

    assert taken == [3, 1, 2]
    assert before == (False, 3)
    assert (queue.is_over, queue.num_left) == (True, 0)


def test_a_shard_whose_worker_is_lost_comes_last_however_often_that_is() -> None:
    queue = ShardQueue([0, 1])

    for _ in range(2 * MAX_TRIES):
        assert queue.take() == 0
        queue.lost(0)
        assert queue.take() == 1
        queue.lost(1)

    assert not queue.set_aside


def test_a_shard_that_was_lost_is_taken_only_by_a_worker_without_others() -> None:
    queue = ShardQueue([0, 1])
    queue.lost(queue.take() or 0)

    assert queue.take(has_others=True) == 1
    assert queue.take(has_others=True) is None
    assert queue.take() == 0


def test_a_shard_is_set_aside_with_its_last_error_when_it_has_failed_three_times() -> None:
    queue = ShardQueue([0, 1])
    taken = [queue.take(), queue.take()]
    queue.done(1)
    queue.failed(0, "no sample 1")

    for error in ("no sample 2", "no sample 3"):
        taken.append(queue.take())
        queue.failed(0, error)

    assert taken == [0, 1, 0, 0]
    assert (queue.is_over, dict(queue.set_aside)) == (True, {0: "no sample 3"})


def test_where_many_shards_fail_the_others_are_not_tried() -> None:
    queue = ShardQueue(range(100))
    tries = 0

    while not queue.is_over and (number := queue.take()) is not None:
        tries += 1
        queue.failed(number, "the disk is full")

    assert len(queue.set_aside) == MAX_SET_ASIDE + 1
    assert queue.num_left == 100 - len(queue.set_aside)
    assert tries < 3 * 100
