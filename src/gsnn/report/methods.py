"""The methods paragraph: what was done in the words of a paper, with the papers it stands on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .papers import PAPERS
from .parts import Parts
from .words import plain

NETWORKS = {
    "perceptron": ("a single perceptron", []),
    "mlp": ("a multilayer perceptron", []),
    "cnn": ("a convolutional network with group normalisation", ["groupnorm"]),
    "resnet": ("a residual convolutional network with group normalisation", ["resnet", "groupnorm"]),
}
BASELINES = {
    "prior": ("the training set's own distribution", []),
    "logistic": ("logistic regression", ["scikit-learn"]),
    "linear": ("linear regression", ["scikit-learn"]),
    "knn": ("nearest neighbours", ["knn", "scikit-learn"]),
    "forest": ("a random forest", ["forest", "scikit-learn"]),
    "boosting": ("gradient boosting", ["boosting", "scikit-learn"]),
    "cas-boosting": (
        "gradient boosting on concentration, asymmetry and smoothness",
        ["cas", "boosting", "scikit-learn"],
    ),
    "ring-finder": (
        "gradient boosting on blue light in rings, with concentration, asymmetry and smoothness",
        ["rings", "cas", "boosting", "scikit-learn"],
    ),
    "cas-forest": ("a random forest on concentration, asymmetry and smoothness", ["cas", "forest", "scikit-learn"]),
    "pixel-forest": ("a random forest on pixels", ["forest", "scikit-learn"]),
}


class _Citations:
    """Numbers papers in the order they are cited."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    def __call__(self, *keys: str) -> str:
        known = [key for key in keys if key in PAPERS]
        self.keys += [key for key in known if key not in self.keys]
        return f" [{', '.join(str(self.keys.index(key) + 1) for key in known)}]" if known else ""


def methods(parts: Parts) -> tuple[str, list[dict[str, str]]]:
    """One paragraph with numbered citations, and the numbered list of papers (text, href)."""
    study, answer, cite, said = parts.study, parts.answer, _Citations(), []
    said += _data(study, parts, cite)
    said += _learning(study, answer, cite)
    said += _judging(study, answer, cite)
    versions = answer.get("versions") or parts.resolved.get("versions") or {}
    tools = [
        (name, versions[key])
        for key, name in (
            ("torch", "PyTorch"),
            ("numpy", "NumPy"),
            ("scipy", "SciPy"),
            ("astropy", "Astropy"),
            ("matplotlib", "Matplotlib"),
        )
        if key in versions
    ]
    if tools:
        gsnn = f"GSNN {versions['gsnn']}, built on " if "gsnn" in versions else "GSNN, built on "
        said.append(
            "The work was done with "
            + gsnn
            + _and([f"{name} {version}{cite(name.lower())}" for name, version in tools])
            + "."
        )
    return " ".join(said), [_reference(key) for key in cite.keys]


def _data(study: Mapping[str, Any], parts: Parts, cite: _Citations) -> list[str]:
    data, said = study.get("data") or {}, []
    objects = (
        parts.answer.get("objects")
        or (parts.audit.get("counts") if isinstance(parts.audit.get("counts"), dict) else {})
        or {}
    )
    source = _name(data.get("source"))
    sizes = [
        f"{objects[s]:,} objects for {use}"
        for s, use in (("train", "training"), ("valid", "validation"), ("test", "testing"))
        if isinstance(objects.get(s), int)
    ]
    if source or sizes:
        origin = (
            f"The data are {f'simulated by {source}' if source == 'galaxies' else f'from the source {source}'}"
            if source
            else "The data"
        )
        said.append(origin + (": " if source else " hold ") * bool(sizes) + _and(sizes) + ".")
    if inputs := data.get("inputs"):
        target = parts.target["name"]
        said.append(
            f"From {_and([plain(i) for i in inputs])} the network predicts {plain(target)}."
            if target
            else f"The inputs are {_and([plain(i) for i in inputs])}."
        )
    by = (
        (parts.audit.get("split") or {}).get("by") or (data.get("split") or {}).get("by")
        if isinstance(data.get("split"), dict)
        else None
    )
    if by == "sky":
        said.append(
            f"The split is by regions of the sky, HEALPix pixels{cite('healpix')}, which keeps neighbours on one side."
        )
    elif by:
        said.append(f"The split is by {plain(by)}.")
    if augment := data.get("augment"):
        said.append(f"Training objects are augmented by {_and([_name(a) for a in augment])}.")
    return said


def _learning(study: Mapping[str, Any], answer: Mapping[str, Any], cite: _Citations) -> list[str]:
    train, said = study.get("train") or {}, []
    if name := _name(study.get("model")):
        words, papers = NETWORKS.get(name, (f"the network {name}", []))
        size = f" of {answer['parameters']:,} parameters" if isinstance(answer.get("parameters"), int) else ""
        objective = _name(study.get("objective"))
        loss, source = _loss(study.get("objective"), objective)
        said.append(f"We fit {words}{size}{cite(*papers)}{loss}{cite(*source)}")
        optimiser = _name(train.get("optimiser") or train.get("optimizer"))
        if optimiser:
            said[-1] += f" with {'AdamW' if optimiser.lower() == 'adamw' else optimiser}{cite(optimiser.lower())}"
        lengths = [f"{train[k]:,} {k}" for k in ("epochs", "steps") if isinstance(train.get(k), int)]
        said[-1] += (
            (f" for {lengths[0]}" if lengths else "")
            + (f", seed {answer['seed']}" if answer.get("seed") is not None else "")
            + "."
        )
    return said


def _loss(spec: Any, name: str) -> tuple[str, list[str]]:
    if name == "classify":
        return " by cross-entropy", []
    if name == "regress":
        loss = str(spec.get("loss", "gaussian")) if isinstance(spec, Mapping) else "gaussian"
        known = {
            "gaussian": (" by the likelihood of a Gaussian", ["gaussian"]),
            "mixture": (" by the likelihood of a mixture of Gaussians", ["mixture"]),
            "l1": (" by mean absolute error", []),
            "l2": (" by mean squared error", []),
        }
        return known.get(loss, (f" by the loss {loss}", []))
    return (f" with the objective {name}" if name else ""), []


def _judging(study: Mapping[str, Any], answer: Mapping[str, Any], cite: _Citations) -> list[str]:
    said = []
    baselines = list(answer.get("baselines") or {}) or [
        _name(b) for b in (study.get("evaluate") or {}).get("baselines", [])
    ]
    if baselines:
        named = [BASELINES.get(b, (b, [])) for b in baselines]
        said.append(
            "It is compared on the same held-out objects with "
            + _and([words + cite(*papers) for words, papers in named])
            + ", tuned on the validation split."
        )
    if answer.get("metrics"):
        said.append(
            f"Intervals are 95% bootstrap intervals over test objects{cite('bootstrap')}; "
            "differences are paired, object by object."
        )
    calibration = answer.get("calibration") or {}
    if "ece" in calibration:
        said.append(f"Calibration is the expected calibration error{cite('guo')}.")
    elif "pit_ks" in calibration:
        said.append(f"Calibration is judged by the probability integral transform{cite('pit')}.")
    if (answer.get("controls") or {}).get("permuted"):
        said.append(
            f"As a control the same network was taught, and judged on, shuffled labels{cite('permutation-test')}."
        )
    explained = list(answer.get("explanations") or {}) or [
        _name(m) for m in (study.get("explain") or {}).get("methods", [])
    ]
    if explained:
        said.append(
            "Attributions are by "
            + _and([name + cite(name) for name in explained])
            + f" in Captum{cite('captum')}, checked against a network of random weights{cite('sanity')}."
        )
    return said


def _reference(key: str) -> dict[str, str]:
    authors, year, where, identifier = PAPERS[key]
    href = {"doi": "https://doi.org/", "arX": "https://arxiv.org/abs/"}.get(identifier[:3], "")
    return {
        "key": key,
        "text": f"{authors} ({year}). {where}.",
        "id": identifier,
        "href": href + identifier.split(":", 1)[1] if href else "",
    }


def _name(spec: Any) -> str:
    return str(spec.get("name", "")) if isinstance(spec, Mapping) else str(spec or "")


def _and(words: list[str]) -> str:
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1] if words else ""
