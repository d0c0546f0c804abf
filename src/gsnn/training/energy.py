"""The electricity that a piece of work takes (kWh), and the greenhouse gas of making it (kg CO2e).

What the hardware counts is preferred, and what is left is estimated after Lannelongue, Grealey & Inouye 2021 (Green
Algorithms, doi:10.1002/advs.202100707): time x (cores x watts per core x use + memory x watts per GB). Cooling and
power supplies (the PUE in that paper) are not included. Every number comes with its uncertainty: ERRORS.
"""

from __future__ import annotations

import ctypes
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import GsnnError

WATTS_PER_CORE = 12.0  # assumed for a busy core of unknown make: server and desktop cores draw about 5 to 20 W
WATTS_PER_GB = 0.3725  # Lannelongue et al. 2021
ERRORS = {  # relative: what is read, and what is assumed of hardware that is not known
    "counter": 0.05,  # NVML's documentation states 5% of the power; taken for RAPL too
    "core": 0.63,  # 5 to 20 W around WATTS_PER_CORE
    "memory": 0.5,  # assumed: modules differ by about two
}
GRID_G_PER_KWH = 473.0
GRID_SOURCE = "world average of 2024, Ember, Global Electricity Review 2025"
_JOULES_PER_KWH = 3.6e6


class Meter:
    """Energy since it was made. Read it every few minutes at least: hardware counters wrap around.

    ``local_rank`` is for one process of several on a machine, whose energies shall be summed: the processors' counter,
    which is of the whole machine, is read by the first of them alone, and each reads the GPU that it computes on.
    """

    def __init__(self, powercap: Path = Path("/sys/class/powercap"), local_rank: int | None = None):
        packages = [_Counter(*package, ERRORS["counter"]) for package in _rapl(powercap)]
        gpus = [_Counter(read, math.inf, ERRORS["counter"]) for read in _nvml(alone=local_rank is None)]
        estimates = [
            _Counter(lambda: time.process_time() * WATTS_PER_CORE, math.inf, ERRORS["core"]),
            _Counter(_memory_estimator(), math.inf, ERRORS["memory"]),
        ]
        cpu = (packages if not local_rank else []) if packages else estimates
        self._counters = cpu + gpus
        self.of_machine = bool(packages or gpus)  # whether it counts what other processes of this machine use as well
        self.source = (
            "the processor's own counter (RAPL, the whole package)"
            if packages
            else f"an estimate, to about {ERRORS['core']:.0%}: CPU time x {WATTS_PER_CORE:g} W a core + "
            f"memory x {WATTS_PER_GB} W/GB (Lannelongue et al. 2021)"
        ) + (f" + the counter of {len(gpus)} GPU{'s' * (len(gpus) > 1)} (NVML)" if gpus else "")

    @property
    def kwh(self) -> float:
        return sum(counter.joules() for counter in self._counters) / _JOULES_PER_KWH

    @property
    def error(self) -> float:
        """The uncertainty of :attr:`kwh`, in kWh. Errors of one kind go together, so that they add up."""
        return sum(counter.joules() * counter.error for counter in self._counters) / _JOULES_PER_KWH


@contextmanager
def measure() -> Iterator[Meter]:
    """``with measure() as meter: work()``; then ``meter.kwh`` and ``meter.source``."""
    yield Meter()


def co2e_kg(kwh: float) -> tuple[float, str]:
    """kg CO2e of ``kwh``, and the grid's intensity with its source: the world's, or ``GSNN_GRID_G_PER_KWH`` (g/kWh)."""
    given = os.environ.get("GSNN_GRID_G_PER_KWH")
    if given is None:
        return kwh * GRID_G_PER_KWH / 1000, f"{GRID_G_PER_KWH:g} g/kWh ({GRID_SOURCE})"
    try:
        intensity = float(given)
    except ValueError:
        intensity = math.nan
    if not 0 <= intensity < math.inf:
        raise GsnnError(f"GSNN_GRID_G_PER_KWH is {given!r}; it must be the grid's intensity in grams of CO2e per kWh")
    return kwh * intensity / 1000, f"{intensity:g} g/kWh (GSNN_GRID_G_PER_KWH)"


def peak_memory_gb() -> float:
    """The most memory that this process has held, GB."""
    try:
        import resource
    except ImportError:  # not on Windows
        return math.nan
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


class _Counter:
    """A counter of joules that wraps around at ``wrap``, right to the relative ``error``."""

    def __init__(self, read: Callable[[], float], wrap: float, error: float):
        self._read, self._wrap, self.error = read, wrap, error
        self._last, self._total = read(), 0.0

    def joules(self) -> float:
        try:
            now = self._read()
        except OSError:  # a counter that went away keeps what it counted
            return self._total
        passed = now - self._last
        self._total += passed if passed >= 0 else passed + self._wrap
        self._last = now
        return self._total


def _memory_estimator() -> Callable[[], float]:
    start = time.perf_counter()

    def read() -> float:
        memory = peak_memory_gb()
        return (time.perf_counter() - start) * WATTS_PER_GB * (0 if math.isnan(memory) else memory)

    return read


def _rapl(powercap: Path) -> list[tuple[Callable[[], float], float]]:
    """(reader in joules, wrap in joules) of each processor package that may be read."""
    found = []
    for package in sorted(powercap.glob("intel-rapl:*")):
        if package.name.count(":") != 1:  # a part of a package: counted in it
            continue
        energy = package / "energy_uj"
        try:
            int(energy.read_text())
            wrap = int((package / "max_energy_range_uj").read_text()) * 1e-6
        except (OSError, ValueError):  # since 2020 Linux lets only root read it (CVE-2020-8694)
            continue
        found.append((lambda energy=energy: int(energy.read_text()) * 1e-6, wrap))
    return found


def _nvml(alone: bool = True) -> list[Callable[[], float]]:
    """Readers (joules) of the GPUs that this process may use, or the one it does, from the driver's own library."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return []
    if nvml.nvmlInit_v2() != 0:
        return []
    readers = []
    for index in range(torch.cuda.device_count()) if alone else [torch.cuda.current_device()]:
        name = f"GPU-{torch.cuda.get_device_properties(index).uuid}".encode()
        handle = ctypes.c_void_p()
        if nvml.nvmlDeviceGetHandleByUUID(name, ctypes.byref(handle)) != 0:
            continue

        def read(handle: ctypes.c_void_p = handle) -> float:
            millijoules = ctypes.c_ulonglong()
            if nvml.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(millijoules)) != 0:
                raise OSError("the GPU does not count its energy")
            return millijoules.value * 1e-3

        try:
            read()
        except OSError:
            continue
        readers.append(read)
    return readers
