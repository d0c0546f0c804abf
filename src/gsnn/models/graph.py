"""Networks of points in space: each hears its neighbours, and nothing depends on where the axes point.

Edges are made anew of every cloud: to the nearest neighbours, across the faces of a periodic box where there is one.
Only distances, angles and features of the nodes are used, so that the answer is the same after a rotation, a
reflection, a shift, and in any order of the points.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from pydantic import Field
from torch import Tensor, nn

from ..data.schema import Schema
from ..errors import GsnnError
from .layers import Activation, at_least, flatten, head, readable
from .layers import activation as act

Aggregate = Literal["mean", "max", "attention"]
Pool = Literal["mean", "max", "std", "count"]
PAIRS = 1 << 22  # of points looked at together when nothing is learned
LEAST = 1e-3  # scatter of a shell's ln, below which it is one of rounding
_TINY = 1e-12


class Edges(NamedTuple):
    """The neighbours of each node. ``weight`` is 0 where there is none, and falls to 0 at the linking length."""

    to: Int64[Tensor, "object node neighbour"]
    vector: Float[Tensor, "object node neighbour axis"]  # from the node to its neighbour, the nearest image of it
    weight: Float[Tensor, "object node neighbour"]


def length_of(vector: Float[Tensor, "*any axis"]) -> Float[Tensor, "*any"]:
    """|vector|, with a gradient at 0."""
    return torch.sqrt((vector**2).sum(-1) + _TINY)


def gathered(nodes: Float[Tensor, "object node value"], to: Int64[Tensor, "object node neighbour"]) -> Tensor:
    """What stands at the neighbours [object, node, neighbour, value]."""
    flat = to.flatten(1)[..., None].expand(-1, -1, nodes.shape[2])
    return nodes.gather(1, flat).unflatten(1, to.shape[1:])


def nearest_image(gap: Float[Tensor, "*any"], box: float | None) -> Float[Tensor, "*any"]:
    """The shortest of what separates two points along an axis of a periodic box."""
    return gap if box is None else gap - box * torch.round(gap / box)


def squares(
    position: Float[Tensor, "object node axis"], valid: Bool[Tensor, "object node"], box: float | None
) -> Float[Tensor, "object node node"]:
    """Squares of the distances of all pairs; infinite of a node to itself, and where one is none."""
    square = position.new_zeros(position.shape[0], position.shape[1], position.shape[1])
    for axis in position.unbind(2):
        gap = axis[:, None, :] - axis[:, :, None]
        if box is not None:
            gap.sub_((gap / box).round_().mul_(box))
        square.addcmul_(gap, gap)
    itself = torch.eye(position.shape[1], dtype=torch.bool, device=position.device)
    return square.masked_fill_(itself | ~valid[:, None, :] | ~valid[:, :, None], torch.inf)


def edges(
    position: Float[Tensor, "object node axis"],
    square: Float[Tensor, "object node node"],
    count: int,
    box: float | None = None,
    radius: float | None = None,
) -> Edges:
    """The ``count`` nearest neighbours of each node by the ``squares`` of distances, within ``radius``.

    In a periodic ``box`` of this side the nearest image counts. Towards the radius an edge fades as
    (1 + cos(pi d / radius)) / 2, so that no answer jumps when a point crosses it.
    """

    with torch.no_grad():
        found = square.topk(min(count, position.shape[1]), largest=False)
    vector = nearest_image(gathered(position, found.indices) - position[:, :, None], box)
    there = torch.isfinite(found.values)
    vector = vector.where(there[..., None], 0.0)
    weight = there.to(position.dtype)
    if radius is not None:
        weight = weight * (1 + torch.cos(math.pi * (length_of(vector) / radius).clamp(max=1))) / 2
    return Edges(found.indices, vector, weight)


def pair_counts(
    square: Float[Tensor, "object node node"], valid: Bool[Tensor, "object node"], shells: Float[Tensor, " edge"]
) -> Float[Tensor, "object shell"]:
    """ln of the pairs between neighbouring edges per volume, over those of N points in a sphere of the last edge.

    Half a pair is added to each. It is ln(1 + xi) up to a constant: what points that are far from each other know
    together, and messages between neighbours do not tell.
    """
    with torch.no_grad():
        place = torch.bucketize(square.flatten(1), shells**2)
        none = square.new_zeros(square.shape[0], len(shells) + 1)
        found = none.scatter_add(1, place, square.new_ones(1, 1).expand_as(place))[:, 1:-1] / 2
        number = valid.sum(1, keepdim=True).clamp(min=1)
        return torch.log((found + 0.5) / (number**2 / 2 * (shells**3).diff() / shells[-1] ** 3))


def cosine(a: Float[Tensor, "*any axis"], b: Float[Tensor, "*any axis"], soft: float) -> Float[Tensor, "*any"]:
    """Of the angle between two vectors, falling to 0 where one of them is shorter than ``soft``."""
    return (a * b).sum(-1) / ((length_of(a) + soft) * (length_of(b) + soft))


def geometry(
    found: Edges, length: float
) -> tuple[Float[Tensor, "object node neighbour 4"], Float[Tensor, "object node 2"]]:
    """Invariants of each edge and of each node.

    Of an edge: ln(1 + d / length), and the cosines between the edge and the centres of the neighbours at both of its
    ends, and between these (the angles of Villanueva-Domingo & Villaescusa-Navarro 2022, arXiv:2204.13713, eq. 4, which
    are taken there at the centre of the whole, and a periodic box has none). Of a node: how far the centre of its
    neighbours is, and the mean distance of these.
    """
    share = found.weight / found.weight.sum(2, keepdim=True).clamp(min=_TINY)
    centre = (share[..., None] * found.vector).sum(2)
    distance = torch.log1p(length_of(found.vector) / length)
    own, theirs = centre[:, :, None].expand_as(found.vector), gathered(centre, found.to)
    soft = 0.01 * length
    angles = [cosine(found.vector, own, soft), cosine(found.vector, theirs, soft), cosine(own, theirs, soft)]
    node = torch.stack([torch.log1p(length_of(centre) / length), (share * distance).sum(2)], 2)
    return torch.stack([distance, *angles], 3), node


class Aggregates(nn.Module):
    """Messages [object, node, neighbour, value] in one state a node, by each way that is asked for, side by side."""

    def __init__(self, ways: tuple[Aggregate, ...], width: int):
        super().__init__()
        self.ways = ways
        self.score = nn.Linear(width, 1) if "attention" in ways else None

    def forward(self, message: Tensor, weight: Float[Tensor, "object node neighbour"]) -> Tensor:
        weight = weight[..., None].to(message.dtype)
        out = []
        for way in self.ways:
            if way == "max":  # nothing heard is 0
                out.append((message * weight).amax(2))
                continue
            share = weight
            if way == "attention":  # weights as in models/sequences.py: exp of a score kept within 10
                share = weight * torch.exp(10 * torch.tanh(self.score(message).to(message.dtype) / 10))
            out.append((share * message).sum(2) / share.sum(2).clamp(min=1e-6))
        return torch.cat(out, 2)


def two_layers(values: int, width: int, activation: Activation) -> nn.Sequential:
    return nn.Sequential(nn.Linear(values, width), act(activation), nn.Linear(width, width), act(activation))


class Message(nn.Module):
    """EdgeConv (Wang et al. 2019, arXiv:1801.07829, eq. 8): of a node, what differs at a neighbour, and of the edge.

    What comes of all neighbours is added to the state of the node through a layer (residual). There is no norm: it
    would take away how dense a place is.
    """

    def __init__(self, width: int, edge: int, ways: tuple[Aggregate, ...], activation: Activation):
        super().__init__()
        self.message = two_layers(2 * width + edge, width, activation)
        self.aggregate = Aggregates(ways, width)
        self.update = nn.Sequential(nn.Linear(width * (1 + len(ways)), width), act(activation))

    def forward(
        self,
        state: Float[Tensor, "object node width"],
        edge: Float[Tensor, "object node neighbour value"],
        found: Edges,
    ) -> tuple[Tensor, Tensor]:
        """The new states, and the messages."""
        own = state[:, :, None].expand(-1, -1, found.to.shape[2], -1)
        message = self.message(torch.cat([own, gathered(state, found.to) - own, edge.to(state.dtype)], 3))
        heard = self.aggregate(message, found.weight)
        return state + self.update(torch.cat([state, heard.to(state.dtype)], 2)), message


class Clouds(nn.Module):
    """What the networks of points share: edges, the states of the nodes pooled into one, scalars, the head.

    A subclass sets up ``self.blocks``, and says what the nodes know in the end by ``nodes``. ``length``, in the unit of
    the positions, is the distance below which distances are told apart linearly, and above which by their logarithm.
    Pooled are the mean, the largest and the scatter of each number over the nodes; "count" adds ln(1 + nodes), which
    nothing else tells, and ``shells`` the pairs in so many shells (of equal width in the logarithm) of separations from
    ``length`` / 5 to ``reach``, standardised by those of training clouds.
    """

    measured = ("pairs",)

    def __init__(
        self,
        inputs: Schema,
        network: str,
        outputs: int,
        width: int,
        depth: int,
        neighbours: int,
        radius: float | None,
        length: float,
        pool: tuple[Pool, ...],
        shells: int,
        reach: float | None,
        activation: Activation,
        dropout: float,
        extra: int = 0,
    ):
        super().__init__()
        columns = readable(inputs, network, ("graph", "scalar"))
        self.scalars = tuple(c for c in columns if c.kind == "scalar")
        clouds = [c for c in columns if c.kind == "graph"]
        if len(clouds) != 1:
            raise GsnnError(
                f"the network {network!r} reads one graph, and [data] inputs holds {len(clouds)}; name one cloud of "
                "points there, or choose 'mlp' for a table"
            )
        at_least(1, width=width, depth=depth, neighbours=neighbours, outputs=outputs)
        self.column = clouds[0]
        if radius is not None and self.column.box is not None and radius > self.column.box / 2:
            raise GsnnError(
                f"radius = {radius:g} reaches more than half across the periodic box of {self.column.box:g}, where a "
                "neighbour would have two images; give a smaller one"
            )
        if shells and (reach is None or reach <= length / 5):
            raise GsnnError(f"{shells} shells of pairs need a reach beyond length / 5 = {length / 5:g}; give one")
        self.neighbours, self.radius, self.length, self.pool = neighbours, radius, length, pool
        self.shells = [length / 5 * (5 * reach / length) ** (i / shells) for i in range(shells + 1)] if shells else []
        if shells:
            self.register_buffer("pairs", torch.stack([torch.zeros(shells), torch.ones(shells)]))  # mean and deviation
        self.first = nn.Linear(len(self.column.bands) + 2, width)
        values = sum((1 if how == "count" else width + extra) for how in pool) + sum(c.size for c in self.scalars)
        values += shells
        self.join = nn.Sequential(*two_layers(values, width, activation), nn.Dropout(dropout))
        self.head = nn.Linear(width, outputs)

    def nodes(self, state: Tensor, edge: Tensor, found: Edges) -> Float[Tensor, "object node value"]:
        raise NotImplementedError

    def start(self, **columns: Tensor) -> None:
        """Before any step: how the pairs scatter over some training clouds."""
        if self.shells:
            position, valid = columns[f"{self.column.name}.position"].float(), columns[f"{self.column.name}.valid"]
            few = max(PAIRS // valid.shape[1] ** 2, 1)
            found = torch.cat([self.counted(squares(p, v, self.column.box), v) for p, v in
                               zip(position.split(few), valid.split(few))])  # fmt: skip
            spread = found.std(0, correction=0)
            self.pairs = torch.stack([found.mean(0), spread.where(spread > LEAST, 1.0)])

    def counted(self, square: Tensor, valid: Tensor) -> Float[Tensor, "object shell"]:
        return pair_counts(square, valid, torch.tensor(self.shells, device=square.device))

    def features(self, **columns: Tensor) -> Float[Tensor, "object width"]:
        """What the head sees of an object; without gradients a few clouds at a time, whose pairs fit into memory."""
        valid = columns[f"{self.column.name}.valid"]
        few = max(PAIRS // valid.shape[1] ** 2, 1)
        if torch.is_grad_enabled() or torch.compiler.is_exporting() or valid.shape[0] <= few:
            return self._features(columns)
        pieces = zip(*(values.split(few) for values in columns.values()))
        return torch.cat([self._features(dict(zip(columns, piece))) for piece in pieces])

    def _features(self, columns: dict[str, Tensor]) -> Float[Tensor, "object width"]:
        name, valid = self.column.name, columns[f"{self.column.name}.valid"]
        position, box = columns[f"{name}.position"].float(), self.column.box
        with torch.no_grad():
            square = squares(position, valid, box)
        found = edges(position, square, self.neighbours, box, self.radius)
        edge, node = geometry(found, self.length)
        given = [columns[f"{name}.feature"].float()] if self.column.bands else []
        state = self.nodes(self.first(torch.cat([*given, node], 2)), edge, found).float()
        pooled = [self._pooled(how, state, valid) for how in self.pool]
        if self.shells:
            pooled.append((self.counted(square, valid) - self.pairs[0]) / self.pairs[1])
        if self.scalars:
            pooled.append(flatten(columns, self.scalars))
        return self.join(torch.cat(pooled, 1))

    def _pooled(self, how: Pool, state: Tensor, valid: Bool[Tensor, "object node"]) -> Tensor:
        there = valid[..., None].to(state.dtype)
        if how == "count":
            return torch.log1p(there.sum(1))
        if how == "max":
            return state.masked_fill(~valid[..., None], -torch.inf).amax(1).masked_fill(~valid.any(1, keepdim=True), 0)
        number = there.sum(1).clamp(min=1)
        mean = (state * there).sum(1) / number
        if how == "mean":
            return mean
        return torch.sqrt((((state - mean[:, None]) * there) ** 2).sum(1) / number + 1e-6)

    def forward(self, **columns: Tensor) -> Float[Tensor, "object output"]:
        return head(self.head, self.features(**columns))


class GraphNet(Clouds):
    """Message passing in ``depth`` rounds over the ``neighbours`` nearest points, within ``radius`` if one is given.

    Messages are those of EdgeConv with distances and angles in them, put together by every way in ``aggregate``:
    "attention" weighs them by a learnt score (Velickovic et al. 2018, arXiv:1710.10903, with a score of the message).
    """

    def __init__(
        self,
        inputs: Schema,
        outputs: int,
        *,
        width: int = 32,
        depth: int = 2,
        neighbours: int = 12,
        radius: Annotated[float | None, Field(gt=0)] = None,
        length: Annotated[float, Field(gt=0)] = 1.0,
        aggregate: Annotated[tuple[Aggregate, ...], Field(min_length=1)] = ("mean", "max"),
        pool: Annotated[tuple[Pool, ...], Field(min_length=1)] = ("mean", "max", "std"),
        shells: Annotated[int, Field(ge=0, le=64)] = 0,
        reach: Annotated[float | None, Field(gt=0)] = None,
        activation: Activation = "gelu",
        dropout: float = 0.0,
    ):
        given = (width, depth, neighbours, radius, length, pool, shells, reach, activation, dropout)
        super().__init__(inputs, "graph", outputs, *given)
        rounds = {f"round{i}": Message(width, 4, aggregate, activation) for i in range(depth)}
        self.blocks = nn.ModuleDict(rounds)

    def nodes(self, state: Tensor, edge: Tensor, found: Edges) -> Float[Tensor, "object node value"]:
        for block in self.blocks.values():
            state, _ = block(state, edge, found)
        return state


class EGNN(Clouds):
    """E(n)-equivariant network (Satorras, Hoogeboom & Welling 2021, arXiv:2102.09844, eqs 3 to 6).

    Beside its state each node has a displacement, which every message pushes along its edge: it turns with the cloud.
    The states see only distances between the displaced points, and the readout how far each has moved.
    """

    def __init__(
        self,
        inputs: Schema,
        outputs: int,
        *,
        width: int = 32,
        depth: int = 2,
        neighbours: int = 12,
        radius: Annotated[float | None, Field(gt=0)] = None,
        length: Annotated[float, Field(gt=0)] = 1.0,
        pool: Annotated[tuple[Pool, ...], Field(min_length=1)] = ("mean", "max", "std"),
        shells: Annotated[int, Field(ge=0, le=64)] = 0,
        reach: Annotated[float | None, Field(gt=0)] = None,
        activation: Activation = "gelu",
        dropout: float = 0.0,
    ):
        given = (width, depth, neighbours, radius, length, pool, shells, reach, activation, dropout)
        super().__init__(inputs, "egnn", outputs, *given, extra=1)
        self.blocks = nn.ModuleDict({f"round{i}": Message(width, 1, ("mean",), activation) for i in range(depth)})
        self.push = nn.ModuleDict({f"round{i}": nn.Linear(width, 1, bias=False) for i in range(depth)})

    def nodes(self, state: Tensor, edge: Tensor, found: Edges) -> Float[Tensor, "object node value"]:
        state, moved = self.moves(state, found)
        return torch.cat([state.float(), torch.log1p(length_of(moved) / self.length)[..., None]], 2)

    def moves(self, state: Tensor, found: Edges) -> tuple[Tensor, Float[Tensor, "object node axis"]]:
        """The states and the displacements after all rounds."""
        moved = torch.zeros_like(found.vector[:, :, 0])
        share = found.weight / found.weight.sum(2, keepdim=True).clamp(min=_TINY)
        for name, block in self.blocks.items():
            vector = found.vector + gathered(moved, found.to) - moved[:, :, None]
            distance = torch.log1p(length_of(vector) / self.length)[..., None]
            state, message = block(state, distance, found)
            push = torch.tanh(self.push[name](message).float())  # bounded, so that points do not run away
            moved = moved - (share[..., None] * push * vector).sum(2)
        return state, moved
