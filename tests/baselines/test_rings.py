"""Blue rings beside red galaxies: what is left when the galaxy is taken away, and a finder that learns from it."""

import numpy as np
import pytest

from gsnn.baselines.rings import rings
from gsnn.config import build
from gsnn.data.survey import Survey
from gsnn.errors import GsnnError
from gsnn.simulate.lenses import Lenses


def pictures(ring: float, noise: float = 0.01) -> np.ndarray:
    """Red galaxies [3, 2, 48, 48], with blue rings of 7 pixels of a brightness."""
    y, x = np.mgrid[:48, :48] - 23.5
    away = np.hypot(x, y)
    galaxy, blue = np.exp(-away / 3), np.exp(-0.5 * ((away - 7) / 1) ** 2)
    images = np.stack([0.4 * galaxy + ring * blue, galaxy + 0.1 * ring * blue])[None].repeat(3, 0)
    return images + noise * np.random.default_rng(0).normal(size=images.shape)


def test_a_ring_is_what_is_left():
    found, names = rings(pictures(0.3))
    without, _ = rings(pictures(0.0))
    at = names.index
    assert len(names) == len(set(names)) == found.shape[1]
    assert (found[:, at("mean_6")] > without[:, at("mean_6")] + 5).all()
    assert (found[:, at("excess_area")] > 100).all()
    assert (without[:, at("excess_area")] < 20).all()
    assert found[:, at("arc_6")].min() > 1.5  # gradients across, not along
    assert abs(without[:, at("arc_10")].mean() - 1) < 0.2


def test_turned_pictures_give_the_same():
    found, _ = rings(pictures(0.3))
    turned, _ = rings(np.rot90(pictures(0.3), axes=(2, 3)).copy())
    assert np.allclose(found[:, :5], turned[:, :5], rtol=0.05)


def test_one_band_is_refused():
    with pytest.raises(GsnnError, match="at least two bands"):
        rings(np.zeros((2, 1, 32, 32)))


def test_finds_lenses(tmp_path):
    source = Lenses(objects=300, size=40, arc_snr=(150.0, 300.0), einstein=(0.8, 1.8))
    survey = Survey.create(tmp_path / "sky", source)
    view = survey.view()
    part = np.split(np.arange(300), [190, 230])
    baseline = build(
        {"name": "ring-finder", "iterations": 12}, "baseline", survey.schema.select(["image"]), survey.schema["lens"]
    )
    baseline.fit(view.take(part[0]), view.take(part[1]), 0)
    test = view.take(part[2])
    p = baseline.predict(test)["lens"].probabilities[:, 1]
    truth = test.columns(["lens"])["lens"]
    from sklearn.metrics import roc_auc_score

    assert roc_auc_score(truth, p) > 0.7
    assert baseline.describe().endswith(".")
