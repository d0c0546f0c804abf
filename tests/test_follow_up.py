"""Which objects to follow up: what the scores mean, and a campaign that is honest and gains by choosing well."""

import numpy as np
import pytest

from gsnn.errors import GsnnError
from gsnn.follow_up import (
    ACQUISITIONS,
    bald,
    campaign,
    choose,
    dropout_members,
    entropy,
    exposure_hours,
    forest,
    margin,
)

SURE = [[0.98, 0.02]] * 4
NOISY = [[0.5, 0.5]] * 4  # every member sees noise
DISPUTED = [[0.98, 0.02], [0.02, 0.98]] * 2  # members are sure, and disagree
P = np.array([SURE, NOISY, DISPUTED]).transpose(1, 0, 2)


def test_scores_tell_noise_from_dispute():
    assert entropy(P)[0] < entropy(P)[1] == pytest.approx(np.log(2))
    assert entropy(P)[2] == pytest.approx(np.log(2))
    assert margin(P) == pytest.approx([1 - 0.96, 1, 1])
    assert bald(P)[0] == pytest.approx(0, abs=1e-9)
    assert bald(P)[1] == pytest.approx(0, abs=1e-9)
    assert bald(P)[2] > 0.5


@pytest.mark.parametrize("score", ACQUISITIONS.values())
def test_scores_are_bounded_and_do_not_know_the_order_of_members_or_classes(score):
    p = np.random.default_rng(0).dirichlet(np.ones(3), (6, 50))
    assert (score(p) >= -1e-12).all()
    assert (score(p) <= np.log(3) + 1e-9).all()
    np.testing.assert_allclose(score(p[::-1]), score(p))
    np.testing.assert_allclose(score(p[..., ::-1]), score(p))


def test_choosing_keeps_to_what_is_allowed_and_to_the_budget():
    score = np.array([5.0, 4.0, np.nan, 3.0, 2.0])
    assert choose(score, 2).tolist() == [0, 1]
    assert choose(score, 9).tolist() == [0, 1, 3, 4]
    assert choose(score, 2, allowed=np.array([False, True, True, True, True])).tolist() == [1, 3]
    hours = np.array([10.0, 1.0, 1.0, 1.0, 1.0])
    assert choose(score, 9, hours=hours, budget=2.5).tolist() == [1, 3]
    with pytest.raises(GsnnError, match="together"):
        choose(score, 1, hours=hours)
    with pytest.raises(GsnnError, match="at least one"):
        choose(score, 0)


def test_a_magnitude_fainter_takes_six_times_as_long():
    hours = exposure_hours(np.array([22.5, 23.5])) - 1 / 12
    assert hours == pytest.approx([1, 10**0.8])


def line(n=600, seed=0):
    """Types by the sign of x, where the first spectra are all of bright objects with x far from the border."""
    random = np.random.default_rng(seed)
    x = np.c_[random.uniform(-1, 1, n), random.normal(size=n)]
    border = 0.15 * np.sin(3 * x[:, 1])
    return x, (x[:, 0] > border).astype(int), 20 + 3 * (1 - np.abs(x[:, 0]))


def test_a_campaign_adds_spectra_never_of_test_objects_and_counts_hours():
    x, y, magnitude = line()
    start = np.flatnonzero(magnitude < 20.4)[:40]
    test = np.setdiff1d(np.arange(300), start)
    pool = np.setdiff1d(np.arange(300, 600), start)
    rounds = list(
        campaign(forest(x, y, 20), start, pool, test, by="bald", count=20, rounds=3, magnitude=magnitude, limit=22.9)
    )
    assert [len(r.labelled) for r in rounds] == [40, 60, 80, 100]
    new = rounds[-1].labelled[40:]
    assert np.isin(new, pool).all()
    assert len(np.unique(rounds[-1].labelled)) == 100
    assert magnitude[new].max() < 22.9
    assert rounds[-1].hours == pytest.approx(exposure_hours(magnitude[new]).sum())
    assert rounds[0].probabilities.shape == (len(test), 2)


def test_choosing_by_doubt_beats_choosing_the_brightest():
    x, y, magnitude = line()
    start = np.flatnonzero(magnitude < 20.6)[:30]
    test, pool = np.setdiff1d(np.arange(300), start), np.setdiff1d(np.arange(300, 600), start)

    def right(by):
        last = list(campaign(forest(x, y, 40), start, pool, test, by=by, count=15, rounds=4, magnitude=magnitude))[-1]
        return (last.probabilities.argmax(1) == y[test]).mean()

    assert right("entropy") > right("brightest") + 0.02


def test_what_a_campaign_refuses():
    x, y, magnitude = line(50)
    fit, rows = forest(x, y, 5), np.arange(50)
    with pytest.raises(GsnnError, match="did you mean 'entropy'"):
        next(campaign(fit, rows[:9], rows[9:20], rows[20:], by="entrpy", count=1, rounds=1, magnitude=magnitude))
    with pytest.raises(GsnnError, match="neither in its pool"):
        next(campaign(fit, rows[:9], rows[9:30], rows[20:], by="random", count=1, rounds=1, magnitude=magnitude))


def test_dropout_makes_members_that_differ_and_repeat():
    import torch

    from gsnn.data.schema import Column, Schema
    from gsnn.model import Model

    inputs = Schema.of([Column("a", "scalar"), Column("b", "scalar")])
    targets = Schema.of([Column("t", "label", classes=("x", "y"))])
    spec = {"model": {"name": "mlp", "width": 16, "dropout": 0.3}, "objective": {"name": "classify"}}
    model, batch = Model(inputs, targets, spec), {"a": torch.randn(5), "b": torch.randn(5), "row": torch.arange(5)}
    first, again = dropout_members(model, batch, 4, seed=1), dropout_members(model, batch, 4, seed=1)
    np.testing.assert_array_equal(first, again)
    assert first.shape == (4, 5, 2)
    assert first.std(0).max() > 1e-3
    np.testing.assert_allclose(first.sum(-1), 1)
    assert not any(module.training for module in model.modules())
    bare = Model(inputs, targets, {**spec, "model": {"name": "mlp", "width": 16, "dropout": 0.0}})
    with pytest.raises(GsnnError, match="no dropout"):
        dropout_members(bare, batch)
