import math

import pytest
import torch
from training_fakes import FakeModel

from gsnn.training import optim
from gsnn.training.settings import Train


def test_the_schedule_rises_then_falls_along_a_half_cosine():
    settings = Train(learning_rate=1.0, warmup=0.1)
    rates = [optim.rate(step, 100, settings) for step in range(100)]
    assert rates[:10] == pytest.approx([(i + 1) / 11 for i in range(10)])
    assert rates[10] == 1.0
    assert rates[55] == pytest.approx(0.5)
    assert rates[99] == pytest.approx(0.5 * (1 + math.cos(math.pi * 89 / 90)))
    assert all(0 < rate <= 1 for rate in rates)


@pytest.mark.parametrize("warmup", [0.0, 0.01, 0.5, 1.0])
@pytest.mark.parametrize("total", [1, 2, 7])
@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_the_rate_is_always_positive(warmup, total, schedule):
    settings = Train(learning_rate=0.3, warmup=warmup, schedule=schedule)
    assert all(0 < optim.rate(step, total, settings) <= 0.3 for step in range(total))


def test_only_matrices_decay():
    made = optim.optimizer(FakeModel(), Train(weight_decay=0.1))
    assert {p.ndim: g["weight_decay"] for g in made.param_groups for p in g["params"]} == {2: 0.1, 1: 0.0}


@pytest.mark.parametrize("name", ["adamw", "sgd", "rmsprop"])
def test_a_bad_step_changes_neither_weights_nor_state(name):
    """Also as the very first step, where a lazily made momentum would stay uninitialised."""
    results = []
    for flags in ((0, 0), (1, 0, 1, 0)):
        torch.manual_seed(0)
        parameter = torch.nn.Parameter(torch.randn(4, 3, 3, 3).to(memory_format=torch.channels_last))
        made = optim.optimizer(torch.nn.ParameterList([parameter]), Train(optimizer=name, learning_rate=0.1))
        for flag in flags:
            parameter.grad = torch.full_like(parameter, math.nan if flag else 1.0)
            optim.step_unless(made, torch.tensor(bool(flag)))
        results.append(parameter.detach())
    assert torch.equal(*results)
    assert results[0].isfinite().all()


def test_sgd_is_pytorchs_own():
    results = []
    for make in (
        lambda p: optim.optimizer(torch.nn.ParameterList([p]), Train(optimizer="sgd", weight_decay=0.0)),
        lambda p: torch.optim.SGD([p], lr=1e-3, momentum=0.9, nesterov=True),
    ):
        torch.manual_seed(0)
        parameter = torch.nn.Parameter(torch.randn(5, 5))
        made = make(parameter)
        for _ in range(3):
            made.zero_grad()
            (parameter**2).sum().backward()
            made.step()
        results.append(parameter.detach())
    assert torch.allclose(*results, atol=1e-7)


def test_the_average_can_be_applied_and_taken_back():
    model = FakeModel()
    average = optim.Average(optim.trainable(model), 0.5)
    with torch.no_grad():
        model.head.weight.add_(1.0)
    own = model.head.weight.detach().clone()
    average.update(10**6)
    with average.applied():
        assert torch.allclose(model.head.weight, own - 0.5)
    assert torch.equal(model.head.weight, own)
