"""How the matrices of a transformer are shared out over processes, and its tokens where no matrix needs them all.

Tensor parallelism after Shoeybi et al. 2019 (arXiv:1909.08053), sequence parallelism after Korthikanti et al. 2022
(arXiv:2205.05198). The plan stands beside the network: the network does not know of it.
"""

from __future__ import annotations

from typing import Any

from torch import nn


def tensor_plan(network: nn.Module) -> dict[str, Any]:
    """Parallel styles by module name, for ``parallelize_module``.

    Inside a block heads and hidden units are divided; between those, and in norms, tokens are. What goes into the first
    block and comes out of the last one is whole.
    """
    from torch.distributed.tensor import Replicate, Shard
    from torch.distributed.tensor.parallel import (
        ColwiseParallel,
        PrepareModuleInput,
        PrepareModuleInputOutput,
        PrepareModuleOutput,
        RowwiseParallel,
        SequenceParallel,
    )

    tokens, whole = Shard(1), Replicate()

    def norm() -> SequenceParallel:
        return SequenceParallel(use_local_output=True)

    def heads() -> SequenceParallel:  # axis 1 of [object head token dim]: each process has a sum of its own heads only
        return SequenceParallel(sequence_dim=1, use_local_output=True)

    def gather() -> PrepareModuleInput:
        return PrepareModuleInput(input_layouts=(tokens,), desired_input_layouts=(whole,))

    plan: dict[str, Any] = {}
    for name in network.blocks:
        at = f"blocks.{name}"
        plan |= {
            f"{at}.norm1": norm(),
            f"{at}.attention": gather(),
            **{f"{at}.attention.{x}": ColwiseParallel() for x in "qkv"},
            **{f"{at}.attention.norm_{x}": heads() for x in "qk"},
            f"{at}.attention.o": RowwiseParallel(output_layouts=tokens),
            f"{at}.norm2": norm(),
            f"{at}.mlp": gather(),
            f"{at}.mlp.gate": ColwiseParallel(),
            f"{at}.mlp.up": ColwiseParallel(),
            f"{at}.mlp.down": RowwiseParallel(output_layouts=tokens),
        }
    first, *_, last = [*network.blocks, *network.blocks]
    into = {"input_layouts": (whole,), "desired_input_layouts": (tokens,), "use_local_output": True}
    out = {"output_layouts": (tokens,), "desired_output_layouts": (whole,), "use_local_output": True}
    if first == last:
        into["use_local_input"] = into.pop("use_local_output")
        plan[f"blocks.{first}"] = PrepareModuleInputOutput(**into, **out)
    else:
        plan[f"blocks.{first}"] = PrepareModuleInput(**into)
        plan[f"blocks.{last}"] = PrepareModuleOutput(**out)
    return plan
