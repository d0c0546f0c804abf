import pytest

from gsnn.config import parse
from gsnn.errors import ConfigError
from gsnn.training.settings import Train


def test_every_field_is_described():
    assert all(field.description for field in Train.model_fields.values())


def test_the_table_of_a_study():
    given = {"epochs": 8, "layout": {"replicate": 1}, "freeze": ["stem"], "optimizer": "sgd", "clip": 0}
    train = parse(Train, given, ("train",))
    assert (train.epochs, train.freeze, train.layout.replicate, train.clip) == (8, ("stem",), 1, 0.0)
    assert Train.model_validate_json(train.model_dump_json()) == train


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"epoch": 3}, "did you mean 'epochs'"),
        ({"epochs": "3"}, "must be a whole number"),
        ({"epochs": True}, "must be a whole number"),
        ({"learning_rate": 0}, "greater than 0"),
        ({"optimizer": "adam"}, "'adamw'"),
        ({"layout": {"replicate": 0}}, "greater than or equal to 1"),
        ({"batch": 4, "accumulate": 8}, "lower accumulate"),
        ({"ema": 1.0}, "less than 1"),
    ],
)
def test_mistakes_are_told(given, message):
    with pytest.raises(ConfigError, match=message):
        parse(Train, given, ("train",))
