"""What the networks of sequences share: light curves, series, strain and spectra as steps, pooled into one answer.

A light curve is a list of observations at uneven times in several bands; each becomes a step. What is evenly sampled is
a step a sample. One encoder a column turns steps into states; the states of an object are pooled, and scalars join.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from ..data.schema import SEQUENCES, Column, Schema
from ..errors import GsnnError
from .layers import Activation, activation, at_least, flatten, head, readable

Pooling = Literal["last", "mean", "max", "attention"]
Step = Literal["observation", "visit"]
SHORT = 0.01  # gaps of this part of a typical span, and shorter ones, are told apart linearly, longer ones by the log


class Steps(NamedTuple):
    """A column as the encoders read it. ``valid`` is None where every step is; ``visit``: where an observation went."""

    x: Float[Tensor, "object step feature"]
    time: Float[Tensor, "object step"]
    valid: Bool[Tensor, "object step"] | None
    visit: Int64[Tensor, "object observation"] | None = None


def covered(x: Float[Tensor, "object step feature"], valid: Bool[Tensor, "object step"] | None) -> Tensor:
    """``x`` with zeros where nothing was observed."""
    return x if valid is None else x * valid[..., None].to(x.dtype)


def feature_names(column: Column, clock: bool = True, step: Step = "observation") -> list[str]:
    """What stands in a step of ``column``, in order."""
    if column.kind == "light_curve" and step == "visit":
        each = [f"{what}_{band}" for what in ("flux", "flux_error", "known") for band in column.bands or ("",)]
        return [*each, *(["time"] if clock else []), "since_last"]
    if column.kind == "light_curve":
        names = ["flux", "flux_error", "known", *(["time"] if clock else []), "since_last", "since_last_in_band"]
        return names + [f"band_{band}" for band in column.bands or ("",)]
    channels = (1, *column.shape)[-2]
    return [f"{what}_{i}" for what in ("value", "known") for i in range(channels)]


def observations(column: Column, columns: dict[str, Tensor], clock: bool = True) -> Steps:
    """A light curve as steps, in network units and in the order of time.

    Of each observation: flux, its error, whether there is a flux at all (NaN: there is none, but its time and band are
    known), the time (without ``clock`` not, so that a shift of all times changes nothing), the time t since the
    observation before and since the one before in the same band, as log(1 + t / SHORT), since gaps span decades (0:
    there is none before), and the band, one number each.
    """
    time, flux, error, band, valid = (
        columns[f"{column.name}.{part}"] for part in ("time", "flux", "flux_error", "band", "valid")
    )
    known = torch.isfinite(flux)
    bands = band[..., None] == torch.arange(max(len(column.bands), 1), device=band.device)
    before = torch.cat([time[:, :1], time[:, :-1]], 1)
    latest = torch.where(bands, time[..., None], -torch.inf).cummax(1).values  # time of the last one in each band
    latest = torch.cat([torch.full_like(latest[:, :1], -torch.inf), latest[:, :-1]], 1)
    latest = torch.where(bands, latest, -torch.inf).amax(2)
    gaps = [time - before, time - torch.where(torch.isinf(latest), time, latest)]
    gaps = [torch.log1p(gap.clamp(min=0) / SHORT) for gap in gaps]
    numbers = [flux.where(known, 0), error.where(known & torch.isfinite(error), 0), known.to(flux.dtype)]
    x = torch.stack([*numbers, *([time] if clock else []), *gaps], 2)
    return Steps(covered(torch.cat([x, bands.to(x.dtype)], 2), valid), time, valid)


def visits(column: Column, columns: dict[str, Tensor], clock: bool = True) -> Steps:
    """A light curve with one step for all observations at the same time, which hold a flux of each band.

    Of each visit: flux, its error and whether it is known, one number a band each (of several observations in a band
    their mean, weighted by 1/error^2), the time, and log(1 + t / SHORT) of the time t since the visit before.
    """
    time, flux, error, band, valid = (
        columns[f"{column.name}.{part}"] for part in ("time", "flux", "flux_error", "band", "valid")
    )
    count, (objects, steps) = max(len(column.bands), 1), time.shape
    new = torch.ones_like(valid)
    new[:, 1:] = time[:, 1:] != time[:, :-1]
    visit = ((new & valid).cumsum(1) - 1).clamp_min(0)
    number = visit[:, -1:] + valid[:, :1]
    if not torch.compiler.is_exporting():  # an exported network keeps the longest length that there can be
        steps = max(int(number.max()), 1)
    known = valid & torch.isfinite(flux) & torch.isfinite(error)
    weight = torch.where(known, error.float().clamp_min(1e-6) ** -2, 0.0)
    place = visit * count + band
    zero = weight.new_zeros(objects, steps * count)
    total = zero.scatter_add(1, place, weight)
    mean = zero.scatter_add(1, place, weight * flux.where(known, 0)) / total.clamp_min(1e-30)
    spread = torch.where(total > 0, total.clamp_min(1e-30).rsqrt(), 0.0)
    each = [x.unflatten(1, (steps, count)).to(flux.dtype) for x in (mean, spread, (total > 0).to(flux.dtype))]
    ahead = torch.arange(steps, device=time.device) < number
    first = time.new_zeros(objects, steps).scatter_reduce(1, visit, time.where(valid, 0), "amax")
    gap = torch.log1p((first - torch.cat([first[:, :1], first[:, :-1]], 1)).clamp(min=0) / SHORT)
    x = torch.cat([*each, *([first[..., None]] if clock else []), gap[..., None]], 2)
    return Steps(covered(x, ahead), first * ahead, ahead, visit)


def samples(column: Column, columns: dict[str, Tensor]) -> Steps:
    """What is evenly sampled as steps: the value of each channel and whether it is known; the time runs from 0 to 1."""
    values = columns[column.name]
    values = values.reshape(-1, (1, *column.shape)[-2], values.shape[-1]).transpose(1, 2)
    known = torch.isfinite(values)
    time = torch.arange(values.shape[1], device=values.device, dtype=values.dtype) / column.shape[-1]
    return Steps(torch.cat([values.where(known, 0), known.to(values.dtype)], 2), time.expand(values.shape[0], -1), None)


class Pool(nn.Module):
    """One state an object, over its valid steps: the last, the mean, the largest values, or a learnt weighted mean.

    Attention weighs a step by exp(s), with a score s of its state alone, kept within 10 (Bahdanau et al. 2015,
    arXiv:1409.0473, with no query). An object without any valid step is pooled to zeros.
    """

    def __init__(self, how: Pooling, width: int):
        super().__init__()
        self.how = how
        self.score = nn.Linear(width, 1) if how == "attention" else None

    def weights(self, states: Float[Tensor, "object step width"]) -> Float[Tensor, "object step 1"]:
        if self.score is None:
            return torch.ones_like(states[..., :1])
        return torch.exp(10 * torch.tanh(self.score(states).to(states.dtype) / 10))

    def forward(
        self, states: Float[Tensor, "object step width"], valid: Bool[Tensor, "object step"] | None
    ) -> Float[Tensor, "object width"]:
        if self.how == "last":
            if valid is None:
                return states[:, -1]
            steps = torch.arange(valid.shape[1], device=valid.device)
            last = torch.where(valid, steps, 0).amax(1)[:, None, None].expand(-1, 1, states.shape[2])
            return covered(states.gather(1, last), valid.any(1, keepdim=True))[:, 0]
        if self.how == "max":
            if valid is None:
                return states.amax(1)
            best = states.masked_fill(~valid[..., None], -torch.inf).amax(1)
            return best.masked_fill(~valid.any(1, keepdim=True), 0)
        weight = covered(self.weights(states), valid)
        return (weight * states).sum(1) / weight.sum(1).clamp(min=1e-6)

    def running(
        self, states: Float[Tensor, "object step width"], valid: Bool[Tensor, "object step"] | None
    ) -> Float[Tensor, "object step width"]:
        """At each step, what :meth:`forward` gives of the steps up to it."""
        if self.how == "last":
            return states
        if self.how == "max":
            return states.cummax(1).values  # steps that are not valid stand at the end
        weight = covered(self.weights(states), valid)
        return (weight * states).cumsum(1) / weight.cumsum(1).clamp(min=1e-6)


class Sequences(nn.Module):
    """Columns become steps, an encoder a column makes them states, and what is pooled of them is what the head sees.

    A subclass hands over ``encoder``: given how many features a step has, a module whose ``forward(x, time, valid)``
    makes ``x`` [object, step, feature] at ``time`` [object, step] the states [object, step, ``width``]. ``valid`` tells
    steps that are padding, which stand at the end, and is None where there are none; states of padding may be anything,
    and must change no other. A ``causal`` encoder looks at no later step; one with a ``stride`` gives a state for every
    ``stride``-th step. Scalars, and further sequences, join the pooled states through one hidden layer.
    """

    head: nn.Linear

    def __init__(
        self,
        inputs: Schema,
        network: str,
        encoder: Callable[[int], nn.Module],
        width: int,
        outputs: int,
        *,
        pool: Pooling,
        act: Activation,
        dropout: float,
        clock: bool,
        causal: bool = False,
        stride: int = 1,
        step: Step = "observation",
    ):
        super().__init__()
        columns = readable(inputs, network, (*SEQUENCES, "scalar"))
        self.sequences = tuple(c for c in columns if c.kind != "scalar")
        self.scalars = tuple(c for c in columns if c.kind == "scalar")
        if not self.sequences:
            raise GsnnError(
                f"the network {network!r} needs a sequence ({', '.join(SEQUENCES)}), and [data] inputs holds none; "
                "choose 'mlp' for a table"
            )
        for column in self.sequences:
            if column.kind != "light_curve" and len(column.shape) not in (1, 2):
                raise GsnnError(
                    f"the network {network!r} reads a {column.kind} of the shape (length) or (channel, length), "
                    f"and {column.name!r} has {column.shape}"
                )
        at_least(1, width=width, outputs=outputs)
        self.network, self.width, self.pool = network, width, pool
        self.clock, self.causal, self.stride, self.step = clock, causal, stride, step
        names = [c.name for c in self.sequences]
        self.encoders = nn.ModuleDict(
            {str(i): encoder(len(feature_names(c, clock, step))) for i, c in enumerate(self.sequences)}
        )
        self.pools = nn.ModuleDict({str(i): Pool(pool, width) for i, _ in enumerate(names)})
        joined = width * len(names) + sum(c.size for c in self.scalars)
        self.join = nn.Sequential(nn.Linear(joined, width), activation(act)) if joined > width else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, outputs)

    def steps(self, column: Column, columns: dict[str, Tensor]) -> Steps:
        """What the encoder of ``column`` reads."""
        if column.kind == "light_curve":
            return (visits if self.step == "visit" else observations)(column, columns, self.clock)
        return samples(column, columns)

    def names(self, column: Column) -> list[str]:
        """What stands in a step of :meth:`steps`, in order."""
        return feature_names(column, self.clock, self.step)

    def encode(
        self, index: int, columns: dict[str, Tensor]
    ) -> tuple[Float[Tensor, "object step width"], Bool[Tensor, "object step"] | None]:
        """States of one sequence, and which of them are valid."""
        x, time, valid, _ = self.steps(self.sequences[index], columns)
        return self.encoders[str(index)](x, time, valid), None if valid is None else valid[:, :: self.stride]

    def features(self, **columns: Tensor) -> Float[Tensor, "object width"]:
        """What the head sees of an object."""
        pooled = [self.pools[str(i)](*self.encode(i, columns)) for i, _ in enumerate(self.sequences)]
        if self.scalars:
            pooled.append(flatten(columns, self.scalars).to(pooled[0].dtype))
        return self.join(torch.cat(pooled, 1))

    def hidden(self, **columns: Tensor) -> Float[Tensor, "object step width"]:
        """The state at every step of the one sequence, joined by the scalars."""
        return self._join_steps(self.encode(self.only(), columns)[0], columns)

    def running(self, **columns: Tensor) -> Float[Tensor, "object step width"]:
        """Of a causal network: at every step, what :meth:`features` would be if the sequence ended there."""
        if not self.causal:
            raise GsnnError(
                f"the network {self.network!r} sees every step at once, so it has no answer on the way; "
                "choose a causal one (rnn, wavenet, or time-transformer with causal = true)"
            )
        index = self.only(visits=True)
        states = self.pools[str(index)].running(*self.encode(index, columns))
        visit = self.steps(self.sequences[index], columns).visit
        if visit is not None:  # the answer at an observation is that of its visit
            states = states.gather(1, visit[..., None].expand(-1, -1, states.shape[2]))
        return self._join_steps(states, columns)

    @property
    def decodes(self) -> bool:
        """Whether the head reads something else than a state, as in ``seq2seq``."""
        return self.head.in_features != self.width

    def only(self, visits: bool = False) -> int:
        """The place of the one sequence that has a state at every step (or visit); GsnnError where there is none."""
        if len(self.sequences) > 1:
            names = " and ".join(repr(c.name) for c in self.sequences)
            raise GsnnError(f"an answer at every step needs one sequence, and [data] inputs holds {names}; leave one")
        if self.step == "visit" and not visits and self.sequences[0].kind == "light_curve":
            raise GsnnError(
                f"the network {self.network!r} has a state for every visit, and one for each observation is needed; "
                'set step = "observation"'
            )
        if self.stride > 1:
            raise GsnnError(
                f"the network {self.network!r} has a state for every {self.stride}th step only, and one for each is "
                "needed; set stride = 1, or choose rnn, wavenet or time-transformer"
            )
        return 0

    def _join_steps(
        self, states: Float[Tensor, "object step width"], columns: dict[str, Tensor]
    ) -> Float[Tensor, "object step width"]:
        if not self.scalars:
            return self.join(states)
        scalars = flatten(columns, self.scalars).to(states.dtype)
        return self.join(torch.cat([states, scalars[:, None].expand(-1, states.shape[1], -1)], 2))

    def read(self, states: Float[Tensor, "object *step feature"]) -> Float[Tensor, "object *step output"]:
        """The head's answer at each state."""
        return head(self.head, self.dropout(states))

    def forward(self, **columns: Tensor) -> Float[Tensor, "object output"]:
        return self.read(self.features(**columns))
