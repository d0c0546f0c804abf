"""What a training tells of its speed and its costs."""

import json
import math
import re
import time
import urllib.error
import urllib.request

import equality
import pytest
import torch
from torch import nn
from training_fakes import FakeModel, FakeStream, same, weights

from gsnn.errors import GsnnError
from gsnn.training import flops, log, metrics, monitor
from gsnn.training.parallel import Parallel
from gsnn.training.runtime import Runtime
from gsnn.training.settings import Train
from gsnn.training.trainer import fit

CPU = Runtime()


class Linear(nn.Module):
    """A linear network on 6 values, of ``tokens`` tokens if any."""

    def __init__(self, tokens=None):
        super().__init__()
        self.objective = nn.Module()
        self.objective.network = nn.Sequential(nn.Linear(6, 5, bias=False), nn.Linear(5, 3))
        if tokens:
            self.objective.network.places = type("Places", (), {"count": tokens})()

    def terms(self, batch, random):
        out = self.objective.network(batch["x"])
        return {"sum": (out.sum(), batch["x"].new_tensor(float(len(out))))}


class Attending(nn.Module):
    def __init__(self):
        super().__init__()
        self.project = nn.Linear(4, 4, bias=False)

    def terms(self, batch, random):
        x = self.project(batch["x"])[:, None]  # [object, head, token, dim]
        out = nn.functional.scaled_dot_product_attention(x, x, x, is_causal=True)
        return {"sum": (out.sum(), batch["x"].new_tensor(1.0))}


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.project = nn.Linear(6, 1)

    def terms(self, batch, random):
        out = self.project(batch["x"])
        if out.sum().item() > 0:
            out = 2 * out
        return {"sum": (out.sum(), out.new_tensor(1.0))}


class FakeMeter:
    kwh, error, source = 2.0, 0.5, "invented"


class Several(Parallel):
    """The first of four processes, two of them with the same objects; the others have used ten times as much."""

    def __init__(self):
        super().__init__()
        self.world, self.data_ranks = 4, 2


def batch_of(n=8, size=6):
    return {"row": torch.arange(n), "x": torch.ones(n, size)}


def parse(text):
    """Prometheus' text format: name -> (type, value); every sample has its help and its type before it."""
    found, helped, typed = {}, set(), {}
    for line in text.splitlines():
        if told := re.fullmatch(r"# HELP ([a-z_][a-z0-9_]*) (.+)", line):
            helped.add(told[1])
        elif told := re.fullmatch(r"# TYPE ([a-z_][a-z0-9_]*) (counter|gauge)", line):
            typed[told[1]] = told[2]
        else:
            name, value = line.split(" ")
            assert name in helped
            assert name not in found
            found[name] = (typed[name], float(value))
    return found


def get(port, path="/metrics"):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        return answer.headers["Content-Type"], answer.read().decode()


# ---------------------------------------------------------------------- arithmetic


@pytest.mark.parametrize("objects", [1, 8])
def test_flops_of_a_linear_network_are_exact(objects):
    forward = 2 * 6 * 5 + 2 * 5 * 3
    backward = 2 * forward - 2 * 6 * 5  # the gradient of the inputs is not asked for
    assert flops.count(flops.skeleton(Linear()), batch_of(objects)) == forward + backward


def test_what_is_frozen_is_not_differentiated():
    model = Linear()
    model.objective.network[0].weight.requires_grad_(False)
    assert flops.count(flops.skeleton(model), batch_of()) == 2 * 6 * 5 + 2 * (2 * 5 * 3)


def test_attention_is_counted_whole():
    tokens, width = 7, 4
    batch = {"row": torch.arange(3), "x": torch.ones(3, tokens, width)}
    linear, attention = 4 * tokens * width * width, 12 * width * tokens * tokens
    assert flops.count(flops.skeleton(Attending()), batch) == linear + attention


def test_flops_of_a_transformer_are_those_of_the_planner():
    model = equality.model("next-patch")
    network = model.objective.network
    tokens, width, layers = network.places.count, network.shape.width, network.shape.layers
    matrices = {name: p.numel() for name, p in network.named_parameters() if p.ndim == 2 and "modality" not in name}
    first = sum(size for name, size in matrices.items() if name.startswith("embedding"))
    expected = 6 * sum(matrices.values()) + 12 * layers * width * tokens - 2 * first  # pixels have no gradient
    assert flops.count(flops.skeleton(model), equality.objects(4)) == tokens * expected


def test_counting_leaves_the_model_and_the_random_numbers_alone():
    model, stream = FakeModel(), FakeStream()
    before, state = weights(model), torch.get_rng_state()
    batch = next(iter(stream.batches(0, 1)))
    assert flops.count(flops.skeleton(model), batch) == 2 * 2 * (4 * 8) + 3 * 2 * 8
    assert same(before, weights(model))
    assert torch.equal(state, torch.get_rng_state())
    assert all(p.grad is None and p.device.type == "cpu" for p in model.parameters())


def test_arithmetic_that_depends_on_the_numbers_is_not_told():
    assert flops.count(flops.skeleton(Branching()), batch_of()) is None


def test_the_peak_of_a_gpu_is_its_datasheets_and_of_a_cpu_measured():
    for name in ("NVIDIA H200", "NVIDIA H100 80GB HBM3"):
        assert flops.datasheet(name)[0] == 989e12
    assert flops.datasheet("NVIDIA A100-SXM4-80GB") == (312e12, "datasheet of a100, dense bfloat16")
    for name in ("NVIDIA H100 PCIe", "NVIDIA H100 NVL", "NVIDIA H200 MIG 1g.18gb", "NVIDIA GeForce RTX 4090", "cpu"):
        assert flops.datasheet(name) is None
    rate, told = flops.peak("cpu", "float32")
    assert 1e8 < rate < 1e14
    assert told.startswith("measured")
    assert "float32" in told
    assert "thread" in told


# ---------------------------------------------------------------------- the numbers of an event


def test_rates_are_of_all_processes_and_mfu_of_all_their_peaks(monkeypatch):
    monkeypatch.setattr(monitor, "WORTH", 0.0)
    monkeypatch.setattr(flops, "peak", lambda device, dtype: (1e6, "invented"))
    now = [100.0]
    monkeypatch.setattr(monitor.time, "perf_counter", lambda: now[0])
    one = monitor.Monitor(Linear(tokens=16), CPU, Several(), meter=FakeMeter())

    def slowly():
        while True:
            now[0] += 0.25
            yield batch_of()

    batches = slowly()
    for _ in range(2):
        one.next(batches)
    now[0] += 0.5  # 16 objects in a second, on each of two data ranks
    event = one.read()
    assert event["samples_per_s"] == pytest.approx(32)
    assert event["tokens_per_s"] == pytest.approx(32 * 16)
    assert event["data_wait"] == pytest.approx(0.5)
    each = 6 * (6 * 5 + 5 * 3) - 2 * 6 * 5
    assert event["flops_per_s"] == pytest.approx(32 * each)
    assert event["mfu"] == pytest.approx(32 * each / (4 * 1e6))
    assert event["peak_source"] == "invented"
    now[0] += 50.0
    one.restart()  # a validation
    one.next(batches)
    now[0] += 0.75
    assert one.read()["samples_per_s"] == pytest.approx(16)


def test_a_network_without_tokens_has_no_tokens_a_second_and_a_short_training_no_mfu():
    one = monitor.Monitor(Linear(), CPU, Parallel())
    one.next(iter([batch_of()]))
    event = one.read()
    assert event["samples_per_s"] > 0
    assert event["tokens_per_s"] is event["mfu"] is event["flops_per_s"] is event["communication"] is None
    json.dumps(event, allow_nan=False)


def test_energy_is_of_all_processes_and_of_the_training_before(monkeypatch):
    monkeypatch.setattr(monitor, "add", lambda parallel, values: [11 * value for value in values])
    monkeypatch.delenv("GSNN_GRID_G_PER_KWH", raising=False)
    one = monitor.Monitor(Linear(), CPU, Several(), before=(1.0, 0.25), meter=FakeMeter())
    assert one.energy() == pytest.approx((3.0, 0.75))
    one.meet()
    assert one.energy() == pytest.approx((1 + 2 + 20, 0.25 + 0.5 + 5))
    one.next(iter([batch_of()]))
    event = one.read()
    assert (event["kwh"], event["kwh_error"]) == pytest.approx((23, 5.75))
    assert event["co2e_kg"] == pytest.approx(23 * 0.473)


def test_one_process_is_its_own_sum():
    assert monitor.add(Parallel(), [1.0, 2.0]) == [1.0, 2.0]


def test_collectives_side_by_side_count_once():
    assert monitor.covered([(5, 6), (0, 2), (1, 3), (1, 2)]) == 4
    assert monitor.covered([]) == 0


def test_a_sampled_step_tells_its_communication(monkeypatch):
    monkeypatch.setattr(monitor, "SETTLED", 0.0)
    monkeypatch.setattr(monitor, "COLLECTIVES", ("aten::mm",))  # as if products were collectives
    one = monitor.Monitor(Linear(), CPU, Several(), meter=FakeMeter())
    with one.sampled():
        square = torch.ones(300, 300)
        for _ in range(10):
            square = square @ square * 1e-3
        time.sleep(0.01)
    first = one.communication
    assert 0 < first < 1
    with one.sampled():  # not so soon again
        pass
    assert one.communication == first


# ---------------------------------------------------------------------- a training


def test_every_step_event_of_a_training_has_them(tmp_path, monkeypatch):
    monkeypatch.setattr(monitor, "WORTH", 0.0)
    told = []
    history = fit(FakeModel(), FakeStream(), None, Train(epochs=2, batch=8), tmp_path, runtime=CPU, report=told.append)
    events = [event for event in log.read(tmp_path) if event["event"] == "step"]
    assert len(events) >= 2
    for event in events:
        assert event["samples_per_s"] > 0
        assert event["flops_per_s"] > 0
        assert 0 < event["mfu"] < 1
        assert event["peak_source"].startswith("measured")
        assert 0 < event["kwh_error"] < event["kwh"]
        assert event["memory_gb"] > 0
        assert 0 <= event["data_wait"] <= 1
    assert history.kwh >= events[-1]["kwh"] > 0
    assert 0 < history.kwh_error < history.kwh


def test_counting_does_not_change_what_is_learned(tmp_path, monkeypatch):
    made = []
    for worth in (0.0, math.inf):
        monkeypatch.setattr(monitor, "WORTH", worth)
        model = FakeModel()
        fit(model, FakeStream(), None, Train(epochs=2, batch=8), tmp_path / str(worth), runtime=CPU)
        made.append(weights(model))
    assert same(*made)


# ---------------------------------------------------------------------- the endpoint


def test_prometheus_reads_the_latest_event(monkeypatch):
    monkeypatch.setenv("GSNN_METRICS_PORT", "0")
    one = monitor.Monitor(Linear(tokens=16), CPU, Parallel())
    try:
        kind, text = get(one.endpoint.port)
        assert text == ""
        assert kind.startswith("text/plain; version=0.0.4")
        one.next(iter([batch_of()]))
        event = {"event": "step", "step": 7, "loss": math.nan, **one.read()}
        one.tell(event)
        one.tell({"event": "epoch", "step": 8})  # has none of these numbers
        found = parse(get(one.endpoint.port)[1])
        assert found["gsnn_samples_per_second"] == ("gauge", event["samples_per_s"])
        assert found["gsnn_tokens_per_second"] == ("gauge", event["tokens_per_s"])
        assert found["gsnn_step"] == ("gauge", 7)
        assert math.isnan(found["gsnn_loss"][1])
        assert "gsnn_mfu_ratio" not in found  # not known yet
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get(one.endpoint.port, "/else")
        with pytest.raises(GsnnError, match="GSNN_METRICS_PORT"):
            metrics.Endpoint(one.endpoint.port)
    finally:
        one.close()
    with pytest.raises(urllib.error.URLError):
        get(one.endpoint.port)


def test_every_number_of_an_event_has_a_metric():
    event = monitor.Monitor(Linear(tokens=2), CPU, Parallel()).read()
    assert set(event) - {"peak_source"} <= set(metrics.NAMES)
    names = [name for name, _, _ in metrics.NAMES.values()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("wrong", ["http", "-1", "65536", "8.5"])
def test_a_port_that_is_none_is_refused(monkeypatch, wrong):
    monkeypatch.setenv("GSNN_METRICS_PORT", wrong)
    with pytest.raises(GsnnError, match="GSNN_METRICS_PORT"):
        metrics.from_environment()


def test_without_a_port_nothing_listens(monkeypatch):
    monkeypatch.delenv("GSNN_METRICS_PORT", raising=False)
    assert metrics.from_environment() is None
