"""How charts look, light and dark: in files and on pages alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FONT = "Liberation Sans, Helvetica, Arial, sans-serif"

LIGHT: Mapping[str, Any] = {
    "background": "#ffffff",
    "text": "#1f2933",
    "quiet": "#61707f",
    "grid": "#e6eaee",
    "saved": "#e3e8ee",
    "line": "#2f5fc4",
    "area": "#2f5fc433",
    "limit": "#c0362c",
    "rest": "#9aa7b4",
    "palette": ("#2f5fc4", "#e07b2e", "#2a9d74", "#b8437c", "#7d62c9", "#c99a1c", "#3a9dbd", "#8f5b37"),
}

DARK: Mapping[str, Any] = {
    "background": "#14181d",
    "text": "#e6eaee",
    "quiet": "#94a2b0",
    "grid": "#2a323b",
    "saved": "#2c353f",
    "line": "#7ba4ff",
    "area": "#7ba4ff33",
    "limit": "#ff7d72",
    "rest": "#6d7a87",
    "palette": ("#7ba4ff", "#f2a25f", "#55c79b", "#e57fb0", "#ad95f0", "#e5bf55", "#6cc7e3", "#c28c66"),
}


def config(theme: Mapping[str, Any]) -> dict[str, Any]:
    """Return Vega-Lite's `config` for a theme."""
    quiet = {"labelColor": theme["quiet"], "titleColor": theme["quiet"], "labelFontSize": 12}
    title = {"anchor": "start", "fontSize": 18, "fontWeight": 600, "color": theme["text"], "offset": 18}
    subtitle = {
        "subtitleColor": theme["quiet"],
        "subtitleFontSize": 13,
        "subtitlePadding": 8,
        "subtitleLineHeight": 18,
    }
    return {
        "font": FONT,
        "background": theme["background"],
        "padding": 24,
        "title": {**title, **subtitle},
        "view": {"stroke": None},
        "axis": {**quiet, "domain": False, "ticks": False, "labelPadding": 8, "gridColor": theme["grid"]},
        "axisX": {"grid": False},
        "legend": {**quiet, "labelColor": theme["text"], "symbolSize": 120, "offset": 16},
    }
