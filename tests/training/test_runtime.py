import json
import platform
import subprocess
import sys

import pytest
import torch

from gsnn.errors import ConfigError
from gsnn.training.runtime import Runtime, resolve
from gsnn.training.settings import Train


@pytest.mark.parametrize(
    ("gain", "dtype"), [(2.5, "bfloat16"), (1.21, "bfloat16"), (1.19, "float32"), (1.0, "float32"), (0.3, "float32")]
)
def test_bfloat16_must_earn_its_place(gain, dtype):
    probe = {"float32": 1.0, "bfloat16": 1.0 / gain}
    assert resolve(Train(device="cpu"), lambda runtime: probe[runtime.dtype]).dtype == dtype


def test_one_slow_measurement_does_not_decide():
    times = iter([5.0, 1.0, 1.0, 1.0])
    assert resolve(Train(device="cpu"), lambda runtime: next(times)).dtype == "float32"


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_precision_that_is_asked_for_is_not_probed(precision):
    def probe(runtime):
        raise AssertionError

    assert resolve(Train(device="cpu", precision=precision), probe).dtype == precision


def test_without_a_probe_it_is_float32_on_all_threads():
    found = resolve(Train(device="cpu"), channels_last=True)
    assert found == Runtime("cpu", "float32", "channels_last", torch.get_num_threads())
    assert Runtime(**json.loads(json.dumps(found.to_dict()))) == found


def test_a_device_that_is_not_there():
    with pytest.raises(ConfigError, match="no device 'quantum:7'"):
        resolve(Train(device="quantum:7"))


def test_images_and_kernels_take_the_memory_format():
    runtime = Runtime(memory_format="channels_last")
    batch = runtime.place_batch({"image": torch.zeros(2, 3, 8, 8, dtype=torch.uint8), "row": torch.arange(2)})
    assert batch["image"].is_contiguous(memory_format=torch.channels_last)
    convolution = runtime.place(torch.nn.Conv2d(3, 4, 3))
    assert convolution.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the memory of glibc")
def test_memory_that_was_freed_is_kept_for_the_next_step():
    script = """
import resource, torch
from gsnn.training.runtime import Runtime
Runtime(threads=1).prepare()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    torch.ones(1 << 22)
before = faults()
for _ in range(20):
    torch.ones(1 << 22)
print(faults() - before)
"""
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=True)
    # 16 MiB are 4,096 pages: 81,920 faults if they came anew each time; under load one such set was seen
    assert int(done.stdout) < 3 * 4096
