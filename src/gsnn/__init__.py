"""GSNN: galaxy-scale neural networks. A question about the sky becomes a checked answer.

>>> import gsnn
>>> gsnn.Study.load("morphology").question
'Is this galaxy smooth, spiral, edge-on or merging?'
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .data.readers import read as read
    from .data.schema import Column as Column
    from .data.schema import Schema as Schema
    from .data.survey import Survey as Survey
    from .errors import ConfigError as ConfigError
    from .errors import GsnnError as GsnnError
    from .model import Model as Model
    from .run import Run as Run
    from .study import Study as Study

__version__ = "0.1.0"

_WHERE = {
    "Study": "study",
    "Run": "run",
    "Survey": "data.survey",
    "Schema": "data.schema",
    "Column": "data.schema",
    "Model": "model",
    "read": "data.readers",
    "GsnnError": "errors",
    "ConfigError": "errors",
}
__all__ = [*_WHERE, "__version__"]


def __getattr__(name: str) -> Any:
    """Heavy modules are imported when they are first used."""
    if name not in _WHERE:
        raise AttributeError(f"module 'gsnn' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"gsnn.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
