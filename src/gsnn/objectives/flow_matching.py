"""What could it look like? Draws of whole maps, made from noise by a flow that a network steers."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from ..config import build, normalise
from ..data.response import polynomial, response_of_powers
from ..data.schema import Column, Schema
from ..errors import ConfigError
from ..rng import Rng, normal
from .base import Batch, MakeNetwork, Objective, Prediction, one_field

STATE, TIME = "flow.state", "flow.time"  # what the network reads beside the inputs
WAVES = 3  # of the time, that a network sees: sin and cos of 2 pi t, 4 pi t, 8 pi t
SLACK = 5  # different inputs for each term of a response surface
MOST = 4096  # training objects that tell the power of the noise
VOXELS = 2**25  # of them together
Voxels = Float[Tensor, "object channel *space"]


class FlowMatching(Objective):
    """Draw fields or images (``target``) from their distribution given the inputs: numbers, maps of the same size.

    Flow matching on straight lines (Lipman et al. 2023, arXiv:2210.02747; Liu, Gong & Liu 2023, arXiv:2209.03003): the
    network learns the mean velocity x - e at y = (1 - t) e + t x, where e is Gaussian noise and t is between 0 and 1:
    what has to be added to (2 t - 1) / (t^2 + (1 - t)^2) y, which is right for a field that is Gaussian as well (in the
    spirit of Karras et al. 2022, arXiv:2206.00364). A draw begins with noise, and goes along the velocities for
    ``steps`` steps of Heun's method; there are ``draws`` of each object. With ``transform`` the field is taken to units
    in which it has mean 0 and variance 1, as log density.

    With ``coloured`` the noise has the power spectrum that training fields have in these units, ln P of each shell a
    polynomial of second degree in the scalar inputs (of a lower one where these have few different values), so that the
    flow need not make the two-point function (as the correlated prior of Rouhiainen, Giri & Münchmeyer 2021,
    arXiv:2105.12024); and errors count mode by mode in units of that power, so that small scales weigh as much as large
    ones. Beyond the training range of an input the power is that of its edge. It is for fields without edges. Voxels
    whose truth is missing weigh nothing; with ``coloured``, nor do fields with such.

    A network that knows a first answer (``mass-map``: the Wiener filter) is taught what is to be added to it. With
    ``answer = "map"`` the draws are the posterior of one map, and what is told is their mean and the 16% and 84%
    quantiles of each pixel, where the input ``within`` is positive (Remy et al. 2023, arXiv:2201.05561, draw from a
    score that is learned; here the likelihood is learned with it).
    """

    target_kind = "any"
    dense = True

    def __init__(
        self,
        inputs: Schema,
        targets: Schema,
        make: MakeNetwork,
        *,
        transform: str | dict[str, Any] = "standardise",
        coloured: bool = False,
        steps: Annotated[int, Field(ge=1, le=1000)] = 20,
        draws: Annotated[int, Field(ge=1, le=1000)] = 2,
        answer: Literal["draws", "map"] = "draws",
        within: str = "",
    ):
        self.target = one_field(inputs, targets, "flow-matching draws")
        if coloured and len(set(self.target.shape[1:])) > 1:
            raise ConfigError("the noise of a field is coloured where its sides are equal", ("objective", "coloured"))
        if answer == "map" and (len(self.target.shape) != 3 or draws < 4):
            raise ConfigError("a map [channel, y, x] is told from at least 4 draws", ("objective", "draws"))
        if within and (answer != "map" or within not in inputs or inputs[within].shape[1:] != self.target.shape[1:]):
            raise ConfigError(
                f"within = {within!r} names an input of the target's size, for answer = 'map'", ("objective", "within")
            )
        state, time = Column(STATE, "field", shape=self.target.shape), Column(TIME, "scalar", shape=(1 + 2 * WAVES,))
        more = Schema.of([*inputs.columns, state, time], **inputs.provenance)
        super().__init__(inputs, targets, lambda _, outputs: make(more, outputs), self.target.shape[0])
        if not hasattr(self.network, "both"):
            raise ConfigError("flow-matching needs a network that answers each voxel: unet", ("model", "name"))
        spec, path = normalise(transform), ("objective", "transform")
        self.transform = build(spec, "transform", self.target.shape[0], path=path)
        self.coloured, self.steps, self.draws, self.answers, self.within = coloured, steps, draws, answer, within
        self.more = getattr(self.network, "fixed_columns", ())
        self.base = self.more[0] if self.more else ""
        self.start_objects = max(64, min(512 if self.base else MOST, VOXELS // self.target.size))
        self.numbers = tuple(column.name for column in inputs.columns if column.kind == "scalar")
        if coloured:
            from ..simulate.mesh import shells

            count = len(self.numbers)
            terms = polynomial(torch.zeros(1, count), 2).shape[1]
            shell = shells(self.target.shape[-1], len(self.target.shape) - 1)
            self.register_buffer("shell", shell, persistent=False)
            self.register_buffer("response", torch.zeros(terms, self.target.shape[0], int(shell.max()) + 1))  # ln P
            self.register_buffer("middle", torch.stack([torch.zeros(count), torch.ones(count)]))  # and scale
            self.register_buffer("ends", torch.zeros(2, count))

    def start(self, batch: Batch) -> None:
        """The units of the field and the power of the noise, from training objects."""
        path = ("objective", "coloured")
        fields = batch[self.target.name].float()
        if self.base:
            parts = [self.fixed({name: value[i : i + 32] for name, value in batch.items()})[self.base]
                     for i in range(0, len(fields), 32)]  # fmt: skip
            fields = fields - torch.cat(parts)
        if not torch.isfinite(fields).any() or fields[torch.isfinite(fields)].std() == 0:
            raise ConfigError(f"the target {self.target.name!r} does not vary in the training part", ("data", "target"))
        self.transform.fit(fields)
        if self.coloured:
            from ..simulate.mesh import shell_powers

            whole = torch.isfinite(fields).flatten(1).all(1)
            if not whole.any():
                raise ConfigError(
                    "coloured noise is that of training fields without gaps, of which there are none", path
                )
            made, theta = self.transform(fields[whole]), self.stacked(batch)[whole]
            power = torch.stack([shell_powers(channel) for channel in made.unbind(1)], 1).double().clamp(min=1e-12)
            spread = theta.std(0)
            self.middle = torch.stack([theta.mean(0), spread.where(spread > 0, 1.0)])
            self.ends = torch.stack([theta.amin(0), theta.amax(0)])
            terms = self.surface(theta).double().numpy()
            sizes = [polynomial(theta[:1], degree).shape[1] for degree in range(3)]
            kept = max(size for size in sizes if size == 1 or SLACK * size <= len(theta.unique(dim=0)))
            found = response_of_powers(terms[:, :kept], power.flatten(1).numpy())
            self.response[:kept] = torch.from_numpy(found).float().view(kept, *self.response.shape[1:])

    def stacked(self, batch: Batch) -> Float[Tensor, "object number"]:
        """The scalar inputs side by side."""
        found = [batch[name].float().reshape(len(batch["row"])) for name in self.numbers]
        return torch.stack(found, 1) if found else torch.zeros(len(batch["row"]), 0, device=batch["row"].device)

    def surface(self, theta: Float[Tensor, "object number"]) -> Float[Tensor, "object term"]:
        theta = torch.minimum(torch.maximum(theta, self.ends[0]), self.ends[1])
        return polynomial((theta - self.middle[0]) / self.middle[1], 2)

    def colour(self, batch: Batch) -> Float[Tensor, "object channel *mode"]:
        """The power of each mode over the number of voxels, of the noise of these objects."""
        theta = self.stacked(batch).to(self.response.device)
        with torch.autocast(theta.device.type, enabled=False):  # bfloat16 would round ln P to a percent of P
            found = torch.einsum("ot,tcs->ocs", self.surface(theta), self.response)
            return found.exp()[:, :, self.shell]

    # -------------------------------------------------------------- training

    def noise(self, white: Float[Tensor, "object value"], batch: Batch) -> Voxels:
        """Noise of the flow's beginning from independent standard normal numbers."""
        field = white.view(len(white), *self.target.shape)
        return self.over_modes(field, self.colour(batch).sqrt()) if self.coloured else field

    def over_modes(self, field: Voxels, factor: Float[Tensor, "object channel *mode"]) -> Voxels:
        """The field with its modes multiplied."""
        space = tuple(range(2, field.ndim))
        modes = torch.fft.rfftn(field, dim=space) * factor
        return torch.fft.irfftn(modes, s=field.shape[2:], dim=space)

    def prepare(self, batch: Batch, rng: Rng) -> Batch:
        """With a time and noise for each object, drawn anew in each epoch."""
        rows, device = batch["row"], batch[self.target.name].device
        white = rng.normal("flow-matching/noise", rows, self.target.size).to(device)
        time = rng.uniform("flow-matching/time", rows)[:, 0].to(device)
        return {**batch, **self.fixed(batch), TIME: time, STATE: self.noise(white, batch)}

    def fixed(self, batch: Batch) -> Batch:
        """The inputs as the network reads them, with what it can make of them once for all steps of a flow."""
        columns = super().columns(batch)
        return columns | self.network.fixed(**columns) if self.base else columns

    def forward(self, batch: Batch) -> Voxels:
        batch = batch if STATE in batch else self.prepare(batch, Rng(0))
        with torch.autocast(batch[STATE].device.type, enabled=False):
            time, (truth, _) = batch[TIME], self.truth(batch)
            share = time.view(-1, *[1] * (truth.ndim - 1))
            state = (1 - share) * batch[STATE] + share * truth
        return self.velocity(state, time, batch)

    def truth(self, batch: Batch) -> tuple[Voxels, Bool[Tensor, "object channel *space"]]:
        """The field in the flow's units, and where it is known."""
        native = batch[self.target.name].float()
        known = torch.isfinite(native)
        if self.base:
            native = native - batch[self.base]
        return self.transform(native.where(known, 1.0)).where(known, 0.0), known

    def terms(self, out: Voxels, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        batch = batch if STATE in batch else self.prepare(batch, Rng(0))
        with torch.autocast(out.device.type, enabled=False):
            truth, known = self.truth(batch)
            wrong = out.float() - (truth - batch[STATE])
            if not self.coloured:
                return {"flow": (wrong.square().where(known, 0.0).sum(), known.sum())}
            whole = known.flatten(1).all(1)
            wrong = self.over_modes(
                wrong.where(whole.view(-1, *[1] * (wrong.ndim - 1)), 0.0), self.colour(batch).rsqrt()
            )
            return {"flow": (wrong.square().sum(), whole.sum() * self.target.size)}

    # -------------------------------------------------------------- drawing

    def velocity(self, state: Voxels, time: Float[Tensor, " object"], batch: Batch) -> Voxels:
        more = {name: batch[name] for name in self.more}
        gaussian = ((2 * time - 1) / (time**2 + (1 - time) ** 2)).view(-1, *[1] * (state.ndim - 1)) * state
        return gaussian + self.network.read(**super().columns(batch), **more, **self.told(state, time))

    def told(self, state: Voxels, time: Float[Tensor, " object"]) -> Batch:
        """The state and the time as the network reads them."""
        angle = 2 * math.pi * time[:, None] * 2.0 ** torch.arange(WAVES, device=time.device)
        return {STATE: state, TIME: torch.cat([2 * time[:, None] - 1, angle.sin(), angle.cos()], 1)}

    def begin(self, batch: Batch, draw: int) -> Voxels:
        """The noise of a draw: a function of the row, and of the inputs where it is coloured."""
        white = normal(0, f"flow-matching/draw {draw}", batch["row"], self.target.size)
        return self.noise(white.to(next(self.network.parameters()).device), batch)

    def columns(self, batch: Batch) -> Batch:
        """What the network reads at the beginning of the first draw."""
        state = self.begin(batch, 0)
        return super().columns(batch) | self.told(state, torch.zeros(len(state), device=state.device))

    @torch.no_grad()
    def sample(self, batch: Batch) -> Float[Tensor, "object draw channel *space"]:
        """Draws in native units, from inputs in the network's."""
        made, batch = [], batch | self.fixed(batch)
        for draw in range(self.draws):
            state = self.begin(batch, draw)
            for i in range(self.steps):
                time = torch.full((len(state),), i / self.steps, device=state.device)
                first = self.velocity(state, time, batch).float()
                ahead = state + first / self.steps
                second = self.velocity(ahead, time + 1 / self.steps, batch).float()
                state = state + (first + second) / (2 * self.steps)
            made.append(self.transform.inverse(state) + (batch[self.base] if self.base else 0))
        return torch.stack(made, 1)

    def predict(self, out: Voxels, batch: Batch) -> Prediction:
        from ..evaluation.generated import FieldDraws
        from ..evaluation.maps import ENDS, Maps

        drawn = self.sample(batch).cpu().numpy()
        if self.answers == "draws":
            return {self.target.name: FieldDraws(drawn, self.target)}
        inside = np.ones_like(drawn[:, 0], bool)
        if self.within:
            inside &= (batch[self.within] > 0).all(1, keepdim=True).cpu().numpy()
        low, high = np.quantile(drawn, ENDS, axis=1, method="weibull")  # as many truths below as draws
        return {self.target.name: Maps(drawn.mean(1), inside, low, high)}
