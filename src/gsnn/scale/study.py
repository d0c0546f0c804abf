"""What a study's own network costs on this machine, measured on shapes and on one step."""

from __future__ import annotations

import copy
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..check import Some
from ..data.survey import Survey
from ..errors import GsnnError
from ..steps.data import Ground, batch_of, ground, source_for
from ..steps.train import expected, new_model
from ..study import Study
from ..training import energy
from .devices import device
from .shapes import Shape

ENOUGH = 512  # objects of the source that are looked at


def measure(network: nn.Module, columns: Mapping[str, Tensor]) -> tuple[float, float]:
    """(FLOPs, bytes kept for the backward pass) of one forward and backward pass over ``columns``.

    Any network: counted by torch's flop counter on a copy without values (the meta device), so that its size does not
    matter. FLOPs are those of matrix products, convolutions and attention; a kept tensor is counted once, weights not.
    """
    from torch.utils.flop_counter import FlopCounterMode

    shadow = copy.deepcopy(network).to("meta").train()
    inputs = {name: value.to("meta") for name, value in columns.items()}
    own = {p.untyped_storage()._cdata for p in (*shadow.parameters(), *inputs.values())}
    kept: dict[int, Any] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage
        return tensor

    try:
        with FlopCounterMode(display=False) as counter:
            with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
                out = shadow(**inputs)
            total = sum(storage.nbytes() for storage in kept.values())
            out.float().sum().backward()
    except (NotImplementedError, RuntimeError) as error:
        raise GsnnError(
            f"the network {type(network).__name__} cannot be counted without values ({error}); "
            "its forward must not look at the values of tensors"
        ) from error
    return float(counter.get_total_flops()), float(total)


def shape_of(network: nn.Module) -> Shape | None:
    """The sizes of a transformer, for layouts; None for other networks."""
    if not all(hasattr(network, name) for name in ("blocks", "heads", "kv_heads", "hidden", "token_size")):
        return None
    return Shape(
        network.head.in_features,
        len(network.blocks),
        network.heads,
        network.kv_heads,
        network.hidden,
        network.token_size,
    )


def opened(study: Study, data: Any, folder: Path, seed: int) -> tuple[Ground, float]:
    """A small part of the study's data, and how many times as many objects there are."""
    source = data if data is not None else study.data.source
    if isinstance(source, Survey):
        return ground(study, source), 1.0
    if isinstance(source, (str, Path)) and (Path(source) / "objects.lance").is_dir():
        return ground(study, Survey.open(source)), 1.0
    whole = source_for(study, data)
    some = Some(whole, ENOUGH)
    return ground(study, Survey.create(folder / "survey", some, seed=seed)), len(whole) / max(len(some), 1)


def plan_study(study: Study, *, data: Any = None, seed: int = 0, on: str = "h200") -> dict[str, Any]:
    """Parameters, memory, time and energy of a study's training here, and the least time on one device elsewhere.

    JSON-able. FLOPs are the network's, memory is that of AdamW in float32 with what a batch keeps, time is the pace of
    one measured step times the steps; bytes, seconds, kWh, kg.
    """
    there = device(on)
    folder = Path(tempfile.mkdtemp(prefix="gsnn-plan-"))
    try:
        one, times = opened(study, data, folder, seed)
        model = new_model(study, one, one.train, seed)
        network = model.objective.network
        few = batch_of(one.train.take(range(min(len(one.train), 8))), one.names)
        transformed = model.transform(few)
        count = len(few["row"])
        flops, kept = measure(network, {name: transformed[name] for name in model.inputs.tensors})
        seconds, scratch = expected(study, one, seed)
        train = round(len(one.train) * times)
        batch = min(study.train.batch, train)
        steps_objects = train * study.train.epochs
        if study.train.max_steps:
            steps_objects = min(steps_objects, study.train.max_steps * study.train.batch)
        seconds *= steps_objects / max(len(one.train) * study.train.epochs, 1)
        parameters = sum(p.numel() for p in network.parameters())
        optimizer = {"adamw": 8, "sgd": 4, "rmsprop": 8}[study.train.optimizer]
        memory = {
            "weights": 4.0 * parameters,
            "gradients": 4.0 * parameters,
            "optimizer": float(optimizer * parameters),
            "activations": kept * batch / study.train.accumulate / count,
        }
        total = flops / count * steps_objects
        watts = energy.WATTS_PER_CORE * torch.get_num_threads() + energy.WATTS_PER_GB * energy.peak_memory_gb()
        kwh = watts * seconds / 3.6e6
        return {
            "study": study.name,
            "network": study.model["name"],
            "parameters": parameters,
            "train_objects": train,
            "epochs": study.train.epochs,
            "batch": batch,
            "flops_per_object": flops / count,
            "flops": total,
            "memory": memory,
            "memory_bytes": sum(memory.values()),
            "scratch_bytes": min(scratch * times, study.data.scratch_gb * 2**30),
            "seconds": seconds,
            "flops_per_second": total / seconds,
            "kwh": kwh,
            "energy_source": f"{energy.WATTS_PER_CORE:g} W a core, estimated",
            "co2e_kg": energy.co2e_kg(kwh)[0],
            "device": there.name,
            "seconds_elsewhere": total / (there.peak * there.sustained),
        }
    finally:
        shutil.rmtree(folder, ignore_errors=True)
