"""Every published number that the planner promises to reproduce."""

import pytest

from gsnn.scale import faults, laws, sky
from gsnn.scale.devices import DEVICES, LLAMA3_HOURS, device
from gsnn.scale.memory import Layout
from gsnn.scale.pace import bubble, in_one_step, pace
from gsnn.scale.shapes import Shape, korthikanti


@pytest.mark.parametrize(
    ("parameters", "tokens", "loss"),
    [
        (137e9, 168e9, 2.051),  # LaMDA
        (175e9, 300e9, 2.002),  # GPT-3
        (280e9, 300e9, 1.993),  # Gopher
        (530e9, 270e9, 1.990),  # MT-NLG
        (70e9, 1.4e12, 1.936),  # Chinchilla
        (540e9, 780e9, 1.924),  # PaLM
    ],
)
def test_losses_of_large_language_models_by_the_published_law(parameters, tokens, loss):
    assert laws.PUBLISHED.loss(parameters, tokens) == pytest.approx(loss, abs=0.002)


def test_the_replication_finds_what_chinchilla_was():
    parameters, tokens = laws.REPLICATION.optimal(5.76e23)
    assert parameters == pytest.approx(72e9, rel=0.01)
    assert tokens == pytest.approx(1.33e12, rel=0.01)
    assert 6 * parameters * tokens == pytest.approx(5.76e23)


def test_gpt3_took_311_hours_933_mwh_and_400_tonnes():
    hours = faults.hours_of(3.14e23, 10_000, 2.8e13)
    kwh = faults.energy_kwh(10_000, hours, 300)
    assert hours == pytest.approx(311, abs=1)
    assert kwh == pytest.approx(933e3, rel=0.003)
    assert kwh * 0.429 / 1000 == pytest.approx(400, abs=1.5)


def test_palm_took_3_18_gwh():
    kwh = faults.energy_kwh(6144, 1200, 378.5) + faults.energy_kwh(3072, 336, 378.5)
    assert kwh == pytest.approx(3.18e6, rel=0.003)


def test_llama3_was_interrupted_every_3_1_hours():
    assert pytest.approx(50_700, rel=0.001) == LLAMA3_HOURS
    assert faults.system_mtbf(device("h100").mtbf_hours, 16384) == pytest.approx(3.1, abs=0.01)


def test_rubin_gives_12_billion_tokens_a_night_and_4_4_trillion_a_year():
    assert sky.rubin_tokens_a_night() == pytest.approx(12e9, rel=0.03)
    assert sky.rubin_tokens_a_year() == pytest.approx(4.4e12, rel=0.04)


def test_activations_of_a_175_billion_parameter_layer():
    """Korthikanti et al. 2022, 5as/h is 80 for GPT-3, and selective recomputing saves 70%."""
    none, selective = (korthikanti(2048, 1, 12288, 96, 8, how) for how in ("none", "selective"))
    assert 5 * 96 * 2048 / 12288 == 80
    assert 1 - selective / none == pytest.approx(0.70, abs=0.01)
    assert korthikanti(2048, 1, 12288, 96, 8, "full") == pytest.approx(selective / 17)


@pytest.mark.parametrize(
    ("name", "shape", "layout", "micro", "sequence", "on", "stages", "share"),
    [
        # Llama 3 405B on 16,384 H100, 16 M tokens a step, 41% (table 4); eight stages of a block or so a rank
        ("llama3", Shape(16384, 126, 128, 8, 53248, vocabulary=128256),
         Layout(tensor=8, pipeline=16, shard=128, schedule="interleaved-1f1b", microbatches=16),
         1, 8192, "h100", 8, 0.41),
        # Megatron's 1 T on 3,072 A100, recomputing: 163 TFLOP/s with it, 52% (arXiv:2104.04473, table 1)
        ("megatron-1T", Shape(25600, 128, 160, 160, 25600 * 8 // 3, vocabulary=51200),
         Layout(tensor=8, pipeline=64, replicate=6, schedule="interleaved-1f1b", microbatches=512, recompute=True),
         1, 2048, "a100", 2, 0.52 * 3 / 4),
        # and 175 B on 1,024: 140 TFLOP/s, 45%
        ("megatron-175B", Shape(12288, 96, 96, 96, 12288 * 8 // 3, vocabulary=51200),
         Layout(tensor=8, pipeline=8, replicate=16, schedule="interleaved-1f1b", microbatches=96, recompute=True),
         1, 2048, "a100", 2, 0.45 * 3 / 4),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_throughput_of_published_runs(name, shape, layout, micro, sequence, on, stages, share):
    """Within 16%: the paces are estimates, and the share of the peak was chosen with two of these in view."""
    one = pace(shape, layout, micro, sequence, DEVICES[on])
    seconds = one.seconds - one.bubble * (1 - 2 / stages)  # the tables have two stages a rank
    rate = in_one_step(layout, micro, sequence) / seconds * shape.flops(sequence)
    assert rate / layout.processes / DEVICES[on].peak == pytest.approx(share, rel=0.16)


def test_bubbles():
    assert bubble(Layout(pipeline=4, microbatches=12)) == pytest.approx(3 / 12)
    assert bubble(Layout(pipeline=4, microbatches=12, schedule="interleaved-1f1b")) == pytest.approx(3 / 24)
    assert bubble(Layout(pipeline=4, microbatches=12, schedule="zbv-zero-bubble")) == pytest.approx(1 / 12)
