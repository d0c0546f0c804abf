"""What a network's arithmetic is, counted once without doing it, and what a device could do at its best."""

from __future__ import annotations

import copy
import re
import time
from contextlib import nullcontext
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from ..rng import Rng
from ..scale.devices import DEVICES

OTHER_FORMS = ("pcie", "nvl", "mig")  # of a GPU in the table: slower than what the table says


def skeleton(model: nn.Module) -> nn.Module:
    """A copy of ``model`` on the device "meta": shapes without numbers, which take no memory and no time."""
    memo: dict[int, Any] = {}
    for parameter in model.parameters():
        empty = torch.empty_like(parameter, device="meta")
        memo[id(parameter)] = nn.Parameter(empty, requires_grad=parameter.requires_grad)
    for buffer in model.buffers():
        memo[id(buffer)] = torch.empty_like(buffer, device="meta")
    return copy.deepcopy(model, memo)


def count(bones: nn.Module, batch: dict[str, Tensor]) -> float | None:
    """FLOPs of one object, forward and backward, of a model's :func:`skeleton` on a batch; None if it cannot be told.

    torch's counter: matrix products, convolutions and attention, two FLOPs a multiply-add; norms and activations are
    not counted, and what does not learn is not differentiated. Attention is counted whole, causal or not, and nothing
    is counted twice that is computed twice (flash attention, recomputation): the model FLOPs of Chowdhery et al. 2022
    (arXiv:2204.02311, App. B). A network whose arithmetic depends on the numbers has no shapes without them: None.
    """
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    shapes = {name: torch.empty_like(value, device="meta") for name, value in batch.items()}
    try:  # attention as plain products: not every kernel of it is known to the counter
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            loss = torch.stack([total for total, _ in bones.terms(shapes, Rng(0)).values()]).sum()
            learning = [parameter for parameter in bones.parameters() if parameter.requires_grad]
            torch.autograd.grad(loss, learning, allow_unused=True)
    except (RuntimeError, NotImplementedError, TypeError, ValueError):
        return None
    return counter.get_total_flops() / max(len(batch["row"]), 1)


def peak(device: str, dtype: str) -> tuple[float, str]:
    """FLOP/s that one device can reach, and how that is known.

    A GPU of the planner's table: the dense bfloat16 peak of its datasheet, whatever ``dtype`` the training has. Any
    other device: the best of some products of two square matrices in ``dtype`` ("float32" or "bfloat16"), which is what
    its library reaches and not what its maker prints. Measured once a process, in about 0.1 s.
    """
    kind = torch.device(device).type
    name = torch.cuda.get_device_name(device) if kind == "cuda" else kind
    known = datasheet(name)
    return known or _measured(device, dtype, torch.get_num_threads() if kind == "cpu" else 0, name)


def datasheet(name: str) -> tuple[float, str] | None:
    """The peak of a GPU by the name that its driver gives it, if the table has it in that form."""
    words = re.findall(r"[a-z0-9]+", name.lower())
    if any(form in words for form in OTHER_FORMS):
        return None
    found = [one for one in DEVICES.values() if one.name in words]
    return (found[0].peak, f"datasheet of {found[0].name}, dense bfloat16") if found else None


@lru_cache
def _measured(device: str, dtype: str, threads: int, name: str) -> tuple[float, str]:
    gpu = torch.device(device).type == "cuda"
    side, rounds = (4096, 8) if gpu else (768, 6)
    wait = torch.cuda.synchronize if gpu else nullcontext
    with torch.inference_mode():
        square = torch.ones(side, side, dtype=getattr(torch, dtype), device=device)
        out, seconds = torch.empty_like(square), []
        for _ in range(rounds):
            wait()
            start = time.perf_counter()
            torch.mm(square, square, out=out)
            wait()
            seconds.append(time.perf_counter() - start)
    on = f"{name}, {threads} thread{'s' * (threads != 1)}" if threads else name
    return 2.0 * side**3 / min(seconds), f"measured: products of {side} x {side} matrices in {dtype} on {on}"
