"""Alert packets become answers: decoded, laid out as the network was trained to read them, and classified."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from ..data.light_curves import LightCurves
from ..data.readers.alerts import PARTS, SKIES
from ..data.readers.avro import decode
from ..data.schema import Column, Schema
from ..errors import GsnnError
from ..model import Model
from ..objectives.base import Batch
from ..predict import columns_of, flags
from ..training.runtime import Runtime

ABOUT = {"id": pa.string(), "object_id": pa.string(), "ra": pa.float64(), "dec": pa.float64()}
FLAG = "flag"


def schema_of(survey: str, inputs: Schema) -> Schema:
    """What the alerts of a survey offer a network: light curve, stamps, position, and the numbers that it asks for.

    Stamps smaller than the survey's are their centre (``gsnn ingest --crop``).
    """
    sky = SKIES[survey]
    side = sky.side
    if "stamps" in inputs and len(inputs["stamps"].shape) == 3:
        side = min(side, inputs["stamps"].shape[-1])
    columns = [
        Column("light_curve", "light_curve", "uJy", sky.bands, time_unit="d", epoch="MJD 0"),
        Column("stamps", "image", bands=PARTS, shape=(len(PARTS), side, side), pixel_scale=sky.pixel_scale),
        Column("ra", "position", "deg", dtype="float64"),
        Column("dec", "position", "deg", dtype="float64"),
    ]
    taken = {column.name for column in columns}
    columns += [Column(c.name, "scalar") for c in inputs.of_kind("scalar") if c.name not in taken]
    return Schema.of(columns)


class Answerer:
    """Answers packets by a model. ``computed`` names inputs that a study derives, which no packet holds."""

    def __init__(self, model: Model, runtime: Runtime, computed: Sequence[str] = ()):
        self.model, self.runtime, inputs = model, runtime, model.inputs
        derived = [name for name in inputs if name in set(computed)]
        if derived:
            raise GsnnError(
                f"the network reads {derived[0]!r}, which its study computes from other columns and no alert holds; "
                "train one on columns of the alerts"
            )
        unfit = {survey: inputs.difference(schema_of(survey, inputs)) for survey in SKIES}
        self.unfit = {survey: reason for survey, reason in unfit.items() if reason}
        if len(self.unfit) == len(SKIES):
            raise GsnnError(f"this network cannot read alerts (of ztf: {unfit['ztf']}); train it on alert packets")
        self.image = "stamps" in inputs
        self.curve = "light_curve" in inputs
        self.numbers = [c.name for c in inputs.of_kind("scalar", "position")]
        self.wants_numbers = bool(inputs.of_kind("scalar"))
        runtime.prepare()
        runtime.place(model).eval()
        self.schema = self._predicted(*self._still(2)).schema

    def __call__(self, packets: Sequence[bytes | None], schemas: Mapping[int, str] | None = None) -> pa.Table:
        """A row a packet, in their order. What cannot be used has no prediction, and the reason as its flag."""
        alerts: list[dict[str, Any]] = []
        reasons: dict[int, str] = {}
        where: list[int] = []  # the packet of each alert
        for place, packet in enumerate(packets):
            try:
                alerts.append(self._read(packet, schemas))
                where.append(place)
            except GsnnError as error:
                reasons[place] = str(error)
        curves = LightCurves.of([alert["light_curve"] for alert in alerts]) if self.curve else None
        if curves is not None:
            faults = curves.faults(len(self.model.inputs["light_curve"].bands))
            reasons |= {place: fault for place, fault in zip(where, faults) if fault}
            good = [i for i, fault in enumerate(faults) if not fault]
            alerts, where, curves = (
                [alerts[i] for i in good],
                [where[i] for i in good],
                curves.take(np.array(good, np.int64)),
            )
        table = self._predicted(alerts, curves) if alerts else self.schema.empty_table()
        if not reasons:
            return table
        row_of = {place: row for row, place in enumerate(where)}
        table = table.take(pa.array([row_of.get(place) for place in range(len(packets))], pa.int64()))
        flag = table.column(FLAG).to_pylist()
        for place, reason in reasons.items():
            flag[place] = f"quarantined: {reason}"
        return table.set_column(table.schema.get_field_index(FLAG), FLAG, pa.array(flag, pa.string()))

    def _read(self, packet: bytes | None, schemas: Mapping[int, str] | None) -> dict[str, Any]:
        if not packet:
            raise GsnnError("the message is empty")
        try:
            alert = decode(packet, schemas, stamps=self.image, numbers=self.wants_numbers)
        except GsnnError:
            raise
        except Exception as error:  # one packet among a million must not end the stream
            raise GsnnError(f"the alert packet cannot be read ({type(error).__name__}: {error})") from error
        if reason := self.unfit.get(alert["survey"]):
            raise GsnnError(f"an alert of {alert['survey']}, which the network cannot read: {reason}")
        return alert

    def _predicted(self, alerts: list[dict[str, Any]], curves: LightCurves | None) -> pa.Table:
        model, runtime = self.model, self.runtime
        columns = {name: np.array([a.get(name, np.nan) for a in alerts], np.float64) for name in self.numbers}
        with torch.inference_mode():
            batch = runtime.place_batch(self._batch(alerts, columns, curves))
            with runtime.autocast():
                features = model.features(batch)
                prediction = model.from_features(features, batch)
            distance = model.outliers(features).cpu()
        flag = flags(model, columns, distance)
        if self.image:
            flag[[a["stamps"] is None for a in alerts]] = "missing stamps"
        about = {name: pa.array([a[name] for a in alerts], kind) for name, kind in ABOUT.items()}
        block = {name: values for name, values in columns_of(prediction).items() if name not in about}
        return pa.table({**about, **block, FLAG: pa.array(flag, pa.string())})

    def _batch(
        self, alerts: list[dict[str, Any]], columns: Mapping[str, np.ndarray], curves: LightCurves | None
    ) -> Batch:
        """The inputs as a stream of a survey gives them."""
        batch = {name: torch.from_numpy(values.astype(np.float32)) for name, values in columns.items()}
        batch["row"] = torch.arange(len(alerts))
        if curves is not None:
            batch |= {f"light_curve.{part}": torch.from_numpy(values) for part, values in curves.padded().items()}
        if self.image:
            shape = self.model.inputs["stamps"].shape
            stamps = np.full((len(alerts), *shape), np.nan, np.float32)
            for plane, alert in zip(stamps, alerts):
                if (given := alert["stamps"]) is not None:
                    cut = (given.shape[-1] - shape[-1]) // 2
                    plane[:] = given[:, cut : cut + shape[-2], cut : cut + shape[-1]]
            batch["stamps"] = torch.from_numpy(stamps)
        return batch

    def _still(self, count: int) -> tuple[list[dict[str, Any]], LightCurves | None]:
        """Alerts of nothing: what the columns of an answer are is known before any alert comes."""
        one = {"id": "", "object_id": "", "ra": 0.0, "dec": 0.0, "stamps": None}
        alerts = [{**one, **dict.fromkeys(set(self.numbers) - set(one), 0.0)}] * count
        curve = (np.zeros(1), np.ones(1), np.ones(1), np.zeros(1))
        return alerts, LightCurves.of([curve] * count) if self.curve else None
