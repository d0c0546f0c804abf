"""Checkpoints that are whole or not there: staged, synced to disk, renamed last, and checked by digest when read.

A checkpoint is a folder ``step-00000120`` of ``tensors.safetensors``, ``state.json`` and ``SHA256SUMS`` (which
``sha256sum -c`` understands). Nothing in it is ever unpickled.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..errors import GsnnError

SCHEMA = 1
_TENSORS, _STATE, _SUMS = "tensors.safetensors", "state.json", "SHA256SUMS"
_FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file is too big",
}


@dataclass(frozen=True)
class Checkpoint:
    """One intact checkpoint: flat named tensors (on the CPU) and a JSON state."""

    path: Path
    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]

    @torch.no_grad()
    def load(self, into: dict[str, Tensor]) -> None:
        """Copy every tensor into the one of the same name."""
        strange = sorted(into.keys() ^ self.tensors.keys())
        strange += [name for name in into if name in self.tensors and into[name].shape != self.tensors[name].shape]
        if strange:
            raise GsnnError(
                f"the checkpoints in {self.path.parent} are of another network or optimiser ({strange[0]!r} does not "
                "fit): train in another directory, or delete them to start anew"
            )
        for name, tensor in into.items():
            tensor.copy_(self.tensors[name])

    def under(self, prefix: str) -> dict[str, Tensor]:
        """The tensors named ``prefix/...``, without the prefix."""
        return {name.removeprefix(prefix + "/"): t for name, t in self.tensors.items() if name.startswith(prefix + "/")}


def save(directory: Path, step: int, tensors: dict[str, Tensor], state: dict[str, Any], keep: int = 2) -> Path:
    """Write a checkpoint and drop all but the newest ``keep``. If it fails, those that stand stay as they are.

    Raises GsnnError where the disk is full or cannot be written.
    """
    directory = Path(directory)
    final, staging = directory / f"step-{step:08d}", directory / f".staging-{step:08d}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for left_over in directory.glob(".staging-*"):
            shutil.rmtree(left_over)
        staging.mkdir()
        _write(staging, step, tensors, state)
        if final.exists():  # reached again after resuming from an earlier one
            final.rename(directory / f".staging-{step:08d}-replaced")
        staging.rename(final)
        _sync(directory)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(staging, ignore_errors=True)
        raise GsnnError(
            f"cannot save the checkpoint of step {step} in {directory}: {_reason(error)}; "
            "free some space there and run the same line again: it goes on from the checkpoint before"
        ) from error
    # A later step can only be damaged or of an abandoned attempt: it must not stand for a newest one.
    found = [(s, path) for s, path in _folders(directory) if s <= step]
    kept = {path for _, path in found[-keep:]}
    for path in [*(p for _, p in _folders(directory) if p not in kept), *directory.glob(".staging-*")]:
        shutil.rmtree(path, ignore_errors=True)
    return final


def latest(directory: Path, damaged: list[str] | None = None) -> Checkpoint | None:
    """The newest intact checkpoint. Why newer ones were passed over is appended to ``damaged``."""
    for step, path in reversed(_folders(Path(directory))):
        try:
            return _read(path, step)
        except _Damaged as reason:
            if damaged is not None:
                damaged.append(f"{path.name}: {reason}")
    return None


class _Damaged(Exception):
    pass


def _folders(directory: Path) -> list[tuple[int, Path]]:
    """Checkpoint folders, oldest first."""
    found = [(p.name.removeprefix("step-"), p) for p in directory.glob("step-*")]
    return sorted((int(number), path) for number, path in found if number.isdecimal())


def _write(folder: Path, step: int, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    text = json.dumps({"schema": SCHEMA, "step": step, "state": state}, allow_nan=True)
    (folder / _STATE).write_text(text, encoding="utf-8")
    save_file(dict(_separate(tensors)), folder / _TENSORS)
    (folder / _SUMS).write_text(_sums(folder), encoding="ascii")
    for name in (_STATE, _TENSORS, _SUMS):
        _sync(folder / name)
    _sync(folder)


def _read(path: Path, step: int) -> Checkpoint:
    try:
        if (path / _SUMS).read_bytes() != _sums(path).encode():
            raise _Damaged("its content does not match its digest")
        document = json.loads((path / _STATE).read_text(encoding="utf-8"))
        if document["schema"] != SCHEMA or document["step"] != step:
            raise _Damaged(f"it is of schema {document['schema']}, step {document['step']}")
        return Checkpoint(path, step, load_file(path / _TENSORS), document["state"])
    except OSError as error:
        raise _Damaged(f"{Path(error.filename or path).name} cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, SafetensorError) as error:
        raise _Damaged(f"it cannot be understood ({error})") from error


def _separate(tensors: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Tensors as safetensors wants them: on the CPU, contiguous, no two in one storage (tied weights)."""
    seen: set[int] = set()
    for name, tensor in tensors.items():
        value = tensor.detach().to("cpu").contiguous()
        storage = value.untyped_storage().data_ptr()
        yield name, value.clone() if storage in seen else value
        seen.add(storage)


def _sums(folder: Path) -> str:
    lines = []
    for name in (_STATE, _TENSORS):
        with open(folder / name, "rb") as file:
            lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {name}\n")
    return "".join(lines)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _reason(error: Exception) -> str:
    code = getattr(error, "errno", None)
    if code is None:  # safetensors tells the number only in its text
        code = next((n for n in _FULL if f"os error {n})" in str(error)), None)
    return _FULL.get(code, str(error))


def flatten_optimizer(optimizer: torch.optim.Optimizer, names: dict[Tensor, str]) -> dict[str, Tensor]:
    """The optimiser's state as flat tensors ``parameter/key``; rates and decays come from the settings."""
    return {
        f"{names[parameter]}/{key}": value
        for parameter, values in optimizer.state.items()
        for key, value in values.items()
        if isinstance(value, Tensor)
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, names: dict[Tensor, str], flat: dict[str, Tensor]) -> None:
    """The inverse of ``flatten_optimizer``. Moments take the strides of their parameter, as fused kernels need."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    index = {names[parameter]: i for i, parameter in enumerate(parameters)}
    state: dict[int, dict[str, Tensor]] = {}
    for full_name, value in flat.items():
        name, key = full_name.rsplit("/", 1)
        parameter = parameters[index[name]]
        if value.shape == parameter.shape:
            value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        state.setdefault(index[name], {})[key] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
