"""The transformer: exact sizes, true causality, positions by distance, heads that share, slices that join."""

from functools import partial

import pytest
import torch

from gsnn.data.schema import Column, Schema
from gsnn.errors import GsnnError
from gsnn.models.attention import Attention, Places, angles, attend, rotate
from gsnn.models.tokens import Tokens
from gsnn.models.transformer import SIZES, Transformer, parameters, shape_of

IMAGE = Column("image", "image", shape=(3, 12, 10))
SPECTRUM = Column("spectrum", "spectrum", shape=(21,))
CURVE = Column("lc.flux", "series", shape=(2, 17))
STRAIN = Column("strain", "strain", shape=(2, 16))
RADII, MAG = Column("radii", "scalar", shape=(3,)), Column("mag", "scalar")
MODALITIES = {
    "image": ([IMAGE], 9, 48),
    "spectrum": ([SPECTRUM], 3, 8),
    "series": ([CURVE], 3, 16),
    "strain": ([STRAIN], 2, 16),
    "table": ([RADII, MAG], 4, 1),
    "all": ([MAG, IMAGE, CURVE, SPECTRUM, RADII], 19, 48),
}
every = pytest.mark.parametrize(("columns", "tokens", "size"), MODALITIES.values(), ids=MODALITIES)


def make(columns, outputs=5, **settings):
    torch.manual_seed(0)
    small = {"width": 16, "layers": 2, "heads": 2, "patch": 4, "segment": 8}
    return Transformer(Schema.of(columns), outputs, **{**small, **settings}).eval()


def values(columns, n=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {c.name: torch.randn(n, *c.shape, generator=generator) for c in columns}


@every
@pytest.mark.parametrize("rotary", ["1d", "2d"])
def test_shapes_forward_and_backward(columns, tokens, size, rotary):
    net, given = make(columns, rotary=rotary), values(columns)
    assert (net.tokens, net.token_size) == (tokens, size)
    x = net.embed(**given)
    assert x.shape == (3, tokens, 16)
    for block in net.blocks.values():
        x = block(x)
        assert x.shape == (3, tokens, 16)
    assert net.read(x).shape == (3, tokens, 5)
    assert net.pool(x).shape == (3, 16)
    torch.testing.assert_close(net.head(net.pool(x)), net(**given))
    net.read(x).square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad.abs().max() > 0, name


@every
def test_pieces_are_all_the_values_and_no_more(columns, tokens, size):
    net, given = make(columns), values(columns)
    pieces, real = net.pieces(**given)
    assert pieces.shape == (3, tokens, size)
    found = torch.cat([pieces[:, i, real[i]] for i in range(tokens)], 1)
    torch.testing.assert_close(
        found.sort().values, torch.cat([x.reshape(3, -1) for x in given.values()], 1).sort().values
    )
    assert not pieces[:, ~real].any()


def test_patches_are_squares_row_by_row():
    one = Tokens(Column("image", "image", shape=(2, 6, 9)), 4, 3, 1)
    x = torch.arange(2 * 6 * 9.0).reshape(1, 2, 6, 9)
    pieces = one.cut(x)[0].reshape(2, 3, 2, 3, 3)  # row, column, band, y, x
    for row in range(2):
        for column in range(3):
            square = x[0, :, 3 * row : 3 * row + 3, 3 * column : 3 * column + 3]
            torch.testing.assert_close(pieces[row, column], square)


# ------------------------------------------------------------------ sizes


@pytest.mark.parametrize("name", SIZES)
def test_the_table_of_sizes_is_exact_and_true_to_its_names(name):
    with torch.device("meta"):
        net = Transformer(Schema.of([Column("image", "image", shape=(3, 64, 64))]), 192, size=name)
    count = sum(p.numel() for p in net.parameters())
    assert count == parameters(*SIZES[name])
    assert (net.heads, net.kv_heads, len(net.blocks)) == (*SIZES[name][2:], SIZES[name].layers)
    asked = float(name[:-1]) * {"M": 1e6, "B": 1e9}[name[-1]]
    assert abs(parameters(*SIZES[name], values=0, kinds=0, outputs=0) / asked - 1) < 0.07
    assert net.blocks["0"].mlp.up.out_features == net.hidden


@every
@pytest.mark.parametrize("kv_heads", [1, 2])
def test_the_count_is_exact_for_any_columns(columns, tokens, size, kv_heads):
    net = make(columns, kv_heads=kv_heads)
    kinds = sum(c.size if c.kind == "scalar" else 1 for c in columns)
    cut = sum(one.size for one in net.embedding.values())
    expected = parameters(16, 2, 2, kv_heads, values=cut, kinds=kinds, outputs=5)
    assert sum(p.numel() for p in net.parameters()) == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 18, "heads": 4}, "width = 18 cannot be shared by heads = 4"),
        ({"width": 12, "heads": 4}, "multiple of 2"),
        ({"width": 12, "heads": 2, "rotary": "2d"}, "multiple of 4"),
        ({"heads": 4, "kv_heads": 3}, "heads = 4 cannot share kv_heads = 3"),
        ({"kv_heads": 0}, "kv_heads = 0"),
        ({"layers": 0}, "layers = 0"),
        ({"patch": 0}, "patch = 0"),
    ],
)
def test_what_cannot_be_built_is_refused(settings, message):
    with pytest.raises(GsnnError, match=message):
        make([IMAGE], **settings)


def test_any_width_finds_its_heads():
    for width in range(2, 300, 2):
        _, _, heads, kv_heads = shape_of(None, width)
        assert width % heads == 0
        assert heads == kv_heads or width == 128


@pytest.mark.parametrize("column", [Column("image", "image", shape=(9, 9)), Column("f", "field", shape=(1, 4, 4, 4))])
def test_shapes_that_no_piece_fits_are_refused(column):
    with pytest.raises(GsnnError, match=rf"{column.name}.*needs the shape \(band, y, x\)"):
        make([column])


# ------------------------------------------------------------------ attention


@pytest.mark.parametrize("causal", [True, False])
def test_causal_is_causal(causal):
    """A change of patch i may change what is read at tokens i, i + 1, ... only, and does change these."""
    net, given = make([IMAGE], causal=causal), values([IMAGE])
    before = net.read(net.encode(**given))
    for i in range(net.tokens):
        changed = given["image"].clone()
        row, column = divmod(i, 3)
        changed[:, :, 4 * row, 4 * column] += 1
        moved = (net.read(net.encode(image=changed)) - before).abs().amax((0, 2)) > 1e-6
        assert moved[i:].all()
        assert moved[:i].any() == (not causal and i > 0)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_heads_that_share_keys_are_heads_with_the_same_keys(groups, causal):
    places = Places(((1, 7),))
    torch.manual_seed(1)
    shared, full = Attention(32, 4, groups, places, causal), Attention(32, 4, 4, places, causal)
    weights = shared.state_dict()
    for name in ("k.weight", "v.weight"):
        weights[name] = weights[name].unflatten(0, (groups, 8)).repeat_interleave(4 // groups, 0).flatten(0, 1)
    full.load_state_dict(weights)
    x = torch.randn(2, 7, 32)
    torch.testing.assert_close(shared(x), full(x))


def test_attention_is_its_formula():
    q, k, v = (torch.randn(2, 3, 5, 8, dtype=torch.float64) for _ in range(3))
    weight = torch.softmax((q @ k.transpose(-1, -2) / 8**0.5).masked_fill(torch.ones(5, 5).triu(1).bool(), -1e9), -1)
    torch.testing.assert_close(attend(q, k, v, causal=True), weight @ v)


def test_what_attends_can_be_replaced():
    net, given, seen = make([IMAGE], kv_heads=1), values([IMAGE]), []
    expected = net(**given)

    def other(q, k, v):
        seen.append((q.shape, k.shape, v.shape))
        return attend(q, k, v, causal=False)

    for block in net.blocks.values():
        block.attention.attend = other
    torch.testing.assert_close(net(**given), expected)
    assert seen == 2 * [((3, 2, 9, 8), (3, 1, 9, 8), (3, 1, 9, 8))]


@pytest.mark.parametrize("axes", [1, 2])
def test_rotation_keeps_lengths_and_depends_on_distance_only(axes):
    q, k = torch.randn(2, 1, 1, 1, 16)

    def product(a, b):
        turned = (rotate(x, angles(torch.tensor([p], dtype=torch.float32), 16)) for x, p in ((q, a), (k, b)))
        return float((next(turned) * next(turned)).sum())

    start, end = [3.0, 5.0][:axes], [7.0, 1.0][:axes]
    for shift in (1.0, 40.0, -3.0):
        moved = [[x + shift for x in place] for place in (start, end)]
        assert product(*moved) == pytest.approx(product(start, end), abs=1e-4)
        assert product(moved[0], end) != pytest.approx(product(start, end), abs=1e-3)
    turned = rotate(q, angles(torch.tensor([start]), 16))
    torch.testing.assert_close(turned.norm(), q.norm())


def test_places_in_two_dimensions():
    grids = ((1, 2), (2, 3), (1, 2))
    found = Places(grids, axes=2)(torch.device("cpu")).tolist()
    image = [[2 + y, 2 + x] for y in range(2) for x in range(3)]
    assert found == [[0, 0], [1, 1], *image, [5, 5], [6, 6]]
    assert Places(grids)(torch.device("cpu"))[:, 0].tolist() == list(range(10))


# ------------------------------------------------------------------ cut over processes, simulated


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("rotary", ["1d", "2d"])
def test_slices_of_the_tokens_are_the_whole(count, rotary):
    """Two to three 'processes' in turn: each block's attention gathers the keys of all, as context parallelism does."""
    columns = [IMAGE, SPECTRUM]  # 12 tokens
    given = values(columns)
    whole = make(columns, rotary=rotary)
    parts = [make(columns, rotary=rotary) for _ in range(count)]
    for i, net in enumerate(parts):
        net.part = (i, count)
    tokens = whole.embed(**given)
    slices = [net.embed(**given) for net in parts]
    torch.testing.assert_close(torch.cat(slices, 1), tokens)
    for name, block in whole.blocks.items():
        tokens = block(tokens)
        keys = [keys_of(net.blocks[name], x) for net, x in zip(parts, slices)]
        k, v = (torch.cat([pair[j] for pair in keys], 2) for j in (0, 1))
        for i, net in enumerate(parts):
            net.blocks[name].attention.attend = partial(lambda q, _k, _v, k, v: attend(q, k, v, causal=False), k=k, v=v)
            slices[i] = net.blocks[name](slices[i])
    torch.testing.assert_close(torch.cat(slices, 1), tokens)
    torch.testing.assert_close(torch.stack([n.pool(x) for n, x in zip(parts, slices)]).mean(0), whole.pool(tokens))


def keys_of(block, x):
    kept, attention = [], block.attention
    before = attention.attend
    attention.attend = lambda q, k, v: kept.extend([k, v]) or q
    block(x)
    attention.attend = before
    return kept


@pytest.mark.parametrize("part", [(0, 2), (0, 5), (3, 3), (-1, 3)])
def test_unequal_slices_are_refused(part):
    net = make([IMAGE])
    with pytest.raises(GsnnError, match="9 tokens cannot be cut into"):
        net.part = part
    assert net.part == (0, 1)


def test_half_the_heads_are_half_the_sum():
    """Tensor parallelism: each process has some heads, some hidden units, and a part of what a block adds."""
    net, x = make([IMAGE], heads=4, kv_heads=2), torch.randn(3, 9, 16)
    block = net.blocks["0"]
    attention, mlp, sums = block.attention(x), block.mlp(x), [0, 0]
    for i in range(2):
        half = make([IMAGE], heads=4, kv_heads=2).blocks["0"]
        for linear in (half.attention.q, half.attention.k, half.attention.v, half.mlp.gate, half.mlp.up):
            linear.weight = torch.nn.Parameter(linear.weight.chunk(2, 0)[i])
        for linear in (half.attention.o, half.mlp.down):
            linear.weight = torch.nn.Parameter(linear.weight.chunk(2, 1)[i])
        sums = [sums[0] + half.attention(x), sums[1] + half.mlp(x)]
    torch.testing.assert_close(sums, [attention, mlp])


def test_masked_tokens_are_told_by_their_place_only():
    columns = [MAG, IMAGE]
    net, given = make(columns), values(columns)
    with pytest.raises(GsnnError, match="add_mask"):
        net.embed(torch.zeros(3, 10, dtype=torch.bool), **given)
    net.add_mask()
    torch.nn.init.normal_(net.mask.token)
    mask = torch.zeros(3, 10, dtype=torch.bool)
    torch.testing.assert_close(net.embed(mask, **given), net.embed(**given))
    mask[:, 4] = mask[1, 0] = True
    tokens, plain = net.embed(mask, **given), net.embed(**given)
    torch.testing.assert_close(tokens[~mask], plain[~mask])
    image = net.mask.token + net.embedding["image1"].modality[0]
    torch.testing.assert_close(tokens[:, 4], image.expand(3, -1))
    torch.testing.assert_close(tokens[1, 0], net.mask.token + net.embedding["scalar0"].modality[0])
