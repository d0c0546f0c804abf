"""Writes the table of docs/results.md and the results on the pages of the studies from the answers of finished runs.

    python docs/make_results.py runs/morphology-1a2b3c4d runs/pulsars-5e6f7a8b ...

Studies whose runs are not given keep what is there. Every number stands with its 95% interval, beside the baselines on
the same objects. A run whose folder names a place on the page of its study (``<!-- result: nbody-64 -->`` for
runs/nbody-64) is a variant: it goes there, and not into the table.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
DRAWN = ("power_off", "bispectrum_off", "peaks_off", "contrast_r")
SHOWN = {
    "image": ("map_rmse", "map_r", "map_coverage_68", "map_interval_score", "map_bias", *DRAWN),
    "field": ("correlation", "power_error", "voxel_rmse", *DRAWN),
    "spectrum": ("cosmic_variance_p99", "cosmic_variance_mean", "explained", "curve_coverage_68"),
    "label": ("accuracy", "balanced_accuracy", "f1_macro", "roc_auc", "ece"),
    "scalar": (
        "sigma_nmad",
        "outlier_rate",
        "photoz_bias",
        "rmse",
        "cde_loss",
        "crps",
        "pit_ks",
        "coverage_68",
        "posterior_sigma",
    ),
}  # fmt: skip
OPEN, VARIANT, CLOSE = "<!-- result -->", "<!-- result: {} -->", "<!-- /result -->"


def number(entry: dict[str, Any] | None) -> str:
    """A value with its interval."""
    if not entry or entry["value"] is None:
        return "-"
    if entry.get("percent"):
        return f"{100 * entry['value']:.1f}% ({100 * entry['low']:.1f} to {100 * entry['high']:.1f})"
    digits = 2 if abs(entry["value"]) >= 1 else 4 if abs(entry["value"]) >= 1e-3 else 7
    return f"{entry['value']:.{digits}f} ({entry['low']:.{digits}f} to {entry['high']:.{digits}f})"


def metrics_of(answer: dict[str, Any]) -> list[str]:
    """The headline first, then the usual ones."""
    names = dict.fromkeys([answer["headline_metric"], *SHOWN[answer["target"]["kind"]]])
    return [name for name in names if name in answer["metrics"]]


def result(answer: dict[str, Any]) -> str:
    """The section of a study's page."""
    names, baselines = metrics_of(answer), answer["baselines"]
    lines = [
        answer["answer"] + ".",
        "",
        "| | " + " | ".join(names) + " | CPU of fit |",
        "|---" * (len(names) + 2) + "|",
    ]
    network = [number(answer["metrics"][name]) for name in names]
    lines.append(f"| **network** | {' | '.join(network)} | {answer['training_seconds']:.0f} s (wall) |")
    for rival, found in baselines.items():
        cells = [number(found.get(name)) for name in names]
        lines.append(f"| {rival} | {' | '.join(cells)} | {answer['baseline_seconds'][rival]:.0f} s |")
    head = answer["headline_metric"]
    seeds = [seed["metrics"][head]["value"] for seed in answer["seeds"]]
    lines += ["", f"Objects: {', '.join(f'{n:,} {part}' for part, n in answer['objects'].items())}."]
    if len(seeds) > 1:
        spread = answer["seed_spread"][head]
        each = ", ".join(f"{value:.4f}" for value in seeds)
        lines.append(f"Over {len(seeds)} seeds {head} is {spread['mean']:.4f} +- {spread['std']:.4f} ({each}).")
        if mixed := answer.get("ensemble"):
            lines.append(f"Of their mixture it is {number(mixed[answer['target']['name']]['metrics'][head])}.")
    control = answer["controls"].get("permuted")
    if control:
        lines.append(
            f"Taught and judged on permuted labels: {control['metric']} {control['value']:.3f} "
            f"({control['low']:.3f} to {control['high']:.3f}), chance {control['chance']:.3f}."
        )
    for method, verdict in answer["explanations"].items():
        if "sanity_correlation" in verdict:
            lines.append(
                f"{method}: rank correlation {verdict['sanity_correlation']:.2f} with a randomised network's map."
            )
    lines.append(
        f"Whole run {sum(answer['seconds'].values()):.0f} s, {1000 * answer['energy_kwh']:.2f} Wh, "
        f"{answer['co2e_g']:.2f} g CO2e ({answer['energy_source']}); GSNN {answer['versions'].get('gsnn')}, "
        f"torch {answer['versions']['torch']}, {answer['runtime']['dtype']}, "
        f"{answer['runtime']['threads']} thread(s), "
        f"seed {answer['seed']}."
    )
    if early := answer.get("early"):
        lines += ["", *days(early)]
    if told := answer.get("posterior"):
        lines += ["", *posteriors(told)]
    if seen := answer.get("observed"):
        lines += ["", *observed(seen)]
    if told := answer.get("spectra"):
        lines += ["", *spectra(told)]
    if told := answer.get("generated"):
        lines += ["", *generated(told)]
    return "\n".join(lines)


def spectra(told: dict[str, Any]) -> list[str]:
    """P / P true and r in some shells up to the Nyquist frequency."""
    k = told["k"]
    some = [0, *(len(k) * i // 8 - 1 for i in (1, 2, 3, 4, 6, 8))]
    lines = [f"| P / P true, r at k in {told['unit']} | " + " | ".join(f"{k[i]:.2f}" for i in some) + " |"]
    lines.append("|---" * (len(some) + 1) + "|")
    for who, one in told["each"].items():
        pairs = [(one["transfer"]["mean"][i], one["correlation"]["mean"][i]) for i in some]
        lines.append(f"| {who} | " + " | ".join(f"{power:.3f}, {r:.3f}" for power, r in pairs) + " |")
    most = {
        who: max(abs(value - 1) for at, value in zip(k, one["transfer"]["mean"]) if at <= k[-1] / 2 * 1.0001)
        for who, one in told["each"].items()
    }
    each = ", ".join(f"{who} {100 * value:.1f}%" for who, value in most.items())
    what = f"Means over {told['objects']} boxes, {told['of']}; the Nyquist frequency is {k[-1]:.2f}."
    return [*lines, "", f"{what} The largest error of the mean P / P true up to half of it: {each}."]


def generated(told: dict[str, Any]) -> list[str]:
    """Power, bispectrum and peaks of draws as shares of the true ones, and how well a classifier tells them apart."""
    k, heights = told["k"], told["heights"]
    some = [0, *(len(k) * i // 8 - 1 for i in (1, 2, 3, 4, 6, 8))]
    lines = [f"| P / P true at k in {told['unit']} | " + " | ".join(f"{k[i]:.2f}" for i in some) + " |"]
    lines.append("|---" * (len(some) + 1) + "|")
    for who, one in told["each"].items():
        lines.append(f"| {who} | " + " | ".join(f"{one['power']['mean'][i]:.3f}" for i in some) + " |")
    third = [i for i in some if i < len(told["bispectrum"])]
    names = ["below", *(f"{h:.3g} to" for h in heights)]
    lines += ["", f"| B / B true at k in {told['unit']} | " + " | ".join(f"{k[i]:.2f}" for i in third)
              + " | told from simulations |", "|---" * (len(third) + 2) + "|"]  # fmt: skip
    for who, one in told["each"].items():
        apart = one["told_apart"]
        said = f"{apart['accuracy']:.1%} ({apart['low']:.1%} to {apart['high']:.1%})" if apart else "-"
        cells = " | ".join(f"{one['bispectrum']['mean'][i]:.3f}" for i in third)
        lines.append(f"| {who} | {cells} | {said} |")
    lines += ["", "| peaks of a height / true ones | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for who, one in told["each"].items():
        lines.append(f"| {who} | " + " | ".join(f"{share:.3f}" for share in one["peaks"]["mean"]) + " |")
    what = f"Means over {told['objects']:,} held-out objects in {told['groups']} groups"
    chance = "a classifier that cannot tell draws from simulations is right half of the time or a little less"
    return [*lines, "", f"{what}; the Nyquist frequency is {k[-1]:.2f}; {chance}."]


def days(early: dict[str, Any]) -> list[str]:
    """Accuracy and AUC against the days since the trigger."""
    lines = ["| days since the trigger | accuracy | AUC |", "|---|---|---|"]
    lines += [f"| {at['days']} | {number(at['accuracy'])} | {number(at['roc_auc'])} |" for at in early["rows"]]
    return [*lines, "", f"On {early['objects']:,} triggered supernovae; the trigger is {early['since']}."]


def posteriors(told: dict[str, Any]) -> list[str]:
    """Widths, ranks and joint coverage of each joint posterior."""
    first = next(iter(told.values()))
    names = list(first["parameters"])
    lines = ["| posterior | " + " | ".join(f"width of {n} | its ranks, p" for n in names) + " | joint coverage, p |"]
    lines.append("|---" * (2 * len(names) + 2) + "|")
    for who, found in told.items():
        cells = [f"{found['parameters'][n]['sigma']:.4g} | {found['parameters'][n]['p']:.2f}" for n in names]
        lines.append(f"| {who} | {' | '.join(cells)} | {found['tarp']['p']:.2f} |")
    prior = ", ".join(f"{n} {first['parameters'][n]['prior_sigma']:.4g}" for n in names)
    told_of = f"Widths are mean standard deviations over {first['n']:,} held-out simulations; of the prior: {prior}."
    return [*lines, "", f"{told_of} Ranks and joint coverage (TARP) are uniform for an exact posterior."]


def observed(seen: dict[str, Any]) -> list[str]:
    """What each method says of the real data."""
    names = list(seen["network"])
    lines = ["| of what was observed | " + " | ".join(names) + " | network apart, in widths |"]
    lines.append("|---" * (len(names) + 2) + "|")
    for who, found in seen.items():
        cells = [f"{found[n]['mean']:.5g} +- {found[n]['sigma']:.2g}" for n in names]
        apart = ", ".join(f"{found[n]['apart']:+.2f}" for n in names if "apart" in found[n]) or "-"
        lines.append(f"| {who} | {' | '.join(cells)} | {apart} |")
    return lines


def row(answer: dict[str, Any]) -> str:
    """The line of a study in the table of all."""
    head, study = answer["headline_metric"], answer["study"]
    worth = {
        name: found[head] for name, found in answer["baselines"].items() if found.get(head, {}).get("value") is not None
    }
    sign = -1 if answer["metrics"][head]["better"] == "high" else 1
    best = min(worth, key=lambda name: sign * worth[name]["value"])
    gap = worth[best]["difference"]
    spread = answer["seed_spread"].get(head)
    seeds = f"{spread['mean']:.4f} +- {spread['std']:.4f} ({len(answer['seeds'])})" if len(answer["seeds"]) > 1 else "-"
    page = study if (DOCS / "studies" / f"{study}.md").exists() else "photo-z"
    return (
        f"| [{study}](studies/{page}.md) | {answer['n']:,} | {head} | {number(answer['metrics'][head])} | {seeds} | "
        f"{best} {number(worth[best])} | {number(gap | {'percent': worth[best].get('percent')})} | {gap['verdict']} |"
    )


def main(runs: list[str]) -> None:
    table = (DOCS / "results.md").read_text().partition(OPEN)[2].partition(CLOSE)[0].strip().splitlines()
    for run in map(Path, runs):
        answer = json.loads((run / "answer.json").read_text())
        page, own = DOCS / "studies" / f"{answer['study']}.md", VARIANT.format(run.name)
        variant = page.exists() and own in page.read_text()
        if not variant:
            places = [i for i, line in enumerate(table) if line.startswith(f"| [{answer['study']}](")] or [len(table)]
            table[places[0] : places[0] + 1] = [row(answer)]
        if page.exists():
            between(page, result(answer), own if variant else OPEN)
        else:
            print(f"no page for {answer['study']}:\n{result(answer)}")
    between(DOCS / "results.md", "\n".join(table))


def between(page: Path, text: str, mark: str = OPEN) -> None:
    """Put ``text`` between the page's markers."""
    before, _, rest = page.read_text().partition(mark)
    after = rest.partition(CLOSE)[2] if CLOSE in rest else rest
    page.write_text(f"{before}{mark}\n{text}\n{CLOSE}{after}")


if __name__ == "__main__":
    main(sys.argv[1:])
