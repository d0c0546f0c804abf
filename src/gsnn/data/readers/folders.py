"""What the folders of images say: ``root/<class>/image`` and ``root/<split>/<class>/image``."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from .raw import TEXT, Field, of_array, stems

SPLITS = {"train", "training", "valid", "validation", "val", "test", "testing"}


def ids_of(paths: Sequence[str]) -> list[str]:
    """File stems, or as much of the path as makes them unique."""
    return stems(paths)


def columns_of(paths: Sequence[str], root: str | None) -> list[Field]:
    """The columns ``label`` (class folder) and ``split`` (split folder), where there are such folders."""
    if root is None:
        return []
    folders = [os.path.relpath(os.path.dirname(path), root).split(os.sep) for path in paths]
    folders = [[] if parts == ["."] else parts for parts in folders]
    fields = []
    if all(parts and parts[0].lower() in SPLITS for parts in folders):
        fields.append(_words("split", [parts[0] for parts in folders], kind="text"))
        folders = [parts[1:] for parts in folders]
    labels = ["/".join(parts) for parts in folders]
    if any(labels):
        classes = tuple(sorted({name for name in labels if name}))
        fields.insert(0, _words("label", labels, kind="label", classes=classes))
    return fields


def _words(name: str, values: list[str], **more: object) -> Field:
    one = of_array(name, np.array(values, dtype=object), **more)
    assert one.dtype == TEXT
    return one
