"""A simulation with a posterior that is known: two numbers, each measured with a Gaussian error."""

import numpy as np
import pyarrow as pa
import torch

from gsnn import rng
from gsnn.data.schema import Column, Schema
from gsnn.data.source import within

NOISE = 0.1
OBSERVED = (3.0, -4.0)


class Toy:
    """x = a + noise and y = b + noise; the posterior of what was observed is N(OBSERVED, NOISE) within the box."""

    def __init__(
        self,
        *,
        objects: int = 1000,
        a: tuple[float, float] = (-10.0, 10.0),
        b: tuple[float, float] = (-10.0, 10.0),
        actual: bool = False,
    ):
        self.objects, self.ranges, self.actual = objects, (a, b), actual

    def observed(self):
        return Toy(objects=1, actual=True)

    def schema(self):
        return Schema.of((Column("id", "id"), *(Column(name, "scalar", dtype="float64") for name in "xyab")))

    def __len__(self):
        return self.objects

    def rows(self, indices, seed):
        rows = torch.from_numpy(within(indices, self.objects))
        low, high = np.array(self.ranges).T
        theta = low + (high - low) * rng.uniform(seed, "toy/parameters", rows, 2).double().numpy()
        seen = theta + NOISE * rng.normal(seed, "toy/noise", rows, 2).double().numpy()
        if self.actual:
            theta, seen = np.full((len(rows), 2), np.nan), np.tile(OBSERVED, (len(rows), 1))
        columns = [pa.array([f"{'observed' if self.actual else seed}-{row}" for row in rows.tolist()])]
        columns += [pa.array(value) for value in (*seen.T, *theta.T)]
        schema = self.schema().arrow()
        return pa.RecordBatch.from_arrays(columns, schema=schema)
