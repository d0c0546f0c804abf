"""The field's first lessons, each as a fact."""

import pytest
import torch

from gsnn.config import build
from gsnn.data.schema import Column, Schema
from gsnn.errors import GsnnError
from gsnn.models.layers import Activation, activation
from gsnn.models.perceptron import backpropagation, learn, nand, neuron

CORNERS = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
XOR = torch.tensor([False, True, True, False])


def test_a_neuron_fires_at_its_threshold():
    x = torch.tensor([[0.9], [1.0], [1.1]])
    assert neuron(x, torch.tensor([2.0]), 2.0).tolist() == [False, True, True]


def test_nand_and_a_circuit_of_it():
    a, b = CORNERS.T
    assert nand(CORNERS).tolist() == [True, True, True, False]
    middle = nand(CORNERS).float()
    sides = [nand(torch.stack([x, middle], 1)).float() for x in (a, b)]
    assert torch.equal(nand(torch.stack(sides, 1)), XOR)  # four neurons do what one cannot


@pytest.mark.parametrize("truth", [[0, 0, 0, 1], [0, 1, 1, 1], [1, 1, 1, 0]], ids=["and", "or", "nand"])
def test_the_rule_learns_what_a_line_can_part(truth):
    y = torch.tensor(truth, dtype=torch.bool)
    weights, threshold, mistakes = learn(CORNERS, y)
    assert torch.equal(neuron(CORNERS, weights, threshold), y)
    assert mistakes[-1] == 0
    assert mistakes[0] > 0


def test_no_line_parts_xor():
    assert min(learn(CORNERS, XOR, epochs=50)[2]) > 0


def test_the_rule_refuses_shapes_that_do_not_fit(unchecked):
    with pytest.raises(GsnnError, match=r"\(4, 2\).*\(3,\)"):
        learn(CORNERS, XOR[:3])


def test_backpropagation_by_hand_equals_autograd():
    torch.manual_seed(0)
    weights = {"w1": (5, 3), "b1": (5,), "w2": (2, 5), "b2": (2,)}
    weights = {name: torch.randn(s, dtype=torch.double, requires_grad=True) for name, s in weights.items()}
    x, target = torch.randn(7, 3, dtype=torch.double), torch.randn(7, 2, dtype=torch.double)
    loss, by_hand = backpropagation(x, target, *weights.values())
    loss.backward()
    for name, weight in weights.items():
        torch.testing.assert_close(by_hand[name], weight.grad)


def test_a_hidden_layer_learns_xor():
    inputs = Schema.of([Column("a", "scalar"), Column("b", "scalar")])
    a, b = CORNERS.T
    answers = {}
    for name in ("perceptron", "mlp"):
        torch.manual_seed(0)
        net = build(
            {"name": name} if name == "perceptron" else {"name": name, "width": 8, "depth": 1}, "model", inputs, 1
        )
        optimiser = torch.optim.Adam(net.parameters(), lr=0.05)
        for _ in range(200):
            loss = torch.nn.functional.binary_cross_entropy_with_logits(net(a=a, b=b)[:, 0], XOR.float())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        answers[name] = net(a=a, b=b)[:, 0] > 0
    assert torch.equal(answers["mlp"], XOR)
    assert not torch.equal(answers["perceptron"], XOR)


@pytest.mark.parametrize("name", Activation.__args__)
def test_every_activation_bends_and_passes_gradients(name):
    x = torch.linspace(-3, 3, 13, requires_grad=True)
    y = activation(name)(x)
    assert (y[0] - 2 * y[6] + y[12]).abs() > 1e-2 or name in ("sigmoid", "tanh")  # those are odd about the middle
    assert (y[6] - 2 * y[9] + y[12]).abs() > 1e-3 or name in ("relu", "leaky-relu", "elu")  # those are straight there
    y.sum().backward()
    assert x.grad[-1] > 0


def test_an_unknown_activation_is_named():
    with pytest.raises(GsnnError, match="did you mean 'gelu'"):
        activation("gleu")
