"""``build(spec, kind)``: a table of a name and arguments becomes an object. The constructor is the schema.

*Positional* parameters are bound by the study (what the data dictates); *keyword-only* parameters are the table's keys,
checked strictly against their annotations before the class is called.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, get_type_hints

from .errors import ConfigError, GsnnError, suggest

# kind -> short name -> where it lives. Installed packages add theirs by an entry point "kind.name" of the group "gsnn".
PARTS: dict[str, dict[str, str]] = {
    "source": {
        "galaxies": "gsnn.simulate.galaxies:Galaxies",
        "lenses": "gsnn.simulate.lenses:Lenses",
        "transits": "gsnn.simulate.transits:Transits",
        "transit-candidates": "gsnn.data.transit_candidates:TransitCandidates",
        "supernovae": "gsnn.simulate.supernovae:Supernovae",
        "variable-stars": "gsnn.simulate.variable_stars:VariableStars",
        "binaries": "gsnn.simulate.binaries:BinaryMergers",
        "cmb": "gsnn.simulate.cmb:CMB",
        "expansion": "gsnn.simulate.expansion:Expansion",
        "planck": "gsnn.simulate.planck:Planck",
        "fields": "gsnn.simulate.fields:Fields",
        "sphere-fields": "gsnn.simulate.sphere_fields:SphereFields",
        "groups": "gsnn.simulate.groups:Groups",
        "nbody": "gsnn.simulate.nbody:NBody",
        "slabs": "gsnn.simulate.slabs:Slabs",
        "foregrounds": "gsnn.simulate.foregrounds:Foregrounds",
        "lensing": "gsnn.simulate.lensing:Lensing",
        "shear-of-map": "gsnn.data.readers.shear_catalogue:ShearOfMap",
        "galaxy-boxes": "gsnn.simulate.point_processes:GalaxyBoxes",
        "sky-cubes": "gsnn.data.readers.cubes:SkyCubes",
        "strain-windows": "gsnn.data.readers.windows:StrainWindows",
        "windows": "gsnn.data.readers.series:Windows",
        "files": "gsnn.data.readers:Files",
    },
    "transform": {
        "standardise": "gsnn.data.transforms:Standardise",
        "asinh": "gsnn.data.transforms:Asinh",
        "log": "gsnn.data.transforms:Log",
        "whiten": "gsnn.data.transforms:Whiten",
        "box": "gsnn.data.transforms:Box",
        "light-curve": "gsnn.data.curve_units:CurveUnits",
        "points": "gsnn.data.point_units:PointUnits",
        "native": "gsnn.data.transforms:Native",
    },
    "augment": {
        "rotate": "gsnn.data.augment:Rotate",
        "flip": "gsnn.data.augment:Flip",
        "shift": "gsnn.data.augment:Shift",
        "cube": "gsnn.data.augment_fields:Cube",
        "noise": "gsnn.data.augment:Noise",
        "blur": "gsnn.data.augment:Blur",
        "band-dropout": "gsnn.data.augment:BandDropout",
        "dim": "gsnn.data.augment_light_curves:Dim",
        "redshift": "gsnn.data.augment_light_curves:Redshift",
        "drop-observations": "gsnn.data.augment_light_curves:DropObservations",
        "drop-bands": "gsnn.data.augment_light_curves:DropBands",
        "truncate": "gsnn.data.augment_light_curves:Truncate",
    },
    "model": {
        "perceptron": "gsnn.models.perceptron:Perceptron",
        "mlp": "gsnn.models.mlp:MLP",
        "cnn": "gsnn.models.cnn:CNN",
        "field-cnn": "gsnn.models.field_cnn:FieldCNN",
        "healpix-cnn": "gsnn.models.healpix_cnn:HealpixCNN",
        "resnet": "gsnn.models.resnet:ResNet",
        "transformer": "gsnn.models.transformer:Transformer",
        "unet": "gsnn.models.unet:UNet",
        "clean-map": "gsnn.models.clean_map:CleanMap",
        "mass-map": "gsnn.models.mass_map:MassMap",
        "cnn1d": "gsnn.models.cnn1d:CNN1d",
        "resnet1d": "gsnn.models.resnet1d:ResNet1d",
        "candidate-cnn": "gsnn.models.candidate_cnn:CandidateCNN",
        "rnn": "gsnn.models.rnn:RNN",
        "wavenet": "gsnn.models.wavenet:WaveNet",
        "cnn-rnn": "gsnn.models.cnn_rnn:CNNRNN",
        "echo-state": "gsnn.models.echo_state:EchoState",
        "time-transformer": "gsnn.models.time_transformer:TimeTransformer",
        "seq2seq": "gsnn.models.seq2seq:Seq2Seq",
        "graph": "gsnn.models.graph:GraphNet",
        "egnn": "gsnn.models.graph:EGNN",
        "joint": "gsnn.models.joint:Joint",
    },
    "objective": {
        "classify": "gsnn.objectives.classify:Classify",
        "regress": "gsnn.objectives.regress:Regress",
        "posterior": "gsnn.objectives.posterior:Posterior",
        "likelihood": "gsnn.objectives.likelihood:Likelihood",
        "ratio": "gsnn.objectives.ratio:Ratio",
        "map": "gsnn.objectives.map:Map",
        "emulate": "gsnn.objectives.emulate:Emulate",
        "next-patch": "gsnn.objectives.next_patch:NextPatch",
        "masked-patch": "gsnn.objectives.masked_patch:MaskedPatch",
        "classify-early": "gsnn.objectives.classify_early:ClassifyEarly",
        "next-value": "gsnn.objectives.next_value:NextValue",
        "masked-value": "gsnn.objectives.masked_value:MaskedValue",
        "denoise": "gsnn.objectives.denoise:Denoise",
        "inpaint": "gsnn.objectives.inpaint:Inpaint",
        "flow-matching": "gsnn.objectives.flow_matching:FlowMatching",
        "translate": "gsnn.objectives.translate:Translate",
    },
    "baseline": {
        "prior": "gsnn.baselines.prior:Prior",
        "persistence": "gsnn.baselines.forecast:Persistence",
        "lag": "gsnn.baselines.forecast:Lag",
        "ridge-ar": "gsnn.baselines.forecast:RidgeAR",
        "distance-likelihood": "gsnn.baselines.distance_likelihood:DistanceLikelihood",
        "planck-likelihood": "gsnn.baselines.planck_likelihood:PlanckLikelihood",
        "power-spectrum": "gsnn.baselines.power_spectrum:PowerSpectrum",
        "gaussian-field": "gsnn.baselines.gaussian_field:GaussianField",
        "gaussian-sphere": "gsnn.baselines.gaussian_field:GaussianSphere",
        "group-boosting": "gsnn.baselines.points:GroupBoosting",
        "stellar-mass": "gsnn.baselines.points:StellarMass",
        "two-point": "gsnn.baselines.two_point:TwoPoint",
        "two-point-boosting": "gsnn.baselines.two_point:TwoPointBoosting",
        "two-point-likelihood": "gsnn.baselines.two_point:TwoPointLikelihood",
        "virial-mass": "gsnn.baselines.points:VirialMass",
        "kaiser-squires": "gsnn.baselines.mass_maps:KaiserSquires",
        "ilc": "gsnn.baselines.component_separation:ILC",
        "frequency-wiener": "gsnn.baselines.component_separation:FrequencyWiener",
        "wiener": "gsnn.baselines.mass_maps:Wiener",
        "gaussian-maps": "gsnn.baselines.random_fields:GaussianMaps",
        "lognormal-maps": "gsnn.baselines.random_fields:LognormalMaps",
        "zeldovich": "gsnn.baselines.perturbation:Zeldovich",
        "2lpt": "gsnn.baselines.perturbation:SecondOrder",
        "coarse-mesh": "gsnn.baselines.perturbation:CoarseMesh",
        "matched-filter": "gsnn.baselines.matched_filter:MatchedFilter",
        "polynomial": "gsnn.baselines.emulators:Polynomial",
        "nearest": "gsnn.baselines.emulators:Nearest",
        "logistic": "gsnn.baselines.tables:Logistic",
        "linear": "gsnn.baselines.tables:Linear",
        "knn": "gsnn.baselines.tables:Neighbours",
        "forest": "gsnn.baselines.tables:Forest",
        "boosting": "gsnn.baselines.tables:Boosting",
        "cas-boosting": "gsnn.baselines.morphology:CASBoosting",
        "cas-forest": "gsnn.baselines.morphology:CASForest",
        "ring-finder": "gsnn.baselines.morphology:RingFinder",
        "pixel-forest": "gsnn.baselines.morphology:PixelForest",
        "bls": "gsnn.baselines.transits:BLS",
        "tls": "gsnn.baselines.transits:TLS",
    },
    "explainer": {
        "saliency": "gsnn.explain.attribution:Saliency",
        "grad-cam": "gsnn.explain.attribution:GradCAM",
        "occlusion": "gsnn.explain.attribution:Occlusion",
    },
}


SECTIONS = ("data", "model", "objective", "train", "evaluate", "explain")  # of a study: places of mistakes begin so


@cache
def _installed() -> dict[str, str]:
    from importlib.metadata import entry_points

    return {point.name: point.value for point in entry_points(group="gsnn")}


def names(kind: str) -> list[str]:
    """The short names of the parts of a kind."""
    own = [name.split(".", 1)[1] for name in _installed() if name.split(".", 1)[0] == kind]
    return sorted({*PARTS[kind], *own})


def normalise(spec: Any, path: tuple[str | int, ...] = ()) -> dict[str, Any]:
    """``"name"`` and ``{"name": ..., ...}`` alike as a table with a name."""
    if isinstance(spec, str):
        return {"name": spec}
    if not isinstance(spec, Mapping) or not isinstance(spec.get("name"), str):
        raise ConfigError("needs a name, or a table with a name", path)
    return dict(spec)


def resolve(name: str, kind: str, path: tuple[str | int, ...] = (), trust: bool = True) -> Callable[..., Any]:
    """The class or function that ``name`` stands for: a short name, or ``package.module:Class``."""
    where = PARTS[kind].get(name) or _installed().get(f"{kind}.{name}") or name
    if ":" not in where:
        raise ConfigError(f"no {kind} is called {name!r}; {suggest(name, names(kind))}", (*path, "name"))
    if where == name and not trust:
        raise ConfigError(
            f"this run names a {kind} from outside GSNN, {name!r}, and it was received from elsewhere; "
            "read that code, then allow it with --trust",
            (*path, "name"),
        )
    module, attribute = where.split(":", 1)
    try:
        found = getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        missing = getattr(error, "name", None)
        raise ConfigError(
            f"cannot import {where!r}: {error}" + (f"; install the package {missing!r}" if missing else ""),
            (*path, "name"),
        ) from error
    except AttributeError as error:
        raise ConfigError(f"the module {module!r} has no {attribute!r}", (*path, "name")) from error
    _check_kind(found, kind, where, path)
    return found


def _check_kind(found: Any, kind: str, where: str, path: tuple[str | int, ...]) -> None:
    needed = {
        "source": ("schema", "rows"),
        "transform": ("fit", "forward"),
        "augment": ("forward",),
        "model": ("forward",),
        "objective": ("terms", "predict"),
        "baseline": ("fit", "predict"),
        "explainer": ("__call__",),
    }[kind]
    missing = [method for method in needed if not hasattr(found, method)]
    if not callable(found) or missing:
        raise ConfigError(f"{where!r} is not a {kind}: it has no {' and no '.join(missing)}", (*path, "name"))


@cache
def _arguments(part: Callable[..., Any]) -> Any:
    """A strict pydantic model of the keyword-only parameters of ``part``."""
    from pydantic import ConfigDict, create_model

    function = part.__init__ if inspect.isclass(part) else part
    hints = get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {}
    for name, parameter in inspect.signature(part).parameters.items():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            default = ... if parameter.default is inspect.Parameter.empty else parameter.default
            fields[name] = (hints.get(name, Any), default)
    config = ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True)
    return create_model(getattr(part, "__name__", "part"), __config__=config, **fields)


def options(part: Callable[..., Any]) -> dict[str, Any]:
    """The keyword-only parameters of ``part`` with their defaults (``...`` where one must be given)."""
    return {
        name: ... if field.is_required() else field.get_default(call_default_factory=True)
        for name, field in _arguments(part).model_fields.items()
    }


def check(spec: Any, kind: str, path: tuple[str | int, ...] = (), trust: bool = True) -> dict[str, Any]:
    """The table with every argument resolved and checked, without building the object."""
    spec = normalise(spec, path)
    part = resolve(spec["name"], kind, path, trust)
    for old, new in getattr(part, "renamed", {}).items():
        if old in spec and new in spec:
            raise ConfigError(f"is the old name of {new!r}, which is given too; leave one of them out", (*path, old))
        if old in spec:
            spec[new] = spec.pop(old)
    given = {key: value for key, value in spec.items() if key != "name"}
    parsed = parse(_arguments(part), given, path)
    checked = {"name": spec["name"], **{name: getattr(parsed, name) for name in type(parsed).model_fields}}
    for name, nested in getattr(part, "parts", {}).items():  # arguments that are parts themselves
        checked[name] = check(checked[name], nested, (*path, name), trust)
    return checked


def build(spec: Any, kind: str, *bound: Any, path: tuple[str | int, ...] = (), trust: bool = True) -> Any:
    """The object that a table describes; ``bound`` are the positional arguments that the study supplies."""
    checked = check(spec, kind, path, trust)
    part = resolve(checked.pop("name"), kind, path, trust)
    try:
        return part(*bound, **checked)
    except ConfigError as error:
        whole = not path or error.path[:1] in ((section,) for section in SECTIONS)  # told from the study's root
        raise ConfigError(error.message, error.path if whole else (*path, *error.path)) from error
    except GsnnError:
        raise
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{normalise(spec)['name']!r} refuses these values: {error}", path) from error


def parse(model: Any, given: Mapping[str, Any], path: tuple[str | int, ...] = ()) -> Any:
    """``given`` as a pydantic ``model`` in JSON-strict mode: arrays may be tuples, nothing else is coerced."""
    from pydantic import ValidationError

    try:
        text = json.dumps(given)
    except TypeError as error:
        raise ConfigError(f"holds a value that a study cannot hold ({error})", path) from error
    try:
        return model.model_validate_json(text, strict=True)
    except ValidationError as error:
        # a key that is not known says more than one that is missing: it is often the same key, misspelt
        first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
        where = (*path, *_keys(given, first["loc"]))
        if first["type"] == "extra_forbidden":
            raise ConfigError(
                f"no such key; {suggest(str(first['loc'][-1]), _fields(model, first['loc'][:-1]))}", where
            ) from None
        if first["type"] == "missing":
            raise ConfigError("this key is needed", (*path, *first["loc"])) from None
        raise ConfigError(_must(first), where) from None


_NEEDED = {
    "tuple": "a list",
    "list": "a list",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text in quotes",
    "dict": "a table, as in { key = value }",
    "model": "a table, as in { key = value }",
}


def _must(error: Mapping[str, Any]) -> str:
    """What pydantic asks for, in the words of a study."""
    given = error["input"]
    if error["type"].endswith("too_short") and not given:
        return "must not be empty"
    what, _, kind = error["type"].partition("_")
    needed = _NEEDED.get(what) if kind in ("type", "parsing", "from_float") else None
    if needed == "a list" and isinstance(given, (str, int, float)):
        needed += f", as in {_brief([given])}"
    asked = error["msg"][0].lower() + error["msg"][1:]
    must = f"must be {needed}" if needed else re.sub(r"^(input|value) should ", "must ", asked)
    return f"{must}, not {_brief(given)}"


def _brief(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _keys(given: Any, place: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """The part of pydantic's place that stands in the input; the rest names branches of unions."""
    keys: list[str | int] = []
    for key in place:
        try:
            given = given[key]
        except (KeyError, IndexError, TypeError):
            break
        keys.append(key)
    return tuple(keys)


def _fields(model: Any, place: tuple[str | int, ...]) -> list[str]:
    """The keys that the table at ``place`` may have."""
    for key in place:
        field = model.model_fields.get(key)
        if field is None or not hasattr(field.annotation, "model_fields"):
            return []
        model = field.annotation
    return [field.alias or name for name, field in model.model_fields.items()]
