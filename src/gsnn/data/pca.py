"""Curves as a few numbers: principal components of their standardised logarithms, and back."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import ConfigError, GsnnError
from .transforms import Transform


class PCA(Transform):
    """[object, band, step] to [object, band, component], each of unit variance; for targets, by its inverse.

    A band that is positive throughout the training part is told by its logarithm, since what scales a spectrum then
    adds. Every step is standardised, and the components of each band are those of the training part (CosmoPower:
    Spurio Mancini et al. 2022, arXiv:2106.03846, section 2). ``spread`` is the standard deviation of each component,
    and ``rows`` what one unit of it adds to each step.
    """

    def __init__(self, bands: int = 1, steps: int = 1, *, components: int = 32):
        super().__init__()
        if components < 1:
            raise ConfigError(f"at least one component is needed, not {components}", ("components",))
        self.components = min(components, steps)
        self.register_buffer("positive", torch.zeros(bands, 1, dtype=torch.bool))
        self.register_buffer("mean", torch.zeros(bands, steps))
        self.register_buffer("scale", torch.ones(bands, steps))
        self.register_buffer("rows", torch.zeros(bands, self.components, steps))
        self.register_buffer("spread", torch.ones(bands, self.components))

    def fit(self, values: Float[Tensor, "object band step"]) -> None:
        values = values.double()
        if not torch.isfinite(values).all():
            raise GsnnError("curves for principal components have no gaps; leave out the objects that have them")
        if len(values) <= self.components:
            raise GsnnError(
                f"{len(values)} training curves cannot teach {self.components} components; simulate more, "
                "or ask for fewer components"
            )
        self.positive = (values > 0).all(0).all(1, keepdim=True)
        values = self._logged(values)
        mean, scale = values.mean(0), values.std(0)
        scale = torch.where(scale > 1e-12 * (1 + mean.abs()), scale, 1.0)
        units = (values - mean) / scale
        rows, spread = [], []
        for band in units.unbind(1):
            _, size, axes = torch.linalg.svd(band, full_matrices=False)
            rows.append(axes[: self.components])
            spread.append(size[: self.components] / (len(values) - 1) ** 0.5)
        spread = torch.stack(spread).clamp(min=1e-12)
        self.mean, self.scale, self.spread = mean.float(), scale.float(), spread.float()
        self.rows = (torch.stack(rows) * spread[:, :, None] * scale[:, None]).float()

    def _logged(self, values: Tensor) -> Tensor:
        return torch.where(self.positive, torch.log(values.clamp(min=1e-30)), values)

    def forward(self, values: Float[Tensor, "object band step"]) -> Float[Tensor, "object band component"]:
        units = (self._logged(values) - self.mean) / self.scale
        return torch.einsum("obs,bcs->obc", units, self.rows / self.scale[:, None]) / self.spread**2

    def inverse(self, values: Float[Tensor, "object band component"]) -> Float[Tensor, "object band step"]:
        """The curves: a matrix for each band, then an exponential. The bands lie apart in memory."""
        curves = torch.baddbmm(self.mean[:, None], values.transpose(0, 1), self.rows)
        if torch.is_grad_enabled():
            return torch.where(self.positive[:, None], curves.exp(), curves).transpose(0, 1)
        for i in self.positive.flatten().nonzero().flatten().tolist():
            curves[i].exp_()
        return curves.transpose(0, 1)
