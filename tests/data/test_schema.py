import pyarrow as pa
import pytest

from gsnn.data.schema import DENSE, Column, Schema
from gsnn.errors import GsnnError

IMAGE = Column("image", "image", unit="nJy", bands=("g", "r"), shape=(2, 8, 8), pixel_scale=0.2)
COLUMNS = [
    Column("id", "id"),
    IMAGE,
    Column("raw", "image", shape=(1, 4, 4), dtype="uint8"),
    Column("z", "scalar", dtype="float64", description="redshift"),
    Column("kind", "label", classes=("disk", "smooth"), dtype="int64"),
    Column("note", "text"),
    Column("ra", "position", unit="deg", dtype="float64"),
    Column("sky", "sphere", shape=(2, 48)),
]


@pytest.mark.parametrize("column", COLUMNS, ids=lambda c: c.name)
def test_what_is_stored_is_what_comes_back(column):
    schema = Schema.of([column], origin="a test")
    for back in (Schema.from_dict(schema.to_dict()), Schema.from_arrow(schema.arrow())):
        assert back == schema
        assert back.provenance == schema.provenance
        assert back.columns[0] == column


@pytest.mark.parametrize("column", COLUMNS, ids=lambda c: c.name)
def test_the_arrow_type_holds_one_object(column):
    kind = column.arrow_type()
    assert pa.types.is_fixed_size_list(kind) == (column.kind in DENSE)
    if column.kind in DENSE:
        assert kind.list_size == column.size


def test_a_misspelt_column_is_answered_with_the_nearest():
    with pytest.raises(GsnnError, match="no column 'imgae' in the survey; did you mean 'image'"):
        Schema.of(COLUMNS).column("imgae")


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (lambda: [Column("x", "scalar"), Column("x", "text")], "'x' stands twice"),
        (lambda: [Column("x", "picture")], "no kind 'picture'"),
        (lambda: [Column("x", "image")], "needs a shape"),
        (lambda: [Column("x", "image", shape=(3, 0, 4))], "needs a shape"),
    ],
)
def test_a_schema_that_cannot_be_is_refused(columns, words):
    with pytest.raises(GsnnError, match=words):
        Schema.of(columns())


@pytest.mark.parametrize(
    ("other", "word"),
    [
        (Column("image", "image", unit="nJy", bands=("g", "i"), shape=(2, 8, 8), pixel_scale=0.2), "bands"),
        (Column("image", "image", unit="nJy", bands=("g", "r"), shape=(2, 9, 8), pixel_scale=0.2), "shape"),
        (Column("image", "image", unit="Jy", bands=("g", "r"), shape=(2, 8, 8), pixel_scale=0.2), "unit"),
        (Column("image", "image", unit="nJy", bands=("g", "r"), shape=(2, 8, 8), pixel_scale=0.4), "pixel_scale"),
        (Column("image", "field", unit="nJy", bands=("g", "r"), shape=(2, 8, 8), pixel_scale=0.2), "kind"),
        (Column("picture", "image", shape=(2, 8, 8)), "missing"),
    ],
)
def test_a_difference_that_matters_is_named(other, word):
    assert word in Schema.of([IMAGE]).difference(Schema.of([other]))


def test_no_difference_where_none_matters():
    near = Column("image", "image", unit="nJy", bands=("g", "r"), shape=(2, 8, 8), pixel_scale=0.2001)
    assert Schema.of([IMAGE]).difference(Schema.of([near, *COLUMNS[3:]])) == ""


def test_select_keeps_the_order_asked_and_with_column_replaces_in_place():
    schema = Schema.of(COLUMNS, origin="a test")
    assert list(schema.select(["z", "id"])) == ["z", "id"]
    changed = schema.with_column(Column("z", "label", classes=("low", "high")))
    assert list(changed) == list(schema)
    assert changed["z"].kind == "label"
    assert changed.provenance == schema.provenance
    assert list(schema.renamed({"z": "redshift"}))[3] == "redshift"


def test_a_table_without_a_schema_says_so():
    with pytest.raises(GsnnError, match="carries no GSNN schema"):
        Schema.from_arrow(pa.schema([pa.field("x", pa.float32())]))
