"""The thing that is trained, saved and used: native units in, distributions in native units out.

A model folder holds ``model.safetensors`` (every weight and statistic) and ``model.toml`` (the schema of its inputs,
the parts that rebuild it, versions). Nothing in it is executed; a network from outside GSNN is imported only with
trust.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
import torch
from torch import Tensor, nn

from .config import build, check
from .data.batch import tensors
from .data.schema import Schema
from .data.survey import View
from .data.transforms import Transforms
from .errors import GsnnError
from .evaluation.outliers import Outliers
from .models.initialise import initialise
from .objectives.base import Batch, Prediction
from .rng import Rng

NETWORK = "objective.network."  # what the names of the network's own tensors begin with


class Model(nn.Module):
    """``transforms . network . distribution . inverse``; ``spec`` holds the tables model, objective and transforms."""

    def __init__(self, inputs: Schema, targets: Schema, spec: Mapping[str, Any], *, seed: int = 0, trust: bool = True):
        super().__init__()
        self.inputs, self.targets, self.spec = inputs, targets, dict(spec)
        self.notes: dict[str, Any] = {}
        for name, one in (spec.get("transforms") or {}).items():
            check(one, "transform", ("data", "transforms", name), trust)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.transforms = Transforms(inputs, spec.get("transforms"))

            def make(schema: Schema, outputs: int) -> nn.Module:
                return build(spec["model"], "model", schema, outputs, path=("model",), trust=trust)

            self.objective = build(
                spec["objective"], "objective", inputs, targets, make, path=("objective",), trust=trust
            )
        network = self.objective.network
        if hasattr(network, "initial") and not network.head.weight.is_meta:
            initialise(network, seed)  # a function of name and index, under every layout
        self.outliers = Outliers(self.objective.network.head.in_features)

    def fit(self, train: View) -> None:
        """Statistics of inputs and targets, from the training part."""
        self.transforms.fit(train)
        self.objective.fit(train)
        if hasattr(self.objective.network, "start"):  # what a network measures before it learns
            batch = self.sample_of(train, 256, list(self.inputs))
            with torch.no_grad():
                self.objective.network.start(**{name: batch[name] for name in self.inputs.tensors})
        if self.objective.start_objects:
            with torch.no_grad():
                self.objective.start(self.sample_of(train, self.objective.start_objects, [*self.inputs, *self.targets]))

    def sample_of(self, train: View, count: int, names: list[str]) -> Batch:
        """At most ``count`` training objects from all over the survey, inputs in the network's units."""
        some = train.take(np.linspace(0, len(train) - 1, min(len(train), count)).astype(int))
        return self.transform(tensors(some.columns(names), some.rows))

    def transform(self, batch: Batch) -> Batch:
        device = next(iter(batch.values())).device.type
        if device == "meta":  # shapes only: there is no autocast to leave
            return self.transforms(batch)
        with torch.autocast(device, enabled=False):
            return self.transforms(batch)

    def prepare(self, batch: Batch, rng: Rng | None = None) -> Batch:
        """A batch in native units as the objective takes it; ``rng`` None means evaluation."""
        batch = self.transform(batch)
        return batch if rng is None else self.objective.prepare(batch, rng)

    def terms(self, batch: Batch, rng: Rng | None = None) -> dict[str, tuple[Tensor, Tensor]]:
        """(sum, weight) of each term of the loss for a batch in native units; ``rng`` None means evaluation."""
        batch = self.prepare(batch, rng)
        return self.objective.terms(self.objective(batch), batch)

    def forward(self, batch: Batch) -> Prediction:
        return self.answer(batch)[0]

    def answer(self, batch: Batch) -> tuple[Prediction, Tensor]:
        """The prediction, and the features [object, feature] that the network made on the way."""
        if not getattr(self.objective, "dense", False):
            features = self.features(batch)
            return self.from_features(features, batch), features
        batch = self.transform(batch)
        out, features = self.objective.network.both(**self.objective.columns(batch))
        return self.objective.predict(out, batch), features

    def features(self, batch: Batch) -> Tensor:
        """What the network makes of each object before its head, [object, feature].

        Where the study says that orientation means nothing, the mean over the eight quarter turns and reflections.
        """
        batch = self.transform(batch)
        columns = {name: batch[name] for name in self.inputs.tensors}
        if getattr(self.objective, "dense", False):
            columns = self.objective.columns(batch)  # what a flow begins with is among them
        views = orientations(columns) if self.spec.get("symmetric") else [columns]
        return torch.stack([self.objective.network.features(**view) for view in views]).mean(0)

    def from_features(self, features: Tensor, batch: Batch) -> Prediction:
        """The prediction that belongs to :meth:`features`."""
        return self.objective.predict(self.objective.read(features), batch)

    def after_step(self, step: int) -> None:
        self.objective.after_step(step)

    @property
    def parameter_count(self) -> int:
        return sum(p.numel() for p in self.parameters())

    # ------------------------------------------------------------------ files

    def save(self, folder: Path, **notes: Any) -> None:
        """Write the model folder; ``notes`` (versions, study) stand in model.toml."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        save_file(tensors, folder / "model.safetensors.partial")
        about = {"inputs": self.inputs.to_dict(), "targets": self.targets.to_dict(), "spec": self.spec, "notes": notes}
        (folder / "model.toml.partial").write_text(tomli_w.dumps(_plain(about)))
        (folder / "model.safetensors.partial").rename(folder / "model.safetensors")
        (folder / "model.toml.partial").rename(folder / "model.toml")  # last: where it stands, the model is whole

    @classmethod
    def load(cls, folder: str | Path, *, trust: bool = False) -> Model:
        """A saved model, ready to predict."""
        folder = Path(folder)
        try:
            about = tomllib.loads((folder / "model.toml").read_text())
            inputs, targets = Schema.from_dict(about["inputs"]), Schema.from_dict(about["targets"])
            spec = {"transforms": {}, **about["spec"], "model": about["spec"]["model"]}
            spec["objective"], spec["transforms"] = dict(spec["objective"]), dict(spec["transforms"])
        except FileNotFoundError:
            raise GsnnError(f"{folder} holds no trained model; train one with `gsnn train STUDY`") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise GsnnError(f"{folder}/model.toml is damaged ({error}); train again, or copy it anew") from error
        model = cls(inputs, targets, spec, trust=trust)
        load_weights(model, folder / "model.safetensors")
        model.notes = about.get("notes", {})
        return model.eval()


def orientations(columns: Batch) -> list[Batch]:
    """The eight quarter turns and reflections of every image [object, band, y, x]; other columns stay."""
    views = []
    for turns in range(4):
        turned = {k: torch.rot90(v, turns, (-2, -1)) if v.ndim == 4 else v for k, v in columns.items()}
        views += [turned, {k: v.flip(-1) if v.ndim == 4 else v for k, v in turned.items()}]
    return views


def load_weights(model: nn.Module, path: Path, *, partly: bool = False) -> list[str]:
    """Copy a safetensors file into ``model``. Returns the names of the model's tensors that were left as they are.

    With ``partly`` only tensors of the network, of the same name and shape, are copied: statistics of the inputs and of
    the target, the temperature, the outliers and what a part of a network has ``measured`` are those of other data.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except FileNotFoundError:
        raise GsnnError(f"no weights at {path}") from None
    except (SafetensorError, OSError) as error:
        raise GsnnError(f"the weights {path} are damaged ({error}); train again, or copy the file anew") from error
    own = model.state_dict()
    if partly:
        measured = {f"{at}.{name}" for at, part in model.named_modules() for name in getattr(part, "measured", ())}
        tensors = {n: tensor for n, tensor in tensors.items() if n.startswith(NETWORK) and n not in measured}
    fitting = {name: tensor for name, tensor in tensors.items() if name in own and own[name].shape == tensor.shape}
    left = [name for name in own if name not in fitting]
    if (left or len(fitting) < len(tensors)) and not partly:
        strange = (left or [name for name in tensors if name not in fitting])[0]
        raise GsnnError(f"the weights {path} belong to another network: {strange!r} does not fit")
    if not fitting:
        raise GsnnError(f"no tensor in {path} fits this network")
    model.load_state_dict(fitting, strict=False)
    return left


def _plain(value: Any) -> Any:
    """What TOML can hold: no None, tuples as arrays."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items() if v is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value
