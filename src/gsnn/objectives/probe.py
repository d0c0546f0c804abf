"""A linear answer from features that are not changed any more: what a network that learned without targets knows."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..data.schema import Column
from ..errors import ConfigError

if TYPE_CHECKING:
    from ..evaluation.distributions import Distribution

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # of squared weights, beside a mean over the objects


class Probe(nn.Module):
    """Multinomial logistic regression for a label; ridge regression and a Gaussian of its residuals for a number.

    The penalty is the one that does best on every fifth training object, which its fit did not see; the residuals are
    those of these objects; the weights are then fitted to all.
    """

    def __init__(self, column: Column, features: int):
        super().__init__()
        if column.kind != "label" and (column.kind not in ("scalar", "position") or column.shape):
            raise ConfigError(
                f"a probe answers a label or a number, and {column.name!r} is a {column.kind}", ("data", "target")
            )
        self.column, self.label = column, column.kind == "label"
        self.outputs = len(column.classes) if self.label else 1
        self.register_buffer("weight", torch.zeros(self.outputs, features))
        self.register_buffer("bias", torch.zeros(self.outputs))
        self.register_buffer("sigma", torch.ones(()))

    def known(self, values: np.ndarray) -> np.ndarray:
        """Which objects have a target; ConfigError where these cannot teach anything."""
        known = values >= 0 if self.label else np.isfinite(values.astype(float))
        if len(np.unique(values[known])) < 2:
            raise ConfigError(f"the target {self.column.name!r} does not vary in the training part", ("data", "target"))
        return known

    def fit(self, features: Float[Tensor, "object feature"], values: np.ndarray) -> None:
        """Fit to the training part; ``values`` are class indices (-1 where unknown) or numbers (NaN)."""
        known = self.known(values)
        x, y = features.double().cpu().numpy()[known], values[known]
        centre, scale = x.mean(0), x.std(0)
        x = (x - centre) / np.where(scale > 1e-9 * (1 + abs(centre)), scale, np.inf)
        fit, loss = (_logistic, _log_loss) if self.label else (_ridge, _error)
        weight, bias, least = _best(fit, loss, x, y, self.outputs)
        weight = weight / np.where(scale > 1e-9 * (1 + abs(centre)), scale, np.inf)
        for name, value in {"weight": weight, "bias": bias - weight @ centre, "sigma": np.asarray(least)}.items():
            getattr(self, name).copy_(torch.as_tensor(value))

    def forward(self, features: Float[Tensor, "object feature"]) -> Float[Tensor, "object output"]:
        """Logits, or the mean in native units."""
        with torch.autocast(features.device.type, enabled=False):
            return F.linear(features.float(), self.weight, self.bias)

    def predict(self, out: Float[Tensor, "object output"]) -> Distribution:
        from ..evaluation.distributions import Categorical, Mixture

        out = out.double().cpu()
        if self.label:
            return Categorical(torch.softmax(out, 1).numpy(), self.column.classes)
        return Mixture(np.ones((len(out), 1)), out.numpy(), np.full((len(out), 1), float(self.sigma)))


Fit = Callable[[np.ndarray, np.ndarray, float, int], tuple[np.ndarray, np.ndarray]]


def _best(
    fit: Fit, loss: Callable[[np.ndarray, np.ndarray], float], x: np.ndarray, y: np.ndarray, outputs: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """Weights and biases under the penalty that does best where it was not fitted, and its loss there."""
    held = np.arange(len(x)) % 5 == 4
    if len(np.unique(y[~held])) < 2:
        held = np.zeros(len(x), bool)
    tried = {}
    for penalty in PENALTIES:
        weight, bias = fit(x[~held], y[~held], penalty, outputs)
        judged = held if held.any() else ~held
        tried[penalty] = loss(x[judged] @ weight.T + bias, y[judged])
    best = min(tried, key=tried.get)
    return *fit(x, y, best, outputs), max(tried[best], 1e-6 * float(np.std(y)))


def _logistic(x: np.ndarray, y: np.ndarray, penalty: float, outputs: int) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model: Any = LogisticRegression(C=1 / (penalty * len(x)), max_iter=200)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the held objects judge what was found
        model.fit(x, y)
    weight, bias = np.zeros((outputs, x.shape[1])), np.full(outputs, -20.0)  # a class never seen: 2e-9
    two = len(model.classes_) == 2
    weight[model.classes_] = np.vstack([0 * model.coef_, model.coef_]) if two else model.coef_
    bias[model.classes_] = np.append(0 * model.intercept_, model.intercept_) if two else model.intercept_
    return weight, bias


def _log_loss(out: np.ndarray, y: np.ndarray) -> float:
    from scipy.special import log_softmax

    return float(-log_softmax(out, 1)[np.arange(len(y)), y].mean())


def _ridge(x: np.ndarray, y: np.ndarray, penalty: float, outputs: int) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.linear_model import Ridge

    model = Ridge(alpha=penalty * len(x)).fit(x, y)
    return model.coef_[None], np.atleast_1d(model.intercept_)


def _error(out: np.ndarray, y: np.ndarray) -> float:
    return float(np.sqrt(np.mean((out[:, 0] - y) ** 2)))


def read(probes: Sequence[Probe], features: Float[Tensor, "object feature"]) -> Float[Tensor, "object output"]:
    """The answers of all probes side by side."""
    return torch.cat([probe(features) for probe in probes], 1)
