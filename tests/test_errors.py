"""A suggestion is the word that was meant, or none: a far-fetched one misleads."""

import pytest

from gsnn.errors import nearest, suggest


@pytest.mark.parametrize(
    ("word", "known", "meant"),
    [
        ("morpology", ["morphology", "magnitude"], "morphology"),
        ("MPL", ["mlp", "cnn"], "mlp"),
        ("galaxy_id", ["GalaxyID", "galaxy"], "GalaxyID"),
        ("Z", ["z", "Zerr"], "z"),
        ("lr", ["learning_rate", "epochs"], "learning_rate"),
        ("learning", ["learning_rate", "epochs"], "learning_rate"),
        ("f1[star", ["f1[star]", "f1[quasar]"], "f1[star]"),
        ("id", ["kind", "ra"], None),
        ("id", ["i", "g"], None),
        ("koi_duration", ["koi_period", "koi_depth"], None),
        ("anything", [], None),
    ],
)
def test_the_word_that_was_meant(word, known, meant):
    assert nearest(word, known) == meant
    assert (suggest(word, known) == f"did you mean {meant!r}?") == (meant is not None)


def test_long_lists_are_cut():
    assert suggest("x", "abc") == "known: a, b, c"
    assert suggest("x", []) == "known: none"
    assert suggest("x", [f"column{k:02}" for k in range(40)]).endswith("column11 and 28 more")
