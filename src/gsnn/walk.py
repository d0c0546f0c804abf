"""The walk through the five steps of a study: each leaves its files in the run folder, and finds them on resume."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from .config import normalise
from .data.split import PARTS
from .progress import Progress, amount, duration
from .run import versions
from .spent import Spent
from .steps.data import ground, preview, survey_for, write_json
from .study import Study

REFRESH_SECONDS = 60


class Walk:
    """The steps of one run in order; each leaves its files, and finds them again on resume."""

    def __init__(
        self,
        study: Study,
        folder: Path,
        seed: int,
        seeds: int,
        progress: Progress,
        spent: Spent,
        rounds: list[dict[str, Any]] | None = None,
    ):
        self.study, self.folder, self.seed, self.seeds, self.rounds = study, folder, seed, seeds, rounds or []
        self.progress, self.spent = progress, spent
        self.refreshed = time.monotonic()

    def data(self, data: Any) -> None:
        from .data.audit import audit
        from .report.page import write

        self.given = data
        self.spent.begin("data")
        survey = survey_for(self.study, self.folder / "survey", data, self.seed, self.progress)
        self.progress.done()
        self.one = ground(self.study, survey)
        self.progress.step(2, self.one.told(self.study.unit))
        pictures = list(preview(self.one))
        if pictures:
            self.progress.pictures(np.stack([p for p, _ in pictures]), [c for _, c in pictures])
        path = self.folder / "audit.json"
        if path.is_file():
            self.audit = json.loads(path.read_text())
        else:
            inputs, targets = list(self.one.inputs), list(self.one.targets)
            self.audit = audit(self.one.survey, self.one.split, inputs, targets, by=list(self.one.covariates))
            write_json(path, self.audit)
        for finding in self.audit["findings"]:
            if finding["level"] != "ok":
                self.progress.say(f"{finding['level']}: {finding['sentence']}")
        write(self.folder)

    def train(self, only: bool) -> None:
        from .report.page import write
        from .steps.train import expected, train_model
        from .training.energy import peak_memory_gb
        from .training.launch import launch

        fits = self.folder / "fits"
        self.spent.begin("train")
        self.progress.step(3, self._architecture())
        networks = 1 if only else self.seeds
        self.progress.step(4, f"{self.study.train.epochs} epochs of {len(self.one.train):,} objects")
        if not (fits / "main" / "model" / "model.toml").exists():
            control = self.study.evaluate.control and not only
            seconds, scratch = expected(self.study, self.one, self.seed, networks, control)
            what = f"{networks} networks" if networks > 1 else "training"
            what += " and the control" if control else ""
            self.progress.say(
                f"expected: about {duration(seconds)} for {what}, then the judging; {amount(scratch)} of scratch, "
                f"{amount(1e9 * peak_memory_gb() + 3e8)} of memory"
            )
            if self.study.train.layout.processes > 1:
                launch(self.folder, self.study.train.layout.processes)
        fit = {"progress": self.progress, "refresh": self._refresh}
        self.main = train_model(self.study, self.one, fits / "main", seed=self.seed, **fit)
        write(self.folder)
        if only:
            return
        self.spent.begin("controls and seeds")
        runtime = self.main.runtime
        self.control = self.others = None
        if self.study.evaluate.control:
            self.control = train_model(
                self.study, self.one, fits / "control", seed=self.seed, runtime=runtime, control=True, **fit
            )
        self.others = [
            train_model(self.study, self.one, fits / f"seed-{k}", seed=self.seed + k, runtime=runtime, **fit)
            for k in range(1, self.seeds)
        ]

    def _refresh(self) -> None:
        """The page anew, at most once a minute: it takes a second or two."""
        from .report.page import write

        if time.monotonic() - self.refreshed > REFRESH_SECONDS:
            self.spent.keep()
            write(self.folder)
            self.refreshed = time.monotonic()

    def _architecture(self) -> str:
        from .model import Model
        from .steps.evaluate import check_baselines, check_metrics
        from .steps.explain import check_methods

        model = Model(self.one.inputs, self.one.targets, self.study.spec, seed=self.seed, trust=self.study.trust)
        self.parameters = model.parameter_count
        check_metrics(self.study, self.one, model)
        check_baselines(self.study, self.one)
        check_methods(self.study, model)
        sees = " + ".join(dict.fromkeys(c.kind for c in self.one.inputs.columns))
        return f"{self.study.model['name']} of {self.parameters:,} parameters: {sees} -> {', '.join(self.one.targets)}"

    def judge(self) -> None:
        from .evaluation import draws
        from .predict import predict_view
        from .rounds import leaning, ranges
        from .steps import control
        from .steps import evaluate as steps
        from .steps import observed as seen_steps
        from .steps.curves import early
        from .steps.maps import maps_file

        self.spent.begin("evaluate")
        one, test = self.one, self.one.test
        found, distances = steps.predictions_file(
            self.folder / "predictions.parquet", one, test, self.main, self.progress
        )
        observed = seen_steps.observed_view(self.study, one, self.given, self.folder / "observed")
        rivals = steps.fit_baselines(
            self.study, one, test, self.folder / "baselines", self.seed, self.progress, observed
        )
        verdicts = steps.judged(self.study, one, test, found, rivals.found, self.seed)
        truth = steps.truth_of(test, one.target)
        controls: dict[str, Any] = {"leakage": self.audit.get("leakage", {})}
        if self.control is not None:
            (prediction, *_) = predict_view(self.control.model, test, self.control.runtime)[0].values()
            dealt = steps.truth_of(control.permuted(one, self.seed)[2], one.target)
            controls["permuted"] = control.verdict(prediction, dealt, self.seed)
        by_seed = [{"seed": self.seed, "metrics": verdicts[one.target]["metrics"]}]
        members = [found]
        for k, other in enumerate(self.others or (), 1):
            predicted = predict_view(other.model, test, other.runtime)[0]
            members.append(predicted)
            verdict = steps.judged(self.study, one, test, predicted, {}, self.seed, resamples=100)[one.target]
            by_seed.append({"seed": self.seed + k, "metrics": verdict["metrics"]})
        self.found, self.truth = found, truth
        self.judged = {
            **verdicts[one.target], "controls": controls, "seeds": by_seed, "seed_spread": steps.spread(by_seed),
            "baseline_seconds": rivals.seconds, "baseline_settings": rivals.described,
        }  # fmt: skip
        if found_early := early(one, test, self.main.model, truth, self.seed):
            self.judged["early"] = found_early
        if len(verdicts) > 1:
            self.judged["targets"] = {name: verdict["metrics"] for name, verdict in verdicts.items()}
            self.judged["targets_beside"] = {name: verdict["baselines"] for name, verdict in verdicts.items()}
        answers, seen, far = {"network": found}, {}, None
        if observed is not None:
            seen["network"], distance = predict_view(self.main.model, observed, self.main.runtime)
            far = bool(distance[0] > self.main.model.outliers.threshold)
        if together := steps.ensemble(members):
            answers["ensemble"] = together
            self.judged["ensemble"] = steps.ensemble_verdict(self.study, one, test, together, found, self.seed)
            if observed is not None:
                others = [predict_view(other.model, observed, other.runtime)[0] for other in self.others]
                seen["ensemble"] = steps.ensemble([seen["network"], *others])
        self.judged |= steps.posteriors(
            self.folder / "posteriors.npz", one, test, answers | rivals.by_name(), seen | rivals.observed, self.seed
        )
        maps_file(self.folder / "maps.npz", one, test, answers | rivals.by_name(), seen | rivals.observed)
        if seen:
            seen_steps.fitted_file(self.study, self.given, self.folder / "fitted.npz", seen["network"])
        if far is not None:
            self.judged["observed_unlike_training"] = far
        if rivals.chains:
            self.judged["chains"] = rivals.chains
        if far is not None and "observed" in self.judged:
            values = test.columns(list(one.targets))
            true = np.stack([np.asarray(values[name], float) for name in one.targets], 1)
            self.judged["observed_checks"] = seen_steps.check_observed(
                self.study, one, self.given, observed, self.main, {"seen": distance.numpy(), "test": distances},
                (draws.together(found), true), draws.together(seen["network"])[0], self.folder / "simulated", self.seed,
            )  # fmt: skip
        if self.rounds and observed is not None:
            box, whole = ranges(self.study), self.rounds[0]["prior"]
            leans = leaning(draws.together(seen["network"])[0], box, whole)
            self.judged["rounds"] = {"before": self.rounds, "box": box, "leaning": leans}
            if leans:
                self.progress.say(f"the posterior leans on the edge of what earlier rounds left: {', '.join(leans)}")
        self.judged |= steps.field_spectra(one, test, answers | rivals.by_name())
        self.judged |= steps.generated(self.study, one, test, answers | rivals.by_name(), self.seed)

    def interpret(self) -> None:
        from .evaluation.headline import headline
        from .report.card import write as write_card
        from .report.page import write
        from .steps.explain import chosen, examples_file, explain
        from .training.energy import co2e_kg, peak_memory_gb

        self.spent.begin("explain")
        one, test = self.one, self.one.test
        methods = ", ".join(normalise(method)["name"] for method in self.study.explain.methods)
        self.progress.step(5, methods or "no explanation asked for ([explain] methods)")
        prediction = self.found[one.target]
        examples_file(self.folder / "examples.npz", one, test, prediction, self.truth, self.seed, self.main.model)
        groups = chosen(prediction, self.truth, self.seed, max(self.study.explain.objects // 3, 1))
        some = test.take(np.concatenate(list(groups.values())))
        explanations = explain(self.study, one, self.main, some, self.folder / "explain", self.seed, self.progress)
        self.spent.keep()
        history, kwh = self.main.history, self.spent.kwh
        if self.study.train.layout.processes > 1 and not self.spent.meter.of_machine:  # others trained, uncounted
            kwh += history["kwh"]
        kg, grid = co2e_kg(kwh)
        column = one.targets[one.target]
        answer = {
            "study": self.study.name,
            "question": self.study.question,
            "answer": headline(self.judged, column if len(one.targets) > 1 else None, objects=self.study.unit),
            **self.judged,
            "explanations": explanations,
            "objects": {name: len(getattr(one.split, name)) for name in PARTS},
            "left_out": {reason: count for reason, count in one.left_out.items() if count},
            "target": {"name": column.name, "kind": column.kind, "classes": list(column.classes), "unit": column.unit},
            "seconds": self.spent.seconds,
            "training_seconds": history["seconds"],
            "energy_kwh": kwh,
            "energy_source": self.spent.meter.source,
            "co2e_g": 1000 * kg,
            "grid_source": grid,
            "memory_gb": peak_memory_gb(),
            "parameters": self.parameters,
            "survey": {"digest": one.survey.digest, "objects": len(one.survey)},
            "runtime": self.main.runtime.to_dict(),
            "seed": self.seed,
            "seeds_asked": self.seeds,
            "versions": versions(),
        }
        write_json(self.folder / "answer.json", answer)
        write_card(self.folder)
        write(self.folder)
        self.progress.say(f"done in {duration(sum(self.spent.seconds.values()))}")
