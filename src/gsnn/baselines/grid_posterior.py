"""A likelihood on a grid of all parameters, under the prior of the training part: neither chain nor network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from jaxtyping import Float
from pydantic import Field

from .. import rng
from ..data.schema import Schema
from ..data.transforms import Box
from ..errors import ConfigError, GsnnError
from .base import cpu_seconds

if TYPE_CHECKING:
    from ..data.survey import View
    from ..evaluation.distributions import Distribution

CHUNK = 256  # objects read at once
CELLS = 16_000_000  # objects times points in memory at once
DRAWS = 1000
MOST = 300_000  # points of a grid


class GridPosterior:
    """A baseline of all targets together: a subclass ``learn``s, and gives ``log_likelihood`` at ``points``.

    The prior is flat over the range of the training part. Draws are points of the grid, moved within their cells.
    """

    joint = True  # is built with all targets, and answers all of them
    kinds: tuple[str, ...] = ("image",)  # of the one column that it reads

    def __init__(self, inputs: Schema, targets: Schema, *, grid: Annotated[int, Field(ge=4, le=512)] = 64):
        name = type(self).__name__
        for column in targets.columns:
            if column.kind != "scalar":
                raise ConfigError(f"{name} infers numbers, and the target {column.name!r} is a {column.kind}", ())
        if grid ** len(targets) > MOST:
            raise ConfigError(
                f"a grid of {grid} values for each of {len(targets)} parameters has more than {MOST:,} points; "
                "give a smaller grid",
                ("grid",),
            )
        columns = inputs.of_kind(*self.kinds)
        if len(columns) != 1:
            raise ConfigError(f"{name} reads one {' or '.join(self.kinds)}; name it in [data] inputs", ())
        self.inputs, self.targets, self.grid, self.column = inputs, targets, grid, columns[0]
        self.seconds = 0.0

    def fit(self, train: View, valid: View, seed: int) -> None:
        """The grid from the range of the training part, then whatever the likelihood has to learn."""
        import torch

        start = cpu_seconds()
        columns = train.columns(list(self.targets))
        axes = []
        for name in self.targets:
            box = Box()
            box.fit(torch.tensor(columns[name])[:, None].double())
            edges = np.linspace(float(box.low), float(box.high), self.grid + 1)
            axes.append((edges[1:] + edges[:-1]) / 2)
        self.cell = np.array([axis[1] - axis[0] for axis in axes])
        self.points = np.stack([one.ravel() for one in np.meshgrid(*axes, indexing="ij")], 1)
        self.learn(train, valid)
        self.seconds = cpu_seconds() - start

    def learn(self, train: View, valid: View) -> None:
        raise NotImplementedError

    def read(self, data: Any) -> Float[np.ndarray, "object ..."]:
        """What the likelihood takes of the values of its column."""
        return np.asarray(data, np.float64)

    def log_likelihood(self, data: Float[np.ndarray, "object ..."]) -> Float[np.ndarray, "object point"]:
        """Up to a constant of each object."""
        raise NotImplementedError

    def describe(self) -> str:
        raise NotImplementedError

    def predict(self, view: View) -> dict[str, Distribution]:
        """The posterior of every row of ``view``, in its order: draws that belong together."""
        import torch

        from ..evaluation.draws import Draws

        if not hasattr(self, "points"):
            raise GsnnError(f"baseline {type(self).__name__}: it has to be fitted before it predicts")
        made = []
        for chunk in view.chunks([self.column.name], max(1, min(CHUNK, CELLS // len(self.points)))):
            data = self.read(chunk[self.column.name])
            rows = torch.arange(len(data)) + sum(map(len, made))
            logs = self.log_likelihood(data)
            if not np.isfinite(logs.max(1)).all():
                bad = int(rows[~np.isfinite(logs.max(1))][0])
                raise GsnnError(
                    f"baseline {type(self).__name__}: {self.column.name!r} of object {bad} holds values that are not "
                    "finite, and its likelihood needs all of them; leave such objects out by [data] where"
                )
            weight = np.exp(logs - logs.max(1, keepdims=True)).cumsum(1)
            share = rng.uniform(0, "grid-posterior", rows, DRAWS * (1 + len(self.targets))).double().numpy()
            share = share.reshape(len(data), 1 + len(self.targets), DRAWS)
            place = np.stack([np.searchsorted(w, s * w[-1]) for w, s in zip(weight, share[:, 0])])
            place = place.clip(max=len(self.points) - 1)
            made.append(self.points[place] + (share[:, 1:].transpose(0, 2, 1) - 0.5) * self.cell)
        draws = np.concatenate(made) if made else np.zeros((0, DRAWS, len(self.targets)))
        return {name: Draws(draws[..., i]) for i, name in enumerate(self.targets)}


class MapPosterior(GridPosterior):
    """One of square maps of a single band [object, 1, y, x]; of spheres [object, 1, pixel] where ``kinds`` say so."""

    def __init__(self, inputs: Schema, targets: Schema, *, grid: int):
        super().__init__(inputs, targets, grid=grid)
        shape = self.column.shape
        if self.column.kind == "sphere":
            if shape[0] != 1:
                raise ConfigError(f"{type(self).__name__} reads maps of one channel, not of {shape[0]}", ())
        elif len(shape) != 3 or shape[0] != 1 or shape[1] != shape[2]:
            raise ConfigError(f"{type(self).__name__} reads square maps of one band, not of shape {shape}", ())
