"""The methods paragraph: what was done in the words of a paper, with the papers it stands on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .parts import Parts
from .words import plain

# key -> (authors, year, where it appeared, identifier)
PAPERS: dict[str, tuple[str, int, str, str]] = {
    "adam": ("Kingma & Ba", 2015, "Adam: a method for stochastic optimization, ICLR", "arXiv:1412.6980"),
    "adamw": ("Loshchilov & Hutter", 2019, "Decoupled weight decay regularization, ICLR", "arXiv:1711.05101"),
    "astropy": ("Astropy Collaboration", 2022, "ApJ 935, 167", "doi:10.3847/1538-4357/ac7c74"),
    "boosting": ("Friedman", 2001, "Greedy function approximation: a gradient boosting machine, Ann. Statist. 29, 1189", "doi:10.1214/aos/1013203451"),
    "bootstrap": ("Efron", 1979, "Bootstrap methods: another look at the jackknife, Ann. Statist. 7, 1", "doi:10.1214/aos/1176344552"),
    "captum": ("Kokhlikyan et al.", 2020, "Captum: a unified and generic model interpretability library for PyTorch", "arXiv:2009.07896"),
    "cas": ("Conselice", 2003, "ApJS 147, 1", "doi:10.1086/375001"),
    "forest": ("Breiman", 2001, "Random forests, Machine Learning 45, 5", "doi:10.1023/A:1010933404324"),
    "galsim": ("Rowe et al.", 2015, "GalSim: the modular galaxy image simulation toolkit, Astronomy and Computing 10, 121", "doi:10.1016/j.ascom.2015.02.002"),
    "gaussian": ("Nix & Weigend", 1994, "Estimating the mean and variance of the target probability distribution, ICNN", "doi:10.1109/ICNN.1994.374138"),
    "grad-cam": ("Selvaraju et al.", 2017, "Grad-CAM: visual explanations from deep networks, ICCV", "doi:10.1109/ICCV.2017.74"),
    "groupnorm": ("Wu & He", 2018, "Group normalization, ECCV", "doi:10.1007/978-3-030-01261-8_1"),
    "guo": ("Guo et al.", 2017, "On calibration of modern neural networks, ICML", "arXiv:1706.04599"),
    "healpix": ("Górski et al.", 2005, "ApJ 622, 759", "doi:10.1086/427976"),
    "integrated-gradients": ("Sundararajan, Taly & Yan", 2017, "Axiomatic attribution for deep networks, ICML", "arXiv:1703.01365"),
    "knn": ("Cover & Hart", 1967, "Nearest neighbor pattern classification, IEEE Trans. Inf. Theory 13, 21", "doi:10.1109/TIT.1967.1053964"),
    "matplotlib": ("Hunter", 2007, "Computing in Science & Engineering 9, 90", "doi:10.1109/MCSE.2007.55"),
    "mixture": ("Bishop", 1994, "Mixture density networks, Aston University report NCRG/94/004", ""),
    "numpy": ("Harris et al.", 2020, "Nature 585, 357", "doi:10.1038/s41586-020-2649-2"),
    "occlusion": ("Zeiler & Fergus", 2014, "Visualizing and understanding convolutional networks, ECCV", "doi:10.1007/978-3-319-10590-1_53"),
    "pit": ("Dawid", 1984, "Statistical theory: the prequential approach, J. R. Statist. Soc. A 147, 278", "doi:10.2307/2981683"),
    "pytorch": ("Paszke et al.", 2019, "PyTorch: an imperative style, high-performance deep learning library, NeurIPS 32", "arXiv:1912.01703"),
    "random-labels": ("Zhang et al.", 2017, "Understanding deep learning requires rethinking generalization, ICLR", "arXiv:1611.03530"),
    "resnet": ("He et al.", 2016, "Deep residual learning for image recognition, CVPR", "doi:10.1109/CVPR.2016.90"),
    "saliency": ("Simonyan, Vedaldi & Zisserman", 2014, "Deep inside convolutional networks, ICLR workshop", "arXiv:1312.6034"),
    "sanity": ("Adebayo et al.", 2018, "Sanity checks for saliency maps, NeurIPS 31", "arXiv:1810.03292"),
    "scikit-learn": ("Pedregosa et al.", 2011, "Scikit-learn: machine learning in Python, JMLR 12, 2825", ""),
    "scipy": ("Virtanen et al.", 2020, "Nature Methods 17, 261", "doi:10.1038/s41592-019-0686-2"),
    "shap": ("Lundberg & Lee", 2017, "A unified approach to interpreting model predictions, NeurIPS 30", "arXiv:1705.07874"),
}  # fmt: skip

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
    "cas-boosting": ("gradient boosting on concentration, asymmetry and smoothness", ["cas", "boosting", "scikit-learn"]),
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
        return "".join(f" [{self.keys.index(key) + 1}]" for key in known)


def methods(parts: Parts) -> tuple[str, list[dict[str, str]]]:
    """One paragraph with numbered citations, and the numbered list of papers (text, href)."""
    study, answer, cite, said = parts.study, parts.answer, _Citations(), []
    said += _data(study, parts, cite)
    said += _learning(study, answer, cite)
    said += _judging(study, answer, cite)
    versions = answer.get("versions") or parts.resolved.get("versions") or {}
    tools = [(name, versions[key]) for key, name in
             (("torch", "PyTorch"), ("numpy", "NumPy"), ("scipy", "SciPy"), ("astropy", "Astropy"), ("matplotlib", "Matplotlib")) if key in versions]
    if tools:
        gsnn = f"GSNN {versions['gsnn']}, built on " if "gsnn" in versions else "GSNN, built on "
        said.append("The work was done with " + gsnn + _and([f"{name} {version}{cite(name.lower())}" for name, version in tools]) + ".")
    return " ".join(said), [_reference(key) for key in cite.keys]


def _data(study: Mapping[str, Any], parts: Parts, cite: _Citations) -> list[str]:
    data, said = study.get("data") or {}, []
    objects = parts.answer.get("objects") or (parts.audit.get("counts") if isinstance(parts.audit.get("counts"), dict) else {}) or {}
    source = _name(data.get("source"))
    sizes = [f"{objects[s]:,} objects for {use}" for s, use in (("train", "training"), ("valid", "validation"), ("test", "testing")) if isinstance(objects.get(s), int)]
    if source or sizes:
        origin = f"The data are {'simulated (' + source + ')' + cite('galsim') if source == 'galaxies' else 'from the source ' + source}" if source else "The data"
        said.append(origin + (": " if source else " hold ") * bool(sizes) + _and(sizes) + ".")
    if inputs := data.get("inputs"):
        target = parts.target["name"]
        said.append(f"From {_and([plain(i) for i in inputs])} the network predicts {plain(target)}." if target else f"The inputs are {_and([plain(i) for i in inputs])}.")
    by = (parts.audit.get("split") or {}).get("by") or (data.get("split") or {}).get("by") if isinstance(data.get("split"), dict) else None
    if by == "sky":
        said.append(f"The split is by regions of the sky, HEALPix pixels{cite('healpix')}, so that neighbours never stand on both sides.")
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
        said[-1] += (f" for {lengths[0]}" if lengths else "") + (f", seed {answer['seed']}" if answer.get("seed") is not None else "") + "."
    return said


def _loss(spec: Any, name: str) -> tuple[str, list[str]]:
    if name == "classify":
        return " by cross-entropy", []
    if name == "regress":
        loss = str(spec.get("loss", "gaussian")) if isinstance(spec, Mapping) else "gaussian"
        known = {"gaussian": (" by the likelihood of a Gaussian", ["gaussian"]), "mixture": (" by the likelihood of a mixture of Gaussians", ["mixture"]),
                 "l1": (" by mean absolute error", []), "l2": (" by mean squared error", [])}
        return known.get(loss, (f" by the loss {loss}", []))
    return (f" with the objective {name}" if name else ""), []


def _judging(study: Mapping[str, Any], answer: Mapping[str, Any], cite: _Citations) -> list[str]:
    said = []
    baselines = list(answer.get("baselines") or {}) or [_name(b) for b in (study.get("evaluate") or {}).get("baselines", [])]
    if baselines:
        named = [BASELINES.get(b, (b, [])) for b in baselines]
        said.append("It is compared on the same held-out objects with " + _and([words + cite(*papers) for words, papers in named]) + ", tuned on the validation split.")
    if answer.get("metrics"):
        said.append(f"Intervals are 95% bootstrap intervals over test objects{cite('bootstrap')}; differences are paired, object by object.")
    calibration = answer.get("calibration") or {}
    if "ece" in calibration:
        said.append(f"Calibration is the expected calibration error{cite('guo')}.")
    elif "pit_ks" in calibration:
        said.append(f"Calibration is judged by the probability integral transform{cite('pit')}.")
    if (answer.get("controls") or {}).get("permuted"):
        said.append(f"As a control the same network was trained on shuffled labels{cite('random-labels')}.")
    explained = list(answer.get("explanations") or {}) or [_name(m) for m in (study.get("explain") or {}).get("methods", [])]
    if explained:
        said.append("Attributions are by " + _and([name + cite(name) for name in explained]) + f" in Captum{cite('captum')}, checked against a network of random weights{cite('sanity')}.")
    return said


def _reference(key: str) -> dict[str, str]:
    authors, year, where, identifier = PAPERS[key]
    href = {"doi": "https://doi.org/", "arX": "https://arxiv.org/abs/"}.get(identifier[:3], "")
    return {"key": key, "text": f"{authors} ({year}). {where}.", "id": identifier, "href": href + identifier.split(":", 1)[1] if href else ""}


def _name(spec: Any) -> str:
    return str(spec.get("name", "")) if isinstance(spec, Mapping) else str(spec or "")


def _and(words: list[str]) -> str:
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1] if words else ""
