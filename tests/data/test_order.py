import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gsnn.data.order import Order, Permutation

SEEDS = st.integers(0, 2**31)


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 3000), seed=SEEDS, epoch=st.integers(0, 5))
def test_a_permutation_visits_everything_once_and_its_inverse_leads_back(n, seed, epoch):
    permutation, all_of_them = Permutation(n, seed, "test", epoch), np.arange(n)
    visited = permutation(all_of_them)
    np.testing.assert_array_equal(np.sort(visited), all_of_them)
    np.testing.assert_array_equal(permutation.inverse(visited), all_of_them)
    np.testing.assert_array_equal(permutation(permutation.inverse(all_of_them)), all_of_them)


@settings(max_examples=60, deadline=None)
@given(n=st.integers(2, 10**13), seed=SEEDS, data=st.data())
def test_any_place_of_a_huge_order_is_had_alone_and_led_back(n, seed, data):
    places = np.array(data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=20, unique=True)))
    permutation = Permutation(n, seed)
    rows = permutation(places)
    assert ((rows >= 0) & (rows < n)).all()
    assert len(set(rows.tolist())) == len(places)
    np.testing.assert_array_equal(permutation.inverse(rows), places)
    assert [int(permutation(place[None])[0]) for place in places] == rows.tolist()


@settings(max_examples=120, deadline=None)
@given(
    n=st.integers(1, 700),
    seed=SEEDS,
    block=st.integers(1, 64),
    window_blocks=st.integers(0, 9),
    shuffle=st.booleans(),
    data=st.data(),
)
def test_an_epoch_visits_every_object_once_whatever_the_windows(n, seed, block, window_blocks, shuffle, data):
    order = Order(n, seed, 3, min(block, n), window_blocks, shuffle)
    whole = order(0, n)
    np.testing.assert_array_equal(np.sort(whole), np.arange(n))
    if not shuffle:
        np.testing.assert_array_equal(whole, np.arange(n))
    start = data.draw(st.integers(0, n))
    stop = data.draw(st.integers(start, n))
    np.testing.assert_array_equal(order(start, stop), whole[start:stop])
    bounds = [order.bounds(window) for window in range(order.windows)]
    assert [b for one in bounds for b in one][1:-1] == [b for one in bounds[:-1] for b in (one[1], one[1])]
    assert (bounds[0][0], bounds[-1][1]) == (0, n)
    assert all(order.window_of(p) == w for w, (a, b) in enumerate(bounds) for p in range(a, b))
    for window, (first, last) in enumerate(bounds):
        assert last - first <= (window_blocks * order.block if window_blocks else n)
        inside = order.read(np.arange(first, last))
        np.testing.assert_array_equal(inside[order.slots(first, last, window)], whole[first:last])


@pytest.mark.parametrize("window_blocks", [0, 16])
def test_orders_differ_between_seeds_and_epochs_and_mix_well(window_blocks):
    n = 4096
    one, other, later = (Order(n, seed, epoch, 64, window_blocks)(0, n) for seed, epoch in ((0, 0), (1, 0), (0, 1)))
    for a, b in ((one, other), (one, later), (one, np.arange(n))):
        assert abs(np.corrcoef(a, b)[0, 1]) < 0.1
        assert (a == b).mean() < 0.01


def test_blocks_are_read_together():
    order = Order(10_000, 0, 0, 64, 8)
    inside = order.read(np.arange(*order.bounds(2)))
    assert (np.diff(inside) == 1).mean() > 0.97


@pytest.mark.parametrize("window_blocks", [0, 5000])
def test_any_place_in_a_million_million_objects_is_reached_at_once(window_blocks):
    order = Order(10**12, 4, 2, 64, window_blocks)
    places = [0, 123_456_789_012, 10**12 - 1]
    rows = [int(order(place, place + 1)[0]) for place in places]
    assert len(set(rows)) == 3
    assert all(0 <= row < 10**12 for row in rows)
    assert [int(order(place, place + 1)[0]) for place in places] == rows


def test_the_order_stays_the_same_for_ever():
    """Golden values: a resumed run must meet the order that it left."""
    assert Permutation(1000, 7, "order", 2)(np.arange(6)).tolist() == GOLDEN[0]
    assert Order(1000, 7, 2, 64, 4)(100, 106).tolist() == GOLDEN[1]


GOLDEN = ([619, 699, 715, 585, 423, 427], [652, 726, 808, 817, 640, 660])
