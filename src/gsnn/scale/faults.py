"""What failures, electricity and hours cost a long run."""

from __future__ import annotations

import math

from ..errors import GsnnError


def system_mtbf(device_hours: float, devices: int) -> float:
    """Hours between interruptions of a run on ``devices``, each of which stops it once in ``device_hours``."""
    return device_hours / devices


def young(cost: float, mtbf: float) -> float:
    """The best time between checkpoints that cost ``cost``: sqrt(2 cost M) (Young 1974); one unit throughout."""
    return math.sqrt(2 * cost * mtbf)


def daly(cost: float, mtbf: float) -> float:
    """Young's interval to higher order (Daly 2006, doi:10.1016/j.future.2004.11.016, equation 37)."""
    if cost >= 2 * mtbf:
        return mtbf
    x = cost / (2 * mtbf)
    return math.sqrt(2 * cost * mtbf) * (1 + math.sqrt(x) / 3 + x / 9) - cost


def goodput(interval: float, cost: float, mtbf: float, restart: float) -> float:
    """The share of time that is kept: 1 - cost / (tau + cost) - ((tau + cost) / 2 + restart) / M, not below 0."""
    lost = cost / (interval + cost) + ((interval + cost) / 2 + restart) / mtbf
    return max(0.0, 1 - lost)


def energy_kwh(devices: float, hours: float, watts: float, pue: float = 1.0) -> float:
    """PUE x devices x hours x watts, in kWh."""
    return pue * devices * hours * watts / 1000


def hours_of(flops: float, devices: float, flops_per_second: float) -> float:
    """Hours that ``flops`` take on devices that keep up ``flops_per_second`` each."""
    if min(flops, devices, flops_per_second) <= 0:
        raise GsnnError("FLOPs, devices and FLOP/s must be above 0")
    return flops / devices / flops_per_second / 3600
