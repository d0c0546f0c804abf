"""What a person sees while a study runs: the five steps, a live line, and nothing at all when nobody looks."""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np

STEPS = ("question", "data", "architecture", "training and judging", "interpretation")


class Progress:
    """Says nothing. Steps call :meth:`step` when they begin, :meth:`say` for a line, :meth:`at` while they work."""

    def step(self, number: int, detail: str = "") -> None: ...

    def say(self, text: str) -> None: ...

    def at(self, label: str, done: int, total: int, detail: str = "") -> None: ...

    def done(self) -> None: ...

    def pictures(self, images: np.ndarray, captions: list[str]) -> None: ...

    def training(self, event: dict[str, Any]) -> None:
        """A line of the trainer's log."""
        if event.get("event") == "step" and event.get("steps"):
            left = event.get("seconds_left")
            parts = [f"loss {event['loss']:.4f}", f"{event.get('samples_per_s', 0):,.0f} samples/s"]
            if event.get("tokens_per_s"):
                parts.append(f"{event['tokens_per_s']:,.0f} tokens/s")
            if event.get("mfu"):
                parts.append(f"MFU {event['mfu']:.0%}")
            if event.get("data_wait", 0) >= 0.1:
                parts.append(f"{event['data_wait']:.0%} waiting for data")
            if left is not None:
                parts.append(f"{duration(left)} left")
            self.at(f"epoch {event['epoch']}", event["step"], event["steps"], " · ".join(parts))
        if event.get("event") == "straggler":
            slow, usual = event["seconds"], event["median"]
            self.say(f"process {event['process']} holds up the others: {slow:.3g} s a step, usually {usual:.3g} s")


EVERY = 15.0  # seconds between lines of progress where the output is a file


class Terminal(Progress):
    """Live lines on a terminal; plain lines where the output is a file: one a step, and one now and then within."""

    def __init__(self) -> None:
        from rich.console import Console

        self.console = Console(stderr=True, highlight=False)
        self._bar: Any = None
        self._task: Any = None
        self._label = ""
        self._told = time.monotonic()

    def step(self, number: int, detail: str = "") -> None:
        self.done()
        self._told = time.monotonic()
        self.console.print(f"[bold cyan]{number}[/] [bold]{STEPS[number - 1]}[/]  {detail}", soft_wrap=True)

    def say(self, text: str) -> None:
        self.done()
        self.console.print(f"  {text}", markup=False, soft_wrap=True)

    def at(self, label: str, done: int, total: int, detail: str = "") -> None:
        if not self.console.is_terminal:
            if time.monotonic() - self._told >= EVERY:
                self.say(" ".join(filter(None, (f"{label}: {done:,} of {total:,}", detail))))
                self._told = time.monotonic()
            return
        if self._bar is None or label.split(" ")[0] != self._label.split(" ")[0]:
            self.done()
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
            from rich.progress import Progress as Bar

            columns = (
                TextColumn("  {task.description}"),
                BarColumn(32),
                MofNCompleteColumn(),
                TextColumn("{task.fields[detail]}"),
            )
            self._bar = Bar(*columns, console=self.console, transient=True, refresh_per_second=8)
            self._bar.start()
            self._task = self._bar.add_task(label, total=total, detail=detail)
        self._label = label
        self._bar.update(self._task, description=label, completed=done, total=total, detail=detail)

    def done(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def pictures(self, images: np.ndarray, captions: list[str]) -> None:
        """A row of thumbnails [n, y, x, 3] in half-block characters, where the terminal has colours."""
        if not self.console.is_terminal or self.console.color_system != "truecolor":
            return
        from rich.text import Text

        self.done()
        side = 20
        each = max(1, min(len(images), self.console.width // (side + 2)))
        small = [_shrink(image, side) for image in images[:each]]
        for y in range(0, side, 2):
            line = Text("  ")
            for image in small:
                for top, bottom in zip(image[y], image[y + 1]):
                    line.append("▀", f"rgb({top[0]},{top[1]},{top[2]}) on rgb({bottom[0]},{bottom[1]},{bottom[2]})")
                line.append("  ")
            self.console.print(line)
        self.console.print("  " + "  ".join(f"{caption[:side]:<{side}}" for caption in captions[:each]), markup=False)


def _shrink(image: np.ndarray, side: int) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.LANCZOS)).astype(int)


def default() -> Progress:
    """Live progress where somebody looks (a terminal or a notebook's stderr), else silence."""
    return Terminal() if sys.stderr.isatty() else Progress()


def duration(seconds: float) -> str:
    """``75`` as ``1 min 15 s``."""
    if seconds < 1:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
    return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:.0f} min"


def amount(size: float) -> str:
    """Bytes as ``410 kB``, ``26 MB`` or ``1.2 GB``."""
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if size < 999.5 or unit == "TB":
            break
        size /= 1000
    return f"{size:.1f} {unit}" if size < 9.95 and unit != "bytes" else f"{size:.0f} {unit}"
