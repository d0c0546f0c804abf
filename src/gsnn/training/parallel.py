"""A layout at work: the mesh of processes, what each holds of the network, and the sums over all of them.

Everything below is torch.distributed's own: a device mesh, DistributedDataParallel, FSDP2, tensor-parallel plans. One
process is the case where every method here does nothing.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn

from ..rng import Rng
from .runtime import Runtime
from .settings import Layout

Batch = dict[str, Tensor]
Terms = Callable[[Batch, Rng | None], dict[str, tuple[Tensor, Tensor]]]


class Parallel:
    """What one process is in a layout. Without a process group it is the whole of it."""

    def __init__(self, layout: Layout | None = None, device: str = "cpu"):
        self.layout = layout or Layout()
        self.world = self.layout.processes
        self.rank = dist.get_rank() if self.world > 1 else 0
        self.main = self.rank == 0
        self.data_ranks = self.layout.replicate * self.layout.shard
        self.data_rank = self.stage_rank = 0
        self.flags: dist.ProcessGroup | None = None
        self.pipeline: Any = None  # the stages of this process, where the network is cut into some
        self._ready = False  # to sum, in this step
        self.agreed = 0.0  # when (time.monotonic) the processes last did
        self.pace: deque[float] = deque(maxlen=64)  # seconds of the last steps
        self.own: deque[float] = deque(maxlen=64)  # of these, until this process began to wait for the others
        self._ddp: nn.Module | None = None
        self._roots: list[Any] = []  # FSDP roots
        if self.world == 1:
            return
        from torch.distributed.device_mesh import init_device_mesh

        one = self.layout
        kind = torch.device(device).type

        def mesh(**dimensions: int) -> Any:
            return init_device_mesh(kind, tuple(dimensions.values()), mesh_dim_names=tuple(dimensions))

        self.mesh = mesh(
            pipeline=one.pipeline, replicate=one.replicate, shard=one.shard * one.context, tensor=one.tensor
        )
        self.stage_rank, within = divmod(self.rank, self.world // one.pipeline)
        self.data_rank = within // (one.context * one.tensor)
        outer = one.pipeline * self.data_ranks
        self._loss = mesh(pipeline=one.pipeline, loss=self.data_ranks * one.context, tensor=one.tensor)["loss"]
        self._context = mesh(data=outer, context=one.context, tensor=one.tensor)["context"] if one.context > 1 else None
        self.flags = dist.new_group(backend="gloo")  # decisions are taken on the CPU, whatever the device

    # ------------------------------------------------------------------ the network

    def apply(self, model: nn.Module, runtime: Runtime) -> None:
        """Cut a whole, placed model in place. Every process gives the same weights."""
        one = self.layout
        if one.processes == 1 and not one.recompute:
            return
        objective = model.objective
        plan: dict[str, Any] = {}
        if one.tensor > 1:
            from .plans import tensor_plan

            plan = tensor_plan(objective.network)
        if one.context > 1:
            from .context import share_tokens

            share_tokens(objective.network, self._context, one.attention)
        if one.pipeline > 1:
            from .pipeline import Pipeline

            self.pipeline = Pipeline(model, one, self.mesh["pipeline"].get_group(), runtime)
            here = dict(objective.network.named_modules())
            plan = {name: style for name, style in plan.items() if name in here}
        blocks = dict(getattr(objective.network, "blocks", {}))
        if plan:
            from torch.distributed.tensor.parallel import parallelize_module

            parallelize_module(objective.network, self.mesh["tensor"], plan)
        if one.recompute:
            for block in blocks.values():
                block.forward = partial(torch.utils.checkpoint.checkpoint, block.forward, use_reentrant=False)
        if self.data_ranks * one.context == 1:
            return
        if self.world == one.replicate:
            self._ddp = _ddp(model)
            return
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

        half = runtime.dtype == "bfloat16"
        policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False) if half else None
        how: dict[str, Any] = {"mesh": self.mesh["shard"] if one.replicate == 1 else self.mesh["replicate", "shard"]}
        if policy:
            how["mp_policy"] = policy
        if self.pipeline is not None:
            how["reshard_after_forward"] = False  # micro-batches follow: each would gather the weights again
        else:
            self._roots.append(objective)
        for module in (*blocks.values(), *(self.pipeline.stages.values() if self.pipeline else [objective])):
            fully_shard(module, **how)
            module.set_gradient_divide_factor(1.0)  # a loss is a sum: gradients are summed, not averaged
            module.set_force_sum_reduction_for_comms(True)

    def terms(self, model: nn.Module) -> Terms:
        """``model.terms``, by way of what watches over its gradients."""
        if self.pipeline is not None:
            return self.pipeline.terms
        return self._ddp or model.terms

    @contextmanager
    def unsynchronised(self, wait: bool) -> Iterator[None]:
        """Within, gradients stay on their process while ``wait``: another piece of the same batch follows."""
        for root in self._roots:
            root.set_requires_gradient_sync(not wait)
        if self._ddp is not None and wait:
            with self._ddp.no_sync():
                yield
        else:
            yield

    # ------------------------------------------------------------------ sums

    def sum(self, value: Tensor) -> Tensor:
        """The sum over all processes that hold different objects or tokens."""
        if not self._ready:
            self._ready = True
            if self.agreed:
                self.own.append(time.monotonic() - self.agreed)
        if self.world > 1 and self._loss.size() > 1:
            value = value.detach().clone()
            dist.all_reduce(value, group=self._loss.get_group())
        return value

    def sum_terms(self, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        """``sum`` of several numbers at once."""
        return dict(zip(terms, self.sum(torch.stack(list(terms.values()))).unbind())) if terms else terms

    def norm(self, parameters: Sequence[nn.Parameter]) -> Float[Tensor, ""]:
        """The norm of the whole gradient."""
        parts = []
        for group in by_mesh(parameters):
            norm = nn.utils.get_total_norm([p.grad for p in group])
            parts.append(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)
        if self.layout.pipeline == 1 and len(parts) == 1:
            return parts[0]
        total = torch.stack(parts).square().sum()
        if self.layout.pipeline > 1:
            dist.all_reduce(total, group=self.mesh["pipeline"].get_group())
        return total.sqrt()

    # ------------------------------------------------------------------ decisions

    def agree(self, *wishes: bool) -> tuple[bool, ...]:
        """Each wish is granted to all if any process has it: clocks and signals differ, what follows must not."""
        if self.world == 1:
            return wishes
        flags = torch.tensor(wishes, dtype=torch.uint8)
        dist.all_reduce(flags, dist.ReduceOp.MAX, group=self.flags)
        now = time.monotonic()
        if self.agreed:
            self.pace.append(now - self.agreed)
        self.agreed, self._ready = now, False
        return tuple(bool(flag) for flag in flags)

    def straggler(self) -> tuple[int, float, float] | None:
        """(rank, its seconds a step, those of the median process) of a process that holds up the others, if any does.

        Counted are reading, preparing and the forward pass: what comes before a process first waits for the others.
        Slow is more than 1.5 times the median, if that is at least a tenth of the step.
        """
        if self.world == 1 or not self.own:
            return None
        mine = torch.tensor([statistics.median(self.own), statistics.median(self.pace)], dtype=torch.float64)
        all_of_them = [torch.empty_like(mine) for _ in range(self.world)]
        dist.all_gather(all_of_them, mine, group=self.flags)
        own = [one[0].item() for one in all_of_them]
        slowest, middle = max(own), statistics.median_low(own)
        if slowest > 1.5 * middle and slowest - middle > 0.1 * all_of_them[0][1].item():
            return own.index(slowest), slowest, middle
        return None

    def from_main(self, value: Any) -> Any:
        """What the first process has, as JSON can hold it."""
        if self.world == 1:
            return value
        import json

        text = json.dumps(value).encode() if self.main else b""
        size = torch.tensor([len(text)])
        dist.broadcast(size, 0, group=self.flags)
        data = torch.frombuffer(bytearray(text), dtype=torch.uint8) if self.main else torch.empty(0, dtype=torch.uint8)
        data = data if self.main else torch.empty(int(size), dtype=torch.uint8)
        dist.broadcast(data, 0, group=self.flags)
        return json.loads(data.numpy().tobytes())

    def barrier(self) -> None:
        if self.world > 1:
            dist.barrier(group=self.flags)


def by_mesh(parameters: Sequence[Tensor]) -> list[list[Tensor]]:
    """Tensors in groups of one device mesh (or none): operations on many tensors at once want them alike."""
    groups: dict[Any, list[Tensor]] = {}
    for parameter in parameters:
        groups.setdefault(getattr(parameter, "device_mesh", None), []).append(parameter)
    return list(groups.values())


def local(tensor: Tensor) -> Tensor:
    """The part of a tensor that this process holds: a view, so that writing to it writes to the tensor."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


ALONE = Parallel()


class _Call(nn.Module):
    """A model whose call is its terms: what DistributedDataParallel wraps."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, batch: Batch, rng: Rng | None) -> Any:
        return self.model.terms(batch, rng)


def _ddp(model: nn.Module) -> nn.Module:
    from torch.nn.parallel import DistributedDataParallel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch 2.13 has another name for it, 2.11 has not
        made = DistributedDataParallel(_Call(model), broadcast_buffers=False, gradient_as_bucket_view=True)

    def add(state, bucket):  # torch reads annotations, and does not understand them as text
        work = dist.all_reduce(bucket.buffer(), async_op=True)
        return work.get_future().then(lambda done: done.value()[0])

    made.register_comm_hook(None, add)  # a sum: DistributedDataParallel by itself would take the mean
    return made
