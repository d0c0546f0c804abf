"""What is behind the noise? A clean signal from a noisy one, taught by the truth, or by points that were hidden."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..data.schema import Schema
from ..errors import ConfigError
from ..rng import Rng
from .base import Batch, MakeNetwork
from .masked_value import MaskedValue, Share, Span


class Denoise(MaskedValue):
    """With ``truth``, the column of the clean series (of the input's shape): its values at every step are the target.

    Without it, hidden points are told from the others as in ``masked-value``; since the noise of a point cannot be told
    from other points, what is told is the signal (Batson & Royer 2019, arXiv:1901.11365). Light curves are taught so.
    Noise that goes along with itself in time needs a longer ``span``.
    """

    who = "denoise"

    def __init__(
        self, inputs: Schema, targets: Schema, make: MakeNetwork, *, truth: str = "", ratio: Share = 0.2, span: Span = 1
    ):
        super().__init__(inputs, targets, make, ratio=ratio, span=span)
        self.clean = truth
        if truth and self.column.kind == "light_curve":
            raise ConfigError(
                "denoise has a truth for evenly sampled series only; leave it out", ("objective", "truth")
            )
        self.register_buffer("mean", torch.zeros(self.channels))
        self.register_buffer("scale", torch.ones(self.channels))

    def fit(self, train) -> None:
        super().fit(train)
        if not self.clean:
            return
        some = train.take(np.linspace(0, len(train) - 1, min(len(train), 4096)).astype(int))
        values = some.columns([self.clean])[self.clean]
        if values.shape[1:] != self.column.shape:
            raise ConfigError(
                f"the truth {self.clean!r} has the shape {values.shape[1:]}, and {self.column.name!r} "
                f"{self.column.shape}",
                ("objective", "truth"),
            )
        values = torch.tensor(values).double().reshape(len(values), self.channels, -1).transpose(0, 1).flatten(1)
        self.mean = values.nanmean(1).float()
        spread = (values - self.mean[:, None]).square().nanmean(1).sqrt().float()
        self.scale = torch.where(spread > 0, spread, 1.0)

    def prepare(self, batch: Batch, rng: Rng) -> Batch:
        return batch if self.clean else super().prepare(batch, rng)

    def forward(self, batch: Batch) -> Float[Tensor, "object step value"]:
        if not self.clean:
            return super().forward(batch)
        return self.network.read(self.network.hidden(**self.columns(batch)))

    def terms(self, out: Float[Tensor, "object step value"], batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        if not self.clean:
            return super().terms(out, batch)
        values = batch[self.clean].float().reshape(out.shape[0], self.channels, -1).transpose(1, 2)
        values = (values - self.mean) / self.scale
        known = torch.isfinite(values)
        return self.likelihood(out, values.where(known, 0), torch.zeros_like(values), known)

    def restored(
        self, batch: Batch
    ) -> tuple[Float[Tensor, "object step channel"], Float[Tensor, "object step channel"]]:
        """The signal and its width at every step; ``batch`` is in network units.

        With a truth in that one's units. Without it in network units: each step is told while it is hidden, in as many
        turns as the ratio needs.
        """
        with torch.no_grad():
            if self.clean:
                mean, width = self.gaussian(self(batch))
                return mean * self.scale + self.mean, width * self.scale
            truth, *_ = self.truth(batch)
            mean, width = torch.zeros_like(truth), torch.ones_like(truth)
            turns = math.ceil(1 / self.ratio)
            turn = torch.arange(truth.shape[1], device=truth.device) // self.span % turns
            for k in range(turns):
                mask = (turn == k).expand(len(truth), -1)
                told = self.gaussian(self.network.read(self.network.hidden(**self.hide(batch, mask))))
                mean, width = (torch.where(mask[..., None], new, old) for new, old in zip(told, (mean, width)))
        return mean, width
