"""Attention over tokens that several processes share out: by heads (Ulysses) or around a ring.

Ulysses (Jacobs et al. 2023, arXiv:2309.14509): an all-to-all gives each process every token of some heads. Ring (Liu,
Zaharia & Abbeel 2023, arXiv:2310.01889): keys and values travel around while partial softmaxes are merged. Both are
exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn

Heads = Float[Tensor, "object head token dim"]
Attend = Callable[[Heads, Heads, Heads], Heads]


def share_tokens(network: nn.Module, mesh: Any, kind: str) -> None:
    """Give the network this process's slice of the tokens, and its attention the way to the others."""
    group = mesh.get_group()
    network.part = (mesh.get_local_rank(), mesh.size())
    for block in network.blocks.values():
        attention = block.attention
        if kind == "ulysses":
            attention.attend = partial(ulysses, attend=attention.attend, group=group)
        else:
            attention.attend = partial(ring, causal=attention.causal, group=group)


def ulysses(q: Heads, k: Heads, v: Heads, *, attend: Attend, group: dist.ProcessGroup) -> Heads:
    """``attend`` over all tokens; q, k, v hold this process's tokens of all heads, and so does the result."""
    whole = attend(*(_heads_for_tokens(x, group) for x in (q, k, v)))
    return _tokens_for_heads(whole, group)


def _all_to_all(x: Tensor, group: dist.ProcessGroup) -> Tensor:
    from torch.distributed._functional_collectives import all_to_all_single_autograd

    splits = [1] * len(x)
    return torch.ops._c10d_functional.wait_tensor(all_to_all_single_autograd(x.contiguous(), splits, splits, group))


def _heads_for_tokens(x: Heads, group: dist.ProcessGroup) -> Heads:
    """[object, head, token / c, dim] -> [object, head / c, token, dim]."""
    count = group.size()
    cut = x.unflatten(1, (count, -1)).movedim(1, 0)  # first axis: to whom; then: from whom, a slice of tokens each
    return _all_to_all(cut, group).movedim(0, 2).flatten(2, 3)


def _tokens_for_heads(x: Heads, group: dist.ProcessGroup) -> Heads:
    """The inverse of ``_heads_for_tokens``."""
    count = group.size()
    cut = x.unflatten(2, (count, -1)).movedim(2, 0)
    return _all_to_all(cut, group).movedim(0, 1).flatten(1, 2)


def ring(q: Heads, k: Heads, v: Heads, *, causal: bool, group: dist.ProcessGroup) -> Heads:
    """Attention of this process's queries to the keys and values of all processes of ``group``.

    Never more than one foreign slice of keys and values is held; the backward pass sends them around again.
    """
    return _Ring.apply(q, k, v, causal, group)


class _Ring(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, causal: bool, group: dist.ProcessGroup) -> Tensor:
        rank, count = group.rank(), group.size()
        out, lse = None, None
        travelling = torch.stack([k, v])
        for step in range(count):
            source = (rank - step) % count
            arriving = _pass_on(travelling, group) if step + 1 < count else None
            if not (causal and source > rank):
                scores = _scores(q, travelling[0], causal and source == rank)
                part_lse = scores.logsumexp(-1, keepdim=True)
                part = _mix((scores - part_lse).exp(), travelling[1])
                if out is None:
                    out, lse = part, part_lse
                else:
                    both = torch.logaddexp(lse, part_lse)
                    out = out * (lse - both).exp() + part * (part_lse - both).exp()
                    lse = both
            travelling = arriving() if arriving else travelling
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.causal, ctx.group = causal, group
        return out.to(q.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, lse = ctx.saved_tensors
        group, causal = ctx.group, ctx.causal
        rank, count = group.rank(), group.size()
        grad = grad.float()
        delta = (grad * out).sum(-1, keepdim=True)
        scale = 1 / math.sqrt(q.shape[-1])
        dq = torch.zeros_like(q, dtype=torch.float32)
        travelling = torch.stack([k, v]).float()
        gradients = torch.zeros_like(travelling)  # of the keys and values that are here; they travel with them
        for step in range(count):
            source = (rank - step) % count
            arriving = _pass_on(travelling, group) if step + 1 < count else None
            if not (causal and source > rank):
                key, value = travelling
                p = (_scores(q, key, causal and source == rank) - lse).exp()
                ds = p * (_spread(grad, value) - delta) * scale
                dq += _mix(ds, key)
                gradients += torch.stack([_gather(ds, q.float(), key), _gather(p, grad, key)])
            gradients = _pass_on(gradients, group)()
            travelling = arriving() if arriving else travelling
        dk, dv = gradients
        return dq.to(q.dtype), dk.to(k.dtype), dv.to(v.dtype), None, None


def _scores(q: Tensor, k: Tensor, masked: bool) -> Tensor:
    """Scaled products in float32, [object, head, query, key]; ``masked``: no query sees a later key."""
    scores = _spread(q.float(), k.float()) / math.sqrt(q.shape[-1])
    if masked:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
        scores = scores.masked_fill(later, -math.inf)
    return scores


def _spread(x: Tensor, keys: Tensor) -> Tensor:
    """x keys^T, each key head serving its group of query heads."""
    return (x.unflatten(1, (keys.shape[1], -1)) @ keys.unsqueeze(2).transpose(-1, -2)).flatten(1, 2)


def _mix(p: Tensor, values: Tensor) -> Tensor:
    """p values, likewise."""
    return (p.unflatten(1, (values.shape[1], -1)) @ values.float().unsqueeze(2)).flatten(1, 2)


def _gather(p: Tensor, x: Tensor, keys: Tensor) -> Tensor:
    """p^T x, summed over the query heads of each key head."""
    p, x = (t.unflatten(1, (keys.shape[1], -1)) for t in (p, x))
    return (p.transpose(-1, -2) @ x).sum(2)


def _pass_on(x: Tensor, group: dist.ProcessGroup) -> Callable[[], Tensor]:
    """Begin to send a tensor to the next process of the ring; what is returned waits for the previous one's."""
    rank, count = group.rank(), group.size()
    got = torch.empty_like(x, memory_format=torch.contiguous_format)
    to, source = (dist.get_global_rank(group, (rank + d) % count) for d in (1, -1))
    sending = x.contiguous()
    works = dist.batch_isend_irecv(
        [dist.P2POp(dist.isend, sending, to, group), dist.P2POp(dist.irecv, got, source, group)]
    )

    def wait() -> Tensor:
        for work in works:
            work.wait()
        return got

    return wait
