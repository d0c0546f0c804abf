"""Networks of sequences over two processes: copies or shards give the gradients of one process."""

import pytest
import torch
from forked import together

from gsnn.data.schema import Column, Schema
from gsnn.model import Model
from gsnn.rng import Rng
from gsnn.training.layout import Layout
from gsnn.training.parallel import Parallel
from gsnn.training.runtime import Runtime

INPUTS = Schema.of([Column("lc", "light_curve", bands=("g", "r"))])
KIND = Schema.of([Column("kind", "label", classes=("a", "b"), dtype="int64")])
SPECS = {
    "rnn": {"model": {"name": "rnn", "width": 8}, "objective": {"name": "classify-early"}},
    "time-transformer": {
        "model": {"name": "time-transformer", "width": 16, "heads": 2, "layers": 1},
        "objective": {"name": "masked-value"},
    },
}


def batch():
    generator = torch.Generator().manual_seed(0)
    time, flux, error, band = (torch.rand(6, 9, generator=generator) for _ in range(4))
    parts = {"time": time.sort(1).values, "flux": flux, "flux_error": 0.1 + error, "band": (2 * band).long()}
    parts["valid"] = torch.arange(9) < torch.arange(9, 3, -1)[:, None]
    given = {f"lc.{name}": part for name, part in parts.items()}
    return {**given, "row": torch.arange(6), "kind": torch.arange(6) % 2}


def gradients(rank, name, layout):
    """The gradient of the summed loss of this process's half (or of all), whole."""
    model = Model(INPUTS, KIND, SPECS[name])
    given = batch()
    parallel = Parallel(layout)
    if layout.processes > 1:
        parallel.apply(model, Runtime())
        # halves of different lengths, as a stream gives them
        given = {n: x[rank::2, : 9 - rank] if n.startswith("lc.") else x[rank::2] for n, x in given.items()}
    sum(total for total, _ in parallel.terms(model)(given, Rng(1)).values()).backward()
    out = {}
    for key, parameter in model.named_parameters():
        gradient = parameter.grad.full_tensor() if hasattr(parameter.grad, "full_tensor") else parameter.grad
        out[key] = gradient.tolist()
    return out


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("layout", [Layout(replicate=2), Layout(shard=2)], ids=["copies", "shards"])
def test_gradients_are_those_of_one_process(name, layout):
    expected = gradients(0, name, Layout())
    for found in together(2, gradients, name, layout):
        for key, value in expected.items():
            torch.testing.assert_close(torch.tensor(found[key]), torch.tensor(value), rtol=1e-4, atol=1e-5, msg=key)
