"""card.md: what the trained model is, what it may be used for and on which terms (Mitchell et al. 2019, FAT*, 220)."""

from __future__ import annotations

from pathlib import Path

from .page import save
from .parts import Parts, read
from .story import badges, comparison_rows, headline
from .words import duration, number, plain

LICENCE = "CC-BY-SA-4.0"  # the default for released weights and predictions: share alike


def write(run_directory: Path) -> Path:
    """Write card.md into the run directory from what is there, and return its path."""
    run = Path(run_directory)
    return save(run / "card.md", card(read(run)))


def card(parts: Parts) -> str:
    """The card as Markdown. ``[release] licence`` of the study replaces the default licence."""
    study, answer = parts.study, parts.answer
    release = study.get("release") or {}
    licence = str(release.get("licence") or LICENCE)
    chosen = (
        "as the study says"
        if release.get("licence")
        else (
            "GSNN's default, which lets everyone use and change them and asks that what is made of them stays as free; "
            '`[release] licence = "..."` in the study states another, and the licence of the data comes first'
        )
    )
    blocks = [
        f"---\nlicense: {_text(licence).lower()}\nlibrary_name: gsnn\ntags: [astronomy]\n---",
        f"# {_text(answer.get('study') or parts.name)}",
        f"*{_text(answer.get('question') or study.get('question') or 'No question was stated.')}*",
        _text(headline(parts)["sentence"]),
        "## Checks\n\n"
        + "\n".join(f"- {b['name']} ({_STATES[b['level']]}): {_text(b['sentence'])}" for b in badges(parts)),
    ]
    rows = comparison_rows(parts)
    if rows:
        names = [b["name"] for b in rows[0]["baselines"]]
        lines = [
            "| " + " | ".join(_text(n) for n in ["metric", "network", *names]) + " |",
            "|" + " --- |" * (2 + len(names)),
        ]
        lines += [
            "| " + " | ".join(_text(c) for c in [r["name"], r["value"], *(b["value"] for b in r["baselines"])]) + " |"
            for r in rows
        ]
        blocks.append("## Performance on held-out objects\n\n" + "\n".join(lines))
    blocks += [
        "## Data\n\n" + _data(parts),
        "## Use and limits\n\n" + _limits(parts),
        "## Cost\n\n" + _cost(parts),
        f"## Licence\n\nWeights and predictions: {_text(licence)}, {chosen}. The code of GSNN is under BSD-3-Clause.",
    ]
    return "\n\n".join(blocks) + "\n"


_STATES = {"ok": "passed", "warn": "look", "fail": "failed", "none": "not run"}


def _data(parts: Parts) -> str:
    data, audit, lines = parts.study.get("data") or {}, parts.audit, []
    source = data.get("source")
    if source:
        lines.append(f"- Source: {_text(source.get('name') if isinstance(source, dict) else source)}")
    if isinstance(source, dict) and source.get("licence"):
        lines.append(f"- Licence of the data: {_text(source['licence'])}")
    if data.get("inputs"):
        lines.append(f"- Inputs: {_text(', '.join(map(str, data['inputs'])))}; target: {_text(parts.target['name'])}")
    objects = parts.answer.get("objects") or audit.get("counts") or {}
    if objects:
        lines.append("- Objects: " + ", ".join(f"{n:,} {_text(s)}" for s, n in objects.items() if isinstance(n, int)))
    if parts.resolved.get("survey"):
        lines.append(f"- Survey's checksum: `{_text(parts.resolved['survey'])}`")
    lines += [
        f"- Audit, {_text(f.get('check'))}: {_text(f.get('sentence'))}"
        for f in audit.get("findings", [])
        if f.get("level") != "ok"
    ]
    return "\n".join(lines) or "The data have not been described yet."


def _limits(parts: Parts) -> str:
    lines = [
        "- Made to answer the question above for objects like those it was trained on: the same survey, depth, bands "
        "and pixel scale; GSNN refuses data of another schema.",
        "- Intervals are statistical: they hold no systematic error of the labels.",
    ]
    for covariate, curve in (parts.answer.get("curves") or {}).items():
        bins = [b for b in curve.get("bins", []) if "low" in b and "high" in b]
        if bins:
            unit = f" {curve['unit']}" if curve.get("unit") else ""
            lines.append(
                f"- Judged for {_text(plain(covariate))} from {number(float(bins[0]['low']))} to "
                f"{number(float(bins[-1]['high']))}{_text(unit)}; nothing is known outside."
            )
    balance = parts.audit.get("classes") or {}
    if balance:
        rarest = min(balance, key=lambda c: balance[c].get("train", 0))
        lines.append(f"- The rarest class, {_text(rarest)}, has {balance[rarest].get('train', 0):,} training objects.")
    return "\n".join(lines)


def _cost(parts: Parts) -> str:
    answer, lines = parts.answer, []
    seconds = [v for v in (answer.get("seconds") or {}).values() if isinstance(v, (int, float))]
    if seconds:
        lines.append(f"- Time: {duration(sum(seconds))}")
    if answer.get("energy_kwh") is not None:
        source = _text(answer.get("energy_source") or "source not stated")
        lines.append(f"- Energy: {number(answer['energy_kwh'])} kWh ({source})")
    if answer.get("co2e_g") is not None:
        source, grid = _text(answer.get("grid_source") or "source not stated"), answer.get("grid_g_per_kwh")
        told = f" at {number(grid)} g/kWh, {source}" if grid is not None else ""
        lines.append(f"- CO2 equivalent: {number(answer['co2e_g'])} g{told}")
    if answer.get("parameters"):
        lines.append(f"- Parameters: {answer['parameters']:,}")
    return "\n".join(lines) or "The cost is counted when the run ends."


def _text(value: object) -> str:
    """One line of Markdown in which nothing is markup."""
    text = " ".join(str(value).split()).replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")
    return text.replace("[", "\\[").replace("`", "\\`")
