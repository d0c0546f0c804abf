"""Clouds of points in memory."""

import numpy as np

from gsnn.data.points import Points
from gsnn.simulate.groups import Groups

GROUP = Groups(groups=500).schema()["galaxies"]


class Clouds:
    """The contract of a view on clouds in memory."""

    def __init__(self, schema, data):
        self.schema, self.data = schema, data

    def __len__(self):
        return len(next(iter(self.data.values())))

    def columns(self, names):
        return {name: self.data[name] for name in names}

    def take(self, places):
        return Clouds(
            self.schema, {k: v.take(places) if isinstance(v, Points) else v[places] for k, v in self.data.items()}
        )

    def chunks(self, names, size=100):
        for start in range(0, len(self), size):
            yield self.take(np.arange(start, min(start + size, len(self)))).columns(names)
