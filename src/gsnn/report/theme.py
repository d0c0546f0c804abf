"""How figures look: a colour-blind-safe palette, one set of matplotlib settings, and SVG that follows the page's theme.

A figure is drawn in the colours of the light theme. In the SVG every colour of the palette becomes
``var(--name, #hex)``: inside the page the style sheet decides (so one drawing serves light and dark), and on its
own, as when it is exported, the light colours stand.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from contextlib import AbstractContextManager
from io import StringIO
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

# Okabe & Ito (2008), Color Universal Design, in shades that keep 4.5:1 against the paper.
PALETTE = {
    "ink": "#1d222b",
    "soft": "#5b6472",
    "line": "#d4d8de",
    "paper": "#fffffe",
    "blue": "#0a68ad",
    "orange": "#c4500a",
    "green": "#0b7f5f",
    "purple": "#a3528a",
    "amber": "#8f5c00",
    "sky": "#3d8fc4",
}
INK, SOFT, LINE, PAPER = (PALETTE[name] for name in ("ink", "soft", "line", "paper"))
NETWORK = PALETTE["blue"]
OTHERS = [PALETTE[name] for name in ("orange", "green", "purple", "amber", "sky")]
DASHES = ["--", (0, (1, 1.2)), "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (6, 2))]  # colour is never the only difference
FONT = "system-ui, -apple-system, 'Segoe UI', Inter, 'Noto Sans', 'Liberation Sans', sans-serif"

SETTINGS: dict[str, Any] = {
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "axes.edgecolor": SOFT,
    "axes.linewidth": 0.7,
    "axes.labelcolor": SOFT,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": mpl.cycler(color=[NETWORK, *OTHERS]),
    "axes.grid": False,
    "axes.titlesize": 9.5,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.formatter.useoffset": False,
    "axes.formatter.use_mathtext": False,
    "axes.unicode_minus": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.minor.visible": False,
    "text.color": INK,
    "text.parse_math": False,  # a class may be called "$x$"
    "font.family": "sans-serif",
    "font.size": 9,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "legend.handlelength": 1.8,
    "lines.linewidth": 1.7,
    "lines.solid_capstyle": "round",
    "svg.fonttype": "none",
    "svg.hashsalt": "gsnn",
    "figure.constrained_layout.use": True,
}


class Drawing(NamedTuple):
    """A figure, the numbers it shows (columns of one length) and what it shows in words."""

    figure: Figure
    data: dict[str, list[Any]]
    alt: str = ""


def style() -> AbstractContextManager[Any]:
    """The settings above, for a ``with`` block; a figure must be drawn and saved inside one."""
    return mpl.rc_context({**mpl.rcParamsDefault, "backend": mpl.rcParams["backend"], **SETTINGS})


def figure(width: float = 4.4, height: float = 2.9) -> Figure:
    """An empty figure in inches, outside of pyplot (so nothing stays open)."""
    return Figure(figsize=(width, height), layout="constrained")


def svg(drawing: Drawing, name: str) -> str:
    """The drawing as an ``<svg>`` element to stand inside a page; ``name`` keeps its ids apart from its neighbours'."""
    text = StringIO()
    with style():
        FigureCanvasSVG(drawing.figure).print_svg(text, metadata={"Date": None, "Creator": None, "Format": None})
    return _inline(text.getvalue(), name, drawing.alt)


_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"


def _inline(text: str, name: str, alt: str) -> str:
    ET.register_namespace("", _SVG)
    ET.register_namespace("xlink", _XLINK)
    root = ET.fromstring(text)
    for parent in list(root.iter()):
        for child in [c for c in parent if c.tag == f"{{{_SVG}}}metadata"]:
            parent.remove(child)
    used = set(re.findall(r"url\(#([^)]+)\)", text)) | set(re.findall(r'href="#([^"]+)"', text))
    for element in root.iter():
        identity = element.attrib.pop("id", None)
        if identity in used:
            element.set("id", f"{name}-{identity}")
        for key, value in element.attrib.items():
            value = re.sub(r"url\(#", f"url(#{name}-", value)
            if key.endswith("href") and value.startswith("#"):
                value = f"#{name}-{value[1:]}"
            if key == "style" or key in ("fill", "stroke"):
                value = _themed(value)
            element.set(key, value)
    root.attrib.pop("version", None)
    root.set("role", "img")
    root.set("aria-label", alt)
    for key in ("width", "height"):
        root.set(key, root.get(key, "").removesuffix("pt"))
    return ET.tostring(root, encoding="unicode")


def _themed(value: str) -> str:
    for name, colour in PALETTE.items():
        value = value.replace(colour, f"var(--{name}, {colour})")
    return re.sub(r"(font: [^;]*?)('DejaVu Sans'.*?|sans-serif)(?=;|$)", rf"\1{FONT}", value)
