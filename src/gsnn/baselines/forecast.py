"""What forecasters do without a network: the last value, the value a cycle ago, and autoregression.

Each answers a target ``ahead_h`` of the source ``windows`` by a Gaussian of the scatter that it had on validation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from ..data.readers.series import steps_ahead
from ..data.schema import Column, Schema
from ..errors import GsnnError
from .base import Baseline, Table, choose, grid

if TYPE_CHECKING:
    from ..data.survey import View
    from ..evaluation.distributions import Distribution

PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)  # of squared weights, beside a mean over the objects, in units of the spread


class Forecast(Baseline):
    """Subclasses say what they expect (``mean``); missing values are those before them."""

    def __init__(self, inputs: Schema, target: Column):
        super().__init__(inputs, target)
        found = [c for c in inputs.of_kind("series") if len(c.shape) == 1]
        if len(found) != 1 or self.labels:
            raise GsnnError(
                f"baseline {self.name}: forecasts need one series among the inputs and a number as the target, as the "
                "source 'windows' makes them"
            )
        self.series, self.ahead = found[0], steps_ahead(target)

    def matrix(self, view: View) -> Float[np.ndarray, "object step"]:
        x = view.columns([self.series.name])[self.series.name].astype(np.float64).reshape(-1, *self.series.shape)
        place = np.maximum.accumulate(np.where(np.isfinite(x), np.arange(x.shape[1]), 0), axis=1)
        return np.nan_to_num(np.take_along_axis(x, place, 1))

    def tune(self, train: Table, valid: Table, seed: int) -> None:
        self.learn(train, valid)
        self.sigma = max(_rms(self.mean(valid.x) - valid.y), 1e-6 * float(np.std(train.y)), 1e-12)

    def learn(self, train: Table, valid: Table) -> None:
        """Nothing, where there is nothing to learn but the scatter."""

    def mean(self, x: Float[np.ndarray, "object step"]) -> Float[np.ndarray, " object"]:
        raise NotImplementedError

    def distribution(self, x: Float[np.ndarray, "object step"]) -> Distribution:
        from ..evaluation.distributions import Mixture

        mean = self.mean(x)[:, None]
        return Mixture(np.ones_like(mean), mean, np.full_like(mean, self.sigma))

    def told(self, what: str) -> str:
        unit = f" {self.target.unit}" if self.target.unit else ""
        return f"{what}, sigma = {self.sigma:.3g}{unit}, from {self.objects} training windows."


class Persistence(Forecast):
    """All stays as it is: the last value."""

    def mean(self, x: Float[np.ndarray, "object step"]) -> Float[np.ndarray, " object"]:
        return x[:, -1]

    def describe(self) -> str:
        return self.told("The last value")


class Lag(Forecast):
    """All comes again: the value a whole number of ``period`` steps before the one that is asked for."""

    def __init__(self, inputs: Schema, target: Column, *, period: int = 132):
        super().__init__(inputs, target)
        self.period, self.back = period, -(-self.ahead // max(period, 1)) * period - self.ahead
        if period < 1 or self.back >= self.series.shape[0]:
            raise GsnnError(
                f"baseline lag: a period of {period} steps needs windows that reach back so far, and these have "
                f"{self.series.shape[0]} steps"
            )

    def mean(self, x: Float[np.ndarray, "object step"]) -> Float[np.ndarray, " object"]:
        return x[:, -1 - self.back]

    def describe(self) -> str:
        return self.told(f"The value {self.period} steps earlier")


class RidgeAR(Forecast):
    """Autoregression: a weighted sum of the last p values, fitted for each horizon by ridge regression.

    ``orders`` are the p that are tried (those that the window holds); p and the penalty are those that do best on
    validation. Direct forecasts, one regression a horizon, need no model of the noise in between (Marcellino, Stock &
    Watson 2006, J. Econometrics 135, 499).
    """

    def __init__(self, inputs: Schema, target: Column, *, orders: tuple[int, ...] = (12, 36, 90, 132, 180, 264)):
        super().__init__(inputs, target)
        length = self.series.shape[0]
        self.orders = sorted({p for p in orders if 1 <= p <= length}) or [length]

    def learn(self, train: Table, valid: Table) -> None:
        from sklearn.linear_model import Ridge

        self.centre, self.scale = float(train.x.mean()), float(train.x.std()) or 1.0

        def fit(c: dict[str, Any]) -> Any:
            return Ridge(alpha=c["penalty"] * len(train.y)).fit(self.last(train.x, c["p"]), train.y)

        def error(c: dict[str, Any]) -> float:
            return _rms(fit(c).predict(self.last(valid.x, c["p"])) - valid.y)

        self.chosen = choose(grid(p=self.orders, penalty=PENALTIES), error)
        self.model = fit(self.chosen)

    def last(self, x: Float[np.ndarray, "object step"], p: int) -> Float[np.ndarray, "object p"]:
        return (x[:, -p:] - self.centre) / self.scale

    def mean(self, x: Float[np.ndarray, "object step"]) -> Float[np.ndarray, " object"]:
        return self.model.predict(self.last(x, self.chosen["p"]))

    def describe(self) -> str:
        return self.told(f"Ridge AR({self.chosen['p']}), penalty {self.chosen['penalty']:g}")


def _rms(error: Float[np.ndarray, " object"]) -> float:
    return float(np.sqrt(np.mean(error**2)))
