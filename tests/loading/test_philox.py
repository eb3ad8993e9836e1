import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from softlab.loading.philox import generator_of, runs_at

KEYS = st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))


@given(key=KEYS, stream=st.integers(0, 5), count=st.integers(1, 30), firsts=st.lists(st.integers(0, 300), max_size=20))
def test_numbers_in_the_middle_are_those_that_a_generator_comes_to(
    key: tuple[int, int], stream: int, count: int, firsts: list[int]
) -> None:
    numbers = generator_of(key, stream=stream).random(330)

    found = runs_at(np.array(firsts, dtype=np.int64), count=count, key=key, stream=stream)
    assert (found * 2.0**-53).tolist() == [numbers[first : first + count].tolist() for first in firsts]


def test_far_out_they_are_those_of_a_generator_that_jumped_there() -> None:
    far = 10**12
    bits = np.random.Philox(key=np.array([7, 8], dtype=np.uint64), counter=np.array([0, 0, 0, 1], dtype=np.uint64))
    bits.advance(far // 4)

    found = runs_at(np.array([far]), count=8, key=(7, 8), stream=1)
    assert (found * 2.0**-53).tolist() == [np.random.Generator(bits).random(8).tolist()]


def test_each_part_of_a_stream_is_another() -> None:
    firsts = {generator_of((1, 2), stream=3, part=part).random() for part in range(100)}

    assert len(firsts) == 100
