"""A checkpoint for the tools of torch.distributed.checkpoint: ``dcp.load(tensors, storage_reader=Reader(path))``.

What its metadata says is in our manifest as JSON, so nothing is unpickled.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import torch
from torch.distributed.checkpoint import LoadPlan, LoadPlanner, Metadata, StorageReader
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, TensorProperties, TensorStorageMetadata
from torch.futures import Future

from ..errors import GsnnError
from .pieces import key_of
from .restore import read_checkpoint
from .storage import DTYPES, Damaged
from .together import gather


class Reader(StorageReader):
    """Reads one checkpoint folder, once its digests are checked (by the processes together). Raises GsnnError."""

    def __init__(self, path: Path):
        why = ""
        try:
            self.found = read_checkpoint(Path(path))
        except Damaged as reason:
            why = str(reason)
        if why := next(filter(None, gather(why, None)), ""):
            raise GsnnError(f"{path} is damaged: {why}")

    def read_metadata(self) -> Metadata:
        def about(entry: dict) -> TensorStorageMetadata:
            chunks = [ChunkStorageMetadata(torch.Size(begins), torch.Size(size)) for begins, size, _ in entry["chunks"]]
            return TensorStorageMetadata(TensorProperties(DTYPES[entry["dtype"]]), torch.Size(entry["shape"]), chunks)

        return Metadata({name: about(entry) for name, entry in self.found.index.items()})

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        with ExitStack() as stack:
            files = self.found.files(stack)
            for item in plan.items:
                name, begins = item.storage_index.fqn, item.storage_index.offset
                entry = self.found.index[name]
                size, number = next(tuple(rest) for first, *rest in entry["chunks"] if tuple(first) == tuple(begins))
                part = tuple(slice(a, a + n) for a, n in zip(item.storage_offsets, item.lengths))
                file, key = files(number), key_of(name, (tuple(begins), tuple(size)), entry["shape"])
                target = planner.resolve_tensor(item).detach()
                target.copy_(file.get_slice(key)[part] if size else file.get_tensor(key))
                planner.commit_tensor(item, target)
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def reset(self, checkpoint_id: str | os.PathLike | None = None) -> None:
        """It stays the same folder."""

    def set_up_storage_reader(self, metadata: Metadata, is_coordinator: bool) -> None:
        """Nothing is to be done."""

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        return plan

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        return plans

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike) -> bool:
        return Path(checkpoint_id).name.startswith("step-")
