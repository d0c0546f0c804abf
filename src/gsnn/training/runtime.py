"""Where and in which precision the arithmetic is done: resolved once, recorded with the run, reused on resume."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..memory import keep_memory
from .settings import Train

GAIN = 1.2  # bfloat16 must be this much faster: less is not worth its 8 bits of mantissa


@dataclass(frozen=True)
class Runtime:
    """``dtype`` is that of autocast; weights, statistics and the loss stay in float32."""

    device: str = "cpu"
    dtype: str = "float32"
    memory_format: str = "contiguous"
    threads: int = 1

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def autocast(self) -> torch.autocast:
        return torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=self.dtype == "bfloat16")

    def available(self) -> bool:
        return usable(self.device)

    def prepare(self) -> None:
        """Set the process up: with the same threads and the same algorithms the numbers repeat exactly."""
        torch.set_num_threads(self.threads)
        keep_memory()
        if torch.device(self.device).type == "cuda":
            torch.backends.cudnn.deterministic = True
            torch.backends.cudnn.benchmark = False

    def place(self, module: nn.Module) -> nn.Module:
        return module.to(self.device, memory_format=self._format)

    def place_batch(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The batch on the device; images in the memory format of the network."""
        placed = {name: value.to(self.device, non_blocking=True) for name, value in batch.items()}
        return {k: v.contiguous(memory_format=self._format) if v.ndim == 4 else v for k, v in placed.items()}

    @property
    def _format(self) -> torch.memory_format:
        return torch.channels_last if self.memory_format == "channels_last" else torch.contiguous_format


def usable(device: str) -> bool:
    """Whether this machine has the device."""
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        return False
    return True


def resolve(settings: Train, probe: Callable[[Runtime], float] | None = None, channels_last: bool = False) -> Runtime:
    """The runtime that the settings ask for.

    ``probe`` returns the seconds of a training step under a runtime; with ``precision = "auto"`` it decides, and
    without a probe it is float32. ``channels_last`` suits networks of 2-D convolutions.
    """
    device = settings.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    elif not usable(device):
        raise ConfigError(f"this machine has no device {device!r}; write 'auto' or 'cpu'", ("train", "device"))
    plain = Runtime(device, "float32", "channels_last" if channels_last else "contiguous", torch.get_num_threads())
    half = Runtime(device, "bfloat16", plain.memory_format, plain.threads)
    if settings.precision != "auto":
        return half if settings.precision == "bfloat16" else plain
    if probe is None:
        return plain
    # Twice each, alternating: the least of two is not fooled by a neighbour who wakes up.
    seconds = [(probe(plain), probe(half)) for _ in range(2)]
    return half if min(a for a, _ in seconds) >= GAIN * min(b for _, b in seconds) else plain
