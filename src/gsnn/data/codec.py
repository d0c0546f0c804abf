"""Codecs of columns: how the numbers of an image, a spectrum, a strain or a field lie in the store.

Noise cannot be compressed, and most bits of a float pixel are noise. ``quantise`` keeps what can be measured: whole
steps of sigma/16, where sigma is the noise of that very image and band, after a subtractive dither that keeps sums
unbiased (Pence, Seaman & White 2009, PASP 121, 414; Pence, White & Seaman 2010, PASP 122, 1065). Rounding by ``step``
adds step^2/12 to the variance: 0.016% to the noise at sigma/16. NaN, infinities and exact zeros stay what they are;
an image and band without noise is kept bit by bit. ``lossless`` keeps every bit of every value.

A row is one binary value: a header with mode, step and zero point of each *tile* (a band of an image, a row of a
spectrum), then the bytes of its words by significance, so that those that hardly vary lie together; Lance compresses it
by zstd. The dither is a function of (row number at writing, index) and its address stands in the header, so that a
value decodes by itself wherever it lies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float32, Float64, Int64, UInt8

from ..errors import GsnnError, suggest
from .schema import DENSE, Column, Schema
from .values import numpy_of

CODECS = ("quantise", "lossless")
STEPS_PER_SIGMA = 16
_VERSION = 1
_LOSSLESS, _SPECIAL = 0, 128  # a mode is the bytes a word, 0 for lossless; the high bit says that special words occur
_SEGMENT = 1 << 15  # values that share one address of the table of dithers
_CENTRE = 128  # the word of the zero point: noise of +-8 sigma then leaves all but the lowest byte alone
_SAMPLE = 1024  # values looked at for the zero point, which sets how well a tile compresses and nothing else
_ZSTD = {"lance-encoding:compression": "zstd", "lance-encoding:compression-level": "3"}


def parsed(spec: str, name: str) -> tuple[str, float]:
    """``"quantise"``, ``"quantise:32"`` or ``"lossless"`` as the codec and its steps a sigma."""
    codec, colon, steps = spec.partition(":")
    if codec not in CODECS:
        raise GsnnError(f"column {name!r}: no codec {codec!r}; {suggest(codec, CODECS)}")
    if not colon:
        return codec, STEPS_PER_SIGMA
    try:
        count = float(steps)
    except ValueError:
        count = 0.0
    if codec != "quantise" or not 1 <= count <= 4096:
        raise GsnnError(
            f'column {name!r}: no codec {spec!r}; "quantise:16" means steps of a 16th of the noise (1 to 4096)'
        )
    return codec, count


def choose(schema: Schema, codecs: Mapping[str, str]) -> Schema:
    """The schema with these codecs; a sentence where a column cannot have the one that it is given."""
    for name, spec in codecs.items():
        schema = schema.with_column(replace(schema.column(name), codec=spec))
    for column in schema.columns:
        if column.codec:
            _check(column)
    return schema


def _check(column: Column) -> None:
    codec, _ = parsed(column.codec, column.name)
    if column.kind not in DENSE:
        raise GsnnError(f"column {column.name!r} is a {column.kind}; codecs are for {', '.join(DENSE)} columns")
    if codec == "quantise" and column.dtype not in ("float32", "float64"):
        raise GsnnError(f'column {column.name!r} holds {column.dtype}, which has no noise to measure; use "lossless"')


def field(column: Column) -> pa.Field:
    """How a column lies in the store."""
    if column.codec:
        return pa.field(column.name, pa.large_binary(), metadata=_ZSTD)
    return pa.field(column.name, column.arrow_type())


def tiles(column: Column) -> int:
    """How many parts of an object have a noise of their own: the bands of an image, the rows of a spectrum."""
    own = len(column.shape) > (2 if column.kind == "image" else 1) and column.kind != "field"
    return column.shape[0] if own else 1


def noise(values: Float64[np.ndarray, " n"]) -> float:
    """The noise of neighbouring values: 1.4826 times the median of |2 x_i - x_(i-2) - x_(i+2)| / sqrt(6), which slopes
    and lines do not move (Stoehr et al. 2008, ASP Conf. 394, 505); first differences where there are few. 0 for none.
    """
    if len(values) >= 16:
        difference, scale = 2 * values[2:-2] - values[:-4] - values[4:], np.sqrt(6)
    else:
        difference, scale = np.diff(values), np.sqrt(2)
    good = np.isfinite(difference)
    difference = np.abs(difference if good.all() else difference[good])
    return 1.482602 / scale * _middle(difference) if len(difference) else 0.0


def _middle(values: Float64[np.ndarray, " n"]) -> float:
    """The median (of an even count, the upper of the two in the middle)."""
    return float(np.partition(values, len(values) // 2)[len(values) // 2])


# ---------------------------------------------------------------------------- dither


@lru_cache(maxsize=1)
def _table() -> Float32[np.ndarray, " m"]:
    import torch

    from .. import rng

    return rng.uniform(0, "dither", torch.zeros(1, dtype=torch.int64), 2 * _SEGMENT)[0].numpy() - np.float32(0.5)


def _addresses(rows: Int64[np.ndarray, " n"], count: int, length: int) -> Int64[np.ndarray, "n tile segment"]:
    import torch

    from .. import rng

    segments = -(-length // _SEGMENT)
    words = rng.bits(0, "dither address", torch.from_numpy(rows), count * segments).numpy()
    return (words & (_SEGMENT - 1)).reshape(len(rows), count, segments)


def _dither(addresses: Int64[np.ndarray, " segment"], length: int) -> Float32[np.ndarray, " length"]:
    """Numbers in [-0.5, 0.5) for the values of a tile."""
    table = _table()
    if len(addresses) == 1:
        return table[addresses[0] : addresses[0] + length]
    return np.concatenate([table[a : a + _SEGMENT] for a in addresses])[:length]


# ---------------------------------------------------------------------------- a row


def _header(count: int) -> np.dtype:
    return np.dtype(
        [
            ("version", "u1"),
            ("row", "<i8"),
            ("mode", "u1", (count,)),
            ("step", "<f8", (count,)),
            ("zero", "<f8", (count,)),
        ]
    )


def _special(word: np.dtype) -> dict[int, float]:
    """The words at the ends of the range stand for what is no number, and for nothing at all."""
    low, high = np.iinfo(word).min, np.iinfo(word).max
    return {low: np.nan, low + 1: -np.inf, low + 2: 0.0, high: np.inf}


def _words(x: np.ndarray, dither: np.ndarray, steps: float) -> tuple[np.ndarray, int, float, float] | None:
    """A tile as whole steps, with mode, step and zero point; None where it must stay as it is."""
    with np.errstate(all="ignore"):
        wide = x.astype(np.float64)
        plain = np.isfinite(wide) & (wide != 0)
        every = bool(plain.all())
        step = noise(wide) / steps
        some = wide if every else wide[plain]
        if not (len(some) and np.isfinite(step) and step > np.finfo(np.float64).tiny):
            return None
        zero = _middle(some[:: max(len(some) // _SAMPLE, 1)]) - _CENTRE * step
        code = np.rint((wide - zero) / step + dither)
    inner = code if every else code[plain]
    low, high = float(inner.min()), float(inner.max())
    if low >= -(2**15) + 3 and high < 2**15 - 1:
        word = np.dtype("<i2")
    elif max(-low, high) < (2**30 if x.dtype.itemsize == 8 else 2**24):
        word = np.dtype("<i4")
    else:
        return None
    if every:
        return code.astype(word), word.itemsize, step, zero
    out = np.where(plain, code, 0).astype(word)
    for mark, value in _special(word).items():
        out[np.isnan(wide) if np.isnan(value) else wide == value] = mark
    return out, word.itemsize | _SPECIAL, step, zero


def _by_significance(values: np.ndarray) -> np.ndarray:
    """The lowest bytes of all values, then the next ones, and so on."""
    words = values.view(f"<u{values.dtype.itemsize}")
    return np.concatenate([(words >> words.dtype.type(8 * k)).astype(np.uint8) for k in range(words.dtype.itemsize)])


def _together(planes: UInt8[np.ndarray, " m"], dtype: np.dtype) -> np.ndarray:
    parts = planes.reshape(dtype.itemsize, -1)
    words = parts[0].astype(f"<u{dtype.itemsize}")
    for k, part in enumerate(parts[1:], 1):
        if part.any():
            words |= part.astype(words.dtype) << words.dtype.type(8 * k)
    return words.view(dtype)


def encode(values: np.ndarray, column: Column, rows: Int64[np.ndarray, " n"]) -> list[bytes]:
    """Each object of ``values`` [n, *shape] as one binary value; ``rows`` are the addresses of the dither."""
    codec, steps = parsed(column.codec, column.name)
    count = tiles(column)
    dtype = np.dtype(column.dtype).newbyteorder("<")
    parts = np.ascontiguousarray(values, dtype=dtype).reshape(len(values), count, -1)
    length = parts.shape[2]
    addresses = _addresses(rows, count, length) if codec == "quantise" else None
    out = []
    for i, row in enumerate(rows):
        header, body = np.zeros((), _header(count)), []
        header["version"], header["row"] = _VERSION, row
        for t in range(count):
            tile = parts[i, t]
            made = None if addresses is None else _words(tile, _dither(addresses[i, t], length), steps)
            if made:
                tile, header["mode"][t], header["step"][t], header["zero"][t] = made
            body.append(_by_significance(tile))
        out.append(header.tobytes() + np.concatenate(body).tobytes())
    return out


def stored(values: pa.Array, column: Column, rows: Int64[np.ndarray, " n"]) -> pa.Array:
    """An Arrow column as it is stored; a missing object stays missing."""
    if not column.codec:
        return values
    blobs: list[Any] = encode(numpy_of(values), column, rows)
    if values.null_count:
        known = values.is_valid().to_pylist()
        blobs = [blob if there else None for blob, there in zip(blobs, known)]
    return pa.array(blobs, pa.large_binary())


def decode(stored: pa.Array, column: Column) -> np.ndarray:
    """The values [n, *shape] of a stored column; missing objects are NaN (0 where the type has none)."""
    count, dtype = tiles(column), np.dtype(column.dtype).newbyteorder("<")
    length, head = column.size // count, _header(count).itemsize
    out = np.full((len(stored), count, length), np.nan if dtype.kind == "f" else 0, dtype)
    known = np.flatnonzero(stored.is_valid().to_numpy(zero_copy_only=False))
    if not len(known):
        return out.reshape(len(stored), *column.shape)
    _, offsets, data = stored.buffers()
    ends = np.frombuffer(offsets, np.int64)[stored.offset : stored.offset + len(stored) + 1]
    sizes, data = np.diff(ends)[known], np.frombuffer(data, np.uint8)
    if (sizes < head).any():
        raise _damaged(column)
    headers = data[ends[known][:, None] + np.arange(head)].view(_header(count))[:, 0]
    modes = headers["mode"] & ~np.uint8(_SPECIAL)
    widths = length * np.where(modes == _LOSSLESS, dtype.itemsize, modes).astype(np.int64)
    strange = (headers["version"] != _VERSION) | (head + widths.sum(1) != sizes) | ~np.isin(modes, (0, 2, 4)).all(1)
    if strange.any():
        raise _damaged(column)
    begins = ends[known][:, None] + head + np.cumsum(widths, 1) - widths
    addresses = _addresses(headers["row"].astype(np.int64), count, length) if modes.any() else None
    with np.errstate(all="ignore"):
        for k, i in enumerate(known):
            header = headers[k]
            for t, (mode, step, zero) in enumerate(zip(*(header[name].tolist() for name in ("mode", "step", "zero")))):
                part = data[begins[k, t] : begins[k, t] + widths[k, t]]
                if mode == _LOSSLESS:
                    out[i, t] = _together(part, dtype)
                else:
                    _values(out[i, t], part, mode, step, zero, _dither(addresses[k, t], length))
    return out.reshape(len(stored), *column.shape)


def _values(out: np.ndarray, part: np.ndarray, mode: int, step: float, zero: float, dither: np.ndarray) -> None:
    """A tile of steps as numbers, into ``out``."""
    words = _together(part, np.dtype(f"<i{mode & ~_SPECIAL}"))
    exact = np.float32 if words.itemsize == 2 and out.itemsize == 4 else np.float64
    value = words.astype(exact)
    value -= dither
    value *= exact(step)
    value += exact(zero)
    out[:] = value
    if mode & _SPECIAL:
        for mark, special in _special(words.dtype).items():
            out[words == mark] = special


def steps(stored: pa.Array, column: Column) -> Float64[np.ndarray, "n tile"]:
    """The step of each tile in the units of the column: 0 where it is kept bit by bit, NaN where it is missing."""
    count = tiles(column)
    out = np.full((len(stored), count), np.nan)
    for i, blob in enumerate(pc.binary_slice(stored, 0, _header(count).itemsize).to_pylist()):
        if blob is not None:
            out[i] = np.frombuffer(blob, _header(count))["step"][0]
    return out


def _damaged(column: Column) -> GsnnError:
    return GsnnError(
        f"a stored value of column {column.name!r} is damaged; `gsnn survey SURVEY --verify` tells which rows are"
    )
