"""Any layout gives the losses of one process, from the same first weights."""

from __future__ import annotations

import pytest
from equality import together

SHORT = 4  # steps, of two epochs' worth of batches and a short one
CASES = {  # processes -> (task, layout, settings)
    2: [
        ("residual", {"replicate": 2}, {"accumulate": 3, "ema": 0.9}),
        ("residual", {"shard": 2}, {}),
        ("classify", {"shard": 2, "recompute": True}, {"accumulate": 2}),
        ("classify", {"tensor": 2}, {}),
        ("next-patch", {"context": 2}, {}),
        ("masked-patch", {"context": 2, "attention": "ring"}, {}),
        ("next-patch", {"replicate": 2}, {"optimizer": "sgd"}),
    ],
    4: [
        ("residual", {"replicate": 2, "shard": 2}, {"optimizer": "rmsprop"}),
        ("classify", {"shard": 2, "tensor": 2}, {"clip": 0.1}),
        ("masked-patch", {"replicate": 2, "context": 2}, {}),
        ("next-patch", {"tensor": 2, "context": 2}, {}),
    ],
}
FULL = {
    2: [(f"{t}, 2 blocks", {d: 2}, {}) for t in ("classify", "masked-patch") for d in ("replicate", "shard", "tensor")]
    + [("residual", {d: 2}, {"accumulate": 2}) for d in ("replicate", "shard")]
    + [("next-patch", {"pipeline": 2, "schedule": how}, {}) for how in ("1f1b", "zbv-zero-bubble")],
    4: [
        *((f"{t}, 2 blocks", {d: 4}, {}) for t in ("classify", "next-patch") for d in ("replicate", "shard", "tensor")),
        *(("masked-patch, 2 blocks", {"context": 4, "attention": how}, {}) for how in ("ulysses", "ring")),
        *(
            ("next-patch, 2 blocks", {a: 2, b: 2}, {})
            for a, b in (
                ("replicate", "shard"), ("replicate", "tensor"), ("replicate", "context"),
                ("shard", "tensor"), ("shard", "context"), ("context", "tensor"),
                ("pipeline", "replicate"), ("pipeline", "shard"), ("pipeline", "tensor"), ("pipeline", "context"),
            )
        ),
    ],
    8: [
        ("classify, 2 blocks", {"replicate": 2, "shard": 2, "tensor": 2}, {}),
        ("masked-patch, 2 blocks", {"shard": 2, "context": 2, "tensor": 2}, {}),
        ("next-patch, 2 blocks", {"replicate": 2, "shard": 2, "context": 2, "attention": "ring"}, {}),
        ("next-patch, 2 blocks", {"pipeline": 2, "shard": 2, "tensor": 2}, {}),
    ],
}  # fmt: skip


def compare(cases, steps, folder):
    """(case, layout's findings, one process's) of every case."""
    alone = [(task, {}, settings) for some in cases.values() for task, _, settings in some]
    alone = list({repr(case): case for case in alone}.values())
    one = dict(zip(map(repr, alone), together(1, [(t, w, steps, s) for t, w, s in alone], folder / "one")))
    for processes, some in cases.items():
        found = together(processes, [(t, w, steps, s) for t, w, s in some], folder / str(processes))
        yield from ((case, got, one[repr((case[0], {}, case[2]))]) for case, got in zip(some, found))


def check(found, steps):
    for case, got, want in found:
        assert got["initial"] == want["initial"], case
        assert len(got["losses"]) == steps, case
        assert got["losses"] == pytest.approx(want["losses"], rel=1e-6), case
        assert got["valid"] == pytest.approx(want["valid"], rel=1e-6), case


def test_layouts_give_the_losses_of_one_process(tmp_path):
    check(compare(CASES, SHORT, tmp_path), SHORT)


@pytest.mark.scale
def test_every_layout_and_product_for_100_steps(tmp_path):
    check(compare(FULL, 100, tmp_path), 100)


def test_a_wrong_mean_would_be_seen(tmp_path):
    """The cases tell sums from means: rare classes weigh more, and some shares have few of them."""
    from equality import Steps, model

    one, apart = model("classify"), []
    for step in range(3):
        losses = []
        for rank, ranks in ((0, 1), (0, 2), (1, 2)):
            batch = next(Steps(30, rank, ranks).batches(step, step + 1))
            ((total, weight),) = one.terms(batch).values()
            losses.append((total / weight).item())
        apart.append(abs(losses[1] + losses[2] - 2 * losses[0]))
    assert max(apart) > 1e-2
