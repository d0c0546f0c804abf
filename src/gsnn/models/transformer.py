"""The transformer over tokens of the sky: blocks that a pipeline can take apart, in sizes from a million to 70 billion.

Pre-norm blocks of attention and SwiGLU as in Llama (Touvron et al. 2023, arXiv:2302.13971). Nothing here knows of
devices: how the network is cut over them stands beside it, in ``gsnn.training``.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..data.schema import Schema
from ..errors import GsnnError
from . import layers as shared
from .attention import Attention, Places, RMSNorm
from .initialise import initialise, usual
from .tokens import READS, Tokens

Size = Literal["1M", "5M", "20M", "100M", "300M", "1B", "3B", "7B", "13B", "30B", "70B"]


class Shape(NamedTuple):
    """Width of a token, number of blocks, heads of queries, heads of keys and values."""

    width: int
    layers: int
    heads: int
    kv_heads: int


SIZES: dict[str, Shape] = {  # by the parameters of the blocks
    "1M": Shape(128, 5, 4, 4),
    "5M": Shape(256, 6, 4, 4),
    "20M": Shape(512, 6, 8, 8),
    "100M": Shape(768, 14, 12, 12),
    "300M": Shape(1024, 24, 16, 16),
    "1B": Shape(2048, 22, 16, 4),
    "3B": Shape(3072, 30, 24, 8),
    "7B": Shape(4096, 40, 32, 8),
    "13B": Shape(5120, 48, 40, 8),
    "30B": Shape(7168, 56, 56, 8),
    "70B": Shape(8192, 104, 64, 8),
}


def hidden(width: int) -> int:
    """Values inside a SwiGLU: 8/3 of the width, so that its three matrices weigh as much as two of 4, in 64s."""
    return 64 * math.ceil(8 * width / 3 / 64)


def parameters(
    width: int, layers: int, heads: int, kv_heads: int, *, values: int = 192, kinds: int = 1, outputs: int = 192
) -> int:
    """The exact number of parameters of the network.

    ``values`` is the sum over the columns of the values of one token (192: patches of 8 x 8 pixels in three bands),
    ``kinds`` the modality embeddings (one a dense column, one a number).
    """
    dim = width // heads
    attention = 2 * width * heads * dim + 2 * width * kv_heads * dim + 2 * dim
    block = attention + 3 * width * hidden(width) + 2 * width
    return (values + kinds) * width + layers * block + width + width * outputs + outputs


class SwiGLU(nn.Module):
    """down(silu(gate x) * up x) (Shazeer 2020, arXiv:2002.05202)."""

    def __init__(self, width: int):
        super().__init__()
        self.gate = nn.Linear(width, hidden(width), bias=False)
        self.up = nn.Linear(width, hidden(width), bias=False)
        self.down = nn.Linear(hidden(width), width, bias=False)

    def forward(self, x: Float[Tensor, "object token width"]) -> Float[Tensor, "object token width"]:
        return self.down(nn.functional.silu(self.gate(x)) * self.up(x))


class Block(nn.Module):
    """Attention, then SwiGLU, each on normalised tokens and added to them (Xiong et al. 2020, arXiv:2002.04745)."""

    def __init__(self, shape: Shape, places: Places, causal: bool, dropout: float):
        super().__init__()
        self.norm1, self.norm2 = RMSNorm(shape.width), RMSNorm(shape.width)
        self.attention = Attention(shape.width, shape.heads, shape.kv_heads, places, causal)
        self.mlp, self.dropout = SwiGLU(shape.width), nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "object token width"]) -> Float[Tensor, "object token width"]:
        x = x + self.dropout(self.attention(self.norm1(x)))
        return x + self.dropout(self.mlp(self.norm2(x)))


class MaskToken(nn.Module):
    """The learnt token that stands where a token is hidden (Devlin et al. 2019, arXiv:1810.04805)."""

    def __init__(self, width: int):
        super().__init__()
        self.token = nn.Parameter(torch.zeros(width))

    def forward(
        self, tokens: Float[Tensor, "object token width"], hidden: Float[Tensor, "object token 1"]
    ) -> Float[Tensor, "object token width"]:
        return tokens + hidden * self.token


class Transformer(nn.Module):
    """Columns become tokens, tokens pass ``layers`` blocks, and their mean is what the head sees.

    ``size`` names a row of ``SIZES`` (without it the smallest), of which ``width``, ``layers``, ``heads`` and
    ``kv_heads`` may each be given another value. Images are cut into patches of ``patch`` x ``patch`` pixels, spectra
    and light curves into segments of ``segment`` values, and each number is a token; columns follow one another in the
    schema's order. With ``causal`` a token sees itself and those before it. ``rotary = "2d"`` places patches by row and
    column rather than by their number.

    For pipelines: :meth:`embed`, each of ``blocks``, then :meth:`read` (every token) or :meth:`answer` (an object);
    ``after`` names the parts that stand after the blocks, all others stand before them.
    For context parallelism: ``part = (index, count)`` leaves this process the index-th of count equal slices of tokens;
    means over the tokens are then of that slice.
    """

    after = ("norm", "head")

    def __init__(
        self,
        inputs: Schema,
        outputs: int,
        *,
        size: Size | None = None,
        width: int | None = None,
        layers: int | None = None,
        heads: int | None = None,
        kv_heads: int | None = None,
        patch: int = 8,
        segment: int = 32,
        causal: bool = False,
        rotary: Literal["1d", "2d"] = "1d",
        dropout: float = 0.0,
    ):
        super().__init__()
        shared.at_least(1, outputs=outputs, patch=patch, segment=segment)
        axes = 2 if rotary == "2d" else 1
        self.shape = shape_of(size, width, layers, heads, kv_heads, axes)
        self.causal = causal
        self.embedding = nn.ModuleDict()
        for i, column in enumerate(shared.readable(inputs, "transformer", READS)):
            self.embedding[f"{column.kind}{i}"] = Tokens(column, self.shape.width, patch, segment)
        self.token_size = max(one.size for one in self.embedding.values())
        self.places = Places(tuple(one.grid for one in self.embedding.values()), axes)
        self.blocks = nn.ModuleDict(
            {str(i): Block(self.shape, self.places, causal, dropout) for i in range(self.shape.layers)}
        )
        self.norm = RMSNorm(self.shape.width)
        self.head = nn.Linear(self.shape.width, outputs)
        self.mask: MaskToken | None = None
        if not self.head.weight.is_meta:
            initialise(self, int(torch.randint(2**62, ())))

    def initial(self, name: str, shape: tuple[int, ...]) -> tuple[float, float]:
        """Mean and spread of a parameter before training, for :func:`~gsnn.models.initialise.initialise`.

        What a block adds is scaled by 1 / sqrt(2 layers), so that the sum of all keeps its size (Radford et al. 2019).
        Modalities are as large as the tokens they join: a norm would otherwise take a number's size away.
        """
        mean, spread = usual(name, shape)
        if name.endswith((".o.weight", ".down.weight")):
            spread /= math.sqrt(2 * self.shape.layers)
        return mean, 1.0 if name.endswith(".modality") else spread

    @property
    def tokens(self) -> int:
        """Tokens of an object, of all slices."""
        return self.places.count

    @property
    def heads(self) -> int:
        """Heads of queries."""
        return self.shape.heads

    @property
    def kv_heads(self) -> int:
        """Heads of keys and values."""
        return self.shape.kv_heads

    @property
    def hidden(self) -> int:
        """Values inside a block's SwiGLU."""
        return hidden(self.shape.width)

    @property
    def part(self) -> tuple[int, int]:
        """(index, count): this process holds the index-th of count equal slices of the tokens."""
        return self.places.part

    @part.setter
    def part(self, part: tuple[int, int]) -> None:
        index, count = part
        if not 0 <= index < count or self.tokens % count:
            raise GsnnError(
                f"{self.tokens} tokens cannot be cut into {count} equal slices (slice {index} was asked for); "
                "choose a context that divides the number of tokens, or another patch"
            )
        self.places.part = part

    def add_mask(self) -> None:
        """Learn the token that stands for hidden ones; :meth:`embed` then takes ``mask``."""
        with torch.device(self.head.weight.device):
            self.mask = MaskToken(self.shape.width)

    def pieces(self, **columns: Tensor) -> tuple[Float[Tensor, "object token value"], Bool[Tensor, "token value"]]:
        """The values behind every token, of all slices, filled up to ``token_size``; and which of them are real."""
        values, real = [], []
        for one in self.embedding.values():
            room = (0, self.token_size - one.size)
            values.append(nn.functional.pad(one.cut(columns[one.name]), room))
            real.append(nn.functional.pad(one.inside(values[-1].device), room))
        return torch.cat(values, 1), torch.cat(real)

    def embed(
        self, mask: Bool[Tensor, "object token"] | None = None, /, **columns: Tensor
    ) -> Float[Tensor, "object token width"]:
        """The tokens of this process; ``mask`` (over all tokens) says which are hidden."""
        if mask is None:
            tokens = torch.cat([one(columns[one.name]) for one in self.embedding.values()], 1)
            return tokens[:, self.places.held]
        if self.mask is None:
            raise GsnnError("this network has no token for what is masked: call add_mask() when it is built")
        covered = mask[..., None].float()
        each = zip(self.embedding.values(), covered.split([one.count for one in self.embedding.values()], 1))
        tokens = self.mask(torch.cat([one(columns[one.name], part) for one, part in each], 1), covered)
        return tokens[:, self.places.held]

    def encode(
        self, mask: Bool[Tensor, "object token"] | None = None, /, **columns: Tensor
    ) -> Float[Tensor, "object token width"]:
        """Tokens after every block."""
        tokens = self.embed(mask, **columns)
        for block in self.blocks.values():
            tokens = block(tokens)
        return tokens

    def read(self, tokens: Float[Tensor, "object token width"]) -> Float[Tensor, "object token output"]:
        """The head's answer at each token."""
        return shared.head(self.head, self.norm(tokens))

    def pool(self, tokens: Float[Tensor, "object token width"]) -> Float[Tensor, "object width"]:
        """The mean of the tokens, each normalised."""
        return self.norm(tokens).mean(1)

    def features(self, **columns: Tensor) -> Float[Tensor, "object width"]:
        """What the head sees of an object."""
        return self.pool(self.encode(**columns))

    def answer(self, tokens: Float[Tensor, "object token width"]) -> Float[Tensor, "object output"]:
        """The head's answer for an object."""
        return shared.head(self.head, self.pool(tokens))

    def forward(self, **columns: Tensor) -> Float[Tensor, "object output"]:
        return self.answer(self.encode(**columns))


def shape_of(
    size: str | None,
    width: int | None = None,
    layers: int | None = None,
    heads: int | None = None,
    kv_heads: int | None = None,
    axes: int = 1,
) -> Shape:
    """A row of ``SIZES`` with some values changed; GsnnError where heads do not fit the width."""
    table = SIZES[size or "1M"]
    width, layers = (b if a is None else a for a, b in ((width, table.width), (layers, table.layers)))
    if heads is None:  # of 64 values where they fit
        heads = table.heads if width == table.width else max(width // math.gcd(width, 64), 1)
    if kv_heads is None:
        kv_heads = table.kv_heads if heads == table.heads else heads
    shape = Shape(width, layers, heads, kv_heads)
    shared.at_least(1, **shape._asdict())
    if width % heads or (width // heads) % (2 * axes):
        raise GsnnError(
            f"width = {width} cannot be shared by heads = {heads}: each head needs a multiple of {2 * axes} values, "
            "which are turned in pairs"
        )
    if heads % kv_heads:
        raise GsnnError(f"heads = {heads} cannot share kv_heads = {kv_heads}: choose one that divides the other")
    return shape
