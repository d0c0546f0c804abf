"""What a person sees while a study runs, on a terminal and in a file."""

import pytest

from gsnn import progress
from gsnn.progress import Terminal


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass when they are told to."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_in_a_file_progress_is_a_line_now_and_then(clock, capsys):
    terminal = Terminal()
    assert not terminal.console.is_terminal
    terminal.step(2, "5,000 galaxies")
    for second in range(61):
        clock[0] = float(second)
        terminal.at("decoding", 80 * second, 5000, "fast")
    _, *lines = capsys.readouterr().err.splitlines()
    assert lines == [f"  decoding: {80 * second:,} of 5,000 fast" for second in (15, 30, 45, 60)]
    terminal.step(3, "")
    clock[0] += 10
    terminal.training({"event": "step", "epoch": 1, "step": 5, "steps": 10, "loss": 0.5})
    assert len(capsys.readouterr().err.splitlines()) == 1  # the step has just been told
    clock[0] += 10
    terminal.training({"event": "step", "epoch": 2, "step": 6, "steps": 10, "loss": 0.25, "seconds_left": 70})
    assert "epoch 2: 6 of 10 loss 0.2500" in capsys.readouterr().err


def test_short_work_says_nothing_within_its_steps(capsys):
    terminal = Terminal()
    for k in range(1000):
        terminal.at("decoding", k, 1000)
    assert capsys.readouterr().err == ""
