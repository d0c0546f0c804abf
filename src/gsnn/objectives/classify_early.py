"""Which class is it, and when does one know? An answer at every observation, for transients that will not wait."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..data.schema import Schema
from ..errors import ConfigError, GsnnError
from ..rng import Rng
from .base import Batch, MakeNetwork, Prediction
from .classify import Classify
from .values import one_sequence, valid_steps

CUT = "steps kept"  # the column of a batch that says how much of each object is shown


class ClassifyEarly(Classify):
    """A label, from as much of a light curve as there is so far; what is predicted is the answer at its end.

    ``learn = "every"``: a causal network answers at every observation and the loss is the mean over them (Muthukrishna
    et al. 2019, RAPID, arXiv:1904.00014). ``learn = "truncated"``: any network, shown a random part of each light curve
    from its beginning, drawn anew every epoch (Möller & de Boissière 2020, SuperNNova, arXiv:1901.06384). Each object
    weighs as in ``classify``, however long. :func:`running` and :func:`at_days` give the answers on the way.
    """

    def __init__(
        self,
        inputs: Schema,
        targets: Schema,
        make: MakeNetwork,
        *,
        learn: Literal["every", "truncated"] = "every",
        class_weights: Literal["none", "balanced"] = "none",
        label_smoothing: float = 0.0,
    ):
        self.learn, self.column = learn, one_sequence(inputs, "classify-early")
        if learn == "truncated" and self.column.kind != "light_curve":
            raise ConfigError(
                f'learn = "truncated" cuts light curves, and {self.column.name!r} is a {self.column.kind}; '
                'take "every" with a causal network',
                ("objective", "learn"),
            )
        super().__init__(inputs, targets, make, class_weights=class_weights, label_smoothing=label_smoothing)
        if learn == "every" and (not getattr(self.network, "causal", False) or self.network.decodes):
            raise ConfigError(
                'learn = "every" needs a causal network: an rnn that is not bidirectional, wavenet, or '
                'time-transformer with causal = true; or take learn = "truncated"',
                ("model", "name"),
            )

    def prepare(self, batch: Batch, rng: Rng) -> Batch:
        if self.learn == "every":
            return batch
        valid = valid_steps(self.column, batch)
        drawn = rng.uniform("truncate", batch["row"])[:, 0].to(valid.device)
        return {**batch, CUT: 1 + (drawn * valid.sum(1)).long()}

    def forward(self, batch: Batch) -> Float[Tensor, "object *step class"]:
        if self.learn == "every":
            return self.network.read(self.network.running(**self.columns(batch)))
        kept = batch if CUT in batch else self.prepare(batch, Rng(0))
        return self.network(**cut(self.columns(batch), self.column.name, kept[CUT]))

    def terms(self, out: Float[Tensor, "object *step class"], batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        if out.ndim == 2:
            return super().terms(out, batch)
        truth = batch[self.target]
        weight = self.weight[truth.clamp(min=0)] * (truth >= 0)
        valid = valid_steps(self.column, batch)
        each = F.cross_entropy(
            out.float().transpose(1, 2), truth.clamp(min=0)[:, None].expand(valid.shape), reduction="none",
            label_smoothing=self.label_smoothing,
        )  # fmt: skip
        mean = (each * valid).sum(1) / valid.sum(1).clamp(min=1)
        return {"cross_entropy": ((mean * weight).sum(), weight.sum())}

    def predict(self, out: Float[Tensor, "object *step class"], batch: Batch) -> Prediction:
        if out.ndim == 3:  # at the last observation
            last = (valid_steps(self.column, batch).sum(1) - 1).clamp(min=0)
            out = out[torch.arange(len(out), device=out.device), last]
        return super().predict(out, batch)


def cut(columns: Batch, name: str, steps: Tensor) -> Batch:
    """The light curve ``name`` with its first ``steps`` [object] observations."""
    valid = columns[f"{name}.valid"]
    return {**columns, f"{name}.valid": valid & (torch.arange(valid.shape[1], device=valid.device) < steps[:, None])}


def running(model: Any, batch: Batch) -> Float[Tensor, "object step class"]:
    """Probabilities of the classes at every observation, from it and those before; NaN where there is none.

    ``model`` is a :class:`~gsnn.model.Model` whose objective classifies, ``batch`` in native units. A causal network
    answers in one pass; another one is shown the light curve cut after each observation in turn.
    """
    objective, network = model.objective, model.objective.network
    if not isinstance(objective, Classify):
        raise GsnnError("a running answer needs an objective that classifies; train with classify-early")
    column = one_sequence(model.inputs, "a running answer")
    with torch.no_grad():
        given = objective.columns(model.transform(batch))
        valid = valid_steps(column, given)
        if getattr(network, "causal", False) and not network.decodes:
            out = network.read(network.running(**given))
        elif column.kind == "light_curve":
            counts = torch.arange(1, valid.shape[1] + 1, device=valid.device)[:, None].expand(-1, len(valid))
            out = torch.stack([network(**cut(given, column.name, steps)) for steps in counts], 1)
        else:
            raise GsnnError(f"a running answer on {column.name!r} needs a causal network, as rnn or wavenet")
        out = torch.softmax(out.float() / objective.temperature, 2)
    return out.masked_fill(~valid[..., None], torch.nan)


def at_days(
    model: Any, batch: Batch, days: Sequence[float], since: Tensor | None = None
) -> Float[Tensor, "object day class"]:
    """Probabilities given what was observed until so many days after ``since``; NaN where nothing was.

    ``since`` [object] is a time after the first observation in the light curve's own unit, as that of the trigger
    (None: the first observation itself); ``days`` are in that unit too.
    """
    name = one_sequence(model.inputs, "an answer at days").name
    answers, time, valid = running(model, batch), batch[f"{name}.time"], batch[f"{name}.valid"]
    start = time.new_zeros(len(time)) if since is None else since.to(time)
    until = start[:, None] + torch.as_tensor(days, dtype=time.dtype, device=time.device)
    seen = ((time[:, :, None] <= until[:, None]) & valid[:, :, None]).sum(1)  # [object, day]
    found = answers.gather(1, (seen - 1).clamp(min=0)[..., None].expand(-1, -1, answers.shape[2]))
    return found.masked_fill((seen == 0)[..., None], torch.nan)
