"""The smallest stream and model that honour the contracts, for the tests of the trainer."""

import torch
from torch import nn

from gsnn import rng


class FakeStream:
    """``objects`` rows of a linear problem, shuffled anew each epoch: a pure function of (seed, step)."""

    def __init__(self, objects=24, batch=8, seed=0, uneven=False, bad_steps=()):
        self.objects, self.batch, self.seed, self.bad_steps = objects, batch, seed, bad_steps
        self.steps_per_epoch = objects // batch
        rows = torch.arange(objects)
        self.x = rng.normal(seed, "x", rows, 4)
        self.y = self.x @ torch.tensor([1.0, -2.0, 0.5, 0.0]) + 0.1 * rng.normal(seed, "noise", rows)[:, 0]
        self.weight = rng.uniform(seed, "weight", rows)[:, 0] ** 3 if uneven else torch.ones(objects)

    def batches(self, start, stop):
        for step in range(start, stop):
            epoch, at = divmod(step, self.steps_per_epoch)
            order = rng.uniform(self.seed, "order", torch.arange(self.objects), epoch=epoch)[:, 0].argsort()
            rows = order[at * self.batch : (at + 1) * self.batch]
            y = self.y[rows] * (float("nan") if step in self.bad_steps else 1.0)
            yield {"row": rows, "x": self.x[rows], "y": y, "weight": self.weight[rows]}


class FakeModel(nn.Module):
    """Two layers with dropout and prepared noise; one term of the loss, or two of different weights."""

    def __init__(self, dropout=0.3, noise=0.1, terms=1, seed=0):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.stem, self.norm, self.head = nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 1)
        self.dropout, self.noise, self.count = nn.Dropout(dropout), noise, terms
        self.register_buffer("steps_seen", torch.zeros((), dtype=torch.int64))

    def terms(self, batch, random):
        x = batch["x"]
        if random is not None:
            x = x + self.noise * random.normal("noise", batch["row"], 4)
        out = self.head(self.dropout(torch.relu(self.norm(self.stem(x)))))[:, 0]
        error, weight = (out - batch["y"]) ** 2, batch["weight"]
        found = {"squared": ((weight * error).sum(), weight.sum())}
        if self.count == 2:
            known = batch["row"] % 3 == 0
            found["absolute"] = ((out - batch["y"]).abs()[known].sum(), known.sum())
        return found

    def after_step(self, step):
        self.steps_seen += 1


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
