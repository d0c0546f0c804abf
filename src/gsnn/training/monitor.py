"""How fast a training is and what it costs: the numbers that each ``step`` event of its log has beside the loss.

Between events only clocks are read and objects counted; nothing here waits for a device.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from . import flops
from .energy import Meter, co2e_kg, peak_memory_gb
from .metrics import Endpoint, from_environment
from .parallel import Parallel
from .runtime import Runtime
from .step import Batch, own_random_state

WORTH = 100.0  # seconds of training, before which FLOPs and a peak are not worth counting: 0.2 to 1.5 s
SETTLED = 5.0  # seconds of training, before which no step is typical enough to be sampled
SAMPLE = 200  # a step is sampled for its communication at most once in so many times what that costs: 0.5%
COLLECTIVES = ("gloo:", "nccl:", "mpi:", "ucc:")  # how torch's profiler calls those of a process group


class Monitor:
    """The clocks and counters of one process of a training. Make it before the model is cut over processes.

    ``before`` is the electricity (kWh) of the training that this one goes on from, and its uncertainty.
    """

    def __init__(
        self,
        model: nn.Module,
        runtime: Runtime,
        parallel: Parallel,
        before: tuple[float, float] = (0.0, 0.0),
        meter: Meter | None = None,
    ):
        self.runtime, self.parallel, self.before = runtime, parallel, before
        self.meter = meter or Meter(local_rank=local_rank() if parallel.world > 1 else None)
        self.others = (0.0, 0.0)  # kWh and uncertainty of the other processes, when they last met
        network = getattr(getattr(model, "objective", None), "network", None)
        self.tokens = getattr(getattr(network, "places", None), "count", None)  # of an object
        self.flops: float | None = None  # of an object
        self.peak: tuple[float, str] | None = None  # FLOP/s of a device, and how that is known
        self.communication: float | None = None
        self.endpoint: Endpoint | None = from_environment() if parallel.main else None
        co2e_kg(0.0)  # a wrong GSNN_GRID_G_PER_KWH is told now, not in an hour
        self._bones = flops.skeleton(model) if parallel.main else None
        self._batch: Batch | None = None
        self._objects, self._waited = 0, 0.0
        self._started = self._read_at = time.perf_counter()
        self._sample_at = self._started + SETTLED

    def next(self, batches: Iterator[Batch]) -> Batch:
        """The next batch; its objects and the time that it was waited for are counted."""
        start = time.perf_counter()
        batch = next(batches)
        self._waited += time.perf_counter() - start
        self._objects += len(batch["row"])
        if self._bones is not None and self._batch is None:
            self._batch = {name: torch.empty_like(value, device="meta") for name, value in batch.items()}
        return batch

    def restart(self) -> None:
        """Leave out what has passed since the last event (a validation)."""
        self._read_at, self._objects, self._waited = time.perf_counter(), 0, 0.0

    def read(self) -> dict[str, Any]:
        """What an event tells of the time since the event before. None: not known, or not yet.

        - ``samples_per_s``, ``tokens_per_s``: objects, and tokens of the network, of all processes.
        - ``flops_per_s``: model FLOP/s of all processes (:func:`flops.count`); ``mfu``: their share of the
          ``peak_flops`` of all devices, ``peak_source`` says whose. Counted once the training has lasted WORTH seconds.
        - ``data_wait``: share of the time in which this process waited for a batch.
        - ``communication``: see :meth:`sampled`.
        - ``memory_gb``: the most that was allocated on this process's GPU, else the most that the process has held;
          ``host_memory_gb``: the latter.
        - ``kwh`` with its uncertainty ``kwh_error``, ``co2e_kg``: of all processes, since the training began; of the
          other processes as they were at the last epoch or checkpoint.
        """
        now = time.perf_counter()
        seconds = max(now - self._read_at, 1e-9)
        if self._bones is not None and self._batch is not None and now - self._started >= WORTH:
            self._count()
        objects_per_s = self._objects * self.parallel.data_ranks / seconds
        flops_per_s = None if self.flops is None else objects_per_s * self.flops
        on_gpu = torch.device(self.runtime.device).type == "cuda"
        host = peak_memory_gb()
        kwh, error = self.energy()
        event = {
            "samples_per_s": objects_per_s,
            "tokens_per_s": None if self.tokens is None else objects_per_s * self.tokens,
            "flops_per_s": flops_per_s,
            "mfu": flops_per_s / (self.peak[0] * self.parallel.world) if flops_per_s and self.peak else None,
            "peak_flops": self.peak[0] if self.peak else None,
            "peak_source": self.peak[1] if self.peak else None,
            "data_wait": self._waited / seconds,
            "communication": self.communication,
            "memory_gb": torch.cuda.max_memory_allocated(self.runtime.device) / 1e9 if on_gpu else host,
            "host_memory_gb": host,
            "kwh": kwh,
            "kwh_error": error,
            "co2e_kg": co2e_kg(kwh)[0],
        }
        self.restart()
        return event

    def tell(self, event: dict[str, Any]) -> None:
        """Show a step event to who scrapes."""
        if self.endpoint is not None and event["event"] == "step":
            self.endpoint.tell(event)

    def close(self) -> None:
        if self.endpoint is not None:
            self.endpoint.close()

    # ------------------------------------------------------------------ arithmetic

    def _count(self) -> None:
        with own_random_state(self.runtime):
            self.flops = flops.count(self._bones, self._batch)
        self._bones = self._batch = None
        if self.flops is not None:
            self.peak = flops.peak(self.runtime.device, self.runtime.dtype)

    # ------------------------------------------------------------------ energy

    def energy(self) -> tuple[float, float]:
        """kWh and uncertainty of all processes since the training began; of the others as when they last met."""
        mine = self.meter.kwh, self.meter.error
        return tuple(sum(parts) for parts in zip(self.before, mine, self.others))

    def meet(self) -> None:
        """Learn what the other processes have used. All of them call it at the same place."""
        mine = [self.meter.kwh, self.meter.error]
        total = add(self.parallel, mine)
        self.others = (total[0] - mine[0], total[1] - mine[1])

    # ------------------------------------------------------------------ communication

    @contextmanager
    def sampled(self) -> Iterator[None]:
        """Around a step: now and then, measure what share of it had a collective under way.

        Counted is the wall time in which at least one collective of this process (all-reduce, gather, send, ...) had
        begun and not ended, waiting for slower processes included, whether or not arithmetic went on beside it: a bound
        from above on what communication costs. Taken from torch's profiler over one step, at most 0.5% of the time, and
        on the CPU alone: on a GPU the profiler would have to wait for the device, so there the share is not known.
        """
        on_cpu = torch.device(self.runtime.device).type == "cpu"
        if self.parallel.world == 1 or not on_cpu or time.perf_counter() < self._sample_at:
            yield
            return
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else it writes of every start and stop on the terminal
        start = time.perf_counter()
        with torch.autograd.profiler.profile() as profile:
            begun = time.perf_counter()
            yield
            lasted = time.perf_counter() - begun
        spans = [
            (e.time_range.start, e.time_range.end) for e in profile.function_events if e.name.startswith(COLLECTIVES)
        ]
        self.communication = min(covered(spans) * 1e-6 / lasted, 1.0)
        now = time.perf_counter()
        self._sample_at = now + SAMPLE * (now - start - lasted)


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """The length of the union of intervals (start, end)."""
    total, until = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total


def add(parallel: Parallel, values: list[float]) -> list[float]:
    """The sum of each value over all processes."""
    if parallel.world == 1:
        return values
    total = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(total, group=parallel.flags)
    return total.tolist()


def local_rank() -> int:
    """Which process of its machine this is, as torchrun or Slurm says."""
    return int(os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID") or 0)
