"""Polynomials and neighbours of curves: exact where they must be, and settings chosen on validation."""

import numpy as np
import planck_files
import pytest

from gsnn.baselines.emulators import Nearest, Polynomial
from gsnn.data.schema import Column, Schema
from gsnn.data.survey import Survey
from gsnn.errors import GsnnError
from gsnn.evaluation.vector_metrics import share_of_variance
from gsnn.simulate.cmb import PARAMETERS


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    view = Survey.create(tmp_path_factory.mktemp("s") / "s", planck_files.Toy(universes=160)).view()
    return [view.take(np.arange(a, b)) for a, b in ((0, 110), (110, 130), (130, 160))]


def asked(parts, name="spectra"):
    schema = parts[0].schema
    return schema.select(list(PARAMETERS)), schema[name]


@pytest.mark.parametrize("name", ["spectra", "h0"])
def test_a_polynomial_beats_the_nearest(parts, name):
    error = {}
    for kind in (Polynomial, Nearest):
        one = kind(*asked(parts, name))
        one.fit(parts[0], parts[1], 0)
        found, truth = one.predict(parts[2])[name], parts[2].columns([name])[name]
        error[kind] = np.abs(found.best() - truth.reshape(found.best().shape)).mean()
        assert len(found) == 30
        assert one.seconds > 0
        assert "110 objects" in one.describe()
    assert error[Polynomial] < 0.1 * error[Nearest]


def test_what_is_linear_is_exact(parts):
    one = Polynomial(*asked(parts, "h0"), degree=1)
    one.fit(parts[0], parts[1], 0)
    np.testing.assert_allclose(one.predict(parts[2])["h0"].best(), parts[2].columns(["h0"])["h0"], rtol=1e-6)


def test_training_objects_are_their_own_nearest(parts):
    one = Nearest(*asked(parts))
    one.fit(parts[0], parts[1], 0)
    few = parts[0].take(np.arange(5))
    found = one.predict(few)["spectra"]
    assert np.quantile(share_of_variance(found, few.columns(["spectra"])["spectra"]), 0.9) < 0.3


def test_it_emulates_from_scalars_to_curves_alone(parts):
    inputs, target = asked(parts)
    with pytest.raises(GsnnError, match="from scalars alone"):
        Polynomial(Schema.of([target]), target)
    with pytest.raises(GsnnError, match="not the label"):
        Nearest(inputs, Column("kind", "label", classes=("a", "b")))
    with pytest.raises(GsnnError, match="degrees of 1 to 6"):
        Polynomial(inputs, target, degree=9)
