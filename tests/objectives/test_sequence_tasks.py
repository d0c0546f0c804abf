"""Learning from sequences: answers on the way, and the next, the hidden and the clean value."""

import math

import numpy as np
import pytest
import torch
from tiny import Rows, change, curve_rows

from gsnn.config import build
from gsnn.data.schema import Column, Schema
from gsnn.data.survey import Survey
from gsnn.errors import ConfigError, GsnnError
from gsnn.evaluation.distributions import Categorical
from gsnn.model import Model
from gsnn.objectives.classify_early import CUT, at_days, running
from gsnn.objectives.masked_value import MASK
from gsnn.rng import Rng
from gsnn.run import run
from gsnn.steps.data import ground
from gsnn.steps.train import new_model, train_model
from gsnn.study import Study

CURVE = Schema.of([Column("lc", "light_curve", bands=("g", "r")), Column("z", "scalar")])
SERIES = Schema.of([Column("flux", "series", shape=(2, 9))])
KIND = Schema.of([Column("kind", "label", classes=("a", "b", "c"), dtype="int64")])
AHEAD = {"name": "rnn", "width": 8, "layers": 1}
BOTH = {**AHEAD, "bidirectional": True}
CASES = {
    "early": ({"name": "classify-early"}, AHEAD),
    "early balanced": ({"name": "classify-early", "class_weights": "balanced", "label_smoothing": 0.1}, AHEAD),
    "early truncated": ({"name": "classify-early", "learn": "truncated"}, BOTH),
    "next": ({"name": "next-value"}, AHEAD),
    "masked": ({"name": "masked-value"}, BOTH),
    "masked runs": ({"name": "masked-value", "span": 3, "ratio": 0.5}, BOTH),
    "inpaint": ({"name": "inpaint", "span": 3}, BOTH),
    "denoise": ({"name": "denoise"}, BOTH),
    "denoise with truth": ({"name": "denoise", "truth": "clean"}, AHEAD | {"bidirectional": True}),
}
every = pytest.mark.parametrize("case", CASES)


def read_by(case):
    """A truth is of evenly sampled series."""
    return SERIES if case == "denoise with truth" else CURVE


def objective(case, inputs=None, targets=KIND, **settings):
    spec, network = CASES[case]
    torch.manual_seed(0)
    make = lambda i, n: build({**network, **settings}, "model", i, n)  # noqa: E731
    return build(spec, "objective", inputs or read_by(case), targets, make)


def batch(n=6, steps=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    time, flux, error, band = (torch.rand(n, steps, generator=generator) for _ in range(4))
    parts = {"time": time.sort(1).values, "flux": 4 * flux - 2, "flux_error": 0.1 + error, "band": (2 * band).long()}
    parts["valid"] = torch.arange(steps) < torch.arange(steps, steps - n, -1)[:, None]
    series = torch.randn(n, 2, 9, generator=generator)
    return {f"lc.{name}": part for name, part in parts.items()} | {
        "z": torch.randn(n, generator=generator), "row": torch.arange(n) * 7, "kind": torch.arange(n) % 3,
        "flux": series, "clean": 5 + 2 * series.mean(1, keepdim=True).expand(-1, 2, -1),
    }  # fmt: skip


def some(given, keep):
    return {name: value[keep] for name, value in given.items()}


def loss(one, given, rng=Rng(0)):  # noqa: B008
    given = one.prepare(given, rng)
    ((total, weight),) = one.terms(one(given), given).values()
    return total, weight


@every
def test_a_loss_does_not_depend_on_how_a_batch_is_cut(case):
    one, given = objective(case), batch()
    given["kind"][2] = -1
    whole = loss(one, given)
    for cut in ([slice(0, 1), slice(1, 6)], [[5, 0, 3], [1, 4, 2]]):
        parts = [loss(one, some(given, keep)) for keep in cut]
        torch.testing.assert_close(tuple(map(sum, zip(*parts))), whole, rtol=1e-5, atol=1e-5)


@every
def test_the_gradient_reaches_every_parameter(case):
    one = objective(case)
    loss(one, batch())[0].backward()
    for name, parameter in one.named_parameters():
        assert parameter.grad.abs().max() > 0, name


@every
def test_what_changes_with_the_epoch_belongs_to_row_and_epoch(case):
    one, given = objective(case), batch()
    order = torch.tensor([4, 1, 5, 0])
    changed = False
    for name in (MASK, CUT):
        if name in one.prepare(given, Rng(5, 2)):
            changed = True
            drawn = one.prepare(given, Rng(5, 2))[name]
            assert torch.equal(one.prepare(some(given, order), Rng(5, 2))[name], drawn[order])
            assert not torch.equal(one.prepare(given, Rng(5, 3))[name], drawn)
    assert changed == (case not in ("early", "early balanced", "next", "denoise with truth"))
    torch.testing.assert_close(loss(one, given), loss(one, given))


# ------------------------------------------------------------------ early answers


def test_every_object_weighs_the_same_however_long():
    one, given = objective("early").eval(), batch()
    total, weight = loss(one, given)
    logits = torch.log_softmax(one(given), 2).detach()
    each = [-logits[i, : 8 - i, given["kind"][i]].mean() for i in range(6)]
    assert total.item() == pytest.approx(float(sum(each)), rel=1e-5)
    assert weight == 6


def test_padding_changes_no_loss():
    given = batch()
    for case in ("early", "next", "masked"):
        one = objective(case).eval()
        longer = {
            n: torch.cat([x, torch.zeros(6, 5, dtype=x.dtype)], 1) if n.startswith("lc.") else x
            for n, x in given.items()
        }
        torch.testing.assert_close(loss(one, longer), loss(one, given), rtol=1e-5, atol=1e-5)


def test_the_prediction_is_the_answer_at_the_last_observation():
    one, given = objective("early").eval(), batch()
    with torch.no_grad():
        found = one.predict(one(given), given)["kind"]
        end = one.predict(one.read(one.network.features(**one.columns(given))), given)["kind"]
    assert isinstance(found, Categorical)
    np.testing.assert_allclose(found.probabilities, end.probabilities, rtol=1e-5)


def test_a_truncated_light_curve_shows_its_beginning_only():
    one, given = objective("early truncated").eval(), batch()
    kept = one.prepare(given, Rng(3))
    assert (kept[CUT] >= 1).all()
    assert (kept[CUT] <= given["lc.valid"].sum(1)).all()
    before = one(kept)
    late = torch.arange(8) >= kept[CUT][:, None]
    changed = {**kept, "lc.flux": kept["lc.flux"] + 5 * late}
    torch.testing.assert_close(one(changed), before)
    assert not torch.allclose(one.network(**one.columns(changed)), before)
    many = one.prepare({**some(given, [0] * 4000), "row": torch.arange(4000)}, Rng(0))[CUT]
    torch.testing.assert_close(torch.bincount(many)[1:] / 4000, torch.full((8,), 1 / 8), rtol=0, atol=0.03)


SPEC = {"question": "Fast or slow?", "schema": 1, "evaluate": {"baselines": ["prior"], "resamples": 50}} | {
    "data": {
        "source": "files", "inputs": ["lc"], "target": "kind",
        "split": {"by": "identity", "fractions": [0.6, 0.2, 0.2]},
    },
    "train": {"epochs": 4, "batch": 32, "learning_rate": 0.01, "precision": "float32"},
    "explain": {"methods": []},
}  # fmt: skip
EARLY = {**SPEC, "objective": {"name": "classify-early"}, "model": AHEAD}
NEXT = {**SPEC, "objective": {"name": "next-value"}, "model": AHEAD}
MASKED = {**SPEC, "objective": {"name": "masked-value"}, "model": BOTH}


@pytest.fixture(scope="module")
def sky(tmp_path_factory):
    return Survey.create(tmp_path_factory.mktemp("sky") / "curves.survey", curve_rows(150))


def trained(table, survey, folder):
    study = Study.from_dict(table, name="tiny")
    one = ground(study, survey)
    return train_model(study, one, folder, seed=0).model.eval(), one


def batch_of(one, count=20):
    from gsnn.steps.data import batch_of

    return batch_of(one.test.take(np.arange(count)), one.names)


@pytest.mark.parametrize("learn", ["every", "truncated"])
def test_running_answers_are_those_of_the_light_curve_cut_there(sky, tmp_path, learn):
    table = change(EARLY, objective__learn=learn, model=AHEAD if learn == "every" else BOTH, train__epochs=1)
    model, one = trained(table, sky, tmp_path)
    given = batch_of(one)
    found = running(model, given)
    valid = given["lc.valid"]
    assert torch.equal(found.isnan().any(2), ~valid)
    torch.testing.assert_close(found[valid].sum(1), torch.ones(int(valid.sum())))
    with torch.no_grad():
        short = {**given, "lc.valid": valid & (torch.arange(valid.shape[1]) < 4)}
        expected = model(short)["kind"].probabilities
    np.testing.assert_allclose(found[:, 3], expected, rtol=1e-4, atol=1e-5)


def test_answers_at_days_use_what_was_observed_until_then(sky, tmp_path):
    model, one = trained(change(EARLY, train__epochs=1), sky, tmp_path)
    given = batch_of(one)
    answers, time = running(model, given), given["lc.time"]
    found = at_days(model, given, [-1, 0, 20, 1000], since=time[:, 2])
    for i in range(20):
        until = [int((time[i, : given["lc.valid"][i].sum()] <= time[i, 2] + d).sum()) for d in (-1, 0, 20, 1000)]
        for k, count in enumerate(until):
            if count:
                torch.testing.assert_close(found[i, k], answers[i, count - 1])
            else:
                assert found[i, k].isnan().all()
    assert at_days(model, given, [-0.5]).isnan().all()


def test_a_run_knows_earlier_and_earlier(sky, tmp_path, no_figures):
    found = run(Study.from_dict(change(EARLY, train__epochs=20, model__width=16), name="tiny"), data=sky, out=tmp_path)
    assert found.answer["metrics"]["accuracy"]["value"] > 0.8
    one = ground(found.study, sky)
    given = batch_of(one, len(one.test))
    early, late = at_days(found.model, given, [30, 100]).argmax(2).T
    right = lambda guess: float((guess == given["kind"]).float().mean())  # noqa: E731
    assert right(late) >= right(early)


# ------------------------------------------------------------------ values


def test_the_likelihood_is_of_the_next_observation_with_its_error_in_quadrature():
    from scipy.stats import norm

    one, given = objective("next").eval(), batch()
    out, expected, count = one(given), 0.0, 0
    mean, width = (part[..., 0].detach().numpy() for part in one.gaussian(out))
    for i in range(6):
        for t in range(7 - i):
            sigma = math.hypot(width[i, t], float(given["lc.flux_error"][i, t + 1]))
            expected -= norm.logpdf(float(given["lc.flux"][i, t + 1]), mean[i, t], sigma)
            count += 1
    total, weight = loss(one, given)
    assert float(total) == pytest.approx(expected, rel=1e-5)
    assert int(weight) == count


@pytest.mark.parametrize("inputs", [CURVE, SERIES], ids=["curve", "series"])
def test_the_next_value_is_not_seen_but_when_it_will_be_measured_is(inputs):
    one, given = objective("next", inputs).eval(), batch()
    before = one(given)
    name = "lc.flux" if inputs is CURVE else "flux"
    later = given[name].clone()
    later[..., 4:] += 3
    moved = (one({**given, name: later}) - before).abs().amax((0, 2)) > 1e-6
    assert moved.tolist() == [False] * 4 + [True] * (moved.numel() - 4)
    if inputs is CURVE:
        time = given["lc.time"].clone()
        time[:, 4:] += 1
        moved = (one({**given, "lc.time": time}) - before).abs().amax((0, 2)) > 1e-6
        assert moved.tolist() == [False] * 3 + [True] * 4


@pytest.mark.parametrize("inputs", [CURVE, SERIES], ids=["curve", "series"])
def test_what_is_hidden_is_not_seen_and_is_the_target(inputs):
    one, given = objective("masked", inputs).eval(), batch()
    given = one.prepare(given, Rng(1))
    mask, before = given[MASK], one(given)
    name = "lc.flux" if inputs is CURVE else "flux"
    covered = mask if inputs is CURVE else mask[:, None]
    other = {**given, name: torch.where(covered, given[name] + 7, given[name])}
    torch.testing.assert_close(one(other), before)
    assert float(one.terms(before, other)["negative_log_likelihood"][0]) > float(
        one.terms(before, given)["negative_log_likelihood"][0]
    )
    ((_, weight),) = one.terms(before, given).values()
    assert int(weight) == int(mask.sum()) * one.channels
    seen = {**given, name: torch.where(covered, given[name], given[name] + 7)}
    assert not torch.allclose(one(seen), before)


def test_hidden_runs_are_runs():
    one = objective("masked runs")
    given = {"lc.valid": torch.ones(4000, 9, dtype=torch.bool), "row": torch.arange(4000)}
    mask = one.prepare(given, Rng(0))[MASK]
    assert all(torch.equal(mask[:, i], mask[:, i + 1]) for i in (0, 1, 3, 4, 6, 7))
    torch.testing.assert_close(mask.float().mean(0), torch.full((9,), 0.5), rtol=0, atol=0.03)


def test_gaps_of_a_series_weigh_nothing_and_are_filled():
    one, given = objective("inpaint", SERIES).eval(), batch()
    given["flux.known"] = torch.ones(6, 2, 9, dtype=torch.bool)
    given["flux.known"][:, 0, 2:5] = False
    other = {**given, "flux": given["flux"].where(given["flux.known"], 99.0)}
    torch.testing.assert_close(loss(one, other), loss(one, given))
    mean, width = one.restored(given)
    known = given["flux.known"].transpose(1, 2)
    torch.testing.assert_close(mean[known], given["flux"].transpose(1, 2)[known])
    assert not width[known].any()
    assert (width[~known] > 0).all()


def test_each_point_is_restored_without_itself():
    one, given = objective("denoise").eval(), batch()
    mean, _ = one.restored(given)
    for i in range(8):
        flux = given["lc.flux"].clone()
        flux[:, i] += 5
        moved = (one.restored({**given, "lc.flux": flux})[0] - mean)[0, :, 0].abs() > 1e-6
        assert not moved[i]
        assert moved.any()


def noisy(n=400, length=24):
    random = np.random.default_rng(0)
    phase, rate = random.uniform(0, 6, (n, 1)), random.uniform(0.3, 0.9, (n, 1))
    clean = np.sin(phase + rate * np.arange(length)).astype(np.float32)
    values = {"noisy": clean + 0.7 * random.normal(size=clean.shape).astype(np.float32), "clean": clean}
    columns = {Column(name, "series", shape=(length,)): v for name, v in values.items()}
    return Rows(
        {Column("id", "id"): [f"s{k}" for k in range(n)], **columns, Column("rate", "scalar"): rate[:, 0].tolist()}
    )


@pytest.mark.parametrize("truth", ["clean", ""])
def test_noise_is_taken_away(tmp_path, truth):
    survey = Survey.create(tmp_path / "noisy.survey", noisy())
    table = change(MASKED, data__inputs=["noisy"], data__target="rate", objective={"name": "denoise", "truth": truth})
    wave = {"name": "wavenet", "causal": False, "width": 16, "layers": 3, "size": 3}
    model, one = trained(change(table, model=wave, train__epochs=12), survey, tmp_path / "fit")
    given = batch_of(one, 60)
    mean, width = model.objective.restored(model.transform(given))
    if not truth:
        mean = model.transforms.parts["noisy"].inverse(mean.transpose(1, 2)).transpose(1, 2)
    clean = torch.tensor(one.test.take(np.arange(60)).columns(["clean"])["clean"])
    rms = float((mean[..., 0] - clean).square().mean().sqrt())
    assert rms < 0.45  # the noise is 0.7
    assert 0.1 < float(width.mean()) < 1


@pytest.mark.parametrize("table", [NEXT, MASKED], ids=["next", "masked"])
def test_a_run_answers_by_a_probe_of_what_it_learned(sky, tmp_path, no_figures, table):
    found = run(Study.from_dict(change(table, model__width=16), name="tiny"), data=sky, out=tmp_path)
    assert found.answer["metrics"]["accuracy"]["value"] > 0.6
    kept = Model.load(tmp_path / "fits/main/model")
    given = batch_of(ground(found.study, sky))
    with torch.inference_mode():
        np.testing.assert_array_equal(kept(given)["kind"].probabilities, found.model(given)["kind"].probabilities)


# ------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("spec", "network", "inputs", "message"),
    [
        ({"name": "classify-early"}, BOTH, CURVE, 'learn = "every" needs a causal network'),
        ({"name": "classify-early"}, AHEAD, KIND, "one light curve or series among the inputs, not none"),
        ({"name": "classify-early", "learn": "truncated"}, AHEAD, SERIES, "'flux' is a series"),
        ({"name": "classify-early"}, {"name": "seq2seq"}, CURVE, 'learn = "every" needs a causal network'),
        ({"name": "next-value"}, {"name": "seq2seq"}, CURVE, "decodes them: take rnn"),
        ({"name": "next-value"}, BOTH, CURVE, "what came before only"),
        ({"name": "next-value"}, {"name": "cnn1d"}, CURVE, "every 8th step"),
        ({"name": "next-value"}, {"name": "mlp"}, SERIES, "needs a network of sequences"),
        ({"name": "next-value"}, {**AHEAD, "pool": "attention"}, SERIES, "does not teach attention"),
        ({"name": "masked-value"}, AHEAD, CURVE, "before and after"),
        ({"name": "masked-value", "ratio": 1.5}, BOTH, CURVE, "ratio"),
        ({"name": "denoise", "truth": "clean"}, BOTH, CURVE, "evenly sampled series only"),
    ],
)
def test_what_cannot_be_learned_is_refused(spec, network, inputs, message):
    with pytest.raises(ConfigError, match=message):
        build(spec, "objective", inputs, KIND, lambda i, n: build(network, "model", i, n))


def test_a_truth_that_is_not_there_or_of_another_shape_is_refused(tmp_path):
    survey = Survey.create(tmp_path / "noisy.survey", noisy(60))
    table = change(MASKED, data__inputs=["noisy"], data__target="rate", objective={"name": "denoise", "truth": "clear"})
    with pytest.raises(ConfigError, match="no column 'clear' in the data; did you mean 'clean'"):
        ground(Study.from_dict(table, name="tiny"), survey)
    study = Study.from_dict(change(table, objective__truth="rate"), name="tiny")
    one = ground(study, survey)
    with pytest.raises(GsnnError, match="shape"):
        new_model(study, one, one.train, 0)
