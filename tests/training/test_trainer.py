import dataclasses
import json
import os
import signal
import threading

import pytest
import torch
from training_fakes import FakeModel, FakeStream, same, weights

from gsnn.errors import ConfigError, GsnnError
from gsnn.training import checkpoint, log
from gsnn.training.optim import rate
from gsnn.training.runtime import Runtime
from gsnn.training.settings import Train
from gsnn.training.step import backward, evaluate
from gsnn.training.trainer import MAX_BAD_STEPS, fit

CPU = Runtime()
FAST = {"epochs": 3, "batch": 8, "learning_rate": 0.02}


class Stop(Exception):
    pass


def train(folder, model=None, stream=None, valid=None, killed_after=None, stop_signal=None, **settings):
    """Fit the fake model; ``killed_after`` raises when that step's batch is asked for, as a crash would."""
    model = model or FakeModel()
    stream = stream or FakeStream()
    if killed_after is not None:
        stream = Crashing(stream, killed_after, stop_signal)
    settings = Train(**{**FAST, **settings})
    history = fit(model, stream, valid, settings, folder, runtime=CPU if settings.precision == "auto" else None)
    return model, history


class Crashing:
    def __init__(self, stream, after, stop_signal):
        self.stream, self.after, self.stop_signal = stream, after, stop_signal
        self.steps_per_epoch, self.objects, self.seed = stream.steps_per_epoch, stream.objects, stream.seed

    def batches(self, start, stop):
        for step, batch in zip(range(start, stop), self.stream.batches(start, stop)):
            if step == self.after:
                if self.stop_signal is None:
                    raise Stop
                os.kill(os.getpid(), self.stop_signal)
            yield batch


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "rmsprop"])
@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_the_loss_falls(tmp_path, optimizer, schedule):
    stream = FakeStream(objects=64)
    before = evaluate(FakeModel(), stream, CPU)["squared"]
    peak = {"adamw": 0.05, "sgd": 0.02, "rmsprop": 0.01}[optimizer]
    model, history = train(
        tmp_path, FakeModel(dropout=0.0), stream, optimizer=optimizer, schedule=schedule, epochs=10, learning_rate=peak
    )
    assert evaluate(model, stream, CPU)["squared"] < 0.3 * before
    assert history.stopped == "finished"
    assert history.step == 80
    assert history.kwh > 0


@pytest.mark.parametrize("terms", [1, 2])
@pytest.mark.parametrize("pieces", [2, 3, 8])
def test_micro_batches_give_the_gradient_of_the_whole_batch(terms, pieces):
    (batch,) = FakeStream(uneven=True).batches(0, 1)
    cut = [{k: v.tensor_split(pieces)[i] for k, v in batch.items()} for i in range(pieces)]
    gradients, losses = [], []
    for parts in ([batch], cut):
        model = FakeModel(dropout=0.0, terms=terms)
        losses.append(backward(model, parts, None, CPU))
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert torch.allclose(losses[0], losses[1], rtol=1e-6)
    assert torch.allclose(gradients[0], gradients[1], rtol=1e-5, atol=1e-6)
    assert gradients[0].norm() > 0.1


@pytest.mark.parametrize("terms", [1, 2])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_accumulation_trains_to_the_same_weights(tmp_path, terms, optimizer):
    results = []
    for accumulate in (1, 2):
        model = FakeModel(dropout=0.0, terms=terms)
        settings = {"accumulate": accumulate, "optimizer": optimizer, "epochs": 1}
        train(tmp_path / str(accumulate), model, FakeStream(uneven=True), **settings)
        results.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.allclose(*results, rtol=1e-5, atol=1e-6)


def test_a_batch_without_weight_changes_nothing_but_is_finite():
    (batch,) = FakeStream().batches(0, 1)
    batch["weight"] = torch.zeros(8)
    for parts in ([batch], [{k: v[:4] for k, v in batch.items()}, {k: v[4:] for k, v in batch.items()}]):
        model = FakeModel()
        assert backward(model, parts, None, CPU) == 0
        assert all((p.grad == 0).all() for p in model.parameters())


VARIANTS = {
    "adamw": {},
    "sgd": {"optimizer": "sgd"},
    "rmsprop, constant": {"optimizer": "rmsprop", "schedule": "constant"},
    "average": {"ema": 0.9},
    "accumulate, no clip": {"accumulate": 2, "clip": 0.0},
    "frozen": {"freeze": ("stem",)},
    "bfloat16": {"precision": "bfloat16"},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_resume_is_exact_at_every_step(tmp_path, name):
    settings, valid = VARIANTS[name], FakeStream(seed=1)
    whole, expected = train(tmp_path / "whole", valid=valid, **settings)
    for step in range(9):
        folder = tmp_path / str(step)
        with pytest.raises(Stop):
            train(folder, valid=valid, killed_after=step, checkpoint_seconds=0.0, **settings)
        model, history = train(folder, FakeModel(seed=9) if step else None, valid=valid, **settings)
        assert same(weights(model), weights(whole)), step
        assert [e["loss"] for e in history.epochs] == [e["loss"] for e in expected.epochs]
        assert [e["valid_loss"] for e in history.epochs] == [e["valid_loss"] for e in expected.epochs]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupt_saves_and_the_next_run_goes_on(tmp_path, number):
    whole, _ = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", killed_after=4, stop_signal=number, checkpoint_seconds=1e6)
    assert checkpoint.latest(tmp_path / "cut" / "checkpoints").step == 5
    model, _ = train(tmp_path / "cut")
    assert same(weights(model), weights(whole))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_in_the_validation_saves_and_validates_again(tmp_path):
    valid = FakeStream(seed=1)
    whole, expected = train(tmp_path / "whole", valid=valid)
    crashing = Crashing(valid, 1, signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", valid=crashing)
    model, history = train(tmp_path / "cut", valid=valid)
    assert same(weights(model), weights(whole))
    assert len(history.epochs) == len(expected.epochs) == 3
    assert [e["step"] for e in log.read(tmp_path / "cut") if e["event"] == "epoch"] == [3, 6, 9]


def test_the_log_is_not_repeated_on_resume(tmp_path):
    with pytest.raises(Stop):
        train(tmp_path, killed_after=7)  # the checkpoint is of step 3 or 6, the log may be further
    train(tmp_path)
    events = log.read(tmp_path)
    others = [e["event"] for e in events if e["event"] not in ("step", "epoch")]
    assert others == ["start", "resume", "end"]
    assert [e["step"] for e in events if e["event"] == "epoch"] == [3, 6, 9]
    steps = [e["step"] for e in events if e["event"] == "step"]
    assert steps == sorted(set(steps))


def test_a_finished_training_is_not_repeated(tmp_path):
    first, _ = train(tmp_path, valid=FakeStream(seed=1))
    lines = (tmp_path / "log.jsonl").read_bytes()
    again, history = train(tmp_path, FakeModel(seed=5), valid=FakeStream(seed=1), killed_after=0)
    assert same(weights(again), weights(first))
    assert history.stopped == "finished"
    assert (tmp_path / "log.jsonl").read_bytes() == lines


def test_early_stopping_restores_the_best_weights(tmp_path):
    valid = FakeStream(seed=1)
    model, history = train(tmp_path, valid=valid, epochs=40, patience=2, learning_rate=0.5, schedule="constant")
    losses = [e["valid_loss"] for e in history.epochs]
    assert history.stopped == "patience"
    assert history.best["valid_loss"] == min(losses)
    assert len(losses) == losses.index(min(losses)) + 1 + 2
    assert evaluate(model, valid, CPU)["squared"] == pytest.approx(min(losses), rel=1e-6)
    with pytest.raises(ConfigError, match="patience"):
        train(tmp_path / "none", patience=1)


@pytest.mark.parametrize("valid", [None, FakeStream(seed=1)])
def test_the_average_is_what_is_validated_and_kept(tmp_path, valid):
    seen = []

    class Watched(FakeModel):
        def after_step(self, step):
            super().after_step(step)
            seen.append((step, self.head.weight.detach().clone()))

    start = FakeModel().head.weight.detach().clone()
    model, _ = train(tmp_path, Watched(), valid=valid, ema=0.5, epochs=1)
    average = start
    for step, value in seen:
        decay = min(0.5, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * value
    assert torch.allclose(model.head.weight, average, atol=1e-6)
    assert not torch.allclose(model.head.weight, seen[-1][1], atol=1e-4)


def test_frozen_parts_do_not_move(tmp_path):
    before = weights(FakeModel())
    after = weights(train(tmp_path, freeze=("stem", "norm.bias"))[0])
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"norm.weight", "head.weight", "head.bias", "steps_seen"}
    for prefix, message in (("stm", "did you mean 'stem'"), ("ste", "did you mean 'stem'")):
        with pytest.raises(ConfigError, match=message):
            train(tmp_path / prefix, freeze=(prefix,))
    with pytest.raises(ConfigError, match="nothing is left"):
        train(tmp_path / "all", freeze=("stem", "norm", "head"))


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "rmsprop"])
@pytest.mark.parametrize("bad", [0, 4])
def test_a_step_that_is_not_finite_is_skipped(tmp_path, optimizer, bad):
    model, history = train(tmp_path, stream=FakeStream(bad_steps=(bad,)), optimizer=optimizer)
    assert history.skipped == 1
    assert all(value.isfinite().all() for value in model.state_dict().values())
    assert all(torch.isfinite(torch.tensor(e["loss"])) for e in history.epochs)


def test_many_steps_that_are_not_finite_stop_the_training(tmp_path):
    with pytest.raises(GsnnError, match=rf"{MAX_BAD_STEPS} steps in a row, from step 2 on, at learning rate"):
        train(tmp_path, stream=FakeStream(objects=48, bad_steps=range(1, 6)), epochs=1)


def test_another_training_is_not_continued(tmp_path):
    train(tmp_path)
    with pytest.raises(GsnnError, match=r"another learning_rate \(0.02 there, 0.5 now\)"):
        train(tmp_path, learning_rate=0.5)
    with pytest.raises(GsnnError, match="another objects"):
        train(tmp_path, stream=FakeStream(objects=32))


def test_budgets(tmp_path):
    _, history = train(tmp_path / "steps", max_steps=4, valid=FakeStream(seed=1))
    assert (history.step, history.stopped, len(history.epochs)) == (4, "finished", 2)
    _, history = train(tmp_path / "time", max_seconds=1e-9, valid=FakeStream(seed=1))
    assert (history.step, history.stopped, len(history.epochs)) == (1, "time", 1)
    _, history = train(tmp_path / "time", max_seconds=1e9, valid=FakeStream(seed=1))
    assert (history.step, history.stopped) == (9, "finished")


def test_events_and_history_are_json(tmp_path):
    told = []
    history = fit(FakeModel(), FakeStream(), None, Train(**FAST), tmp_path, runtime=CPU, report=told.append)
    assert told == log.read(tmp_path)
    json.dumps(dataclasses.asdict(history), allow_nan=False)
    step = next(e for e in told if e["event"] == "step")
    assert {"loss", "learning_rate", "gradient_norm", "samples_per_s", "data_wait", "seconds_left", "memory_gb"} < set(
        step
    )
    assert step["gradient_norm"] > 0
    for event in told:
        if event["event"] == "step":
            assert event["learning_rate"] == rate(event["step"] - 1, 9, Train(**FAST))


def test_augmentation_gets_the_epoch_and_training_leaves_the_global_random_state(tmp_path):
    epochs = []

    def augment(batch, random):
        epochs.append(random.epoch)
        return batch

    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    fit(FakeModel(), FakeStream(), None, Train(**FAST), tmp_path, runtime=CPU, augment=augment)
    assert epochs == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert torch.equal(torch.rand(3), expected)


def test_training_outside_the_main_thread(tmp_path):
    thread = threading.Thread(target=train, args=(tmp_path,))
    thread.start()
    thread.join()
    assert log.read(tmp_path)[-1]["stopped"] == "finished"


def test_the_probe_leaves_the_model_alone_and_its_choice_is_reused(tmp_path):
    model = FakeModel()
    settings = Train(epochs=70, batch=8, max_steps=205)
    history = fit(model, FakeStream(), None, settings, tmp_path / "a")
    repeat = FakeModel()
    fit(repeat, FakeStream(), None, settings, tmp_path / "b", runtime=Runtime(**history.runtime))
    assert same(weights(model), weights(repeat))
    assert checkpoint.latest(tmp_path / "a" / "checkpoints").state["history"]["runtime"] == history.runtime
