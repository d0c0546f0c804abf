"""Pictures: PNG, JPEG, TIFF and GIF files, one object each; and what makes any array an image [band, y, x].

``crop`` cuts a centred square of so many native pixels, ``size`` then resamples it to so many pixels a side (triangle
filter scaled to the reduction, so it averages and never rings); without them images keep their native size.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Num, Shaped

from ...errors import GsnnError
from .raw import Field, Reasons

FORMATS = ("PNG", "JPEG", "TIFF", "GIF")
MAX_PIXELS = 1 << 26  # a picture that announces more is taken for a damaged one
RGB = ("r", "g", "b")
Header = tuple[int, int, int, str]  # band, y, x, type


def as_image(one: Field, crop: int | None = None, size: int | None = None) -> Field:
    """A field of [y, x], [band, y, x] or [y, x, channel] arrays as [band, y, x] images of uint8 or float32."""
    shape = one.shape
    if len(shape) not in (2, 3):
        raise GsnnError(
            f"column {one.name!r} has the shape {shape}, which is no image; an image is (y, x) or (band, y, x)"
        )
    last = one.kind != "image" or not one.bands
    last = last and len(shape) == 3 and shape[-1] <= 16 and shape[-1] < min(shape[:2])  # channels stand last
    band, y, x = (1, *shape) if len(shape) == 2 else (shape[2], *shape[:2]) if last else shape
    dtype = "uint8" if one.dtype in ("uint8", "bool") else "float32"
    target = target_shape(band, y, x, crop, size, one.name)
    scale = one.pixel_scale
    if scale and size:
        scale *= min(crop or min(y, x), y, x) / size

    def take(indices: np.ndarray, reasons: Reasons) -> np.ndarray:
        values = one.take(indices, reasons)
        if isinstance(values, (pa.Array, pa.ChunkedArray)):
            values = dense(values, shape)
        values = values.reshape(len(indices), *shape)
        values = np.moveaxis(values, -1, 1) if last else values.reshape(len(indices), band, y, x)
        if target == (band, y, x):
            return values.astype(dtype, copy=False)
        out = np.empty((len(indices), *target), dtype)
        for i, image in enumerate(values):
            out[i] = shrink(image.astype(dtype, copy=False), crop, size)
        return out

    bands = one.bands or (RGB if band == 3 and dtype == "uint8" else ())
    return replace(one, kind="image", dtype=dtype, shape=target, take=take, bands=bands, pixel_scale=scale)


def dense(values: pa.Array | pa.ChunkedArray, shape: tuple[int, ...]) -> Shaped[np.ndarray, " n *shape"]:
    """Fixed-size lists as an array; a missing one is zeros (whole numbers) or NaN."""
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if values.null_count:
        filler = np.nan if pa.types.is_floating(values.type.value_type) else 0
        values = values.fill_null(pa.scalar([filler] * values.type.list_size, values.type))
    return values.flatten().to_numpy(zero_copy_only=False).reshape(len(values), *shape)


def target_shape(
    band: int, y: int, x: int, crop: int | None, size: int | None, name: str = "image"
) -> tuple[int, int, int]:
    for what, value in (("crop", crop), ("size", size)):
        if value is not None and value < 1:
            raise GsnnError(f"{what} = {value}: an image needs at least one pixel")
    if crop and crop > min(y, x):
        raise GsnnError(f"crop = {crop} is more than the {y} x {x} pixels of {name!r}")
    side = size or crop
    return (band, side, side) if side else (band, y, x)


def shrink(image: Num[np.ndarray, "band y x"], crop: int | None, size: int | None) -> Num[np.ndarray, "band a b"]:
    """The central square of ``crop`` pixels (all that is square, if only ``size`` is given), resampled to ``size``."""
    y, x = image.shape[1:]
    if crop or size:
        side = crop or min(y, x)
        top, left = (y - side) // 2, (x - side) // 2
        image = image[:, top : top + side, left : left + side]
    if not size or size == image.shape[1]:
        return image
    from PIL import Image

    how = Image.Resampling.BILINEAR
    planes = [np.asarray(Image.fromarray(np.ascontiguousarray(plane)).resize((size, size), how)) for plane in image]
    return np.stack(planes)


def picture(path: str) -> Num[np.ndarray, "band y x"]:
    """One decoded picture: uint8 [1 or 3, y, x], or float32 where the file holds more than 8 bits."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(path, formats=FORMATS) as image:
            return _pixels(image)


def _pixels(image: object) -> Num[np.ndarray, "band y x"]:
    x, y = image.size  # type: ignore[attr-defined]
    if x * y > MAX_PIXELS:
        raise ValueError(f"it announces {x} x {y} pixels, more than GSNN takes from one picture")
    mode = image.mode  # type: ignore[attr-defined]
    if mode in ("1", "L", "LA", "La"):
        image = image.convert("L")  # type: ignore[attr-defined]
    elif mode[0] in "IF":
        return np.array(image, dtype=np.float32)[None]
    else:
        image = image.convert("RGB")  # type: ignore[attr-defined]
    pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)


def header(path: str) -> Header | str:
    """Band, y, x and type of a picture from its header alone, or why it cannot be read."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as image:
                x, y = image.size
                if x * y > MAX_PIXELS:
                    return f"it announces {x} x {y} pixels"
                gray = image.mode in ("1", "L", "LA", "La")
                wide = image.mode[0] in "IF"
                return (1 if gray or wide else 3, y, x, "float32" if wide else "uint8")
    except Exception as error:
        return str(error).splitlines()[0][:120] if str(error) else type(error).__name__


def spread(paths: Sequence[str], count: int = 48) -> list[str]:
    """Some of the files, evenly from first to last."""
    if len(paths) <= count:
        return list(paths)
    return [paths[i] for i in np.linspace(0, len(paths) - 1, count).astype(int)]


def one_each(
    paths: Sequence[str],
    crop: int | None = None,
    size: int | None = None,
    header: Callable[[str], Header | str] = header,
    pixels: Callable[[str], Num[np.ndarray, "band y x"]] = picture,
    **more: Any,
) -> Field:
    """The field ``image`` of one image a file; those of another shape than most are refused one by one."""
    seen = [header(path) for path in spread(paths)]
    known = Counter(one for one in seen if not isinstance(one, str))
    if not known:
        what = (
            f"{paths[0]} cannot be read as an image"
            if len(paths) == 1
            else f"none of the {len(paths)} images can be read"
        )
        raise GsnnError(f"{what}: {seen[0]}")
    if size is None and crop is None:
        (band, y, x, dtype), _ = known.most_common(1)[0]
    else:
        band, dtype = Counter((one[0], one[3]) for one in known.elements()).most_common(1)[0][0]
        y, x = known.most_common(1)[0][0][1:3]
    target = target_shape(band, y, x, crop, size)

    def take(indices: np.ndarray, reasons: Reasons) -> np.ndarray:
        out = np.zeros((len(indices), *target), dtype)
        for position, i in enumerate(indices):
            try:
                out[position] = fitted(paths[i])
            except MemoryError:
                reasons[position] = reasons[position] or "the image does not fit into memory"
            except Exception as error:
                first = (str(error).strip().splitlines() or [type(error).__name__])[0].replace(repr(paths[i]), "it")
                reasons[position] = reasons[position] or f"the image cannot be read: {first[:160]}"
        return out

    def fitted(path: str) -> Num[np.ndarray, "band y x"]:
        found = header(path)
        if isinstance(found, str):
            raise ValueError(found)
        band, y, x, kind = found
        if (band, kind) != (target[0], dtype):
            raise ValueError(f"it has {band} bands of {kind}, most others have {target[0]} of {dtype}")
        if crop and crop > min(y, x):
            raise ValueError(f"it has {y} x {x} pixels, fewer than crop = {crop}")
        if not crop and not size and (y, x) != target[1:]:
            raise ValueError(
                f"it has {y} x {x} pixels, most others have {target[1]} x {target[2]}; state `size` to resample"
            )
        return shrink(pixels(path), crop, size)

    return Field(
        "image", dtype, take, target, "image", **{"bands": RGB if band == 3 and dtype == "uint8" else (), **more}
    )
