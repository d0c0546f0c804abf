"""One step and one pass: the gradient of a whole batch, the validation loss, and the probe of a runtime's speed."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .. import rng
from . import optim
from .parallel import ALONE, Parallel, local
from .runtime import Runtime
from .settings import Train

Batch = dict[str, Tensor]
Augment = Callable[[Batch, rng.Rng], Batch]

_TINY = torch.finfo(torch.float32).tiny


def backward(
    model: nn.Module, pieces: Sequence[Batch], random: rng.Rng | None, runtime: Runtime, parallel: Parallel = ALONE
) -> Tensor:
    """Leave in ``.grad`` the gradient of the loss, sum of terms of sum / weight over all pieces and processes.

    The weights of a step are known only after its last piece. One term: gradients are scaled by the number of objects
    for the time being and rescaled at the end. Several terms: a pass without gradients finds their weights first.
    Returns the loss.
    """
    if parallel.pipeline is not None:
        return parallel.pipeline.backward(pieces[0], random, parallel)
    call = parallel.terms(model)

    def terms(piece: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        with runtime.autocast():
            return {name: (s.float(), w.float()) for name, (s, w) in call(piece, random).items()}

    def loss(sums: dict[str, Tensor], weights: dict[str, Tensor]) -> Tensor:
        return torch.stack([sums[name] / weights[name].clamp_min(_TINY) for name in sums]).sum()

    if len(pieces) == 1:
        now = terms(pieces[0])
        weights = parallel.sum_terms({k: w for k, (_, w) in now.items()})
        value = loss({k: s for k, (s, _) in now.items()}, weights)
        value.backward()
        return parallel.sum(value.detach())

    scale, sums, weights = {}, {}, {}
    objects = torch.tensor(float(sum(len(piece["row"]) for piece in pieces)), device=runtime.device)
    for index, piece in enumerate(pieces):
        with parallel.unsynchronised(index + 1 < len(pieces)):
            now = terms(piece)
            if index == 0:
                scale = dict.fromkeys(now, parallel.sum(objects))
                if len(now) > 1:
                    with torch.no_grad():
                        others = [terms(piece) for piece in pieces[1:]]
                    scale = {name: sum((t[name][1] for t in others), now[name][1]) for name in now}
                    scale = parallel.sum_terms(scale)
            loss({k: s for k, (s, _) in now.items()}, scale).backward()
        sums = {k: sums.get(k, 0.0) + s.detach() for k, (s, _) in now.items()}
        weights = {k: weights.get(k, 0.0) + w.detach() for k, (_, w) in now.items()}
    sums, weights = parallel.sum_terms(sums), parallel.sum_terms(weights)
    if len(weights) == 1:
        (weight,) = weights.values()
        factor = torch.where(weight > 0, parallel.sum(objects) / weight.clamp_min(_TINY), 0.0)
        for parameter in model.parameters():
            if parameter.grad is not None:
                local(parameter.grad).mul_(factor)
    return loss(sums, weights)


@torch.no_grad()
def evaluate(
    model: nn.Module,
    stream: Any,
    runtime: Runtime,
    stop: Callable[[], bool] = lambda: False,
    parallel: Parallel = ALONE,
) -> dict[str, float] | None:
    """The mean of each term of the loss over one pass of ``stream``; None where ``stop()`` became true on the way."""
    call = parallel.terms(model)
    mode, totals = model.training, {}
    model.eval()
    try:
        for batch in stream.batches(0, stream.steps_per_epoch):
            if stop():
                return None
            with runtime.autocast():
                terms = call(runtime.place_batch(batch), None)
            for name, pair in terms.items():
                pair = torch.stack([value.float() for value in pair]).double()
                totals[name] = totals[name] + pair if name in totals else pair
    finally:
        model.train(mode)
    pairs = {name: parallel.sum(pair).tolist() for name, pair in totals.items()}
    return {name: total / weight if weight > 0 else 0.0 for name, (total, weight) in pairs.items()}


def probe(
    model: nn.Module, train: Any, settings: Train, augment: Augment | None = None, steps: int = 3
) -> Callable[[Runtime], float]:
    """A function that times (seconds a step) a few real training steps of a copy of ``model`` under a runtime."""
    batches = train.batches(0, 1)
    batch = next(iter(batches))
    close(batches)

    def seconds(runtime: Runtime) -> float:
        runtime.prepare()
        trial = runtime.place(copy.deepcopy(model)).train()
        optimizer = optim.optimizer(trial, settings)
        times = []
        with own_random_state(runtime):
            for _ in range(steps + 1):
                start = time.perf_counter()
                loss = gradients(trial, batch, rng.Rng(0), settings, runtime, augment, optimizer)
                optimizer.step()
                loss.item()  # waits for the device
                times.append(time.perf_counter() - start)
        return sorted(times[1:])[steps // 2]

    return seconds


def gradients(
    model: nn.Module,
    batch: Batch,
    random: rng.Rng,
    settings: Train,
    runtime: Runtime,
    augment: Augment | None,
    optimizer: torch.optim.Optimizer,
    parallel: Parallel = ALONE,
) -> Tensor:
    """Place, augment, and leave the gradient of the loss in ``.grad``; return the loss."""
    batch = runtime.place_batch(batch)
    if augment is not None:
        batch = augment(batch, random)
    optimizer.zero_grad(set_to_none=True)
    return backward(model, _pieces(batch, settings.accumulate), random, runtime, parallel)


def _pieces(batch: Batch, count: int) -> list[Batch]:
    """As many pieces on every process, so that all meet in the same sums: some of a short batch may be empty."""
    if count == 1:
        return [batch]
    cut = {name: value.tensor_split(count) for name, value in batch.items()}
    return [{name: parts[i] for name, parts in cut.items()} for i in range(count)]


def close(iterator: Any) -> None:
    """End a stream's iterator (and its prefetch thread) before its end."""
    if hasattr(iterator, "close"):
        iterator.close()


def seed_torch(seed: int, runtime: Runtime) -> None:
    """Seed the generators that a step draws from (dropout). ``torch.manual_seed`` formats a stack trace each time."""
    torch.default_generator.manual_seed(seed)
    device = torch.device(runtime.device)
    if device.type != "cpu":
        getattr(torch, device.type).manual_seed(seed)


def own_random_state(runtime: Runtime):
    """Within, torch may be seeded without a change to the numbers that the caller will draw."""
    device = torch.device(runtime.device)
    return torch.random.fork_rng([device.index or 0] if device.type == "cuda" else [])
