"""Small networks of every kind, schemas that they read, and random numbers for these."""

import itertools

import torch

from gsnn.data.schema import Column, Schema

IMAGES = {"cnn", "resnet", "unet", "field-cnn"}
SEQUENCES = {
    "cnn1d",
    "resnet1d",
    "rnn",
    "wavenet",
    "cnn-rnn",
    "echo-state",
    "time-transformer",
    "seq2seq",
}  # more of them in tests/models/test_sequences.py
GRAPHS = {"graph", "egnn"}
KINDS = {
    **dict.fromkeys(GRAPHS, (("cloud", "table"), ("plane",))),
    **dict.fromkeys(IMAGES, (("image",), ("image", "table"), ("images", "table"))),
    **dict.fromkeys(SEQUENCES, (("curve", "table"), ("series", "strain"))),
    "joint": (("image", "curve", "table"),),
    "mass-map": (("shear",),),
    "clean-map": (("frequencies",),),
    "healpix-cnn": (("sky",), ("skies", "table")),
    "candidate-cnn": (("views", "table"), ("views",)),
}
SMALL = {
    "transformer": {"width": 16, "layers": 2, "patch": 5},
    "mlp": {"width": 16},
    "cnn": {"width": 8, "depth": 3},
    "resnet": {"width": 8, "blocks": [1, 1]},
    "field-cnn": {"width": 8, "depth": 2, "bands": 5, "hidden": 16},
    "unet": {"width": 8, "depth": 2},
    "mass-map": {"width": 8, "depth": 2, "iterations": 3},
    "clean-map": {"width": 8, "depth": 2},
    "healpix-cnn": {"width": 8, "depth": 2, "bands": 5, "hidden": 16},
    "cnn1d": {"width": 8, "depth": 3},
    "candidate-cnn": {"width": 8, "depth": 2, "candidates": 2},
    "resnet1d": {"width": 8, "blocks": [1, 1]},
    "rnn": {"width": 8},
    "wavenet": {"width": 8, "layers": 3},
    "cnn-rnn": {"width": 8, "depth": 2},
    "echo-state": {"width": 24, "degree": 5},
    "time-transformer": {"width": 16, "layers": 2, "heads": 2},
    "seq2seq": {"width": 8, "horizon": 3},
    "graph": {"width": 8, "neighbours": 3, "aggregate": ["mean", "max", "attention"]},
    "egnn": {"width": 8, "neighbours": 3},
    "joint": {"width": 8, "channels": 8, "depth": 3},
}


def small(spec):
    return {**SMALL.get(spec["name"], {}), **spec}


def schema(*kinds, y=18, x=16):
    image = Column("image", "image", shape=(3, y, x), bands=("g", "r", "i"))
    infrared = Column("infrared", "image", shape=(1, y, x), bands=("k",))
    table = [Column("mag", "scalar"), Column("colour", "scalar"), Column("radii", "scalar", shape=(2,))]
    columns = {"image": [image], "images": [image, infrared], "table": table}
    columns["curve"] = [Column("lc", "light_curve", bands=("g", "r", "i"))]
    columns["series"] = [Column("flux", "series", shape=(11,))]
    columns["views"] = [Column("orbit", "series", shape=(6, 17)), Column("transit", "series", shape=(6, 11))]
    columns["cloud"] = [Column("points", "graph", shape=(3,), bands=("mass", "colour"), box=4.0)]
    columns["plane"] = [Column("members", "graph", shape=(2,))]
    columns["strain"] = [Column("strain", "strain", shape=(2, 19))]
    sky = {"shape": (2, 16, 16), "pixel_scale": 60.0}
    columns["shear"] = [Column("shear", "image", **sky), Column("noise", "image", **sky | {"shape": (1, 16, 16)})]
    columns["frequencies"] = [Column("maps", "image", bands=("low", "high"), **sky)]
    columns["sky"] = [Column("density", "sphere", shape=(1, 192))]
    columns["skies"] = [*columns["sky"], Column("polarised", "sphere", shape=(2, 192))]
    told = {
        "shear": {"spectrum": "[[10, 1000000], [1e-5, 1e-15]]"},
        "frequencies": {"spectrum": "[[2, 1e6], [1e-6, 1e-6]]", "beams_arcmin": "[3.0, 2.0]", "beam_arcmin": "2.5"},
    }
    found = itertools.chain(*(columns[kind] for kind in kinds))
    return Schema.of(found, **{name: value for kind in kinds for name, value in told.get(kind, {}).items()})


def columns(inputs, n=5, seed=0, steps=6):
    """Random numbers; light curves of ``steps`` observations and fewer, the longest first."""
    generator = torch.Generator().manual_seed(seed)
    given = {c.name: torch.randn(n, *c.shape, generator=generator) for c in inputs.columns}
    for column in inputs.of_kind("sphere"):
        given[f"{column.name}.known"] = torch.rand(n, *column.shape, generator=generator) < 0.8
    for column in inputs.of_kind("light_curve"):
        time, flux, error, band = (torch.rand(n, steps, generator=generator) for _ in range(4))
        curve = {"time": time.sort(1).values, "flux": 4 * flux - 2, "flux_error": error / 2, "band": (3 * band).long()}
        curve["valid"] = torch.arange(steps) < torch.arange(steps, steps - n, -1)[:, None]
        given.pop(column.name)
        given |= {f"{column.name}.{part}": values for part, values in curve.items()}
    for column in inputs.of_kind("graph"):
        given.pop(column.name)
        position = torch.rand(n, steps, *column.shape, generator=generator) * (column.box or 2.0)
        given[f"{column.name}.position"] = position
        if column.bands:
            given[f"{column.name}.feature"] = torch.randn(n, steps, len(column.bands), generator=generator)
        given[f"{column.name}.valid"] = torch.arange(steps) < torch.arange(steps, steps - n, -1)[:, None]
    return given


def changed(values):
    """Other values; a band becomes another band."""
    if values.dtype == torch.int64:
        return (values + 1) % 3
    if values.dtype == torch.bool:
        return ~values
    return values + torch.linspace(0, 3, values.numel()).reshape(values.shape)
