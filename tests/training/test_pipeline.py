"""Stages of a network on several processes give the gradients, losses and checkpoints of one process."""

from __future__ import annotations

import json
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from equality import BATCH, TRANSFORMER, Steps, model, objects, schema, together, train
from forked import together as fork

from gsnn.data.schema import Column, Schema
from gsnn.errors import ConfigError
from gsnn.model import Model
from gsnn.rng import Rng
from gsnn.training.layout import STAGES, Facts, microbatches, obstacle, require
from gsnn.training.parallel import ALONE, Parallel
from gsnn.training.pipeline import TORCH_NAMES, deal, owners
from gsnn.training.runtime import Runtime
from gsnn.training.settings import Layout, Schedule, Train
from gsnn.training.step import backward, evaluate
from gsnn.training.trainer import fit

SCHEDULES = get_args(Schedule)
CPU = Runtime("cpu", threads=1)
STEPS = 6
TRAININGS = [[task, {"pipeline": 2, "schedule": one}, {}] for one in SCHEDULES for task in ("classify", "next-patch")]
TRAININGS += [["masked-patch", {"pipeline": 2, "recompute": True, "microbatches": 3}, {"ema": 0.9}]]
PRODUCTS = [
    ["classify", {"pipeline": 2, "shard": 2}, {}],
    ["next-patch", {"pipeline": 2, "shard": 2, "schedule": "zbv-zero-bubble"}, {}],
    ["next-patch", {"pipeline": 2, "tensor": 2, "schedule": "interleaved-1f1b"}, {}],
    ["masked-patch", {"pipeline": 2, "replicate": 2}, {}],
    ["next-patch", {"pipeline": 2, "context": 2}, {}],
    ["classify", {"pipeline": 4, "schedule": "gpipe"}, {}],
    ["next-patch", {"pipeline": 4}, {}],
]


# ---------------------------------------------------------------------- without processes


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("processes", [2, 3, 8])
def test_every_process_holds_as_many_stages(schedule, processes):
    found = owners(Layout(pipeline=processes, schedule=schedule))
    assert all(found.count(process) == STAGES[schedule] for process in range(processes))
    assert found[:processes] == list(range(processes))
    assert schedule in TORCH_NAMES


@pytest.mark.parametrize(("blocks", "stages"), [(4, 2), (5, 2), (7, 4), (4, 4), (104, 64)])
def test_blocks_are_dealt_in_order_and_evenly(blocks, stages):
    names = [str(i) for i in range(blocks)]
    dealt = deal(names, stages)
    assert [name for some in dealt for name in some] == names
    assert {len(some) for some in dealt} <= {blocks // stages, -(-blocks // stages)}


@pytest.mark.parametrize(
    ("wish", "blocks", "word"),
    [
        ({"pipeline": 8}, 4, "8 stages are more than the network's 4 blocks"),
        ({"pipeline": 4, "schedule": "looped-bfs"}, 4, "8 stages"),
        ({"pipeline": 4, "microbatches": 2}, 8, "needs 4 micro-batches, not 2"),
        ({"pipeline": 2, "microbatches": 2, "schedule": "dualpipe-v"}, 8, "needs 4 micro-batches, not 2"),
        ({"pipeline": 2, "microbatches": 5, "schedule": "interleaved-1f1b"}, 8, "in 2 rounds"),
        ({"pipeline": 2, "microbatches": 7}, 8, "not divisible by 7"),
        ({"pipeline": 2}, 0, "cannot be cut into stages"),
    ],
)
def test_pipelines_that_cannot_be_are_refused(wish, blocks, word):
    layout = Layout(**wish)
    given = Facts(40 if "microbatches" in wish else 64, blocks=blocks, heads=4, kv_heads=4, hidden=8, tokens=16)
    with pytest.raises(ConfigError, match=word):
        require(layout, given, layout.processes)


def test_a_split_backward_pass_is_not_compiled():
    layout = Layout(pipeline=2, schedule="zbv-zero-bubble")
    assert obstacle(layout, Facts(8, blocks=4)) == ("", "")
    assert "compile" in obstacle(layout, Facts(8, blocks=4, compile=True))[1]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_what_the_schedule_needs_is_no_obstacle(schedule):
    layout = Layout(pipeline=4, schedule=schedule)
    assert obstacle(layout, Facts(microbatches(layout) * 2, blocks=8)) == ("", "")


# ---------------------------------------------------------------------- with processes


def two_terms() -> Model:
    """A model whose loss has two terms, of which the objects without a target weigh nothing."""
    targets = Schema.of([Column("size", "scalar")])
    objective = {"name": "regress", "loss": "gaussian", "score": "both"}
    made = Model(schema("image"), targets, {"model": TRANSFORMER, "objective": objective, "transforms": {}}, seed=3)
    made.objective.transforms["size"].fit(torch.linspace(-1, 2, 9)[:, None])
    return made


def rows(count: int) -> dict[str, torch.Tensor]:
    found = {name: value[:count] for name, value in objects(count).items()}
    size = found["image"].mean((1, 2, 3))
    return {**found, "size": torch.where(found["row"] % 4 == 1, torch.nan, size)}


def differences(schedule: str, task: str, count: int) -> dict[str, float]:
    """The largest relative differences of a pipeline's gradients, loss and validation from those of one process."""
    one, cut = (two_terms() if task == "two terms" else model(task) for _ in range(2))
    parallel = Parallel(Layout(pipeline=2, schedule=schedule))
    parallel.apply(cut, CPU)
    batch = rows(count)
    losses = [backward(m, [batch], Rng(1), CPU, p) for m, p in ((one, ALONE), (cut, parallel))]
    whole = dict(one.named_parameters())
    gradient = 0.0
    for name, parameter in cut.named_parameters():
        want = whole[name].grad
        gradient = max(gradient, float((parameter.grad - want).norm() / (want.norm() + 1e-12)))
    looks = [evaluate(m, Look(batch), CPU, parallel=p) for m, p in ((one, ALONE), (cut, parallel))]
    assert list(looks[0]) == list(looks[1])
    return {
        "gradient": gradient,
        "loss": abs(float(losses[1] / losses[0]) - 1),
        "terms": max(abs(looks[1][name] / value - 1) for name, value in looks[0].items()),
        "names": len(list(cut.named_parameters())) / len(whole),
    }


class Look:
    """A stream of one batch."""

    steps_per_epoch = 1

    def __init__(self, batch):
        self.batch = batch

    def batches(self, start, stop):
        yield self.batch


class Stopped(Steps):
    """A stream whose reader is told to stop before a step."""

    def __init__(self, step: int, *where: int):
        super().__init__(30, *where)
        self.step = step

    def batches(self, start, stop):
        for step, batch in enumerate(super().batches(start, stop), start):
            if step == self.step:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch


def settings(layout: dict[str, Any]) -> Train:
    return Train(
        batch=BATCH, epochs=1000, max_steps=STEPS, learning_rate=3e-3, ema=0.9, precision="float32",
        checkpoint_seconds=3600.0, layout=Layout(**layout),
    )  # fmt: skip


def stop_in_the_middle(folder: Path) -> None:
    chosen = settings({"pipeline": 2, "schedule": "zbv-zero-bubble"})
    parallel = Parallel(chosen.layout)
    with suppress(KeyboardInterrupt):
        fit(model("next-patch"), Stopped(3), Steps(14), chosen, folder, runtime=CPU, parallel=parallel)


def worker(rank: int, folder: Path) -> dict[str, Any]:
    """What one of two processes finds."""
    stop_in_the_middle(folder / "stopped")
    looked = {
        f"{schedule}, {task}, {count}": differences(schedule, task, count)
        for schedule in SCHEDULES
        for task, count in (("two terms", 8), ("masked-patch", 5), ("two terms", 1))
    }
    return {"trainings": trainings(rank, TRAININGS, folder / "two"), "differences": looked}


def trainings(rank: int, cases: list[Any], folder: Path) -> list[dict[str, Any]]:
    return [train(task, layout, folder / str(i), STEPS, **how) for i, (task, layout, how) in enumerate(cases)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pipeline")


@pytest.fixture(scope="module")
def found(folder):
    """What two processes found."""
    return fork(2, worker, folder, seconds=300)[1]


@pytest.fixture(scope="module")
def alone(folder):
    """The trainings of one process."""
    cases = {repr((task, how)): [task, {}, how] for task, _, how in TRAININGS + PRODUCTS}
    return dict(zip(cases, trainings(0, list(cases.values()), folder / "alone")))


def check(case, got, alone):
    want = alone[repr((case[0], case[2]))]
    assert got["initial"] == want["initial"], case
    assert got["losses"] == pytest.approx(want["losses"], rel=1e-6), case
    assert got["valid"] == pytest.approx(want["valid"], rel=1e-6), case


@pytest.mark.parametrize("index", range(len(TRAININGS)), ids=lambda i: f"{TRAININGS[i][0]}-{TRAININGS[i][1]}")
def test_every_schedule_trains_as_one_process(found, alone, index):
    check(TRAININGS[index], found["trainings"][index], alone)


def test_products_train_as_one_process(folder, alone):
    """By torchrun: where a plan divides what a module gives, the shapes in its annotations are those of one process."""
    for case, got in zip(PRODUCTS, together(4, [[t, w, STEPS, s] for t, w, s in PRODUCTS], folder / "four")):
        check(case, got, alone)


def test_gradients_and_terms_are_those_of_one_process_for_batches_of_any_size(found):
    assert len(found["differences"]) == 3 * len(SCHEDULES)
    for case, each in found["differences"].items():
        assert each["gradient"] < 1e-5, case
        assert each["loss"] < 1e-6, case
        assert each["terms"] < 1e-6, case
        assert 0.3 < each["names"] < 0.7, case  # a process holds its own stages, and no more


def test_one_process_goes_on_from_the_checkpoint_of_a_pipeline(found, folder):
    assert found
    goes_on, whole = model("next-patch"), model("next-patch")
    later = fit(goes_on, Steps(30), Steps(14), settings({}), folder / "stopped", runtime=CPU)
    fit(whole, Steps(30), Steps(14), settings({}), folder / "whole", runtime=CPU)
    events = [json.loads(line) for line in (folder / "stopped/log.jsonl").read_text().splitlines()]
    assert [e["step"] for e in events if e["event"] == "resume"] == [4]
    assert later.stopped == "finished"
    for (name, got), want in zip(goes_on.state_dict().items(), whole.state_dict().values()):
        assert torch.allclose(got, want, rtol=1e-4, atol=1e-5), name
