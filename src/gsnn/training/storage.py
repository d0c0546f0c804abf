"""A checkpoint on the disk: a folder that appears whole by one rename, files whose digests say when they are damaged.

``step-00000120`` holds ``tensors-00000.safetensors`` (one file for each process that wrote), ``manifest.json`` (which
part of which tensor is in which file, and the training's state) and ``SHA256SUMS`` (which ``sha256sum -c``
understands). Nothing in it is ever unpickled.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

SCHEMA = 2
MANIFEST, SUMS = "manifest.json", "SHA256SUMS"
PIECE = 16 << 20  # bytes written and digested at once
# as safetensors names them
DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "BOOL": torch.bool,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
    "U64": torch.uint64, "U32": torch.uint32, "U16": torch.uint16, "U8": torch.uint8,
}  # fmt: skip
CODES = {dtype: code for code, dtype in DTYPES.items()}
_FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file is too big",
}


class Damaged(Exception):
    """Why a checkpoint cannot be trusted, as the end of a sentence."""


def file_name(process: int) -> str:
    """The file that a process writes."""
    return f"tensors-{process:05d}.safetensors"


# ------------------------------------------------------------------ folders


def steps(directory: Path) -> list[tuple[int, Path]]:
    """Folders of checkpoints, the newest last. ``step-00000120.old`` is one that was about to be replaced."""
    found = [(re.fullmatch(r"step-(\d+)(\.old)?", p.name), p) for p in directory.glob("step-*")]
    ranked = sorted((int(m[1]), m[2] is None, path) for m, path in found if m)
    return [(step, path) for step, _, path in ranked]


def stage(directory: Path, step: int) -> Path:
    """A new empty folder to write into. What killed attempts have left is removed."""
    directory.mkdir(parents=True, exist_ok=True)
    for left_over in directory.glob(".staging-*"):
        shutil.rmtree(left_over)
    staging = directory / f".staging-{step:08d}-{uuid.uuid4().hex[:8]}"
    staging.mkdir()
    return staging


def publish(staging: Path, step: int, keep: int) -> Path:
    """Make a synced, complete staging folder the newest checkpoint, and drop all but ``keep``.

    At any moment within, the newest complete one can be found: one of the same step is moved aside, not removed.
    """
    directory, final = staging.parent, staging.parent / f"step-{step:08d}"
    if final.exists():  # reached again after going on from an earlier one
        aside = final.with_name(f"{final.name}.old")
        shutil.rmtree(aside, ignore_errors=True)
        final.rename(aside)
    staging.rename(final)
    sync(directory)
    # A later step can only be damaged or of an abandoned attempt: it must not stand for a newest one.
    kept = [path for s, path in steps(directory) if s <= step and path.suffix != ".old"][-keep:]
    for _, path in steps(directory):
        if path not in kept:
            shutil.rmtree(path, ignore_errors=True)
    return final


def sync(path: Path) -> None:
    """What was written to a file, or the names in a folder, are on the disk when this returns."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def reason(error: OSError) -> str:
    """Why the disk refused, in words."""
    return _FULL.get(error.errno or 0, error.strerror or str(error))


# ------------------------------------------------------------------ files


def write_text(path: Path, text: str) -> str:
    """Write a small file to the disk itself. Returns its line of SHA256SUMS."""
    content = text.encode()
    path.write_bytes(content)
    sync(path)
    return f"{hashlib.sha256(content).hexdigest()}  {path.name}\n"


def write_tensors(
    path: Path,
    entries: Sequence[tuple[str, torch.dtype, Sequence[int]]],
    content: Iterable[torch.Tensor],
) -> str:
    """Write a safetensors file to the disk itself, piece by piece. Returns its line of SHA256SUMS.

    ``entries`` are the (name, dtype, shape) of the tensors; ``content`` are tensors of bytes (uint8, 1-D, on the CPU)
    that follow each other as the entries do, cut anyhow.
    """
    header, end = {}, 0
    for name, dtype, shape in entries:
        start, end = end, end + size_of(dtype, shape)
        header[name] = {"dtype": CODES[dtype], "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header, ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256()
    with open(path, "wb", buffering=0) as file:
        _write(file, digest, len(text).to_bytes(8, "little") + text)
        for values in content:
            for piece in values.split(PIECE):
                _write(file, digest, piece.numpy())
        os.fsync(file.fileno())
    return f"{digest.hexdigest()}  {path.name}\n"


def _write(file, digest, content) -> None:
    view = memoryview(content)
    digest.update(view)
    while len(view):
        view = view[file.write(view) :]


def size_of(dtype: torch.dtype, shape: Sequence[int]) -> int:
    """Bytes of a tensor."""
    return dtype.itemsize * torch.Size(shape).numel()


def read_sums(folder: Path) -> dict[str, str]:
    """File name -> digest, from SHA256SUMS."""
    try:
        text = (folder / SUMS).read_bytes().decode("ascii")
    except UnicodeDecodeError:
        raise Damaged(f"{SUMS} cannot be understood") from None
    found = re.findall(r"([0-9a-f]{64})  ([^\n/]+)\n", text)
    if "".join(f"{digest}  {name}\n" for digest, name in found) != text:
        raise Damaged(f"{SUMS} cannot be understood")
    return {name: digest for digest, name in found}


def verify(path: Path, digest: str) -> None:
    """Raise Damaged unless a file has this digest."""
    with open(path, "rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != digest:
            raise Damaged(f"the content of {path.name} does not match its digest")
