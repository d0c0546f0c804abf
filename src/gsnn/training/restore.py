"""Reading checkpoints: the newest intact one, into tensors of any layout. ``checkpoint`` writes them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import GsnnError
from . import storage
from .pieces import boxes, describe, differences, key_of, local, overlap
from .storage import MANIFEST, SCHEMA, SUMS, Damaged
from .together import gather, place


@dataclass(frozen=True)
class Checkpoint:
    """One intact checkpoint. ``index``: tensor name -> its dtype, shape and chunks ([begins, shape, file])."""

    path: Path
    step: int
    state: dict[str, Any]
    index: dict[str, Any] = field(repr=False)
    group: Any = field(default=None, repr=False)

    def load(self, into: dict[str, Tensor]) -> None:
        """Fill plain and distributed tensors in place, all processes together, whatever layout it was written under.

        Raises GsnnError where names, shapes or types are others than were saved (over all processes taken together),
        or where the files cannot be read any more.
        """
        held = gather(describe(into), self.group)
        if strange := differences(held, self.index):
            raise GsnnError(
                f"the checkpoint {self.path} is of another network or optimiser ({strange}): "
                "train in another directory, or delete the checkpoints there to start anew"
            )
        problem = ""
        try:
            with ExitStack() as stack:
                files = self.files(stack)
                for name, tensor in into.items():
                    self._fill(name, tensor, files)
        except (OSError, SafetensorError) as error:
            problem = f"the checkpoint {self.path} cannot be read any more ({error}): run the same line again"
        if problem := next(filter(None, gather(problem, self.group)), ""):
            raise GsnnError(problem)

    def read(self, names: Iterable[str]) -> Iterator[Tensor]:
        """Whole tensors one after the other, on the CPU, by this process alone."""
        with ExitStack() as stack:
            files = self.files(stack)
            for name in names:
                entry = self.index[name]
                value = torch.empty(entry["shape"], dtype=storage.DTYPES[entry["dtype"]])
                self._fill(name, value, files)
                yield value

    def files(self, stack: ExitStack) -> Callable[[int], Any]:
        """Files by number, opened where first used."""
        return cache(lambda number: stack.enter_context(safe_open(self.path / storage.file_name(number), "pt")))

    @torch.no_grad()
    def _fill(self, name: str, tensor: Tensor, files: Callable[[int], Any]) -> None:
        entry, value = self.index[name], local(tensor)
        for here in boxes(tensor):
            for begins, shape, number in entry["chunks"]:
                there = (tuple(begins), tuple(shape))
                shared = overlap(here, there)
                if shared is not None:
                    file, key = files(number), key_of(name, there, entry["shape"])
                    value[shared[0]].copy_(file.get_slice(key)[shared[1]] if shape else file.get_tensor(key))


def latest(
    directory: Path, damaged: list[str] | None = None, group: dist.ProcessGroup | None = None
) -> Checkpoint | None:
    """The newest intact checkpoint, the same on all processes, which share the work of checking the digests.

    Why newer ones were passed over is appended to ``damaged``.
    """
    names = [path.name for _, path in reversed(storage.steps(Path(directory)))]
    for name in gather(names, group)[0]:
        found, why = None, ""
        try:
            found = read_checkpoint(Path(directory) / name, group)
        except Damaged as reason:
            why = str(reason)
        why = next(filter(None, gather(why, group)), "")
        if not why:
            return found
        if damaged is not None:
            damaged.append(f"{name}: {why}")
    return None


def load(
    directory: Path,
    like: dict[str, Tensor],
    damaged: list[str] | None = None,
    group: dist.ProcessGroup | None = None,
) -> tuple[int, dict[str, Any]] | None:
    """Fill ``like`` in place from the newest intact checkpoint: its step and its state, or None where there is none."""
    found = latest(directory, damaged, group)
    if found is None:
        return None
    found.load(like)
    return found.step, found.state


def read_checkpoint(path: Path, group: dist.ProcessGroup | None = None) -> Checkpoint:
    """One checkpoint, once the digests of this process's share of its files are checked. Raises Damaged."""
    rank, world = place(group)
    try:
        sums = storage.read_sums(path)
        for name in sorted(sums)[rank::world]:
            storage.verify(path / name, sums[name])
        document = json.loads((path / MANIFEST).read_bytes())
        files = {storage.file_name(number) for number in range(document["files"])}
        found = Checkpoint(path, document["step"], document["state"], document["tensors"], group)
        schema = document["schema"]
    except OSError as error:
        raise Damaged(f"{Path(error.filename or path).name} cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged(f"{MANIFEST} cannot be understood ({error})") from error
    if schema != SCHEMA or not path.name.startswith(f"step-{found.step:08d}"):
        raise Damaged(f"it is of schema {schema}, step {found.step}")
    if missing := sorted({MANIFEST, *files} - sums.keys()):
        raise Damaged(f"{SUMS} lacks {missing[0]}")
    return found
