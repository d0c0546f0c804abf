"""What a run has cost: the seconds of its steps and its energy, over all attempts at it."""

from __future__ import annotations

import json
import time
from pathlib import Path

from .steps.data import write_json

FILE = "spent.json"


class Spent:
    """Counts on from what earlier attempts have left in the run's folder; ``keep`` writes it there.

    Of an attempt that is killed, what came after its last ``keep`` is lost.
    """

    def __init__(self, folder: Path):
        from .training.energy import Meter

        self.path, self.meter, self.step, self._since = folder / FILE, Meter(), "data", time.perf_counter()
        try:
            before = json.loads(self.path.read_text())
            self.seconds = {str(name): float(value) for name, value in before["seconds"].items()}
            self._before = float(before["kwh"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):  # none before, or it tells nothing
            self.seconds, self._before = {}, 0.0

    @property
    def kwh(self) -> float:
        return self._before + self.meter.kwh

    def begin(self, step: str) -> None:
        """What comes now belongs to this step, what came before to the last one."""
        now = time.perf_counter()
        self.seconds[self.step] = round(self.seconds.get(self.step, 0.0) + now - self._since, 2)
        self.step, self._since = step, now

    def keep(self) -> None:
        self.begin(self.step)
        write_json(self.path, {"seconds": self.seconds, "kwh": self.kwh})
