"""What machines can do, one table. Every number has its source beside it; what is assumed says so.

Peaks are dense bfloat16 (float32 for the laptop). Networks are bytes per second, per device and in one direction.
``watts`` is a device with its share of the server under load, ``price`` dollars an hour (markets move: ``--price``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..errors import GsnnError, suggest

LLAMA3_HOURS = 16384 * 54 * 24 / 419  # 50,700 device-hours an interruption: Llama 3, arXiv:2407.21783, section 3.3.4
RSC1_HOURS = 8 * 24 * 1000 / 6.5  # 6.5 failures per 1,000 node-days of 8 A100: Kokolis et al., arXiv:2410.21680


@dataclass(frozen=True)
class Device:
    """One accelerator and what connects it."""

    name: str
    peak: float  # FLOP/s
    sustained: float  # the share of the peak that the large matrix products of a transformer reach
    memory: float  # bytes
    bandwidth: float  # bytes/s of that memory
    node: int  # devices that the fast network joins
    intra: float  # bytes/s within a node
    inter: float  # bytes/s between nodes
    watts: float
    price: float  # dollars an hour
    mtbf_hours: float  # between interruptions that stop the whole run
    latency: float = 10e-6  # seconds, a hop between nodes: assumed
    bytes_each: int = 2  # of the precision that it computes in
    host: int = 8  # devices to a machine, which writes checkpoints
    overlap: bool = True  # communication hides behind compute: not where the same cores do both
    links: Mapping[str, float] = field(default_factory=dict)  # kind of collective -> bytes/s within a node, if known
    overheads: Mapping[str, float] = field(default_factory=dict)  # dimension -> seconds a block and piece costs more
    stream: float | None = None  # bytes/s of long runs (updates of weights, copies), if they are faster than bandwidth

    def link(self, inner: int, ranks: int) -> tuple[float, int]:
        """(bytes/s of each rank, hops between nodes) in a ring of ``ranks`` that are ``inner`` devices apart.

        A ring that crosses nodes runs over the network cards of all its members in a node.
        """
        if inner * ranks <= self.node:
            return self.intra, 0
        local = max(1, min(ranks, self.node // inner))
        return min(self.intra, self.inter * local), -(-ranks // local)

    def seconds(self, kind: str, sent: float, inner: int, ranks: int) -> float:
        """Of one collective in which each of ``ranks``, that are ``inner`` devices apart, sends so many bytes.

        Each hop between nodes costs the latency; all-reduces are trees and the rest rings.
        """
        rate, hops = self.link(inner, ranks)
        if not hops:
            return sent / self.links.get(kind, rate)
        steps = 2 * hops.bit_length() if kind == "all-reduce" else 1 if kind == "send" else hops
        return sent / rate + steps * self.latency


# GPUs of 8 to a server: memory, bandwidth, NVLink (total of both directions; halved here) and watts of the datasheets
# NVIDIA V100 SXM2, A100 SXM 80GB, H100 SXM, H200 SXM, GH200 and of DGX-1, DGX A100, DGX H100/H200, DGX B200 (whole
# server / 8). Between servers: one 400 Gb/s card a GPU (H100 on), 200 Gb/s (A100), 4 x 100 Gb/s for 8 (V100).
# ``sustained`` is chosen so that published runs come out: GPT-3's 28 TFLOP/s on V100 (arXiv:2104.10350) says little of
# the kernels, so 0.6 is assumed; A100 0.62 (Megatron's 52% MFU, arXiv:2104.04473), H100 0.53 (Llama 3's 41 to 43%,
# arXiv:2407.21783), TPU v4 0.68 (PaLM's 57.8% of hardware FLOPs, arXiv:2204.02311). Others are as their neighbours.
# Prices: the order of on-demand prices of small clouds in 2025 (GPUs) and Google's list prices (TPUs), rounded.
DEVICES = {
    device.name: device
    for device in (
        Device("v100", 125e12, 0.60, 32e9, 0.9e12, 8, 150e9, 6.25e9, 438, 0.6, RSC1_HOURS),  # MTBF: as A100, assumed
        Device("a100", 312e12, 0.62, 80e9, 2.039e12, 8, 300e9, 25e9, 812, 1.8, RSC1_HOURS),
        Device("h100", 989e12, 0.53, 80e9, 3.35e12, 8, 450e9, 50e9, 1275, 2.7, LLAMA3_HOURS),
        Device("h200", 989e12, 0.53, 141e9, 4.8e12, 8, 450e9, 50e9, 1275, 3.6, LLAMA3_HOURS),  # MTBF: as H100, assumed
        Device("b200", 2250e12, 0.53, 180e9, 8e12, 8, 900e9, 50e9, 1788, 6.0, LLAMA3_HOURS),  # likewise
        # Grace Hopper: one GPU a node here; the module's largest setting of 1,000 W; MTBF as H100, assumed.
        Device("gh200", 989e12, 0.53, 96e9, 4e12, 1, 450e9, 50e9, 1000, 3.0, LLAMA3_HOURS, host=1),
        # Grace CPU Superchip (datasheet): 144 Neoverse V2 cores, 500 W, 480 GB, 1 TB/s; the peak is that of 4 x 128-bit
        # BFMMLA a core at 3 GHz = 28 TFLOP/s by arithmetic; price and MTBF assumed.
        Device("grace", 28e12, 0.50, 480e9, 1.0e12, 1, 50e9, 50e9, 700, 2.0, 50_000, host=1),
        # TPUs: Cloud TPU documents (v5p: 459 TFLOP/s, 95 GB, 2,765 GB/s, 4,800 Gb/s, pods of 8,960, 50 Gb/s to other
        # pods; v5e: 197, 16 GB, 400 GB/s both ways, pods of 256; v6e: 918, 32 GB, 1,640 GB/s, 800 GB/s both ways) and
        # Jouppi et al. 2023, arXiv:2304.01433 (v4: 275, 32 GiB, 1,200 GB/s, 6 links of 50 GB/s, pods of 4,096). A ring
        # runs along one axis of the torus, so a third (half in 2-D) of the links is counted. Watts: PaLM's 378.5 W a
        # v4 with everything (arXiv:2204.02311); the others are assumed. MTBF as the H100's, assumed.
        Device("tpu-v4", 275e12, 0.68, 34.4e9, 1.2e12, 4096, 100e9, 6.25e9, 378.5, 3.2, LLAMA3_HOURS, host=4),
        Device("tpu-v5e", 197e12, 0.68, 16e9, 0.82e12, 256, 100e9, 3.1e9, 250, 1.2, LLAMA3_HOURS),
        Device("tpu-v5p", 459e12, 0.68, 95e9, 2.765e12, 6144, 200e9, 6.25e9, 600, 4.2, LLAMA3_HOURS, host=4),
        Device("tpu-v6e", 918e12, 0.60, 32e9, 1.64e12, 256, 200e9, 12.5e9, 500, 2.7, LLAMA3_HOURS),
        # A laptop of 8 cores with AVX2: 8 x 3 GHz x 32 FLOP in float32; Gigabit Ethernet; all of it assumed.
        Device("laptop", 0.77e12, 0.50, 16e9, 60e9, 1, 0.1e9, 0.1e9, 45, 0.01, 10_000, 100e-6, 4, 1),
    )
}


def device(name: str, processes: int = 1) -> Device:
    """A device of the table by its short name; ``here`` is this machine, measured with so many processes at work."""
    if name == "here":
        from .here import here

        return here(processes)
    if name not in DEVICES:
        raise GsnnError(f"no device is called {name!r}; {suggest(name, [*DEVICES, 'here'])}")
    return DEVICES[name]
