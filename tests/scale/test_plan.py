"""Plans: feasible, fast to make, better than what they reject, and clear about what cannot be."""

import json
import subprocess
import sys
import time

import pytest

from gsnn.errors import GsnnError
from gsnn.scale import faults
from gsnn.scale.devices import DEVICES, device
from gsnn.scale.memory import Layout, memory
from gsnn.scale.plan import USABLE, Settings, plan, search, tokens_for
from gsnn.scale.shapes import shape_for

CASES = [
    (1e12, 1e14, 100_000, "h200"),
    (70e9, 1e12, 512, "a100"),
    (1e9, 1e11, 8, "h200"),
    (1e7, 1e9, 1, "laptop"),
    (5e11, 1e13, 1536, "tpu-v5p"),
    (1e10, 1e12, 100, "gh200"),
]


@pytest.fixture(scope="module")
def plans():
    return [plan(*case) for case in CASES]


def test_every_plan_fits_and_adds_up(plans):
    for (parameters, _, devices, name), made in zip(CASES, plans):
        for one in (made.best, *made.others):
            layout = one.layout
            held = memory(made.shape, layout, one.micro_batch, 8192, bytes_each=device(name).bytes_each)
            assert held == one.pace.memory
            assert sum(held.values()) <= USABLE * device(name).memory
            assert layout.processes <= devices
            assert made.shape.heads % layout.tensor == 0
            assert made.shape.kv_heads % layout.tensor == 0
            assert made.shape.layers % layout.pipeline == 0
            assert layout.pipeline == 1 or layout.context == 1, "the trainer refuses their product"
            assert layout.microbatches >= layout.pipeline or layout.pipeline == 1
            assert 0 < one.mfu <= device(name).sustained
            assert one.tokens_per_second <= made.best.tokens_per_second
        assert made.shape.parameters == pytest.approx(parameters, rel=0.02)
        n = made.numbers
        assert n["hours"] == pytest.approx(n["hours_without_failures"] / n["goodput"])
        assert n["batch_tokens"] * n["steps"] == pytest.approx(made.tokens)
        flops = n["hours_without_failures"] * 3600 * made.best.mfu * made.best.layout.processes * made.device.peak
        assert flops == pytest.approx(n["flops"], rel=1e-6)


def test_1e5_ranks_are_planned_in_a_second():
    start = time.process_time()
    plan(1e12, 1e14, 100_000, "h200")
    assert time.process_time() - start < 1


def test_a_plan_is_json(plans):
    for made in plans:
        again = json.loads(json.dumps(made.to_dict()))
        assert again["best"]["layout"]["tensor"] == made.best.layout.tensor
        assert again["hours"] > 0


def test_more_devices_take_less_time_but_fail_more():
    small, large = (plan(8e9, 1e12, n, "h200") for n in (64, 512))
    assert large.numbers["hours"] < small.numbers["hours"] / 4
    assert large.numbers["mtbf_hours"] < small.numbers["mtbf_hours"]
    assert large.numbers["goodput"] < small.numbers["goodput"]


def test_without_tokens_the_law_says_how_many():
    law_tokens = plan(7e9, None, 64, "h100").tokens
    assert 10 * 7e9 < law_tokens < 30 * 7e9
    from gsnn.scale.laws import REPLICATION

    assert tokens_for(REPLICATION, 72.25e9) == pytest.approx(1.33e12, rel=0.01)


def test_slow_restarts_never_end_on_1e5_devices():
    made = plan(1e12, 1e14, 100_000, "h200", settings=Settings(restart_seconds=3600))
    assert made.numbers["goodput"] == 0
    assert "never ends" in made.limits[0]
    json.dumps(made.to_dict())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            (1e12, 1e12, 64, "h100"),
            r"do not fit on 64 x h100: .* 250 GB a device of 80 GB.*512 would do, and a network of",
        ),
        ((1e12, 1e12, 8, "laptop"), r"no number of these devices does.*a network of .* fits on these"),
        ((1e9, 1e9, 1, "h20"), "no device is called 'h20'; did you mean 'h200'"),
        ((1e9, 1e9, 0, "h200"), "at least one device"),
        ((1e9, 0.0, 1, "h200"), "at least one token"),
        ((1e3, 1e9, 1, "h200"), "give 1e4 to 1e18"),
        ((float("nan"), 1e9, 1, "h200"), "give 1e4 to 1e18"),
        ((None, 1e9, 1, "h200"), "needs --params, or a study"),
    ],
)
def test_what_cannot_be_is_one_sentence(given, message):
    with pytest.raises(GsnnError, match=message) as error:
        plan(*given)
    assert "\n" not in str(error.value)


def test_what_is_said_to_fit_does():
    with pytest.raises(GsnnError) as error:
        plan(1e12, 1e12, 64, "h100")
    said = str(error.value)
    more = int(said.split("; ")[1].split(" would do")[0].replace(",", ""))
    size = float(said.split("a network of ")[1].split()[0])
    assert plan(1e12, 1e12, more, "h100")
    assert plan(size * 0.97, 1e12, 64, "h100")


def test_every_layout_of_a_search_is_one_that_the_trainer_allows():
    from gsnn.training.layout import Facts, obstacle
    from gsnn.training.settings import Layout as Real

    shape = shape_for(1e9)
    for one in search(shape, 16, device("h200"), Settings(sequence=4096), 64 * 4096)[:200]:
        cut = one.layout
        batch = cut.replicate * cut.shard * cut.microbatches * one.micro_batch
        given = Facts(batch, 1, shape.layers, shape.heads, shape.kv_heads, shape.hidden, 4096)
        keys = ("replicate", "shard", "tensor", "pipeline", "context", "schedule", "attention", "recompute")
        real = Real(**{k: getattr(cut, k) for k in keys}, microbatches=cut.microbatches if cut.pipeline > 1 else 0)
        assert obstacle(real, given) == ("", ""), cut


# ---------------------------------------------------------------------- failures


def test_the_interval_is_the_best_one():
    cost, mtbf = 20.0, 3600.0
    best = faults.young(cost, mtbf)
    assert best == pytest.approx(379.5, abs=0.1)
    for other in (best / 2, best * 2):
        assert faults.goodput(other, cost, mtbf, 60) < faults.goodput(best, cost, mtbf, 60)
    assert faults.daly(cost, mtbf) == pytest.approx(best * (1 + (20 / 7200) ** 0.5 / 3 + 20 / 7200 / 9) - cost)
    assert faults.daly(10_000, 100) == 100


@pytest.mark.parametrize("name", DEVICES)
def test_devices_are_plausible(name):
    one = device(name)
    assert one.name == name
    assert 0.3 < one.sustained < 0.8
    assert one.intra >= one.inter > 0
    assert one.memory < one.bandwidth < one.peak
    assert one.link(1, one.node)[0] == one.intra
    assert one.link(1, 4 * one.node)[1] >= 2


def test_a_ring_over_nodes_uses_every_card_of_its_members():
    h100 = device("h100")
    assert h100.link(1, 64) == (400e9, 8)
    assert h100.link(8, 8) == (50e9, 8)
    assert h100.link(4, 8) == (100e9, 4)


# ---------------------------------------------------------------------- the command


def gsnn(*words):
    return subprocess.run([sys.executable, "-m", "gsnn.cli", *words], capture_output=True, text=True)


def test_the_command_prints_a_plan():
    done = gsnn("plan", "--params", "1e12", "--tokens", "1e14", "--devices", "100000", "--device", "h200")
    assert done.returncode == 0, done.stderr
    for word in ("layout", "memory", "MFU", "goodput", "CO2e", "runners-up", "what limits", "failures"):
        assert word in done.stdout
    found = json.loads(gsnn("plan", "--params", "1e9", "--devices", "8", "--json").stdout)
    assert found["best"]["processes"] <= 8


def test_planning_a_machine_needs_no_torch():
    code = "import sys, gsnn.scale.plan, gsnn.scale.show; sys.exit('torch' in sys.modules or 'scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_mistakes_of_the_command_are_a_sentence():
    for words in (
        ("--params", "1e12", "--devices", "8"),
        ("pulsars", "--params", "1e9"),
        ("--params", "1e9", "--law", "x"),
    ):
        done = gsnn("plan", *words)
        assert done.returncode == 1
        assert done.stderr.startswith("gsnn: ")
        assert done.stderr.count("\n") == 1


def test_layouts_count_processes():
    assert Layout(2, 3, 4, 5, 6).processes == 720
