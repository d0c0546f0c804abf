"""Where the field began: the neuron of 1943, the perceptron of 1958 and the hidden layer that XOR asks for.

>>> [int(nand(torch.tensor([a, b]))) for a in (0.0, 1.0) for b in (0.0, 1.0)]
[1, 1, 1, 0]
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..data.schema import DENSE, Schema
from ..errors import GsnnError
from .layers import at_least, flatten, head, readable


def neuron(
    x: Float[Tensor, "*object input"], weights: Float[Tensor, " input"], threshold: float
) -> Bool[Tensor, "*object"]:
    """Fires where the weighted inputs reach the threshold (McCulloch & Pitts 1943, doi:10.1007/BF02478259)."""
    return x @ weights >= threshold


def nand(x: Float[Tensor, "*object 2"]) -> Bool[Tensor, "*object"]:
    """NOT (a AND b) by weights set by hand; every logical circuit can be wired from it (Sheffer 1913)."""
    return neuron(x, torch.tensor([-1.0, -1.0], dtype=x.dtype, device=x.device), -1.5)


def learn(
    x: Float[Tensor, "object input"], y: Bool[Tensor, " object"], *, rate: float = 1.0, epochs: int = 100
) -> tuple[Float[Tensor, " input"], float, list[int]]:
    """After a wrong answer, move the weights by ``rate`` times the input (Rosenblatt 1958, doi:10.1037/h0042519).

    Returns the weights, the threshold (both as :func:`neuron` takes them) and the mistakes of each epoch. It stops at
    the first epoch without a mistake, which comes where a line parts the classes (Novikoff 1962) and never for XOR
    (Minsky & Papert 1969).
    """
    if x.ndim != 2 or y.shape != x.shape[:1]:
        raise GsnnError(
            f"the perceptron learns from x (object, input) and y (object), not {tuple(x.shape)} and {tuple(y.shape)}"
        )
    weights, threshold, mistakes = x.new_zeros(x.shape[1]), 0.0, []
    for _ in range(epochs):
        wrong = 0
        for example, truth in zip(x, y.bool()):
            error = int(truth) - int(neuron(example, weights, threshold))
            weights = weights + rate * error * example
            threshold -= rate * error
            wrong += abs(error)
        mistakes.append(wrong)
        if not wrong:
            break
    return weights, threshold, mistakes


def backpropagation(
    x: Float[Tensor, "object input"],
    target: Float[Tensor, "object output"],
    w1: Float[Tensor, "hidden input"],
    b1: Float[Tensor, " hidden"],
    w2: Float[Tensor, "output hidden"],
    b2: Float[Tensor, " output"],
) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
    """Loss and gradients of a network of two layers, by the chain rule written out.

    Rumelhart, Hinton & Williams 1986 (doi:10.1038/323533a0). With h = sigmoid(x w1' + b1), y = h w2' + b2 and the loss
    L = sum (y - target)^2 / 2, the error flows backwards as dL/dy = y - target and dL/da = (dL/dy w2) h (1 - h), and
    each weight's gradient is the error behind it times the signal before it.
    """
    h = torch.sigmoid(x @ w1.T + b1)
    y = h @ w2.T + b2
    dy = y - target
    da = (dy @ w2) * h * (1 - h)
    gradients = {"w1": da.T @ x, "b1": da.sum(0), "w2": dy.T @ h, "b2": dy.sum(0)}
    return (dy**2).sum() / 2, gradients


class Perceptron(nn.Module):
    """A single layer: weighted sums of the inputs. With ``classify`` it is logistic regression.

    Scalars stand side by side in the schema's order; images and spectra are flattened behind them.
    """

    def __init__(self, inputs: Schema, outputs: int):
        super().__init__()
        at_least(1, outputs=outputs)
        self.columns = readable(inputs, "perceptron", ("scalar", *DENSE))
        self.head = nn.Linear(sum(c.size for c in self.columns), outputs)

    def features(self, **columns: Tensor) -> Float[Tensor, "object value"]:
        """The inputs themselves."""
        return flatten(columns, self.columns)

    def forward(self, **columns: Tensor) -> Float[Tensor, "object output"]:
        return head(self.head, self.features(**columns))
