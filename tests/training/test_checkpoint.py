import json
import subprocess

import pytest
import torch

from gsnn.training import checkpoint, optim
from gsnn.training.settings import Train


def test_saved_is_loaded(tmp_path):
    tied = torch.arange(6.0).reshape(2, 3)
    tensors = {
        "model/a": tied,
        "model/b": tied,
        "model/c": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
        "model/d": torch.tensor(7),
        "best/e": torch.randn(3).bfloat16(),
        "model/part": torch.arange(10.0)[2:4],
    }
    state = {"x": 0.1 + 0.2, "text": "é", "nested": {"list": [1, None]}}
    checkpoint.save(tmp_path, 3, tensors, state)
    found = checkpoint.latest(tmp_path)
    assert (found.step, found.state) == (3, state)
    assert found.tensors.keys() == tensors.keys()
    assert all(torch.equal(found.tensors[k], tensors[k]) for k in tensors)
    assert found.under("best").keys() == {"e"}


def test_the_newest_are_kept(tmp_path):
    for step in (1, 2, 10, 30):
        checkpoint.save(tmp_path, step, {"a": torch.full((2,), float(step))}, {}, keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000010", "step-00000030"]
    assert checkpoint.latest(tmp_path).tensors["a"][0] == 30
    checkpoint.save(tmp_path, 10, {"a": torch.zeros(2)}, {})  # gone back: what was later is of another attempt
    assert checkpoint.latest(tmp_path).step == 10
    assert checkpoint.latest(tmp_path).tensors["a"][0] == 0


def test_none_is_none(tmp_path):
    assert checkpoint.latest(tmp_path) is None
    assert checkpoint.latest(tmp_path / "nowhere") is None


def test_coreutils_can_check_it(tmp_path):
    path = checkpoint.save(tmp_path, 1, {"a": torch.zeros(2)}, {})
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=path, check=True, capture_output=True)
    assert json.loads((path / "state.json").read_text())["step"] == 1


@pytest.mark.parametrize("name", ["adamw", "sgd", "rmsprop"])
def test_the_optimisers_state_survives(tmp_path, name):
    """The same steps with and without a checkpoint between, in channels_last, give the same bits."""

    def steps(model, made, count):
        for step in range(count):
            torch.manual_seed(step)
            made.zero_grad()
            (model(torch.randn(2, 3, 6, 6)) ** 2).sum().backward()
            made.step()

    def new():
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.GroupNorm(2, 4))
        model = model.to(memory_format=torch.channels_last)
        return model, optim.optimizer(model, Train(optimizer=name)), {p: n for n, p in model.named_parameters()}

    model, made, names = new()
    steps(model, made, 3)
    flat = checkpoint.flatten_optimizer(made, names)
    checkpoint.save(tmp_path, 3, {f"optimizer/{k}": v for k, v in flat.items()}, {})
    other, remade, other_names = new()
    other.load_state_dict(model.state_dict())
    checkpoint.restore_optimizer(remade, other_names, checkpoint.latest(tmp_path).under("optimizer"))
    for parameter, values in remade.state.items():
        assert all(v.stride() == parameter.stride() for v in values.values() if v.shape == parameter.shape)
    steps(model, made, 2)
    steps(other, remade, 2)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters()))
