"""What a training says of itself: one JSON object a line in ``log.jsonl``, and TensorBoard where it is installed."""

from __future__ import annotations

import importlib.util
import json
import math
import os
from pathlib import Path
from typing import Any


class Log:
    """Events of one training. A resumed one goes on at ``offset`` (bytes), where its checkpoint saw the end.

    Events are ``start``, ``resume``, ``step``, ``epoch``, ``straggler`` (a process that holds up the others) and
    ``end``; every one has ``event`` and ``step``. A number that is not finite is written as null, so that every line is
    JSON.
    """

    def __init__(self, directory: Path, offset: int = 0, step: int = 0, tensorboard: bool = True):
        directory.mkdir(parents=True, exist_ok=True)
        self._file = open(directory / "log.jsonl", "ab")  # noqa: SIM115
        if self._file.tell() > offset:
            self._file.truncate(offset)
            self._file.seek(offset)
        self._board = _tensorboard(directory / "tensorboard", step) if tensorboard else None

    def write(self, event: dict[str, Any]) -> None:
        self._file.write(json.dumps({k: _finite(v) for k, v in event.items()}).encode() + b"\n")
        self._file.flush()
        if self._board is not None and event["event"] in ("step", "epoch"):
            for name, value in event.items():
                if isinstance(value, float):
                    self._board.add_scalar(f"{event['event']}/{name}", value, event["step"])

    def offset(self) -> int:
        """The bytes written so far, all of them on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        self._file.close()
        if self._board is not None:
            self._board.close()


def read(directory: Path) -> list[dict[str, Any]]:
    """The events of ``log.jsonl``; a last line that was cut off is left out."""
    path = Path(directory) / "log.jsonl"
    if not path.exists():
        return []
    *lines, _ = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines]


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _tensorboard(directory: Path, step: int) -> Any:
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(directory), purge_step=step or None)
