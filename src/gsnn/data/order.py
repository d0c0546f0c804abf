"""The order of objects as a pure function of (seed, epoch, position): no list, no state, any place in O(1).

A Feistel network over the next power of four, walked until it lands inside, is a bijection of 0..n-1 (Black & Rogaway
2002, "Ciphers with arbitrary finite domains"). Far-away data are read by blocks: blocks are permuted, then gathered
into windows that fit the scratch, and rows are permuted inside a window.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Int64

from ..rng import key

_ROUNDS = 4
_M1, _M2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def _hash(x: np.ndarray, salt: int) -> np.ndarray:
    x = x + np.uint64(salt & 0xFFFFFFFFFFFFFFFF)
    x = (x ^ (x >> np.uint64(30))) * _M1
    x = (x ^ (x >> np.uint64(27))) * _M2
    return x ^ (x >> np.uint64(31))


@dataclass(frozen=True)
class Permutation:
    """A bijection of 0..n-1 fixed by (seed, purpose, epoch); call it on an array of positions."""

    n: int
    seed: int
    purpose: str = "order"
    epoch: int = 0

    def __call__(self, positions: Int64[np.ndarray, " k"]) -> Int64[np.ndarray, " k"]:
        return self._walk(np.asarray(positions, np.int64), range(_ROUNDS))

    def inverse(self, rows: Int64[np.ndarray, " k"]) -> Int64[np.ndarray, " k"]:
        return self._walk(np.asarray(rows, np.int64), range(_ROUNDS - 1, -1, -1))

    def _walk(self, start: np.ndarray, rounds: range) -> np.ndarray:
        if self.n < 2:
            return start.copy()
        half = np.uint64(((self.n - 1).bit_length() + 1) // 2)
        x = self._rounds(start.astype(np.uint64), half, self._salts, rounds)
        outside = np.flatnonzero(x >= np.uint64(self.n))
        while len(outside):  # cycle walking: on average less than three more rounds for every fourth position
            x[outside] = self._rounds(x[outside], half, self._salts, rounds)
            outside = outside[x[outside] >= np.uint64(self.n)]
        return x.astype(np.int64)

    @cached_property
    def _salts(self) -> list[int]:
        return [key(self.seed, f"{self.purpose}/{r}", self.epoch) for r in range(_ROUNDS)]

    @staticmethod
    def _rounds(x: np.ndarray, half: np.uint64, salts: list[int], rounds: range) -> np.ndarray:
        mask = (np.uint64(1) << half) - np.uint64(1)
        left, right = x >> half, x & mask
        forward = rounds.step > 0
        for r in rounds:
            if forward:
                left, right = right, left ^ (_hash(right, salts[r]) & mask)
            else:
                left, right = right ^ (_hash(left, salts[r]) & mask), left
        return (left << half) | right


@dataclass(frozen=True)
class Order:
    """Objects 0..n-1 in the order of one epoch; ``window_blocks * block`` objects are together in one window."""

    n: int
    seed: int
    epoch: int
    block: int = 64
    window_blocks: int = 0  # 0: everything is one window
    shuffle: bool = True

    @property
    def windows(self) -> int:
        return 1 if not self.window_blocks else -(-self._blocks // self.window_blocks)

    @property
    def _blocks(self) -> int:
        return -(-self.n // self.block)

    def _start(self, window: np.ndarray) -> np.ndarray:
        """First position of a window: full blocks before it, less what the one short block lacks."""
        full = np.minimum(window * self.window_blocks, self._blocks)
        return full * self.block - np.where(full > self._short[0], self._short[1], 0)

    @cached_property
    def _short(self) -> tuple[int, int]:
        """Where the last, short block stands in the order, and how many objects it lacks."""
        last = np.array([self._blocks - 1])
        place = self._permute_blocks.inverse(last) if self.shuffle else last
        return int(place[0]), self._blocks * self.block - self.n

    @cached_property
    def _permute_blocks(self) -> Permutation:
        return Permutation(self._blocks, self.seed, "blocks", self.epoch)

    def window_of(self, position: int) -> int:
        if not self.window_blocks:
            return 0
        guess = min(position // (self.window_blocks * self.block), self.windows - 1)
        return guess + 1 if guess + 1 < self.windows and position >= self._start(np.array(guess + 1)) else guess

    def bounds(self, window: int) -> tuple[int, int]:
        """First and last + 1 position of a window."""
        if not self.window_blocks:
            return 0, self.n
        return int(self._start(np.array(window))), int(self._start(np.array(window + 1)))

    def read(self, places: Int64[np.ndarray, " k"]) -> Int64[np.ndarray, " k"]:
        """The objects at these places before rows are permuted inside their window: block by block, as best read."""
        if not self.window_blocks:
            return places
        short, lack = self._short
        places = np.where(places >= (short + 1) * self.block - lack, places + lack, places)
        blocks = places // self.block
        return (self._permute_blocks(blocks) if self.shuffle else blocks) * self.block + places % self.block

    def slots(self, start: int, stop: int, window: int) -> Int64[np.ndarray, " k"]:
        """Places, counted from the start of the window, of the positions start..stop-1, all of that window."""
        first, last = self.bounds(window)
        inside = np.arange(start - first, stop - first)
        if not self.shuffle:
            return inside
        return Permutation(last - first, self.seed, f"rows/{window}", self.epoch)(inside)

    def __call__(self, start: int, stop: int) -> Int64[np.ndarray, " k"]:
        """The objects at positions start..stop-1."""
        out = []
        while start < stop:
            window = self.window_of(start)
            end = min(stop, self.bounds(window)[1])
            out.append(self.read(self.bounds(window)[0] + self.slots(start, end, window)))
            start = end
        return np.concatenate(out) if out else np.empty(0, np.int64)


def bucketed(
    lengths: Int64[np.ndarray, " k"], start: int, batch: int, seed: int, epoch: int
) -> Int64[np.ndarray, " k"]:
    """An arrangement of the objects at positions start..start + k - 1 in which those of a batch are about equally long.

    Objects are sorted by length, to a tenth, cut into batches (which begin at multiples of ``batch``), and the batches
    are permuted: so padding is little, and an object meets others in every epoch.
    """
    edges = np.unique([start, *range(-(-start // batch) * batch, start + len(lengths), batch), start + len(lengths)])
    sizes = np.diff(edges)
    turn = Permutation(len(sizes), seed, f"buckets/{start}", epoch)(np.arange(len(sizes)))
    ends = np.cumsum(sizes[turn])  # the batch that comes k-th in length stands turn[k]-th in time
    about = np.round(np.log(np.maximum(lengths, 1)) / 0.1)
    sorted_, pieces = np.argsort(about, kind="stable"), [np.empty(0, np.int64)] * len(sizes)
    for place, end in zip(turn.tolist(), ends.tolist()):
        pieces[place] = sorted_[end - sizes[place] : end]
    return np.concatenate(pieces) if pieces else sorted_
