"""Fits one model to one stream: the loop, validation, early stopping, checkpoints. It does not know what is learned.

A training that is killed at any moment and started again ends with the same weights, bit for bit, on the same runtime:
batches and random numbers are functions of (seed, step), and everything else is in the checkpoint.
"""

from __future__ import annotations

import io
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .. import rng
from ..errors import ConfigError, GsnnError
from . import checkpoint, optim
from .log import Log
from .monitor import Monitor
from .parallel import Parallel, by_mesh
from .runtime import Runtime, resolve
from .settings import Train
from .state import State
from .step import Augment, Batch, close, evaluate, gradients, own_random_state, probe, seed_torch

PROBE_FROM = 200  # a training of fewer steps is not worth a probe of the precision: float32
LOOK_AROUND = 100  # steps after which the processes compare how fast they are
MAX_BAD_STEPS = 5  # steps in a row whose loss or gradient is not finite: each is skipped, then the training stops


@dataclass
class History:
    """How a training went. JSON-able; it is also the progress that a checkpoint keeps."""

    step: int = 0
    stopped: str = ""  # "finished" (all epochs), "patience", "time", or "" while it goes on
    epochs: list[dict[str, Any]] = field(default_factory=list)  # the "epoch" events
    best: dict[str, Any] | None = None  # the epoch event whose weights were kept
    skipped: int = 0  # steps whose loss or gradient was not finite
    seconds: float = 0.0
    kwh: float = 0.0  # of all processes
    kwh_error: float = 0.0
    energy_source: str = ""
    runtime: dict[str, Any] = field(default_factory=dict)


def fit(
    model: nn.Module,
    train: Any,
    valid: Any | None,
    settings: Train,
    directory: Path,
    *,
    runtime: Runtime | None = None,
    seed: int = 0,
    augment: Augment | None = None,
    report: Callable[[dict[str, Any]], None] = lambda event: None,
    parallel: Parallel | None = None,
) -> History:
    """Train ``model`` in place on the stream ``train``, or go on from the checkpoints in ``directory``.

    At the end the model has the weights of the epoch of least validation loss (the averaged ones under ``ema``), or
    the last weights where there is no ``valid``. ``runtime`` None means the one recorded in the checkpoint, else what
    the settings resolve to. ``report`` is called with every event of the log.

    A step whose loss or gradient is not finite is skipped; after MAX_BAD_STEPS of them in a row GsnnError is raised.
    SIGINT and SIGTERM finish the step, save a checkpoint and raise KeyboardInterrupt (a second SIGINT raises at once).
    """
    if settings.patience and valid is None:
        raise ConfigError(
            "early stopping needs a validation split: give one or set patience = 0", ("train", "patience")
        )
    parallel = parallel or Parallel(settings.layout.alone)
    return _Fit(model, train, valid, settings, Path(directory), runtime, seed, augment, report, parallel).run()


@contextmanager
def _signals() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set, so that a step is never cut in two. A second SIGINT raises at once."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def ask(number: int, frame: Any) -> None:
        if asked.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Fit:
    """The state of one training: what a checkpoint saves, and the clocks around it."""

    def __init__(
        self,
        model: nn.Module,
        train: Any,
        valid: Any | None,
        settings: Train,
        directory: Path,
        runtime: Runtime | None,
        seed: int,
        augment: Augment | None,
        report: Callable[[dict[str, Any]], None],
        parallel: Parallel,
    ):
        self.model, self.train, self.valid, self.settings = model, train, valid, settings
        self.seed, self.augment, self.report, self.parallel = seed, augment, report, parallel
        self.folder = directory / "checkpoints"
        self.total = min(settings.epochs * train.steps_per_epoch, settings.max_steps or math.inf)
        optim.freeze(model, settings.freeze)
        self.damaged: list[str] = []
        found = checkpoint.latest(self.folder, self.damaged, parallel.flags)
        self.history = History(**found.state["history"]) if found else History()
        self.resumed = self.history.step if found else None
        self.runtime = self._runtime(runtime)
        self.history.runtime = self.runtime.to_dict()
        self.monitor = Monitor(model, self.runtime, parallel, (self.history.kwh, self.history.kwh_error))
        self.history.energy_source = self.monitor.meter.source
        self.state = State(model, settings, self.runtime, parallel, valid is not None)
        self.identity = self.state.identity(settings, seed, train)
        if found is not None:
            self._check(found)
            found.load(self.state.tensors())
            self.state.set_tally(found.state["tally"])
        self.log = Log(directory, found.state["log"] if found else 0, self.history.step) if parallel.main else None
        self.before = (self.history.seconds, self.history.step)
        self.started = self.saved_at = self.read_at = time.perf_counter()
        self.save_cost = 0.0
        self.read_step, self.read_skipped = self.history.step, self.history.skipped
        self.read_loss = self.state.loss_sum.item()
        self.time_is_up, self.pending = False, None

    def run(self) -> History:
        history, batches = self.history, iter(())
        self.runtime.prepare()
        self.model.train()
        if history.stopped == "time" and self.parallel.agree(not self._time_is_up())[0]:
            history.stopped = ""
        files = closing(self.log or io.BytesIO())
        with files, closing(self.monitor), _signals() as self.asked, own_random_state(self.runtime):
            try:
                if not history.stopped:
                    self._tell(self._opening())
                    batches = iter(self.train.batches(history.step, self.total))
                self.interrupted = False
                while not history.stopped:
                    if self._epoch_is_over():
                        self._end_epoch()
                    else:
                        with self.monitor.sampled():
                            self._step(batches)
                    if self.interrupted and not history.stopped:
                        self._interrupt()
            except RuntimeError:  # others may have died: nothing that waits for them
                self.pending = None
                raise
            finally:
                close(batches)
                with suppress(GsnnError):  # told by the save that waited for it, or of no use to who was stopped
                    self.pending and self.pending.wait()
            self.state.finish(history.best is not None)
        return history

    def _step(self, batches: Iterator[Batch]) -> None:
        history, settings = self.history, self.settings
        batch = self.monitor.next(batches)
        state, parallel = self.state, self.parallel
        for group in state.optimizer.param_groups:
            group["lr"] = optim.rate(history.step, self.total, settings)
        other = parallel.data_rank + parallel.data_ranks * parallel.stage_rank  # objects, or layers, than the first
        purpose = f"step/{other}" if other else "step"
        seed_torch(rng.key(self.seed, purpose, history.step), self.runtime)
        random = rng.Rng(self.seed, history.step // self.train.steps_per_epoch)
        try:
            loss = gradients(self.model, batch, random, settings, self.runtime, self.augment, state.optimizer, parallel)
        except torch.OutOfMemoryError as error:
            raise GsnnError(
                f"the memory of {self.runtime.device} is too small for micro-batches of "
                f"{settings.batch // settings.accumulate} objects: raise [train] accumulate"
            ) from error
        parameters = [p for p in state.parameters.values() if p.grad is not None]
        state.norm = parallel.norm(parameters)
        if settings.clip:
            for some in by_mesh(parameters):
                nn.utils.clip_grads_with_norm_(some, settings.clip, state.norm)
        bad = ~torch.isfinite(loss + state.norm)
        optim.step_unless(state.optimizer, bad)
        state.loss_sum += torch.where(bad, 0.0, loss)
        state.skipped += bad
        state.streak = (state.streak + 1) * bad
        history.step += 1
        if state.average is not None:
            state.average.update(history.step)
        self.model.after_step(history.step)
        now = time.perf_counter()
        if now - self.read_at >= min(max(0.5, 0.002 * (now - self.started)), 10.0):
            self._read()
        wishes = self.asked.is_set(), self._time_is_up(), self._save_is_due(settings.checkpoint_seconds)
        self.interrupted, self.time_is_up, due = parallel.agree(*wishes)
        if due:
            self._save()
        if history.step % LOOK_AROUND == 0 and (found := parallel.straggler()):
            names = ("process", "seconds", "median")
            self._tell({"event": "straggler", "step": history.step, **dict(zip(names, found))})

    def _read(self) -> None:
        """Look at what the device has summed up since the last look, and tell it."""
        history = self.history
        loss_sum, skipped, streak, norm = torch.stack(
            [self.state.loss_sum, self.state.skipped, self.state.streak, self.state.norm]
        ).tolist()
        rate = self.state.optimizer.param_groups[0]["lr"]
        if streak >= MAX_BAD_STEPS:
            raise GsnnError(
                f"the loss or its gradient was not finite in {int(streak)} steps in a row, from step "
                f"{history.step - int(streak) + 1} on, at learning rate {rate:.3g}: lower learning_rate, "
                "or set precision = 'float32', or look for values that are not finite in the data"
            )
        now = time.perf_counter()
        good = history.step - self.read_step - int(skipped - self.read_skipped)
        history.skipped = int(skipped)
        self._clock()
        pace = (now - self.started) / (history.step - self.before[1])
        left = (self.total - history.step) * pace
        if self.settings.max_seconds:
            left = min(left, max(self.settings.max_seconds - history.seconds, 0.0))
        event = {
            "event": "step",
            "step": history.step,
            "steps": self.total,
            "epoch": self._epoch(),
            "loss": (loss_sum - self.read_loss) / good if good else math.nan,
            "learning_rate": rate,
            "gradient_norm": norm,
            "seconds_left": left,
            "skipped": history.skipped,
            **self.monitor.read(),
        }
        self.read_at, self.read_step, self.read_loss, self.read_skipped = now, history.step, loss_sum, skipped
        self._tell(event)

    def _end_epoch(self) -> None:
        """Validate, keep the best weights, decide whether to stop."""
        history = self.history
        if history.step > self.read_step:
            self._read()
        last = self._last_epoch()
        good = history.step - last["step"] - (history.skipped - last["skipped"])
        event = {
            "event": "epoch",
            "step": history.step,
            "epoch": self._epoch(),
            "loss": self.state.loss_sum.item() / good if good else math.nan,
            "skipped": history.skipped,
        }
        if self.valid is not None and not self._validate(event):
            self._interrupt()
        self.monitor.meet()
        self._clock()
        event["seconds"] = history.seconds
        history.epochs.append(event)
        self.state.loss_sum.zero_()
        self.read_loss = 0.0
        self._tell(event)
        reason = ""
        since_best = len([e for e in history.epochs if e["step"] > (history.best or {"step": 0})["step"]])
        if self.settings.patience and since_best >= self.settings.patience:
            reason = "patience"
        elif self.time_is_up:
            reason = "time"
        history.stopped = "finished" if history.step == self.total else reason
        if history.stopped:
            self._tell({"event": "end", "step": history.step, "stopped": history.stopped, "seconds": history.seconds})
            self._save(wait=True)
        elif self.parallel.agree(self._save_is_due(0.0))[0]:
            self._save()
        self.read_at = time.perf_counter()
        self.monitor.restart()

    def _validate(self, event: dict[str, Any]) -> bool:
        """Add the validation loss to ``event`` and keep the weights if it is the least; False if interrupted."""
        average, parallel = self.state.average, self.parallel
        with average.applied() if average else nullcontext():
            stop = lambda: parallel.agree(self.asked.is_set())[0]  # noqa: E731
            terms = evaluate(self.model, self.valid, self.runtime, stop, parallel)
            if terms is None:
                return False
            event["valid_loss"] = sum(terms.values())
            if len(terms) > 1:
                event["valid_terms"] = terms
            if event["valid_loss"] < (self.history.best or {"valid_loss": math.inf})["valid_loss"]:
                self.history.best = event
                self.state.keep()
        return True

    def _save_is_due(self, every: float) -> bool:
        """Save ``every`` seconds, but spend at most 1% of the time on it (``checkpoint_seconds = 0``: each step)."""
        least = 100 * self.save_cost if self.settings.checkpoint_seconds else 0.0
        return time.perf_counter() - self.saved_at >= max(every, least)

    def _save(self, wait: bool = False) -> None:
        """Save while the training goes on; ``wait`` until it stands on the disk."""
        start = time.perf_counter()
        self.monitor.meet()
        self._clock()
        tally = self.state.tally()
        self.history.skipped = int(tally[1])
        about = {
            "history": asdict(self.history),
            "identity": self.identity,
            "tally": tally,
            "log": self.log.offset() if self.log else 0,
            "torch": torch.__version__,
        }
        self.pending = checkpoint.save(
            self.folder, self.history.step, self.state.tensors(), about, group=self.parallel.flags
        )
        if wait:
            self.pending.wait()
        self.saved_at = time.perf_counter()
        self.save_cost = self.saved_at - start

    def _check(self, found: checkpoint.Checkpoint) -> None:
        theirs = found.state["identity"]
        for name, mine in self.identity.items():
            if theirs.get(name) != mine:
                raise GsnnError(
                    f"the checkpoints in {self.folder} are of a training with another {name} "
                    f"({theirs.get(name)!r} there, {mine!r} now): "
                    "train in another directory, or delete them to start anew"
                )

    def _runtime(self, given: Runtime | None) -> Runtime:
        if given is not None:
            return given
        if self.history.runtime:
            recorded = Runtime(**self.history.runtime)
            if self.settings.device in ("auto", recorded.device) and recorded.available():
                return recorded
        if not self.parallel.main:
            return Runtime(**self.parallel.from_main(None))
        worth = self.settings.precision == "auto" and self.total >= PROBE_FROM
        test = probe(self.model, self.train, self.settings, self.augment) if worth else None
        made = resolve(self.settings, test, any(p.ndim == 4 for p in self.model.parameters()))
        self.parallel.from_main(made.to_dict())
        return made

    def _opening(self) -> dict[str, Any]:
        opening = {"event": "start" if self.resumed is None else "resume", "step": self.history.step}
        return opening | {"steps": self.total, "runtime": self.history.runtime, "damaged": self.damaged}

    def _interrupt(self) -> None:
        self._save(wait=True)
        raise KeyboardInterrupt

    def _tell(self, event: dict[str, Any]) -> None:
        if self.log is not None:
            self.log.write(event)
            self.monitor.tell(event)
            self.report(event)

    def _clock(self) -> None:
        self.history.seconds = self._seconds()
        self.history.kwh, self.history.kwh_error = self.monitor.energy()

    def _time_is_up(self) -> bool:
        limit = self.settings.max_seconds
        return limit is not None and self._seconds() >= limit

    def _seconds(self) -> float:
        return self.before[0] + time.perf_counter() - self.started

    def _epoch(self) -> int:
        """The epoch (from 1) of the step just made."""
        return max(self.history.step - 1, 0) // self.train.steps_per_epoch + 1

    def _last_epoch(self) -> dict[str, Any]:
        return self.history.epochs[-1] if self.history.epochs else {"step": 0, "skipped": 0}

    def _epoch_is_over(self) -> bool:
        """Whether a validation is due: the epoch, the steps or the time are at their end."""
        step, last = self.history.step, self._last_epoch()["step"]
        return step > last and (step % self.train.steps_per_epoch == 0 or step == self.total or self.time_is_up)
