"""A network whose blocks stand on several processes, one after the other, and the micro-batches that pass them all.

Schedules are those of torch.distributed.pipelining: GPipe (Huang et al. 2019, arXiv:1811.06965), 1F1B, plain and
interleaved (Narayanan et al. 2021, arXiv:2104.04473), breadth first (Lamy-Poirier 2022, arXiv:2211.05953), zero bubble
and its V (Qi et al. 2023, arXiv:2401.10241), DualPipeV (after DeepSeek-AI 2024, arXiv:2412.19437).

All processes of a pipeline read the same batch and prepare it alike, so that tokens are all that passes between them.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..errors import ConfigError
from ..rng import Rng
from .layout import STAGES, microbatches
from .runtime import Runtime
from .settings import Layout
from .together import gather

if TYPE_CHECKING:
    from .parallel import Parallel

Batch = dict[str, Tensor]
Terms = Float[Tensor, "term 2"]  # (sum, weight) of each

TORCH_NAMES = {
    "gpipe": "GPipe",
    "1f1b": "1F1B",
    "interleaved-1f1b": "Interleaved1F1B",
    "looped-bfs": "LoopedBFS",
    "interleaved-zero-bubble": "InterleavedZeroBubble",
    "zbv-zero-bubble": "ZBVZeroBubble",
    "dualpipe-v": "DualPipeV",
}
_TURNS = ("zbv-zero-bubble", "dualpipe-v")  # the second half of the stages goes back over the processes
_TINY = torch.finfo(torch.float32).tiny


def owners(layout: Layout) -> list[int]:
    """The process of the pipeline that holds each stage."""
    there = list(range(layout.pipeline))
    if layout.schedule in _TURNS:
        return there + there[::-1]
    return there * STAGES[layout.schedule]


def deal(names: list[str], stages: int) -> list[list[str]]:
    """The blocks of each stage: consecutive, and as many as of any other or one less."""
    bounds = [stage * len(names) // stages for stage in range(stages + 1)]
    return [names[a:b] for a, b in pairwise(bounds)]


class Stage(nn.Module):
    """Some blocks; in the first stage what stands before all blocks, in the last one what stands after, with the loss.

    Tokens of ``size`` objects go in and out, whatever the micro-batch: those of a short one are filled up with zeros on
    their way in, and cut off before the loss. The first stage takes its objects, and the last one its targets, from
    ``pieces``, the micro-batches in their order, which every schedule keeps.
    """

    def __init__(self, model: nn.Module, blocks: list[str], first: bool, last: bool, runtime: Runtime, dtype: Any):
        super().__init__()
        objective, network = model.objective, model.objective.network
        self.first, self.last, self.runtime, self.dtype = first, last, runtime, dtype
        self.embed, self.decode, self.tell = objective.embed, objective.decode, objective.terms
        here = {name: part for name, part in network.named_children() if name != "blocks"}
        here = {name: part for name, part in here.items() if (last if name in network.after else first)}
        if last:
            here |= {name: part for name, part in objective.named_children() if part is not network}
        self.parts = nn.ModuleDict(here)
        self.blocks = nn.ModuleDict({name: network.blocks[name] for name in blocks})
        self.pieces: Iterator[Batch] = iter(())
        self.size, self.names = 0, []  # the names are of the terms, once they have been seen

    def forward(self, tokens: Tensor) -> Tensor:
        with self.runtime.autocast():
            piece = next(self.pieces) if self.first or self.last else {}
            if self.first:
                tokens = self.embed(piece)
                tokens = F.pad(tokens, (0, 0, 0, 0, 0, self.size - len(tokens)))
            for block in self.blocks.values():
                tokens = block(tokens)
            if not self.last:
                return tokens.to(self.dtype).contiguous()
            terms = self.tell(self.decode(tokens[: len(piece["row"])]), piece)
            self.names = list(terms)
            return pairs(terms)


def pairs(terms: dict[str, tuple[Tensor, Tensor]]) -> Terms:
    return torch.stack([torch.stack([s.float(), w.float()]) for s, w in terms.values()])


class Pipeline:
    """The stages of one process, taken out of a whole model; what belongs to other processes is dropped from it."""

    def __init__(self, model: nn.Module, layout: Layout, group: dist.ProcessGroup, runtime: Runtime):
        objective, network = model.objective, model.objective.network
        self.model, self.layout, self.group, self.runtime = model, layout, group, runtime
        self.owners, self.rank, self.count = owners(layout), group.rank(), microbatches(layout)
        places = network.places.held
        tokens = torch.zeros(1, places.stop - places.start, network.shape.width, device=runtime.device)
        with torch.no_grad():
            self.answer = objective.decode(tokens).shape[1:]
        self.passed = (tokens.shape[1] // layout.tensor, tokens.shape[2])  # what passes of an object, and in what type
        sharded = layout.replicate * layout.shard * layout.context > 1
        self.dtype = torch.bfloat16 if runtime.dtype == "bfloat16" and sharded else torch.float32
        blocks = deal(list(network.blocks), len(self.owners))
        learns = [any(p.requires_grad for name in some for p in network.blocks[name].parameters()) for some in blocks]
        if not all(learns):
            raise ConfigError(
                "every stage of a pipeline must learn: freeze less, or lower pipeline", ("train", "freeze")
            )
        last = len(blocks) - 1
        self.stages = {
            index: Stage(model, blocks[index], index == 0, index == last, runtime, self.dtype)
            for index, owner in enumerate(self.owners)
            if owner == self.rank
        }
        self.first, self.last = 0 in self.stages, last in self.stages
        _drop(objective, list(self.stages.values()))
        self.names: list[str] = []
        self.weights, self.total = torch.zeros(0), torch.zeros(())
        self._made: tuple[tuple[int, int], Any] = ((0, 0), None)

    # ------------------------------------------------------------------ a step

    def backward(self, batch: Batch, random: Rng | None, parallel: Parallel) -> Float[Tensor, ""]:
        """Leave in ``.grad`` the gradient of the loss of all pieces on all processes; return the loss."""
        batch = self._begin(batch, random)
        self.total = torch.zeros((), device=self.runtime.device)
        if self.last:
            with torch.no_grad():  # weights do not depend on the answer
                none = torch.zeros(len(batch["row"]), *self.answer, device=self.runtime.device)
                found = pairs(self.model.objective.terms(none, batch))[:, 1]
            self.weights = parallel.sum(found).clamp_min(_TINY)
        turns = (torch.zeros(self.count, device=self.runtime.device),) if self.first else ()
        self._schedule(len(self.weights)).step(*turns, target=torch.zeros(self.count) if self.last else None)
        return self._from_last(parallel.sum(self.total))

    def _loss(self, terms: Terms, target: Tensor) -> Float[Tensor, ""]:
        loss = (terms[:, 0] / self.weights).sum()
        self.total = self.total + loss.detach()
        return loss

    def _schedule(self, terms: int) -> Any:
        """The schedule for micro-batches of the present size; shapes are told, so that no process need ask another."""
        if self._made[0] != (self.size, terms):
            from torch.distributed.pipelining import PipelineStage
            from torch.distributed.pipelining.schedules import get_schedule_class

            def example(index: int) -> Tensor:  # what comes out of a stage; what goes into the first is not looked at
                if index < 0:
                    return torch.zeros(1, device=self.runtime.device)
                if index == len(self.owners) - 1:
                    return torch.zeros(terms, 2, device="meta")
                return torch.zeros(self.size, *self.passed, dtype=self.dtype, device="meta", requires_grad=True)

            made = [
                PipelineStage(
                    stage, index, len(self.owners), torch.device(self.runtime.device),
                    input_args=example(index - 1), output_args=example(index), group=self.group,
                )
                for index, stage in self.stages.items()
            ]  # fmt: skip
            kind, several = get_schedule_class(TORCH_NAMES[self.layout.schedule]), STAGES[self.layout.schedule] > 1
            schedule = kind(made if several else made[0], self.count, loss_fn=self._loss, scale_grads=False)
            self._made = ((self.size, terms), schedule)
        return self._made[1]

    # ------------------------------------------------------------------ a look

    @torch.no_grad()
    def terms(self, batch: Batch, random: Rng | None = None) -> dict[str, tuple[Tensor, Tensor]]:
        """The terms of a batch, on every process of the pipeline. Stage by stage, each as its micro-batches arrive."""
        self._begin(batch, random)
        total, kept, sent = torch.zeros(0, 2, device=self.runtime.device), [], []
        for index, stage in self.stages.items():
            arriving = kept if index and self.owners[index - 1] == self.rank else self._receive(index)
            kept, onward = [], None if stage.last else self.owners[index + 1]
            for turn, tokens in enumerate(arriving):
                out = stage(tokens)
                if stage.last:
                    total = total + out if len(total) else out
                elif onward == self.rank:
                    kept.append(out)
                else:
                    sent.append((dist.isend(out, dist.get_global_rank(self.group, onward), self.group, turn), out))
        for work, _ in sent:
            work.wait()
        for stage in self.stages.values():
            for module in stage.modules():
                if hasattr(module, "reshard"):
                    module.reshard()
        if not self.names:
            mine = [stage.names for stage in self.stages.values()]
            self.names = max((names for each in gather(mine, self.group) for names in each), key=len)
        total = total if self.last else torch.zeros(len(self.names), 2, device=self.runtime.device)
        return {name: (s, w) for name, (s, w) in zip(self.names, self._from_last(total))}

    def _receive(self, index: int) -> Iterator[Tensor]:
        """What comes to a stage from elsewhere. All is asked for before anything is sent, else both might wait."""
        if index == 0:
            yield from torch.zeros(self.count, 1, device=self.runtime.device)
            return
        source, shape = dist.get_global_rank(self.group, self.owners[index - 1]), (self.size, *self.passed)
        room = [torch.empty(shape, dtype=self.dtype, device=self.runtime.device) for _ in range(self.count)]
        works = [dist.irecv(tokens, source, self.group, turn) for turn, tokens in enumerate(room)]
        for work, tokens in zip(works, room):
            work.wait()
            yield tokens

    # ------------------------------------------------------------------ both

    def _begin(self, batch: Batch, random: Rng | None) -> Batch:
        """Cut a batch into micro-batches, of which some of a short batch are shorter, or empty."""
        self.size = max(-(-len(batch["row"]) // self.count), 1)
        if self.first or self.last:
            batch = self.model.prepare(batch, random)
        cuts = [slice(turn * self.size, (turn + 1) * self.size) for turn in range(self.count)]
        for stage in self.stages.values():
            stage.size = self.size
            stage.pieces = ({name: value[cut] for name, value in batch.items()} for cut in cuts)
        return batch

    def _from_last(self, value: Tensor) -> Tensor:
        """What the process of the last stage has, on all of the pipeline."""
        value = value.clone()
        dist.broadcast(value, dist.get_global_rank(self.group, self.owners[-1]), self.group)
        return value


def _drop(objective: nn.Module, stages: list[Stage]) -> None:
    """Take out of an objective the blocks, and the parameters of its other parts, that no stage has.

    The parts themselves stay: they also know shapes, and how an image is cut into tokens.
    """
    blocks = objective.network.blocks
    held = {name for stage in stages for name in stage.blocks}
    for name in set(blocks) - held:
        del blocks[name]
    own = {parameter for stage in stages for parameter in stage.parameters()}
    for module in objective.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter not in own:
                setattr(module, name, None)
