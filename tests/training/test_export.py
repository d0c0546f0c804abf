"""A checkpoint as one file of weights, whatever layout it was written under and whatever it also holds."""

import weakref

import pytest
import torch
from forked import together
from safetensors.torch import load_file
from torch.distributed.tensor import DeviceMesh, Shard, distribute_tensor

from gsnn.cli import main
from gsnn.errors import GsnnError
from gsnn.training import checkpoint, restore
from gsnn.training.export import export

WEIGHTS = {"a.weight": torch.arange(12.0).reshape(4, 3), "b": torch.tensor(5), "c": torch.randn(7).bfloat16()}
EMPTY = {"z": torch.zeros(0, 2)}


def save(folder, step=3, validated=False, **kinds):
    tensors = {f"{kind}/{name}": value for kind, some in kinds.items() for name, value in some.items()}
    tensors |= {"optimizer/a.weight/exp_avg": torch.ones(4, 3)}
    return checkpoint.save(
        folder, step, tensors, {"history": {"best": {"valid_loss": 1.0} if validated else None}}
    ).wait()


def same(path, weights):
    found = load_file(path)
    return found.keys() == weights.keys() and all(torch.equal(found[k], weights[k]) for k in weights)


@pytest.mark.parametrize("within", ["fits/main/checkpoints", "checkpoints", "."])
def test_the_weights_alone_under_the_names_of_the_model(tmp_path, within):
    save(tmp_path / within, model=WEIGHTS | EMPTY)
    assert export(tmp_path, tmp_path / "deep/model.safetensors") == "the model weights of step 3"
    assert same(tmp_path / "deep/model.safetensors", WEIGHTS | EMPTY)
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["model.safetensors"]


def test_the_weights_that_training_would_end_with(tmp_path):
    other = {name: torch.zeros_like(value) for name, value in WEIGHTS.items()}
    average = {"c": torch.full((7,), 2.0).bfloat16()}
    out = tmp_path / "out"
    save(tmp_path, 1, model=WEIGHTS)
    save(tmp_path, 2, model=WEIGHTS, average=average, best=other)
    assert export(tmp_path, out) == "the average weights of step 2"
    assert same(out, WEIGHTS | average)
    path = save(tmp_path, 3, True, model=WEIGHTS, average=average, best=other)
    assert export(tmp_path, out) == "the best weights of step 3"
    assert same(out, other)
    assert export(path, out, "model") == "the model weights of step 3"
    assert same(out, WEIGHTS)
    with pytest.raises(GsnnError, match="has no weights 'worst'; it has: best, average, model"):
        export(tmp_path, out, "worst")


def test_the_command(tmp_path, capsys, monkeypatch):
    save(tmp_path, model=WEIGHTS)
    monkeypatch.setattr("sys.argv", ["gsnn", "export", str(tmp_path), "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    assert capsys.readouterr().out == f"wrote {tmp_path / 'out'}: the model weights of step 3\n"
    assert same(tmp_path / "out", WEIGHTS)


def test_damage_is_passed_over_or_told(tmp_path):
    save(tmp_path, 1, model=WEIGHTS)
    path = save(tmp_path, 2, model=WEIGHTS)
    file = path / "tensors-00000.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    assert export(tmp_path, tmp_path / "out").endswith("step 1")
    with pytest.raises(GsnnError, match="step-00000002 is damaged: the content of tensors-00000"):
        export(path, tmp_path / "out")
    with pytest.raises(GsnnError, match="has no intact checkpoint; name a run"):
        export(tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(GsnnError, match="cannot write /proc/nowhere/out"):
        export(tmp_path, "/proc/nowhere/out")


def rows(rank, folder):
    mesh = DeviceMesh("cpu", [0, 1])
    weights = {f"model/{k}": distribute_tensor(v, mesh, [Shard(0)]) if v.ndim else v for k, v in WEIGHTS.items()}
    checkpoint.save(folder, 5, weights, {}).wait()


def test_what_two_processes_wrote(tmp_path):
    together(2, rows, tmp_path)
    export(tmp_path, tmp_path / "out")
    assert same(tmp_path / "out", WEIGHTS)


def test_one_tensor_in_memory_at_a_time(tmp_path, monkeypatch):
    save(tmp_path, 1, model={f"w{i}": torch.full((50_000,), float(i)) for i in range(20)})
    alive, most = [], 0
    empty = torch.empty

    def counted(*args, **kwargs):
        nonlocal most
        made = empty(*args, **kwargs)
        alive.append(weakref.ref(made))
        most = max(most, sum(ref() is not None for ref in alive))
        return made

    monkeypatch.setattr(restore.torch, "empty", counted)
    export(tmp_path, tmp_path / "out")
    assert len(alive) == 20
    assert most <= 3
