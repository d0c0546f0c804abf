"""What must hold for every network of sequences. A new one joins by its name in ``SEQUENCES`` of small_networks."""

import math

import pytest
import torch
from small_networks import SEQUENCES, columns, schema, small

from gsnn.config import build
from gsnn.data.schema import Column, Schema
from gsnn.errors import GsnnError
from gsnn.models.sequences import SHORT, Pool, feature_names, observations, visits

VARIANTS = [
    *({"name": name} for name in sorted(SEQUENCES)),
    {"name": "rnn", "cell": "lstm", "bidirectional": True, "pool": "attention"},
    {"name": "rnn", "cell": "rnn", "pool": "last"},
    {"name": "rnn", "pool": "attention", "layers": 1},
    {"name": "cnn1d", "stride": 1, "pool": "mean"},
    {"name": "cnn1d", "pool": "attention"},
    {"name": "cnn1d", "norm": "none"},
    {"name": "resnet1d", "pool": "last", "size": 4},
    {"name": "wavenet", "causal": False, "pool": "max"},
    {"name": "time-transformer", "causal": True, "pool": "max"},
    {"name": "time-transformer", "position": "fourier", "pool": "attention"},
    {"name": "cnn-rnn", "bidirectional": False, "cell": "lstm", "pool": "last"},
    {"name": "rnn", "bidirectional": True, "pool": "mean", "step": "visit"},
    {"name": "time-transformer", "step": "visit"},
]
CURVE, DENSE = schema("curve", "table"), schema("series", "table")
LC = [f"lc.{part}" for part in ("time", "flux", "flux_error", "band", "valid")]
every = pytest.mark.parametrize("spec", VARIANTS, ids=lambda spec: "-".join(map(str, spec.values())))


def make(spec, inputs=CURVE, outputs=3, **settings):
    torch.manual_seed(0)
    return build(small({**spec, **settings}), "model", inputs, outputs).eval()


def light(n=5, steps=9, seed=0):
    return columns(CURVE, n=n, steps=steps, seed=seed)


def near(a, b):
    torch.testing.assert_close(a, b, rtol=1e-5, atol=2e-6)


def cut(given, steps):
    """The first ``steps`` steps."""
    return {name: x[:, :steps] if name in (*LC, "flux") else x for name, x in given.items()}


@every
def test_padding_changes_nothing(spec):
    net, given = make(spec), light()
    longer = dict(given)
    for name in LC:
        garbage = torch.full((5, 7), 2) if name == "lc.band" else torch.full((5, 7), 1e3)
        garbage = torch.zeros(5, 7, dtype=torch.bool) if name == "lc.valid" else garbage
        longer[name] = torch.cat([given[name], garbage.to(given[name])], 1)
    near(net(**longer), net(**given))
    for i in range(5):
        alone = {name: x[i : i + 1] for name, x in given.items()}
        near(net(**cut(alone, 9 - i)), net(**given)[i : i + 1])


@every
def test_one_observation_is_enough_and_none_is_finite(spec):
    net, given = make(spec), light()
    out = net(**cut(given, 1))
    assert out.isfinite().all()
    assert out.std(0).min() > 0
    given["lc.valid"] = torch.zeros(5, 9, dtype=torch.bool)
    out = net(**given)
    assert out.isfinite().all()
    out.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())
    one = Schema.of([Column("flux", "series", shape=(1,))])
    assert make(spec, one)(flux=torch.randn(2, 1)).isfinite().all()


@every
@pytest.mark.parametrize("inputs", [CURVE, DENSE], ids=["curve", "series"])
def test_a_causal_network_sees_no_future_and_another_one_does(spec, inputs):
    net, given = make(spec, inputs), columns(inputs, steps=9)
    if net.stride > 1 or (net.step == "visit" and inputs is CURVE):
        return
    flux = "lc.flux" if inputs is CURVE else "flux"
    states = net.hidden(**given)
    assert states.shape == (5, 9 if inputs is CURVE else 11, net.width)
    later = given[flux].clone()
    later[:, 3:] += 1
    moved = (net.hidden(**{**given, flux: later}) - states).abs().amax(2)[0] > 1e-7
    assert moved[3:].all() or not net.causal
    assert moved[:3].any() == (not net.causal)


@every
@pytest.mark.parametrize("inputs", [CURVE, DENSE], ids=["curve", "series"])
def test_the_running_answer_is_that_of_the_sequence_cut_there(spec, inputs):
    net, given = make(spec, inputs), columns(inputs, steps=9)
    if not net.causal or spec["name"] == "seq2seq":
        with pytest.raises(GsnnError, match="no answer on the way"):
            net.running(**given)
        return
    running = net.running(**given)
    for steps in range(1, 10):
        reached = given["lc.valid"].sum(1) >= steps if inputs is CURVE else torch.ones(5, dtype=torch.bool)
        near(running[reached, steps - 1], net.features(**cut(given, steps))[reached])
    if inputs is CURVE:
        last = given["lc.valid"].sum(1) - 1
        near(net.head(running[torch.arange(5), last]), net(**given))


def test_the_running_answer_of_visits_is_that_of_the_visit():
    net, given = make({"name": "rnn", "step": "visit"}), light()
    given["lc.time"] = given["lc.time"][:, [0, 0, 2, 2, 2, 5, 5, 7, 8]]
    running = net.running(**given)
    assert torch.equal(running[:, 0], running[:, 1])
    for last in (1, 4, 6, 7):
        reached = given["lc.valid"][:, last]
        near(running[reached, last], net.features(**cut(given, last + 1))[reached])


@every
def test_without_a_clock_a_shift_in_time_changes_nothing(spec):
    given = light()
    shifted = {**given, "lc.time": given["lc.time"] + 0.25}
    if spec.get("position") == "fourier":
        with pytest.raises(GsnnError, match="is a clock"):
            make(spec, clock=False)
        return
    net = make(spec, clock=False)
    torch.testing.assert_close(net(**shifted), net(**given), rtol=1e-3, atol=1e-4)
    gaps = {**given, "lc.time": given["lc.time"] * 3}
    assert (net(**gaps) - net(**given)).abs().max() > 1e-3
    net = make(spec)
    assert (net(**shifted) - net(**given)).abs().max() > 2e-4


@every
def test_a_flux_that_is_not_known_is_seen_as_such(spec):
    net, given = make(spec), light()
    hidden = {**given, "lc.flux": given["lc.flux"].clone()}
    hidden["lc.flux"][:, 1] = torch.nan
    out = net(**hidden)
    assert out.isfinite().all()
    zero = {**hidden, "lc.flux": hidden["lc.flux"].nan_to_num(0)}
    assert (net(**zero) - out).abs().max() > 1e-5  # nothing measured is not a measured zero
    other = {**hidden, "lc.flux_error": given["lc.flux_error"].clone()}
    other["lc.flux_error"][:, 1] = 7
    near(net(**other), out)


@every
def test_views_of_different_lengths_join(spec):
    inputs = Schema.of([Column("whole", "series", shape=(40,)), Column("near", "series", shape=(2, 7))])
    net = make(spec, inputs)
    given = columns(inputs)
    assert net(**given).shape == (5, 3)
    for name in given:
        assert (net(**{**given, name: given[name] + 1}) - net(**given)).abs().max() > 1e-4
    with pytest.raises(GsnnError, match="'whole' and 'near'"):
        net.hidden(**given)


# ------------------------------------------------------------------ pieces


def test_what_an_observation_becomes():
    column = Column("lc", "light_curve", bands=("g", "r"))
    time, band = torch.tensor([[0.0, 0.1, 0.3, 0.6, 0.0]]), torch.tensor([[1, 0, 0, 1, 0]])
    given = {"lc.time": time, "lc.band": band, "lc.valid": torch.tensor([[True] * 4 + [False]])}
    given |= {"lc.flux": torch.tensor([[1.0, 2, torch.nan, 4, 9]]), "lc.flux_error": torch.full((1, 5), 0.5)}
    x, at, valid, _ = observations(column, given)
    found = {name: values[:4].tolist() for name, values in zip(feature_names(column), x[0].T)}
    gap = lambda t: math.log1p(t / SHORT)  # noqa: E731
    expected = {
        "flux": [1, 2, 0, 4], "flux_error": [0.5, 0.5, 0, 0.5], "known": [1, 1, 0, 1], "time": [0, 0.1, 0.3, 0.6],
        "since_last": [0, gap(0.1), gap(0.2), gap(0.3)], "since_last_in_band": [0, 0, gap(0.2), gap(0.6)],
        "band_g": [0, 1, 1, 0], "band_r": [1, 0, 0, 1],
    }  # fmt: skip
    assert list(found) == list(expected)
    for name, values in expected.items():
        assert found[name] == pytest.approx(values, rel=1e-5), name
    assert not x[0, 4].any()
    assert torch.equal(at, time)
    assert torch.equal(valid, given["lc.valid"])


def test_what_a_visit_becomes():
    column = Column("lc", "light_curve", bands=("g", "r"))
    given = {
        "lc.time": torch.tensor([[0.0, 0.0, 0.3, 0.3, 0.3, 7.0]]), "lc.band": torch.tensor([[1, 0, 0, 0, 1, 1]]),
        "lc.flux": torch.tensor([[1.0, 2, 3, 6, torch.nan, 9]]), "lc.valid": torch.tensor([[True] * 5 + [False]]),
        "lc.flux_error": torch.tensor([[0.5, 0.5, 1.0, 0.5, 1.0, 1.0]]),
    }  # fmt: skip
    x, at, valid, visit = visits(column, given)
    found = {name: values.tolist() for name, values in zip(feature_names(column, step="visit"), x[0].T)}
    expected = {
        "flux_g": [2, (3 + 4 * 6) / 5], "flux_r": [1, 0], "flux_error_g": [0.5, 5**-0.5], "flux_error_r": [0.5, 0],
        "known_g": [1, 1], "known_r": [1, 0], "time": [0, 0.3], "since_last": [0, math.log1p(0.3 / SHORT)],
    }  # fmt: skip
    assert list(found) == list(expected)
    for name, values in expected.items():
        assert found[name] == pytest.approx(values, rel=1e-5), name
    assert at.tolist() == [pytest.approx([0, 0.3])]
    assert valid.tolist() == [[True, True]]
    assert visit.tolist() == [[0, 0, 1, 1, 1, 1]]
    turned = {name: values[:, [1, 0, 4, 2, 3, 5]] for name, values in given.items()}
    torch.testing.assert_close(visits(column, turned).x, x)


@pytest.mark.parametrize("how", ["last", "mean", "max", "attention"])
def test_pools_look_at_valid_steps_only(how):
    torch.manual_seed(0)
    pool, states = Pool(how, 4), torch.randn(3, 6, 4)
    valid = torch.arange(6) < torch.tensor([[6], [2], [0]])
    found = pool(states, valid)
    near(found[0], pool(states, None)[0])
    near(found[1], pool(states[:, :2], None)[1])
    assert not found[2].any()
    expected = {"last": states[1, 1], "mean": states[1, :2].mean(0), "max": states[1, :2].amax(0)}
    if how in expected:
        near(found[1], expected[how])


def test_what_cannot_be_read_is_refused_with_advice():
    with pytest.raises(GsnnError, match="'mlp' for a table"):
        build("rnn", "model", schema("table"), 2)
    with pytest.raises(GsnnError, match="'cube'"):
        build("cnn1d", "model", Schema.of([Column("cube", "spectrum", shape=(2, 3, 4))]), 2)
    with pytest.raises(GsnnError, match="cannot be halved"):
        build({"name": "rnn", "width": 7, "bidirectional": True}, "model", CURVE, 2)
    with pytest.raises(GsnnError, match='pool = "last" sees one step'):
        build({"name": "rnn", "bidirectional": True, "pool": "last"}, "model", CURVE, 2)
    with pytest.raises(GsnnError, match="every 8th step"):
        build("cnn1d", "model", CURVE, 2).hidden(**light())


def test_without_norms_loud_is_not_quiet():
    strain = Schema.of([Column("strain", "strain", shape=(1, 64))])
    x = torch.randn(3, 1, 64)
    grows = {}
    for norm in ("layer", "none"):
        torch.manual_seed(0)
        net = build({"name": "cnn1d", "width": 8, "depth": 2, "norm": norm}, "model", strain, 2).eval()
        with torch.no_grad():
            grows[norm] = (net.features(strain=30 * x).norm() / net.features(strain=3 * x).norm()).item()
    assert grows["none"] > 5
    assert grows["layer"] < 2
