"""Batches in an order that is a pure function of (seed, step).

Decoded rows live in a bounded, memory-mapped scratch; batches are gathered from it by a prefetch thread. Resuming is
asking for another step. Nothing here grows with the number of objects except the scratch, on disk.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from queue import Queue

import numpy as np
import torch
from torch import Tensor

from ..errors import GsnnError
from ..memory import keep_memory
from .order import Order, bucketed
from .ragged import Ragged, joined, value_bytes
from .rows import reserve, scratch_folder
from .survey import View
from .unequal import Unequal

Batch = dict[str, Tensor]
_READ_BYTES = 3 << 20  # decoded at once: little enough for the cache, twice as fast as ten times more
_READ_ROWS = 1 << 14  # of a table, whose rows are small: four times as many are a third faster and hold 10 MiB more
_DECODERS = min(4, os.cpu_count() or 1)  # reads that are decoded side by side
_AHEAD = 16  # batches whose places are found at once
_BLOCK = 64  # rows that are read together where not all fit the scratch
_BUCKETS = 64  # batches that objects of variable length are sorted into


class Scratch:
    """Arrays on disk, each of so many rows of a shape, reserved so that a full disk is a sentence and not a crash."""

    def __init__(self, folder: Path, specs: dict[str, tuple[int, tuple[int, ...], np.dtype]]):
        self.arrays: dict[str, np.ndarray] = {}
        self._files: dict[str, int] = {}
        folder.mkdir(parents=True, exist_ok=True)
        for name, (rows, shape, dtype) in specs.items():
            size = max(rows * int(np.prod(shape, dtype=np.int64)) * dtype.itemsize, 1)
            path = folder / f"{len(self.arrays)}.bin"
            with open(path, "wb") as file:
                try:
                    reserve(file.fileno(), size)
                except OSError as error:
                    shutil.rmtree(folder, ignore_errors=True)
                    raise GsnnError(
                        f"the scratch needs {size / 2**20:.0f} MiB in {folder} ({error.strerror}); free some space, "
                        "name another disk by GSNN_SCRATCH, or set a smaller [data] scratch_gb"
                    ) from error
            self.arrays[name] = np.memmap(path, dtype, "r+", shape=(max(rows, 1), *shape))
            self._files[name] = os.open(path, os.O_WRONLY)

    def write(self, name: str, start: int, values: np.ndarray) -> None:
        """Put rows where they belong: by a system call, since a fault for each page of the map takes twice as long."""
        array = self.arrays[name]
        left = memoryview(np.ascontiguousarray(values, array.dtype)).cast("B")
        place = start * (array.nbytes // max(len(array), 1))
        while left:
            done = os.pwrite(self._files[name], left, place)
            left, place = left[done:], place + done

    def close(self) -> None:
        self.arrays.clear()
        while self._files:
            os.close(self._files.popitem()[1])


class Stream:
    """Batches of a view. ``start..stop`` of :meth:`batches` are global steps; each epoch visits every object once."""

    def __init__(
        self,
        view: View,
        names: Sequence[str],
        *,
        batch: int,
        seed: int = 0,
        shuffle: bool = True,
        scratch_bytes: int = 8 << 30,
        scratch: Path | None = None,
        rank: int = 0,
        ranks: int = 1,
        prefetch: int = 2,
        progress: Callable[[int, int], None] | None = None,
    ):
        if not len(view):
            raise GsnnError("a part of the split is empty, so there is nothing to read; change [data] split or where")
        keep_memory()
        self.view, self.names, self.batch, self.seed, self.shuffle = view, list(names), batch, seed, shuffle
        self.rank, self.ranks, self.prefetch, self.progress = rank, ranks, prefetch, progress
        self.objects = len(view)
        self.steps_per_epoch = -(-self.objects // batch)
        probe = view.take(np.arange(1)).columns(self.names)
        unequal = [name for name in self.names if isinstance(probe[name], Unequal)]
        lengths = {name: view.survey.lengths(view.rows, name) for name in unequal}
        self._lengths = sum(lengths.values()) if unequal and shuffle else None  # by which training batches are sorted
        specs = {n: (v.shape[1:], _dtype(v.dtype)) for n, v in probe.items() if n not in unequal}
        row_bytes = sum(int(np.prod(shape, dtype=np.int64)) * t.itemsize for shape, t in specs.values()) + 8
        row_bytes += sum(-(-value_bytes(probe[n]) * int(some.sum()) // self.objects) for n, some in lengths.items())
        self._read = int(np.clip(_READ_BYTES // row_bytes, 64, _READ_ROWS))
        self._block = min(_BLOCK, self.objects)
        fits = self.objects * row_bytes <= scratch_bytes
        blocks = max(scratch_bytes // 2 // row_bytes // self._block, 1)
        self._window_blocks = 0 if fits else int(blocks)
        self._slot_rows = self.objects if fits else self._window_blocks * self._block
        parent = Path(scratch or scratch_folder())
        parent.mkdir(parents=True, exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(prefix="gsnn-scratch-", dir=parent))
        slots = 1 if fits else 2
        self._ragged = {name: Ragged(name, probe[name], some, self._slot_rows, slots) for name, some in lengths.items()}
        whole = {**specs, "row": ((), np.dtype(np.int64))}
        arrays = {name: (self._slot_rows * slots, *spec) for name, spec in whole.items()}
        self._fixed = list(arrays)
        for one in self._ragged.values():
            arrays |= one.specs()
        self._scratch = Scratch(self._folder, arrays)
        self._filled: dict[int, tuple[int, int]] = {}  # slot -> (epoch, window) that it holds
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="gsnn-load")
        self._decoders = ThreadPoolExecutor(_DECODERS, thread_name_prefix="gsnn-decode")
        self._loading: dict[tuple[int, int], Future[None]] = {}
        self._lock = threading.Lock()
        self._ahead: tuple[tuple[int, int], int, int, np.ndarray] = ((-1, -1), 0, 0, np.empty(0, np.int64))

    def __len__(self) -> int:
        return self.steps_per_epoch

    def state(self) -> dict[str, int | bool]:
        """Everything that fixes the order, a few integers; the step is the trainer's."""
        return {
            "objects": self.objects,
            "batch": self.batch,
            "seed": self.seed,
            "block": self._block,
            "window_blocks": self._window_blocks,
            "shuffle": self.shuffle,
            **({"buckets": _BUCKETS} if self._lengths is not None else {}),
        }

    def order(self, epoch: int) -> Order:
        return Order(self.objects, self.seed, epoch, self._block, self._window_blocks, self.shuffle)

    def positions(self, step: int) -> tuple[int, int, int]:
        """Epoch, first and last + 1 position of a global step, before it is divided among ranks."""
        epoch, k = divmod(step, self.steps_per_epoch)
        return epoch, k * self.batch, min((k + 1) * self.batch, self.objects)

    def rows(self, step: int) -> np.ndarray:
        """Survey rows of the global batch of a step, without reading them."""
        epoch, start, stop = self.positions(step)
        order, pieces = self.order(epoch), []
        while start < stop:
            window = order.window_of(start)
            first, last = order.bounds(window)
            end = min(stop, last)
            pieces.append(order.read(first + self._slots(order, start, end, window)))
            start = end
        return self.view.rows[np.concatenate(pieces)]

    def batches(self, start: int = 0, stop: int | None = None) -> Iterator[Batch]:
        """The batches of global steps start..stop-1 (one epoch if ``stop`` is None), gathered ahead by a thread."""
        stop = start + self.steps_per_epoch if stop is None else stop
        if self.prefetch < 1:
            yield from (self.gather(step) for step in range(start, stop))
            return
        queue: Queue[Batch | BaseException | None] = Queue(self.prefetch)
        leave = threading.Event()

        def work() -> None:
            try:
                for step in range(start, stop):
                    if leave.is_set():
                        return
                    queue.put(self.gather(step))
                queue.put(None)
            except BaseException as error:
                queue.put(error)

        thread = threading.Thread(target=work, name="gsnn-prefetch", daemon=True)
        thread.start()
        try:
            while (item := queue.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            leave.set()
            while thread.is_alive():
                with contextlib.suppress(Exception):
                    queue.get(timeout=0.05)

    def gather(self, step: int) -> Batch:
        """The batch of one step (this rank's share of it)."""
        epoch, start, stop = self.positions(step)
        order, pieces, first = self.order(epoch), [], start
        while start < stop:
            window = order.window_of(start)
            end = min(stop, order.bounds(window)[1])
            slot = self._load(epoch, window, order)
            mine = slice((self.rank - (start - first)) % self.ranks, None, self.ranks)
            places = torch.from_numpy(self._slots(order, start, end, window)[mine])
            # gathered at once: asking for the next window lets the loader write over this one
            where = places + slot * self._slot_rows
            piece = {name: self._tensors[name].index_select(0, where) for name in self._fixed}
            for ragged in self._ragged.values():
                piece |= ragged.gather(self._tensors, slot, places)
            pieces.append(piece)
            start = end
        return joined(pieces)

    def _slots(self, order: Order, start: int, stop: int, window: int) -> np.ndarray:
        """The places in a window of positions start..stop-1: found for some batches at once, since a short array costs
        as much as a long one. Objects of variable length are sorted within them.
        """
        tag, first, last, slots = self._ahead
        if tag != (order.epoch, window) or not first <= start <= stop <= last:
            low, high = order.bounds(window)
            if self._lengths is None:
                first, last = start, min(max(start + _AHEAD * self.batch, stop), high)
                slots = order.slots(first, last, window)
            else:
                group = _BUCKETS * self.batch
                first, last = max(start // group * group, low), min((start // group + 1) * group, high)
                slots = order.slots(first, last, window)
                lengths = self._lengths[order.read(low + slots)]
                slots = slots[bucketed(lengths, first, self.batch, self.seed, order.epoch)]
            self._ahead = (order.epoch, window), first, last, slots
        return slots[start - first : stop - first]

    @property
    def _tensors(self) -> Batch:
        if not hasattr(self, "_cached"):
            self._cached = {name: torch.from_numpy(array) for name, array in self._scratch.arrays.items()}
        return self._cached

    def _load(self, epoch: int, window: int, order: Order) -> int:
        """Make sure that a window is decoded, begin on the next one, and say which slot of the scratch holds it."""
        if not self._window_blocks:
            self._fill(0, (0, 0), order)
            return 0
        ahead = (epoch, window + 1) if window + 1 < order.windows else (epoch + 1, 0)
        self._request(epoch, window, order).result()
        self._request(*ahead, self.order(ahead[0]))
        return (epoch * order.windows + window) % 2

    def _request(self, epoch: int, window: int, order: Order) -> Future[None]:
        tag = (epoch, window)
        with self._lock:
            if tag not in self._loading:
                slot = (epoch * order.windows + window) % 2
                for old in [t for t in self._loading if (t[0] * order.windows + t[1]) % 2 == slot]:
                    del self._loading[old]
                self._loading[tag] = self._loader.submit(self._fill, slot, tag, order)
            return self._loading[tag]

    def _fill(self, slot: int, tag: tuple[int, int], order: Order) -> None:
        if self._filled.get(slot) == tag:
            return
        self._filled.pop(slot, None)  # a fill that fails midway must not pass for the window that was here before
        base, (first, last), size = slot * self._slot_rows, order.bounds(tag[1]), self._read
        for ragged in self._ragged.values():
            ragged.begin(slot, order.read(np.arange(first, last)))

        def read(start: int) -> int:
            some = order.read(np.arange(start, min(start + size, last)))
            values = self.view.take(some).columns(self.names)
            for name in self._fixed:
                rows = self.view.rows[some] if name == "row" else values[name]
                self._scratch.write(name, base + start - first, rows)
            for name, ragged in self._ragged.items():
                ragged.write(self._scratch, slot, start - first, values[name])
            return len(some)

        reads, done = [self._decoders.submit(read, start) for start in range(first, last, size)], first
        try:
            for one in reads:
                done += one.result()
                if self.progress and not self._window_blocks:
                    self.progress(done, last)
        finally:  # after a failure nothing may still write into what the next fill will hold
            for one in reads:
                one.cancel()
            wait(reads)
        self._filled[slot] = tag

    def close(self) -> None:
        """Give the scratch back."""
        self._loader.shutdown(wait=True, cancel_futures=True)
        self._decoders.shutdown(wait=True, cancel_futures=True)
        self.__dict__.pop("_cached", None)
        self._scratch.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        folder, store = self.__dict__.get("_folder"), self.__dict__.get("_scratch")
        if store is not None:
            store.close()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _dtype(dtype: np.dtype) -> np.dtype:
    """What a column is decoded to in a batch: bytes stay bytes, class indices int64, the rest float32."""
    if dtype in (np.dtype(np.uint8), np.dtype(np.int64)):
        return dtype
    if dtype.kind == "O":
        raise GsnnError(
            "text columns cannot be part of a batch; use them as labels, or leave them out of [data] inputs"
        )
    return np.dtype(np.float32)
