"""What a transformer's sizes mean: parameters, FLOPs a token, bytes kept for the backward pass; and a U-Net's bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from ..errors import GsnnError

RULE = 12.75  # parameters of a block / width^2 with kv = width / 8 and hidden = 3.5 width: 2 + 2 / 8 + 3 * 3.5


@dataclass(frozen=True)
class Shape:
    """Sizes of a pre-norm transformer with SwiGLU, QK-norm, grouped heads and no biases.

    ``patch`` values make a token (a linear layer in, one out); with ``vocabulary`` tokens are words instead.
    """

    width: int
    layers: int
    heads: int
    kv_heads: int
    hidden: int
    patch: int = 256
    vocabulary: int = 0

    @property
    def head(self) -> int:
        return self.width // self.heads

    @property
    def kv_width(self) -> int:
        return self.kv_heads * self.head

    def block(self, tensor: int = 1) -> dict[str, tuple[int, ...]]:
        """The parameters of one block that one of ``tensor`` ranks holds, name -> shape [out, in]."""
        h, kv, f, t = self.width, self.kv_width, self.hidden, tensor
        norms = {"norm1": (h,), "norm2": (h,), "query_norm": (self.head,), "key_norm": (self.head,)}
        attention = {"query": (h // t, h), "key": (kv // t, h), "value": (kv // t, h), "out": (h, h // t)}
        return norms | attention | {"gate": (f // t, h), "up": (f // t, h), "down": (h, f // t)}

    def ends(self) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]:
        """The parameters before and behind the blocks, which tensor ranks do not divide."""
        h, n = self.width, self.vocabulary or self.patch
        if self.vocabulary:
            return {"embed": (n, h)}, {"norm": (h,), "head": (n, h)}
        return {"linear": (h, n), "modality": (1, h)}, {"norm": (h,), "head": (n, h), "bias": (n,)}

    def block_parameters(self, tensor: int = 1, shards: int = 1) -> int:
        """Of one block on a tensor rank; rows are padded to whole ``shards``, as fully_shard does."""
        return _count(self, tensor, shards)[0]

    def end_parameters(self, shards: int = 1, first: bool = True, last: bool = True) -> int:
        """Of what stands before the blocks (``first``) and behind them (``last``)."""
        _, before, behind = _count(self, 1, shards)
        return before * first + behind * last

    @property
    def parameters(self) -> int:
        return self.layers * self.block_parameters() + self.end_parameters()

    def flops(self, sequence: int) -> float:
        """FLOPs of one token forward and backward, 6 N + 12 L h s (Chowdhery et al. 2022, arXiv:2204.02311, App. B).

        Attention is counted whole, causal or not; looking a word up costs nothing.
        """
        used = self.parameters - self.vocabulary * self.width
        return 6.0 * used + 12.0 * self.layers * self.width * sequence


@lru_cache(1 << 14)
def _count(shape: Shape, tensor: int, shards: int) -> tuple[int, int, int]:
    def padded(shapes: dict[str, tuple[int, ...]]) -> int:
        return sum(-(-s[0] // shards) * shards * math.prod(s[1:]) for s in shapes.values())

    before, behind = shape.ends()
    return padded(shape.block(tensor)), padded(before), padded(behind)


def shape_for(parameters: float, patch: int = 256) -> Shape:
    """A sensible transformer of about so many parameters (within 1% above a million).

    As many heads as layers, of 128 values (64 below 1e9 parameters), which is the aspect of GPT-3, PaLM and Llama 3;
    eight key heads; the hidden width takes up what is left.
    """
    if not 1e4 <= parameters < 1e18:
        raise GsnnError(f"no transformer of {parameters:g} parameters can be planned; give 1e4 to 1e18")
    head = 128 if parameters >= 1e9 else 64 if parameters >= 3e6 else 16
    size = (parameters / RULE / head**2) ** (1 / 3)
    step = 16 if size > 48 else 8 if size > 12 else 4 if size > 6 else 1
    heads = max(1, round(size / step)) * step
    kv = next(k for k in (8, 4, 2, 1) if heads % k == 0 and heads >= k)
    width = heads * head
    left = (parameters - 2 * patch * width) / heads - 2 * width**2 - 2 * width * kv * head
    multiple = 256 if width >= 2048 else 64 if width >= 256 else 4
    hidden = max(multiple, round(left / (3 * width) / multiple) * multiple)
    return Shape(width, heads, heads, kv, hidden, patch)


# ---------------------------------------------------------------------- bytes kept for the backward pass


def activation(shape: Shape, tokens: float, *, bytes_each: int = 2, tensor: int = 1, recompute: bool = False) -> float:
    """Bytes that one block keeps for ``tokens`` tokens on a rank (already divided by the context degree).

    In float32 (``bytes_each`` 4), as the CPU computes it: of both norms the input, its normalised self and the output,
    which the matrices keep; query and key as they come, normalised and turned; value; attention's output twice; gate,
    up, silu(gate) and their product. In bfloat16 on an accelerator, whose norms are fused: the tokens themselves stay
    float32, and every matrix keeps its own bfloat16 copy of its input. Both keep attention's log-sum and the norms'
    scales in float32. Tensor ranks share the tokens of norms and the heads; what the matrices read is whole on each
    rank. With ``recompute`` only the block's input is kept.
    """
    h, kv, f, t = shape.width, shape.kv_width, shape.hidden, tensor
    if recompute:
        return tokens * 4 * h / t
    small = 4 * (2 + 2 * shape.heads + shape.kv_heads) / t
    if bytes_each == 4:
        return tokens * (4 * ((9 * h + 4 * kv + 4 * f) / t + 2 * h) + small)
    return tokens * ((8 * h + 2 * (3 * h + 3 * kv + 4 * f)) / t + 2 * 5 * h + small)


def korthikanti(sequence: int, batch: int, width: int, heads: int, tensor: int = 1, how: str = "none") -> float:
    """Bytes a layer of a GPT block in 16 bits with dropout: Korthikanti et al. 2022, arXiv:2205.05198, table 2.

    ``how``: "none" recomputes nothing, "selective" attention's inside, "full" the whole layer; sequence parallel.
    """
    sbh = sequence * batch * width
    if how == "full":
        return 2 * sbh / tensor
    return sbh / tensor * (34 + (5 * heads * sequence / width if how == "none" else 0))


def unet_activation(
    extent: Sequence[int],
    channels: int,
    levels: int,
    *,
    batch: int = 1,
    convolutions: int = 4,
    kept: float = 2.5,
    bytes_each: int = 2,
) -> float:
    """Bytes that a U-Net on a field keeps: the sum over levels of convolutions x kept x b C_l V_l B.

    Channels double and the ``extent`` (2-D or 3-D) halves from level to level, ``convolutions`` a level on the way down
    and up together, ``kept`` tensors a convolution (its input, the norm's, the activation's). In 3-D the total is 4/3
    of the top level, in 2-D twice: the top decides, and cutting it in space is the lever.
    """
    total = 0.0
    for level in range(levels):
        voxels = math.prod(side // 2**level for side in extent)
        total += convolutions * kept * batch * channels * 2**level * voxels * bytes_each
    return total


def halo(
    extent: Sequence[int], splits: Sequence[int], channels: int, kernel: int, batch: int = 1, bytes_each: int = 2
) -> float:
    """Bytes a rank sends for the borders of one convolution, forward and backward: 2 x 2 b C floor(k/2) area B."""
    local = [side // n for side, n in zip(extent, splits)]
    areas = (math.prod(local) // side for side, n in zip(local, splits) if n > 1)
    return 2 * sum(2 * batch * channels * (kernel // 2) * area * bytes_each for area in areas)
