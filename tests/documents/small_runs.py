"""Makes every run of this process small, so that a page is executed in seconds. Only the tests of documents do this."""

from __future__ import annotations

import sys
from functools import wraps
from pathlib import Path

OBJECTS = 260
PIXELS = 32


def small(study):
    """The same study with few objects, one epoch, few trees, small networks and no second training."""
    from gsnn.study import Study

    table = study.to_dict()
    source = table["data"]["source"]
    if isinstance(source, dict) and source["name"] in ("galaxies", "lenses"):
        source.update(objects=OBJECTS, size=PIXELS if source["name"] == "galaxies" else 48)
    if isinstance(source, dict) and source["name"] == "binaries":
        source.update(objects=OBJECTS, parts=(0.6, 0.2, 0.2))
    if isinstance(source, dict) and source["name"] == "cmb":
        _by_formula()
        source.update(universes=96)
        table["objective"].update(components=8)
    few = {"fields": {"maps": 600, "side": 16}, "expansion": {"universes": 600}, "planck": {"universes": 600}}
    few["sphere-fields"] = {"maps": 600, "nside": 8}
    if isinstance(source, dict) and source["name"] in few:
        source.update(few[source["name"]])
        table["data"]["split"] = {"fractions": [0.7, 0.15, 0.15]}
        table["train"] = {**table.get("train", {}), "batch": 32}
    if isinstance(source, dict) and source["name"] == "nbody":
        source.update(boxes=16, side=8, box=32.0, steps=2)
        table["data"]["split"] = {"fractions": [0.5, 0.2, 0.3]}
    if isinstance(source, dict) and source["name"] == "slabs":
        source.update(universes=20, side=16, box=32.0, depth=16.0, steps=2)
        table["data"]["split"] = {**table["data"]["split"], "fractions": [0.4, 0.2, 0.4]}
    if isinstance(source, dict) and source["name"] == "lensing":
        source.update(maps=60, side=32, margin=0)
        table["data"]["split"] = {"fractions": [0.4, 0.3, 0.3]}
    if isinstance(source, dict) and source["name"] == "foregrounds":
        source.update(patches=60, side=16)
        table["data"]["split"] = {"fractions": [0.6, 0.2, 0.2]}
    if isinstance(source, dict) and source["name"] == "groups":
        source.update(groups=OBJECTS)
    if isinstance(source, dict) and source["name"] == "galaxy-boxes":
        source.update(boxes=200, side=16, points=(40.0, 80.0))
    if isinstance(source, dict) and source["name"] in ("supernovae", "variable-stars"):
        source.update(objects=OBJECTS)
    if isinstance(source, dict) and source["name"] == "transit-candidates" and source["of"]["name"] == "transits":
        source["of"].update(stars=100)
    if isinstance(source, dict) and source.get("crop"):
        source.update(crop=PIXELS, size=PIXELS)
    model = table["model"]
    if model["name"] in ("cnn", "resnet") and "weights" not in model and "norm" not in model:
        model.update(width=8)
    table["train"] = {**table.get("train", {}), "epochs": 1}
    evaluate = table.setdefault("evaluate", {})
    evaluate.update(resamples=50, control=False)
    evaluate["baselines"] = [_few(baseline) for baseline in evaluate.get("baselines", ["prior"])]
    table.setdefault("explain", {})["objects"] = 3
    return Study.from_dict(table, name=study.name, trust=study.trust)


def _by_formula():
    """Spectra of the microwave background by a formula: CAMB takes seconds for one."""
    import gsnn.simulate.cmb

    sys.path.append(str(Path(__file__).parents[1]))
    import planck_files

    gsnn.simulate.cmb.spectra = planck_files.universe


def _few(baseline):
    spec = {"name": baseline} if isinstance(baseline, str) else dict(baseline)
    if "forest" in spec["name"]:
        return {**spec, "trees": 8}
    if "boosting" in spec["name"] or spec["name"] == "ring-finder":
        return {**spec, "iterations": 8}
    if spec["name"] == "planck-likelihood":
        return {**spec, "proposals": 500, "least": 0.0}
    if spec["name"] == "distance-likelihood":
        return {**spec, "grid": 12}
    if spec["name"] == "matched-filter":
        return {**spec, "match": 0.8, "rows": 40}
    return spec


def everywhere() -> None:
    """From now on ``run``, ``train`` and ``check`` of this process take the small study."""
    import gsnn.check
    import gsnn.run

    for module, name in ((gsnn.run, "run"), (gsnn.check, "check_study")):
        setattr(module, name, _wrapped(getattr(module, name)))


def _wrapped(function):
    @wraps(function)
    def shrunk(study, **options):
        return function(small(study), **options)

    return shrunk


def main() -> None:
    """The command ``gsnn`` of the pages."""
    from gsnn.cli import main as command

    if sys.argv[1:2] and sys.argv[1] in ("run", "train", "check"):
        everywhere()
    command()


if __name__ == "__main__":
    main()
