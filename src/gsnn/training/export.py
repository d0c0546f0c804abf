"""A checkpoint as one safetensors file of weights, one tensor in memory at a time."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from ..errors import GsnnError, on_disk
from .restore import Checkpoint, latest, read_checkpoint
from .storage import DTYPES, Damaged, write_tensors

KINDS = ("best", "average", "model")  # what training would end with, if it ended now: the first of these that there is


def export(source: Path, out: Path, weights: str | None = None) -> str:
    """Write the weights of a run as one safetensors file whose names are those of ``Model.state_dict()``.

    ``source`` is a run, a folder of checkpoints (of which the newest intact one counts), or one checkpoint.
    ``weights`` "best" are those of least validation loss, "average" the averaged ones, "model" the last ones; None
    takes the finished model of a finished run, else what the training would end with if it ended now.

    Returns what was written, in words. Raises GsnnError where there is nothing intact to export.
    """
    source, out = Path(source), Path(out)
    finished = source / "fits/main/model/model.safetensors"
    if weights is None and finished.with_name("model.toml").is_file():
        told, write = "the finished model", lambda path: shutil.copyfile(finished, path)
    else:
        found = _newest(source)
        kind, names = _names(found, weights)
        told, write = f"the {kind} weights of step {found.step:,}", lambda path: _write(found, names, path)
    with on_disk(f"write {out}"):
        out.parent.mkdir(parents=True, exist_ok=True)
        partial = out.with_name(f"{out.name}.partial")
        try:
            write(partial)
            partial.rename(out)
        finally:
            partial.unlink(missing_ok=True)
    return told


def _write(found: Checkpoint, names: dict[str, str], path: Path) -> None:
    def about(name: str) -> tuple[torch.dtype, list[int]]:
        entry = found.index[names[name]]
        return DTYPES[entry["dtype"]], entry["shape"]

    order = sorted(names, key=lambda name: -about(name)[0].itemsize)  # so that each is aligned
    content = (tensor.reshape(-1).view(torch.uint8) for tensor in found.read(names[name] for name in order))
    write_tensors(path, [(name, *about(name)) for name in order], content)


def _newest(source: Path) -> Checkpoint:
    if source.name.startswith("step-"):
        try:
            return read_checkpoint(source)
        except Damaged as why:
            raise GsnnError(f"{source} is damaged: {why}") from None
    folders = [source / "fits/main/checkpoints", source / "checkpoints", source]
    damaged: list[str] = []
    for folder in folders:
        if found := latest(folder, damaged):
            return found
    more = f" ({damaged[0]})" if damaged else ""
    raise GsnnError(f"{source} has no intact checkpoint{more}; name a run, or its folder of checkpoints")


def _names(found: Checkpoint, weights: str | None) -> tuple[str, dict[str, str]]:
    """The kind of weights, and for each name that the model has, the one in the checkpoint."""
    there = {kind: {n.removeprefix(f"{kind}/"): n for n in found.index if n.startswith(f"{kind}/")} for kind in KINDS}
    if not (found.state.get("history") or {}).get("best"):
        there["best"] = {}  # no validation yet: they are where the training began
    kind = weights or next((kind for kind in KINDS if there[kind]), "model")
    if not there.get(kind):
        some = ", ".join(k for k in KINDS if there[k]) or "none"
        raise GsnnError(f"the checkpoint {found.path} has no weights {kind!r}; it has: {some}")
    return kind, there["model"] | there[kind]
