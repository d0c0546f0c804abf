"""Emulators: response surfaces are exact where the truth is a polynomial, and a network learns what they leave."""

import numpy as np
import pytest
import torch

from gsnn.config import build
from gsnn.data.schema import Column, Schema
from gsnn.errors import ConfigError, GsnnError
from gsnn.model import Model
from gsnn.objectives.emulate import ridge
from gsnn.rng import Rng

INPUTS = Schema.of([Column("a", "scalar"), Column("b", "scalar")])
TARGETS = Schema.of(
    [Column("curve", "spectrum", bands=("x", "y"), shape=(2, 30)), Column("number", "scalar", dtype="float64")]
)


class Rows:
    """The part of a view that models are fitted on."""

    def __init__(self, columns):
        self.values, self.rows = columns, np.arange(len(columns["a"]))

    def __len__(self):
        return len(self.rows)

    def columns(self, names):
        return {name: self.values[name] for name in names}

    def take(self, positions):
        return Rows({name: value[positions] for name, value in self.values.items()})


def truth(n=60, wave=0.0, seed=0):
    a, b = np.random.default_rng(seed).uniform(-1, 1, (2, n))
    x = np.linspace(0, 1, 30)
    first = np.exp(a[:, None] * x + 0.3 * (a * b)[:, None] * x**2 + wave * np.sin(4 * a)[:, None] * x)
    second = b[:, None] * np.cos(3 * x) + (a**2)[:, None] * x
    return {"a": a, "b": b, "curve": np.stack([first, second], 1).astype(np.float32), "number": 3 + a - b**2}


def batch(columns):
    return {name: torch.as_tensor(value).float() for name, value in columns.items()} | {
        "row": torch.arange(len(columns["a"]))
    }


def model(powers=2, columns=None, **objective):
    network = {"name": "mlp", "width": 16, "depth": 2, "powers": powers}
    made = Model(INPUTS, TARGETS, {"model": network, "objective": {"name": "emulate", "components": 4, **objective}})
    made.fit(Rows(columns or truth()))
    return made


def without_network(made):
    made.objective.network.head.weight.data.zero_()
    made.objective.network.head.bias.data.zero_()
    return made


def test_a_polynomial_is_known_before_training():
    made, new = without_network(model()), truth(seed=1)
    found = made(batch(new))
    np.testing.assert_allclose(found["curve"].best(), new["curve"], rtol=2e-4, atol=2e-4)
    np.testing.assert_allclose(found["number"].best(), new["number"], rtol=1e-4)


def test_the_network_learns_what_the_surface_leaves():
    columns = truth(200, wave=0.2)
    made, given = model(columns=columns), batch(columns)
    surface = made.objective.left.mean()
    before = sum(float(s.detach()) / float(w) for s, w in made.terms(given).values())
    optimiser = torch.optim.Adam(made.parameters(), 1e-2)
    for _ in range(150):
        loss = sum(s / w for s, w in made.terms(given, Rng(0)).values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 0.1 * before
    assert surface > 1e-3
    new = truth(100, wave=0.2, seed=2)
    error = np.abs(made.eval()(batch(new))["curve"].best() - new["curve"]).mean()
    assert error < 0.5 * np.abs(without_network(made)(batch(new))["curve"].best() - new["curve"]).mean()


def test_widths_are_the_errors_that_were_measured():
    made, new = model(powers=1), truth(300, seed=3)
    found = made(batch(new))
    made.objective.measure(found, {name: new[name] for name in TARGETS})
    again = made(batch(new))
    np.testing.assert_allclose(
        again["curve"].sigma, np.sqrt(((found["curve"].best() - new["curve"]) ** 2).mean(0)), rtol=1e-5
    )
    assert again["number"].proper


@pytest.mark.parametrize("powers", [0, 2])
def test_a_saved_emulator_answers_the_same(tmp_path, powers):
    made, given = model(powers), batch(truth(seed=1))
    made.save(tmp_path)
    np.testing.assert_array_equal(Model.load(tmp_path)(given)["curve"].best(), made.eval()(given)["curve"].best())


def test_a_loss_does_not_depend_on_how_a_batch_is_cut_and_unknown_targets_weigh_nothing():
    columns = truth()
    columns["curve"][::7, 1, 3] = np.nan
    columns["number"][::5] = np.nan
    made, given = model(columns=truth()), batch(columns)
    made.objective.left.fill_(1.0)  # of an exact surface it is rounding
    ((whole, weight),) = made.terms(given).values()
    cut = [{k: v[some] for k, v in given.items()} for some in (slice(0, 13), slice(13, 60))]
    parts = [next(iter(made.terms(one).values())) for one in cut]
    torch.testing.assert_close(sum(p[0] for p in parts), whole, rtol=1e-4, atol=1e-4)
    assert sum(float(p[1]) for p in parts) == float(weight) == 51
    assert torch.isfinite(whole)


def test_ridge_is_least_squares_where_there_is_no_noise():
    x = torch.randn(50, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    slopes = torch.tensor([[1.0, 2, 3, 4], [0, -1, 0, 2]], dtype=torch.float64)
    found, level, left = ridge(x, x @ slopes.T + 7)
    torch.testing.assert_close(found, slopes, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(level, torch.full((2,), 7.0, dtype=torch.float64), rtol=1e-6, atol=1e-6)
    assert (left < 1e-5).all()


def test_the_error_of_those_left_out_is_what_leaving_them_out_gives():
    random = torch.Generator().manual_seed(1)
    x = torch.randn(12, 3, dtype=torch.float64, generator=random)
    y = x[:, :1] + torch.randn(12, 1, dtype=torch.float64, generator=random)
    *_, left = ridge(x, y)
    each = []
    for i in range(12):
        keep = [j for j in range(12) if j != i]
        design = torch.cat([x[keep], torch.ones(11, 1, dtype=torch.float64)], 1)
        answer = torch.linalg.lstsq(design, y[keep]).solution
        each.append(float(y[i] - torch.cat([x[i], torch.ones(1, dtype=torch.float64)]) @ answer))
    assert float(left) <= np.sqrt(np.mean(np.square(each))) * (1 + 1e-6)


def test_targets_that_no_emulator_answers():
    def make(schema, outputs):
        return build({"name": "mlp", "width": 4, "depth": 1}, "model", schema, outputs)

    with pytest.raises(ConfigError, match="scalars and curves"):
        build("emulate", "objective", INPUTS, Schema.of([Column("kind", "label", classes=("a", "b"))]), make)
    with pytest.raises(GsnnError, match="4 training curves cannot teach 4 components"):
        model(columns=truth(4))
    flat = truth()
    flat["number"][:] = 1
    with pytest.raises(ConfigError, match="does not vary"):
        model(columns=flat)
