"""What the answer rests on: maps of how much each pixel, or each column of a table, matters to the network.

What is explained is one number an object: the logit of the class that was predicted, or the predicted mean of the
(first) quantity in the units in which it is learned. Explanations run on the transformed inputs, in float32 and in
evaluation mode. Maps are [object, y, x] for images and [object, column] for scalars; of a network that reads both the
image is explained, unless ``scalars`` asks for the table.
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

from ..data.schema import Column
from ..errors import GsnnError

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Question:
    """A network as captum wants it: a function of one tensor, ``x`` [object, band, y, x] or [object, column].

    It answers with [object]. ``rest`` is what it needs beside ``x``, first dimension objects, so that captum can
    repeat it.
    """

    answer: Callable[..., Float[Tensor, " object"]]
    x: Tensor
    rest: tuple[Tensor, ...]


def value(model: nn.Module, out: Float[Tensor, "object output"], chosen: Tensor) -> Float[Tensor, " object"]:
    """The number that is explained, of the network's output ``out``; ``chosen`` is the class predicted at first."""
    if any(c.kind == "label" for c in model.targets.columns):
        return out.gather(1, chosen[:, None])[:, 0]
    if getattr(model.objective, "components", 0):
        log_weight, mean, _ = model.objective.mixture(out)
        return (log_weight.exp() * mean).sum(-1)[:, 0]  # the mean of a mixture
    return out[:, 0]


def explained(model: nn.Module, scalars: bool, who: str) -> list[Column]:
    """The inputs that are explained: the images, or the scalars where those are asked for or alone."""
    images, table = model.inputs.of_kind("image"), model.inputs.of_kind("scalar")
    asked = table if scalars or not images else images
    if not asked:
        kinds = ", ".join(sorted({c.kind for c in model.inputs.columns}))
        raise GsnnError(
            f"{who} explains images and scalars, and this network reads {kinds}; leave it out of [explain] methods"
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
            shapes = [batch[c.name].shape[1:] for c in asked]
            x = torch.cat([_joined(batch[c.name].float(), asked == table) for c in asked], 1)
            others = [name for name in model.inputs.tensors if name not in {c.name for c in asked}]
            rest = tuple(batch[name] for name in others)
            sizes = [math.prod(s) if asked == table else s[0] for s in shapes]

            def network(x: Tensor, rest: tuple[Tensor, ...]) -> Tensor:
                parts = [part.reshape(-1, *shape) for part, shape in zip(x.split(sizes, 1), shapes)]
                columns = {**{c.name: part for c, part in zip(asked, parts)}, **dict(zip(others, rest))}
                return model.objective.answer(**columns).float()

            with torch.no_grad():
                chosen = network(x, rest).argmax(1)
            yield Question(lambda x, *rest: value(model, network(x, rest[:-1]), rest[-1]), x.detach(), (*rest, chosen))
    finally:
        model.train(training)


def _joined(x: Tensor, table: bool) -> Tensor:
    return x.reshape(len(x), -1) if table else x


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
    the median of each band, the sky. Of a table, one column at a time is set to the mean over the batch. The map is
    negative where covering raises the answer.
    """

    def __init__(self, *, window: int = 0, scalars: bool = False):
        if window < 0:
            raise GsnnError(f"occlusion: window = {window} pixels is negative; give 0 for an eighth of the image")
        self.window, self.scalars = window, scalars

    def fits(self, model: nn.Module) -> None:
        """Refuse a network that it cannot explain."""
        explained(model, self.scalars, "occlusion")

    def __call__(self, model: nn.Module, batch: Batch) -> Float[Tensor, " object *place"]:
        from captum.attr import Occlusion as Method

        with question(model, batch, self.scalars, "occlusion") as q, torch.no_grad():
            options = self._image(q.x) if q.x.ndim == 4 else self._table(q.x)
            at_once = max(1, 256 // max(len(q.x), 1))
            drop = Method(q.answer).attribute(
                q.x, additional_forward_args=q.rest, perturbations_per_eval=at_once, **options
            )
        return drop.mean(1) if q.x.ndim == 4 else drop

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
