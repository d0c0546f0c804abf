"""What the answer rests on: maps of how much each pixel, or each column of a table, matters to the network.

What is explained is one number an object: the logit of the class that was predicted, or the predicted mean of the
(first) quantity in the units in which it is learned. Explanations run on the transformed inputs, in float32 and in
evaluation mode. Maps are [object, y, x] for images, [object, step] for sequences (NaN where a light curve has no step)
and [object, column] for scalars. Of a network that reads several kinds the images are explained, else the first
sequence, unless ``scalars`` asks for the table. Of a light curve it is the flux that is asked about.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..data.schema import SEQUENCES, Column
from ..errors import GsnnError

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Question:
    """A network as captum wants it: a function of one tensor, ``x`` [object, band, y, x] or [object, column].

    It answers with [object]. A sequence is [object, channel, step]. ``rest`` is what it needs beside ``x``, first
    dimension objects, so that captum can repeat it. ``valid`` are the steps of a light curve.
    """

    answer: Callable[..., Float[Tensor, " object"]]
    x: Tensor
    rest: tuple[Tensor, ...]
    valid: Tensor | None = None

    def of_steps(self, maps: Float[Tensor, "object step"]) -> Float[Tensor, "object step"]:
        """The map with NaN where there is no step."""
        return maps if self.valid is None else maps.masked_fill(~self.valid, torch.nan)


def value(model: nn.Module, out: Float[Tensor, "object output"], chosen: Tensor) -> Float[Tensor, " object"]:
    """The number that is explained, of the network's output ``out``; ``chosen`` is the class predicted at first."""
    if any(c.kind == "label" for c in model.targets.columns):
        return out.gather(1, chosen[:, None])[:, 0]
    if getattr(model.objective, "components", 0):
        log_weight, mean, _ = model.objective.mixture(out)
        return (log_weight.exp() * mean).sum(-1)[:, 0]  # the mean of a mixture
    return out[:, 0]


def explained(model: nn.Module, scalars: bool, who: str) -> list[Column]:
    """The inputs that are explained: the images, the first sequence, or the scalars where asked for or alone."""
    images, table = model.inputs.of_kind("image"), model.inputs.of_kind("scalar")
    asked = table if scalars else images or model.inputs.of_kind(*SEQUENCES)[:1] or table
    if not asked:
        kinds = ", ".join(sorted({c.kind for c in model.inputs.columns}))
        raise GsnnError(
            f"{who} explains images, sequences and scalars, and this network reads {kinds}; "
            "leave it out of [explain] methods"
        )
    return asked


@contextmanager
def question(model: nn.Module, batch: Batch, scalars: bool, who: str) -> Iterator[Question]:
    """The model in evaluation mode with gradients on, as a question about its images or its scalars."""
    asked = explained(model, scalars, who)
    table = model.inputs.of_kind("scalar")
    training = model.training
    model.eval()
    try:
        with torch.enable_grad(), torch.autocast(batch["row"].device.type, enabled=False):
            batch = model.transform(batch)
            curve = asked[0].kind == "light_curve"
            names = [f"{c.name}.flux" if curve else c.name for c in asked]
            valid = batch[f"{asked[0].name}.valid"] if curve else None
            shapes = [batch[name].shape[1:] for name in names]
            table_asked, line = asked == table, asked[0].kind in SEQUENCES
            x = torch.cat([_joined(batch[name].float(), table_asked, line) for name in names], 1)
            others = [name for name in model.inputs.tensors if name not in names]
            rest = tuple(batch[name] for name in others)
            sizes = [math.prod(s) if table_asked else s[0] if not line else x.shape[1] for s in shapes]

            def network(x: Tensor, rest: tuple[Tensor, ...]) -> Tensor:
                parts = [part.reshape(-1, *shape) for part, shape in zip(x.split(sizes, 1), shapes)]
                columns = {**dict(zip(names, parts)), **dict(zip(others, rest))}
                return model.objective.answer(**columns).float()

            with torch.no_grad():
                chosen = network(x, rest).argmax(1)
            answer = lambda x, *rest: value(model, network(x, rest[:-1]), rest[-1])  # noqa: E731
            yield Question(answer, x.detach(), (*rest, chosen), valid)
    finally:
        model.train(training)


def _joined(x: Tensor, table: bool, line: bool) -> Tensor:
    if table:
        return x.reshape(len(x), -1)
    return x.reshape(len(x), -1, x.shape[-1]) if line else x


class Saliency:
    """The size of the gradient of the answer by each pixel or column (Simonyan et al. 2014, arXiv:1312.6034).

    Of the bands of a pixel the largest counts.
    """

    def __init__(self, *, scalars: bool = False):
        self.scalars = scalars

    def fits(self, model: nn.Module) -> None:
        """Refuse a network that it cannot explain."""
        explained(model, self.scalars, "saliency")

    def __call__(self, model: nn.Module, batch: Batch) -> Float[Tensor, " object *place"]:
        from captum.attr import Saliency as Method

        with question(model, batch, self.scalars, "saliency") as q:
            gradient = Method(q.answer).attribute(q.x.requires_grad_(), additional_forward_args=q.rest).detach()
        if q.x.ndim == 3:
            return q.of_steps(gradient.amax(1))
        return gradient.amax(1) if q.x.ndim == 4 else gradient


class GradCAM:
    """Where the last maps of a convolutional network speak for the answer.

    Selvaraju et al. 2017 (arXiv:1610.02391), eq. 1 and 2: maps weighted by their mean gradients, summed, cut at zero
    and interpolated to the image's size.
    """

    def fits(self, model: nn.Module) -> None:
        """Refuse a network without maps."""
        if getattr(model.objective.network, "last_conv", None) is None or not model.inputs.of_kind("image"):
            raise GsnnError(
                "grad-cam needs a convolutional network of images, and this one has no maps to read; "
                "use saliency or occlusion in [explain] methods"
            )

    def __call__(self, model: nn.Module, batch: Batch) -> Float[Tensor, "object y x"]:
        from captum.attr import LayerGradCam

        self.fits(model)
        with question(model, batch, False, "grad-cam") as q:
            method = LayerGradCam(q.answer, model.objective.network.last_conv)
            maps = method.attribute(
                q.x.requires_grad_(), additional_forward_args=q.rest, relu_attributions=True
            ).detach()
        return nn.functional.interpolate(maps, q.x.shape[-2:], mode="bilinear", align_corners=False)[:, 0]


class Occlusion:
    """How much the answer falls when a window is covered (Zeiler & Fergus 2014, arXiv:1311.2901).

    A window of ``window`` pixels (0: an eighth of the image) in all bands moves by half its size, and is filled with
    the median of each band, the sky. Of a sequence ``window`` are steps (0: a sixteenth); a light curve is covered
    with no light (0 in network units), a series with its median. Of a table, one column at a time is set to the mean
    over the batch. The map is negative where covering raises the answer.
    """

    def __init__(self, *, window: int = 0, scalars: bool = False):
        if window < 0:
            raise GsnnError(f"occlusion: window = {window} is negative; give 0 for an eighth of the image")
        self.window, self.scalars = window, scalars

    def fits(self, model: nn.Module) -> None:
        """Refuse a network that it cannot explain."""
        explained(model, self.scalars, "occlusion")

    def __call__(self, model: nn.Module, batch: Batch) -> Float[Tensor, " object *place"]:
        from captum.attr import Occlusion as Method

        with question(model, batch, self.scalars, "occlusion") as q, torch.no_grad():
            options = {2: self._table, 3: self._line, 4: self._image}[q.x.ndim](q.x)
            if q.valid is not None:
                options["baselines"] = torch.zeros_like(q.x)
            at_once = max(1, 256 // max(len(q.x), 1))
            drop = Method(q.answer).attribute(
                q.x, additional_forward_args=q.rest, perturbations_per_eval=at_once, **options
            )
        if q.x.ndim == 3:
            return q.of_steps(drop.mean(1))
        return drop.mean(1) if q.x.ndim == 4 else drop

    def _line(self, x: Float[Tensor, "object channel step"]) -> dict[str, Any]:
        steps = min(self.window or max(x.shape[2] // 16, 1), x.shape[2])
        return {
            "sliding_window_shapes": (x.shape[1], steps),
            "strides": (x.shape[1], max(steps // 2, 1)),
            "baselines": x.median(-1, keepdim=True).values.expand_as(x),
        }

    def _image(self, x: Float[Tensor, "object band y x"]) -> dict[str, Any]:
        bands, height, width = x.shape[1:]
        y, x_ = (min(self.window or max(size // 8, 1), size) for size in (height, width))
        sky = x.flatten(2).median(-1).values[:, :, None, None].expand_as(x)
        return {
            "sliding_window_shapes": (bands, y, x_),
            "strides": (bands, max(y // 2, 1), max(x_ // 2, 1)),
            "baselines": sky,
        }

    def _table(self, x: Float[Tensor, "object column"]) -> dict[str, Any]:
        return {"sliding_window_shapes": (1,), "strides": (1,), "baselines": x.mean(0, keepdim=True).expand_as(x)}
