"""The sceptic's classifiers of galaxy images: trees on morphological statistics, or on the pixels themselves."""

from __future__ import annotations

from ..data.schema import Column, Schema
from ..errors import GsnnError
from .trees import Boosting, Forest


def _need_image(inputs: Schema, name: str) -> None:
    if not inputs.of_kind("image"):
        raise GsnnError(
            f"baseline {name}: none of the inputs {', '.join(map(repr, inputs))} is an image; "
            "use 'boosting' or 'forest' for tables"
        )


class CASBoosting(Boosting):
    """Gradient boosting on C, A, S, Gini, M20, sizes, fluxes and colours of every band (and any scalar input)."""

    def __init__(self, inputs: Schema, target: Column, *, colours: bool = True, iterations: int = 300):
        super().__init__(inputs, target, colours=colours, iterations=iterations)
        _need_image(inputs, "cas-boosting")

    def describe(self) -> str:
        return "CAS, Gini, M20, sizes and colours of the images; " + super().describe()


class CASForest(Forest):
    """A random forest on the statistics of ``CASBoosting``."""

    def __init__(self, inputs: Schema, target: Column, *, colours: bool = True, trees: int = 300):
        super().__init__(inputs, target, colours=colours, trees=trees)
        _need_image(inputs, "cas-forest")

    def describe(self) -> str:
        return "CAS, Gini, M20, sizes and colours of the images; " + super().describe()


class RingFinder(Boosting):
    """Gradient boosting on blue light in rings around red galaxies, and on the statistics of ``CASBoosting``."""

    images = "rings"

    def __init__(self, inputs: Schema, target: Column, *, iterations: int = 300):
        super().__init__(inputs, target, colours=False, iterations=iterations)
        _need_image(inputs, "ring-finder")

    def describe(self) -> str:
        return "Differences of colours in rings (Gavazzi et al. 2014), and CAS statistics; " + super().describe()


class PixelForest(Forest):
    """A random forest on the central pixels of the images, averaged down to 32 x 32."""

    images = "pixels"

    def __init__(self, inputs: Schema, target: Column, *, trees: int = 300):
        super().__init__(inputs, target, trees=trees)
        _need_image(inputs, "pixel-forest")

    def describe(self) -> str:
        return "Central pixels of the images (at most 32 x 32); " + super().describe()
