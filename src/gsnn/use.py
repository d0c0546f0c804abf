"""What a finished run is good for: predicting new data, and being judged and explained anew."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .data.bands import in_bands
from .data.stores import is_survey
from .data.survey import Survey, View
from .errors import GsnnError, on_disk
from .predict import compatible, predict_view, table_of
from .progress import Progress
from .steps.data import everything_as_test, shaped, source_for, write_json
from .steps.evaluate import judged, predictions_file, read_table

if TYPE_CHECKING:
    from .run import Run
    from .steps.data import Ground

PIECE = 1 << 16  # objects predicted, and held, at once


class _Opened:
    """New data as a survey: opened if they are one, else ingested into a folder that goes away afterwards."""

    def __init__(self, run: Run, data: Any, progress: Progress):
        self._folder: Path | None = None
        if isinstance(data, Survey):
            self.survey = data
        elif is_survey(data):
            self.survey = Survey.open(data)
        else:
            self._folder = Path(tempfile.mkdtemp(prefix="gsnn-"))
            try:
                self.survey = Survey.create(
                    self._folder / "survey",
                    in_bands(source_for(run.study, data), run.model.inputs),
                    progress=lambda done, total: progress.at("reading", done, total),
                )
            except BaseException:
                shutil.rmtree(self._folder, ignore_errors=True)
                raise

    def __enter__(self) -> Survey:
        return self.survey

    def __exit__(self, *_: object) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def predict(run: Run, data: Any, out: str | Path | None = None, progress: Progress | None = None) -> pa.Table:
    """Predictions for every row of ``data``: id, prediction, probabilities or quantiles, flag.

    Rows that could not be read are answered too: no prediction, and the reason as the flag. With ``out`` a Parquet
    file is written piece by piece and appears when it is whole.
    """
    progress = progress or Progress()
    model = run.model
    with on_disk(f"write {out}"), _Opened(run, data, progress) as survey:
        survey = shaped(run.study, survey, target=False)
        whole = survey.view()
        compatible(model, whole)
        pieces, writer, partial = [], None, None
        if out is not None:
            partial = Path(out).with_name(f".{Path(out).name}.partial")
        try:
            for start in range(0, len(whole), PIECE):
                view = whole.take(np.arange(start, min(start + PIECE, len(whole))))
                found, distance = predict_view(
                    model, view, run.runtime, at=lambda d, t, s=start: progress.at("predicting", s + d, len(whole))
                )
                piece = table_of(found, view, model, distance)
                if partial is None:
                    pieces.append(piece)
                else:
                    writer = writer or pq.ParquetWriter(partial, piece.schema)
                    writer.write_table(piece)
            bad = unread(survey.quarantined(), piece.schema)
            if len(bad):
                pieces.append(bad) if partial is None else writer.write_table(bad)
            if partial is not None:
                writer.close()
                partial.rename(out)
        finally:
            progress.done()
            if partial is not None:
                with contextlib.suppress(OSError):
                    partial.unlink(missing_ok=True)
    return pa.concat_tables(pieces) if partial is None else pq.read_table(out)


def unread(rows: list[dict[str, str]], schema: pa.Schema) -> pa.Table:
    """The answer for rows that were set aside: no prediction, and the reason as the flag."""
    columns: dict[str, Any] = {name: pa.nulls(len(rows), schema.field(name).type) for name in schema.names}
    columns["id"] = pa.array([row["id"] for row in rows], schema.field("id").type)
    columns["flag"] = pa.array([f"quarantined: {row['reason']}" for row in rows], schema.field("flag").type)
    return pa.table(columns, schema=schema)


def evaluate(run: Run, data: Any, progress: Progress) -> dict[str, Any]:
    """Judge the run's network on ``data`` (its own test part, without any). Objects it was trained on are refused."""
    from .steps.train import Trained

    trained = Trained(run.model, run.runtime, {})
    if data is None:
        one = run.ground
        folder, view, dropped = run.path, one.test, 0
        found, _ = predictions_file(folder / "predictions.parquet", one, view, trained, progress)
        return judged(run.study, one, view, found, {}, run.resolved.get("seed", 0))[one.target]
    with _Opened(run, data, progress) as survey:
        one = everything_as_test(run.study, survey, run.model.targets)
        compatible(run.model, one.test)
        view, dropped = unseen(run, one.test)
        progress.say(_reckoning(run, one, view, dropped))
        folder = run.path / "evaluations" / _slug(data)
        folder.mkdir(parents=True, exist_ok=True)
        found, _ = predictions_file(folder / "predictions.parquet", one, view, trained, progress)
        verdict = judged(run.study, one, view, found, {}, run.resolved.get("seed", 0))[one.target]
    from .evaluation.headline import headline

    verdict = {
        "answer": headline(verdict, objects=run.study.unit),
        "objects": len(view),
        "seen_before": dropped,
        "left_out": {reason: count for reason, count in one.left_out.items() if count},
        **verdict,
    }
    write_json(folder / "answer.json", verdict)
    return verdict


def _reckoning(run: Run, one: Ground, view: View, dropped: int) -> str:
    """How many objects are judged, and how many are not and why."""
    out = {"that the network was trained on": dropped, **one.left_out}
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in out.items() if count) or "none"
    return f"judged on {len(view):,} of {len(one.survey):,} {run.study.unit}; left out: {reasons}"


def unseen(run: Run, view: View) -> tuple[View, int]:
    """The part of a view that the run was not trained on, and how many objects that leaves out."""
    seen = set(read_table(run.path / "fits/main/seen.parquet").column("id").to_pylist())
    ids = view.columns(["id"])["id"]
    new = np.array([one not in seen for one in ids], bool)
    if not new.any():
        raise GsnnError("every one of these objects was used to train the network; judge it on others")
    return view.take(np.flatnonzero(new)), int((~new).sum())


def _slug(data: Any) -> str:
    name = Path(data).stem if isinstance(data, (str, Path)) else "table"
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in name) or "data"


def explain_again(run: Run, progress: Progress) -> dict[str, Any]:
    """The explanations of a run made anew, in its folder and its answer."""
    from .report.page import write
    from .steps.evaluate import truth_of
    from .steps.explain import chosen, explain
    from .steps.train import Trained

    one, trained = run.ground, Trained(run.model, run.runtime, {})
    found = predict_view(run.model, one.test, run.runtime)[0][one.target]
    seed = run.resolved.get("seed", 0)
    groups = chosen(found, truth_of(one.test, one.target), seed, max(run.study.explain.objects // 3, 1))
    some = one.test.take(np.concatenate(list(groups.values())))
    verdicts = explain(run.study, one, trained, some, run.path / "explain", seed, progress)
    if run.answer:
        write_json(run.path / "answer.json", {**run.answer, "explanations": verdicts})
    write(run.path)
    return verdicts
