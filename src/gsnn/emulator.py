"""A trained emulator as a function: parameters in, curves and numbers out, in batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from .errors import GsnnError
from .memory import keep_memory
from .model import Model
from .objectives.emulate import Emulate

BLOCK = 256  # points at once


class Emulator:
    """What a run of the objective `emulate` learned. ``names`` are its inputs, ``box`` the range that it was taught."""

    def __init__(self, model: Model):
        if not isinstance(model.objective, Emulate):
            raise GsnnError("this network is no emulator: its objective is not emulate")
        keep_memory()  # curves are large, and each block would be mapped anew
        self.model = model.eval()
        self.names = tuple(model.inputs)
        box = model.inputs.provenance.get("box", {})
        if set(box) < set(self.names):
            raise GsnnError("the emulator does not say which range it was taught (no box in its inputs' provenance)")
        self.box = {name: (float(box[name][0]), float(box[name][1])) for name in self.names}

    @classmethod
    def load(cls, run: str | Path) -> Emulator:
        """Of a run's folder, or of a model's."""
        folder = Path(run)
        if not folder.is_dir():
            raise GsnnError(f"no emulator at {run}: train one with `gsnn run cmb-emulator`, and name its folder")
        return cls(Model.load(folder / "fits/main/model" if (folder / "fits").is_dir() else folder))

    def inside(self, theta: Float[np.ndarray, "point parameter"]) -> np.ndarray:
        """Which points lie in the box."""
        low, high = np.array([self.box[name] for name in self.names]).T
        slack = 1e-6 * (high - low)  # float32 rounds at the faces
        return ((theta >= low - slack) & (theta <= high + slack)).all(1)

    def __call__(self, theta: Float[np.ndarray, "point parameter"]) -> dict[str, np.ndarray]:
        """Every target by name: float32 [point, band, step], or [point]. Raises GsnnError outside the box."""
        theta = np.asarray(theta, float)
        if theta.ndim != 2 or theta.shape[1] != len(self.names):
            raise GsnnError(f"the emulator takes points of {', '.join(self.names)}, not of shape {theta.shape}")
        good = self.inside(theta)
        if not good.all():
            point = theta[~good][0]
            out = next(i for i, n in enumerate(self.names) if not self.box[n][0] <= point[i] <= self.box[n][1])
            name, (low, high) = self.names[out], self.box[self.names[out]]
            raise GsnnError(
                f"{name} = {point[out]:g} lies outside the emulator's box, {low:g} to {high:g}; "
                "it has learned nothing there, so train one in a wider box"
            )
        parts = [self.block(torch.from_numpy(theta[i : i + BLOCK])) for i in range(0, len(theta), BLOCK)]
        whole = {name: np.concatenate([part[name].numpy() for part in parts]) for name in self.model.targets}
        return {name: np.ascontiguousarray(value) for name, value in whole.items()}

    @torch.inference_mode()
    def block(self, theta: Float[torch.Tensor, "point parameter"]) -> dict[str, torch.Tensor]:
        """The same of a few points, unchecked."""
        batch = dict(zip(self.names, theta.unbind(1)))
        features = self.model.features(batch)
        return self.model.objective.curves(self.model.objective.read(features))
