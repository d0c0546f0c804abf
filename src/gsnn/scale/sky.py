"""How much data the sky gives, in tokens of 16 x 16 pixels."""

from __future__ import annotations

RUBIN_PIXELS_A_NIGHT = 3e12  # about 1,000 visits of the 3.2-gigapixel camera: Ivezic et al. 2019, arXiv:0805.2366
PATCH = 16  # pixels a side of a token


def tokens(pixels: float, patch: int = PATCH) -> float:
    """Tokens in so many pixels: one for each patch x patch."""
    return pixels / patch**2


def rubin_tokens_a_night() -> float:
    """About 12 billion."""
    return tokens(RUBIN_PIXELS_A_NIGHT)


def rubin_tokens_a_year(nights: int = 365) -> float:
    """About 4.4 trillion (every night; weather takes perhaps a quarter)."""
    return nights * rubin_tokens_a_night()


def tokens_in_bytes(size: float, bytes_a_pixel: float = 2.0, patch: int = PATCH) -> float:
    """Tokens in a survey of ``size`` bytes of pixels."""
    return tokens(size / bytes_a_pixel, patch)


def read_seconds(size: float, bytes_per_second: float) -> float:
    """How long one pass over the pixels takes."""
    return size / bytes_per_second
