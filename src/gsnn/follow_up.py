"""Active learning: which objects should a spectrograph look at next, so that the classifier of the others gains most?

An acquisition scores objects by what several members of an ensemble say of them, ``p`` [member, object, class]. The
campaign is the honest loop: the classifier is trained on the spectra taken so far, chooses the next among what may
still be observed, learns their types, and is judged on objects that no spectrum will ever be taken of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int64, Shaped

from .errors import GsnnError, suggest

if TYPE_CHECKING:
    from torch import Tensor

Members = Float[np.ndarray, "member object class"]
Scores = Float[np.ndarray, " object"]
Fit = Callable[[Int64[np.ndarray, " n"], int], Callable[[Int64[np.ndarray, " m"]], Members]]


def entropy(p: Members) -> Scores:
    """Entropy of the mean answer, in nats: not knowing, for whatever reason (Lewis & Gale 1994)."""
    mean = p.mean(0)
    return -(mean * np.log(np.maximum(mean, 1e-12))).sum(-1)


def margin(p: Members) -> Scores:
    """One minus the distance between the two likeliest classes (Scheffer, Decomain & Wrobel 2001)."""
    best = np.sort(p.mean(0), 1)
    return 1 - (best[:, -1] - best[:, -2])


def bald(p: Members) -> Scores:
    """What a label would tell about the classifier: the entropy of the mean less the mean entropy of the members.

    Houlsby et al. 2011 (arXiv:1112.5745), eq. 2: large where members are sure and disagree, small where all see noise.
    """
    each = -(p * np.log(np.maximum(p, 1e-12))).sum(-1)
    return entropy(p) - each.mean(0)


ACQUISITIONS: dict[str, Callable[[Members], Scores]] = {"entropy": entropy, "margin": margin, "bald": bald}


def exposure_hours(magnitude: Float[np.ndarray, " object"], one_hour: float = 22.5) -> Float[np.ndarray, " object"]:
    """Time for a spectrum of constant S/N against the sky, t ~ flux^-2, and at least five minutes for the slew.

    ``one_hour`` is the magnitude that takes an hour; an 8 m telescope types a supernova of r = 22.5 so.
    """
    return 1 / 12 + 10 ** (0.8 * (magnitude - one_hour))


def choose(
    score: Scores,
    count: int,
    *,
    allowed: Bool[np.ndarray, " object"] | None = None,
    hours: Float[np.ndarray, " object"] | None = None,
    budget: float | None = None,
) -> Int64[np.ndarray, " chosen"]:
    """Places of at most ``count`` objects of the largest score, among those ``allowed`` (finite scores, if not said).

    With ``hours`` and a ``budget`` objects are taken by score an hour, as long as the budget lasts.
    """
    if count < 1:
        raise GsnnError(f"a campaign chooses at least one object, not {count}")
    if (hours is None) != (budget is None):
        raise GsnnError("a budget and the hours of each object are needed together")
    open_ = np.isfinite(score) if allowed is None else np.isfinite(score) & allowed
    worth = score if hours is None else score / hours
    order = np.argsort(-np.where(open_, worth, -np.inf), kind="stable")[: int(open_.sum())]
    if hours is not None:
        order = order[np.cumsum(hours[order]) <= budget]
    return order[:count]


@dataclass(frozen=True)
class Round:
    """One state of a campaign: the objects with spectra, the hours that were spent on new ones, the test answer."""

    labelled: Int64[np.ndarray, " n"]
    hours: float
    probabilities: Float[np.ndarray, "test class"]


def campaign(
    fit: Fit,
    start: Int64[np.ndarray, " n"],
    pool: Int64[np.ndarray, " m"],
    test: Int64[np.ndarray, " k"],
    *,
    by: str,
    count: int,
    rounds: int,
    magnitude: Float[np.ndarray, " object"],
    limit: float = np.inf,
    seed: int = 0,
) -> Iterator[Round]:
    """The rounds of a campaign that begins with spectra of ``start`` and may observe ``pool`` brighter than ``limit``.

    ``fit(rows, seed)`` trains on the types of these rows and answers with a function from rows to members' p. ``by`` is
    an acquisition, "random", or "brightest" (the smallest ``magnitude``, which is that of the whole sample by row).
    """
    known = ("random", "brightest", *ACQUISITIONS)
    if by not in known:
        raise GsnnError(f"no acquisition is called {by!r}; {suggest(by, known)}")
    if np.intersect1d(test, np.concatenate([start, pool])).size:
        raise GsnnError("objects that judge a campaign can be neither in its pool nor among its first spectra")
    random = np.random.default_rng([seed, 11])
    labelled, left, hours = np.array(start), np.array(pool[magnitude[pool] < limit]), 0.0
    for number in range(rounds + 1):
        answer = fit(labelled, seed)
        yield Round(labelled, hours, answer(test).mean(0))
        if number == rounds or not len(left):
            return
        if by == "random":
            score = random.random(len(left))
        elif by == "brightest":
            score = -magnitude[left]
        else:
            score = ACQUISITIONS[by](answer(left))
        taken = choose(score, min(count, len(left)))
        hours += float(exposure_hours(magnitude[left[taken]]).sum())
        labelled, left = np.concatenate([labelled, left[taken]]), np.delete(left, taken)


def forest(x: Float[np.ndarray, "object feature"], y: Shaped[np.ndarray, " object"], trees: int = 200) -> Fit:
    """Members from a random forest on features (NaN = missing): ten groups of its trees. Fast enough for a campaign."""
    medians = np.nanmedian(np.where(np.isfinite(x), x, np.nan), 0)
    full, classes = np.where(np.isfinite(x), x, medians), int(y.max()) + 1

    def fit(rows: Int64[np.ndarray, " n"], seed: int) -> Callable[[np.ndarray], Members]:
        from sklearn.ensemble import RandomForestClassifier

        model = RandomForestClassifier(trees, min_samples_leaf=2, random_state=seed).fit(full[rows], y[rows])

        def members(asked: np.ndarray) -> Members:
            each = np.zeros((10, len(asked), classes))
            for k, tree in enumerate(model.estimators_):
                each[k % 10][:, model.classes_] += tree.predict_proba(full[asked].astype(np.float32))
            return each / each.sum(-1, keepdims=True)

        return members

    return fit


def dropout_members(model: Any, batch: dict[str, Tensor], members: int = 10, seed: int = 0) -> Members:
    """p [member, object, class] of a trained :class:`~gsnn.model.Model` with its dropout left on.

    Monte Carlo dropout (Gal & Ghahramani 2016, arXiv:1506.02142): each member is a network with other units missing.
    Refused of a network without dropout, whose members would all say the same.
    """
    import torch

    model = model.eval()
    layers = [layer for layer in model.modules() if isinstance(layer, torch.nn.Dropout) and layer.p > 0]
    if not layers:
        raise GsnnError("this network has no dropout to draw members from; train it with [model] dropout, as 0.1")
    for layer in layers:
        layer.train()
    try:
        with torch.inference_mode(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            given = model.objective.columns(model.transform(batch))
            out = [model.objective.network(**given) for _ in range(members)]
        logits = torch.stack(out).float() / model.objective.temperature
        return torch.softmax(logits, -1).double().cpu().numpy()
    finally:
        model.eval()
