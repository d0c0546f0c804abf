"""What a checkpoint must survive: damage to any of its bytes, a full disk, and death at any moment."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gsnn.errors import GsnnError
from gsnn.training import checkpoint, log

FILES = ("tensors.safetensors", "state.json", "SHA256SUMS")


def save(folder, step):
    tensors = {"model/a": torch.full((40, 5), float(step)), "model/b": torch.arange(7)}
    return checkpoint.save(folder, step, tensors, {"note": "x" * 50, "step": step})


def flip(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 0x10
    path.write_bytes(content)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("how", ["flip", "truncate", "grow", "delete", "empty"])
def test_a_damaged_checkpoint_is_passed_over_with_a_reason(tmp_path, name, how):
    save(tmp_path, 1)
    newest = save(tmp_path, 2)
    whole = (newest / name).read_bytes()
    places = sorted({0, 1, 8, 9, len(whole) // 3, len(whole) // 2, len(whole) - 2, len(whole) - 1})
    for at in places:
        path = newest / name
        path.write_bytes(whole)
        assert checkpoint.latest(tmp_path).step == 2
        if how == "flip":
            flip(path, at)
        elif how == "truncate":
            path.write_bytes(whole[:at])
        elif how == "grow":
            path.write_bytes(whole[:at] + b"\0" + whole[at:])
        elif how == "delete":
            path.unlink()
        else:
            path.write_bytes(b"")
        damaged = []
        found = checkpoint.latest(tmp_path, damaged)
        assert found.step == 1, (name, how, at)
        assert (found.tensors["model/a"] == 1).all()
        assert len(damaged) == 1
        assert damaged[0].startswith("step-00000002: ")


def test_when_all_are_damaged_there_is_none_and_every_reason_is_told(tmp_path):
    for step in (1, 2):
        flip(save(tmp_path, step) / FILES[0], -1)
    damaged = []
    assert checkpoint.latest(tmp_path, damaged) is None
    assert len(damaged) == 2


def test_a_damaged_newest_does_not_outlive_the_next_save(tmp_path):
    save(tmp_path, 1)
    flip(save(tmp_path, 5) / FILES[0], -1)
    save(tmp_path, 2)
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["step-00000001", "step-00000002"]


@pytest.mark.parametrize("call", ["fsync", "rename", "write", "save_file"])
def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, monkeypatch, call):
    save(tmp_path, 1)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    owner, name = {
        "fsync": (os, "fsync"),
        "rename": (Path, "rename"),
        "write": (Path, "write_text"),
        "save_file": (checkpoint, "save_file"),
    }[call]
    monkeypatch.setattr(owner, name, full)
    with pytest.raises(GsnnError, match=r"step 2 .*the disk is full; free some space"):
        save(tmp_path, 2)
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000001"]
    assert checkpoint.latest(tmp_path).step == 1
    save(tmp_path, 2)
    assert checkpoint.latest(tmp_path).step == 2


def test_a_file_that_the_system_cuts_short(tmp_path):
    """A real limit of the system (RLIMIT_FSIZE), reached in the midst of writing the tensors."""
    program = f"""
import resource, signal, torch
from gsnn.training import checkpoint
from gsnn.errors import GsnnError
checkpoint.save({str(tmp_path)!r}, 1, {{"a": torch.zeros(10)}}, {{}})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    checkpoint.save({str(tmp_path)!r}, 2, {{"a": torch.zeros(100_000)}}, {{}})
except GsnnError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "cannot save the checkpoint of step 2" in done.stdout
    assert "the file is too big" in done.stdout
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000001"]


@pytest.mark.skipif(not shutil.which("unshare"), reason="needs unshare to mount a small disk")
def test_a_disk_that_is_really_full(tmp_path):
    program = f"""
import torch
from gsnn.training import checkpoint
from gsnn.errors import GsnnError
checkpoint.save({str(tmp_path)!r}, 1, {{"a": torch.zeros(10)}}, {{}})
try:
    checkpoint.save({str(tmp_path)!r}, 2, {{"a": torch.zeros(1_000_000)}}, {{}})
except GsnnError as error:
    print(error)
print(checkpoint.latest({str(tmp_path)!r}).step)
"""
    mount = f'mount -t tmpfs -o size=1m none {tmp_path} && exec "$0" -c "$1"'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, sys.executable, program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "mount" in done.stderr or "unshare" in done.stderr:
        pytest.skip("this system lets no user mount a small disk")
    assert "the disk is full" in done.stdout
    assert done.stdout.splitlines()[-1] == "1"


TRAINING = """
import os, random, signal, sys, time
sys.path.insert(0, {fakes!r})
import torch
torch.set_num_threads(1)
from pathlib import Path
from training_fakes import FakeModel, FakeStream
from gsnn.training.runtime import Runtime
from gsnn.training.settings import Train
from gsnn.training.trainer import fit
from safetensors.torch import save_file
import importlib.util
if importlib.util.find_spec("tensorboard"):
    import torch.utils.tensorboard  # once, before the forks

settings = Train(epochs=10, batch=8, learning_rate=0.02, checkpoint_seconds=0.0, ema=0.9)

def training(folder):
    child = os.fork()
    if child == 0:
        model = FakeModel()
        fit(model, FakeStream(), FakeStream(seed=1), settings, folder, runtime=Runtime())
        save_file(model.state_dict(), folder / "final.safetensors")
        os._exit(0)
    return child

def steps(folder):
    return max((int(p.name[5:]) for p in (folder / "checkpoints").glob("step-*")), default=0)

whole, killed = Path(sys.argv[1]), Path(sys.argv[2])
assert os.waitpid(training(whole), 0)[1] == 0
for attempt in range(6):
    child, reached = training(killed), steps(killed)
    while steps(killed) < reached + 2:
        time.sleep(0.001)
    time.sleep(random.Random(attempt).uniform(0, 0.02))
    os.kill(child, signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL, "it ended before it was killed"
assert os.waitpid(training(killed), 0)[1] == 0
"""


def test_killed_again_and_again_it_ends_with_the_same_weights(tmp_path):
    """SIGKILL, which nothing can catch, at moments spread over steps, checkpoints and validations."""
    program = TRAINING.format(fakes=str(Path(__file__).parents[1] / "training"))
    folders = [tmp_path / "whole", tmp_path / "killed"]
    subprocess.run([sys.executable, "-c", program, *map(str, folders)], check=True, timeout=300)
    final = [(folder / "final.safetensors").read_bytes() for folder in folders]
    assert final[0] == final[1]
    resumes = [e["step"] for e in log.read(folders[1]) if e["event"] == "resume"]
    assert resumes == sorted(set(resumes))
    assert len(resumes) >= 4
