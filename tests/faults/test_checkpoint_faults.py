"""What a checkpoint must survive: damage to any region of any of its files, a full disk, and death at any moment."""

import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from forked import fork, outcome, together
from torch.distributed.tensor import DeviceMesh, Shard, distribute_tensor

from gsnn.errors import GsnnError
from gsnn.training import checkpoint, log, storage
from gsnn.training.dcp import Reader

FILES = ("tensors-00000.safetensors", "tensors-00001.safetensors", "manifest.json", "SHA256SUMS")


def two_steps(rank, folder):
    mesh = DeviceMesh("cpu", [0, 1])
    for step in (1, 2):
        tensors = {"w": distribute_tensor(torch.full((6, 5), float(step)), mesh, [Shard(0)]), "n": torch.arange(7)}
        checkpoint.save(folder, step, tensors, {"step": step}).wait()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("written")
    together(2, two_steps, folder)
    return folder


@pytest.fixture
def newest(written, tmp_path):
    shutil.copytree(written, tmp_path / "copy")
    return tmp_path / "copy/step-00000002"


def found(newest):
    """(step that is restored, reasons), after checking that what is restored is right."""
    like = {"w": torch.zeros(6, 5), "n": torch.zeros(7, dtype=torch.int64)}
    damaged = []
    step, state = checkpoint.load(newest.parent, like, damaged)
    assert state == {"step": step}
    assert (like["w"] == step).all()
    assert (like["n"] == torch.arange(7)).all()
    return step, damaged


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("how", ["flip", "truncate", "grow", "delete", "empty"])
def test_damage_anywhere_is_passed_over_with_a_reason(newest, name, how):
    path = newest / name
    whole = path.read_bytes()
    assert found(newest) == (2, [])
    places = range(len(whole)) if how in ("flip", "truncate") else (0, 1, 8, len(whole) // 2, len(whole))
    for at in places if len(whole) < 400 else sorted({*places[:: len(whole) // 300], 0, 1, 7, 8, 9, len(whole) - 1}):
        if how == "flip":
            path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :])
        elif how == "truncate":
            path.write_bytes(whole[:at])
        elif how == "grow":
            path.write_bytes(whole[:at] + b"\0" + whole[at:])
        elif how == "empty":
            path.write_bytes(b"")
        else:
            path.unlink(missing_ok=True)
        step, damaged = found(newest)
        assert step == 1, (name, how, at)
        assert len(damaged) == 1
        assert damaged[0].startswith("step-00000002: ")
    path.write_bytes(whole)
    assert found(newest) == (2, [])


def test_files_of_another_step_do_not_pass_for_this(newest):
    """Every digest right, but a file, or the whole folder, of another step."""
    older = newest.parent / "step-00000001"
    shutil.copy(older / FILES[1], newest / FILES[1])
    assert found(newest)[1] == [f"step-00000002: the content of {FILES[1]} does not match its digest"]
    shutil.rmtree(newest)
    shutil.copytree(older, newest)
    assert found(newest) == (1, ["step-00000002: it is of schema 2, step 1"])


def test_a_list_of_digests_that_forgets_a_file_is_no_proof(newest):
    sums = newest / "SHA256SUMS"
    lines = sums.read_text().splitlines(keepends=True)
    for left_out, line in enumerate(lines):
        sums.write_text("".join(lines[:left_out] + lines[left_out + 1 :]))
        name = line.split()[1]
        assert found(newest)[1] == [f"step-00000002: SHA256SUMS lacks {name}"]


def damaged_for_two(rank, folder):
    with pytest.raises(GsnnError, match="step-00000002 is damaged: "):
        Reader(folder / "step-00000002")
    like = {"w": torch.zeros(6, 5), "n": torch.zeros(7, dtype=torch.int64)}
    damaged = []
    return checkpoint.load(folder, like, damaged), damaged, like["w"].unique().tolist()


@pytest.mark.parametrize("name", FILES)
def test_all_processes_pass_over_what_one_of_them_finds(newest, name):
    path = newest / name
    path.write_bytes(path.read_bytes()[:-1])
    results = together(2, damaged_for_two, newest.parent)
    assert results[0] == results[1]
    (step, _), damaged, values = results[0]
    assert (step, len(damaged), values) == (1, 1, [1.0])


def test_when_all_are_damaged_there_is_none_and_every_reason_is_told(newest):
    for step in (1, 2):
        (newest.parent / f"step-0000000{step}" / FILES[step % 2]).unlink()
    damaged = []
    assert checkpoint.load(newest.parent, {}, damaged) is None
    assert [line.split(":")[0] for line in damaged] == ["step-00000002", "step-00000001"]


def test_a_damaged_newest_does_not_outlive_the_next_save(tmp_path):
    checkpoint.save(tmp_path, 1, {"a": torch.zeros(3)}, {}).wait()
    (checkpoint.save(tmp_path, 5, {"a": torch.zeros(3)}, {}).wait() / "manifest.json").unlink()
    checkpoint.save(tmp_path, 2, {"a": torch.zeros(3)}, {}).wait()
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["step-00000001", "step-00000002"]


# ------------------------------------------------------------------ the disk


@pytest.mark.parametrize("call", ["fsync", "rename", "write_text", "write_tensors", "mkdir"])
def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, monkeypatch, call):
    checkpoint.save(tmp_path, 1, {"a": torch.zeros(3)}, {}).wait()

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    owner = {"fsync": os, "rename": storage.Path, "mkdir": storage.Path}.get(call, storage)
    monkeypatch.setattr(owner, call, full)
    with pytest.raises(GsnnError, match=r"step 2 .*the disk is full: free some space there"):
        checkpoint.save(tmp_path, 2, {"a": torch.zeros(3)}, {}).wait()
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000001"]
    checkpoint.save(tmp_path, 2, {"a": torch.zeros(3)}, {}).wait()
    assert checkpoint.latest(tmp_path).step == 2


def test_a_failure_is_told_by_the_next_save_and_then_forgotten(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, 1, {"a": torch.zeros(3)}, {})
    checkpoint.save(tmp_path, 2, {"a": torch.zeros(3)}, {}).wait()
    with monkeypatch.context() as patch:
        patch.setattr(storage, "write_tensors", lambda *_: 1 / 0)
        checkpoint.save(tmp_path, 3, {"a": torch.zeros(3)}, {})
        with pytest.raises(GsnnError, match=r"step 3 .*ZeroDivisionError"):
            checkpoint.save(tmp_path, 4, {"a": torch.zeros(3)}, {})
    assert checkpoint.save(tmp_path, 4, {"a": torch.zeros(3)}, {}).wait().name == "step-00000004"


def limited(rank, folder):
    """A real limit of the system for one process of two, reached in the midst of writing its part."""
    tensors = {"w": distribute_tensor(torch.zeros(100_000), DeviceMesh("cpu", [0, 1]), [Shard(0)])}
    checkpoint.save(folder, 1, tensors, {}).wait()
    if rank:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    try:
        checkpoint.save(folder, 2, tensors, {}).wait()
    except GsnnError as error:
        return str(error), sum(path.stat().st_size for path in folder.glob(".staging*/*"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def test_a_file_that_the_system_cuts_short_on_one_process(tmp_path):
    (first, left), (second, _) = together(2, limited, tmp_path)
    assert "process 1 could not write its part: the file is too big: free some space there" in first
    assert "step 2" in second
    assert "the file is too big" in second
    assert left < 10_000
    assert checkpoint.latest(tmp_path).step == 1


# ------------------------------------------------------------------ leaving


def leave_without_waiting(folder):
    """As a script ends that forgot ``wait``: its threads are joined."""
    checkpoint.save(folder, 1, {"a": torch.zeros(300_000)}, {})
    threading._shutdown()


def test_a_script_that_ends_without_waiting_has_its_checkpoint(tmp_path):
    assert outcome(*fork(leave_without_waiting, tmp_path)) == (True, None)
    assert checkpoint.latest(tmp_path).step == 1


@pytest.mark.skipif(not shutil.which("unshare"), reason="needs unshare to mount a small disk")
def test_a_disk_that_is_really_full(tmp_path):
    program = f"""
import torch
from gsnn.training import checkpoint
from gsnn.errors import GsnnError
checkpoint.save({str(tmp_path)!r}, 1, {{"a": torch.zeros(10)}}, {{}}).wait()
try:
    checkpoint.save({str(tmp_path)!r}, 2, {{"a": torch.zeros(1_000_000)}}, {{}}).wait()
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
    return max((int(p.name[5:]) for p in (folder / "checkpoints").glob("step-????????")), default=0)

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
