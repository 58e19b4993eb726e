"""The colours: every text on every surface it stands on is legible, light and dark.

Source: WCAG 2.2, 1.4.3 (contrast of at least 4.5 : 1) and its definition of relative luminance.
"""

import re
from pathlib import Path

import pytest

TOKENS = Path(__file__).resolve().parents[3] / "platform/steward/web/static/web/tokens.css"
KINDS = ("person", "place", "time", "contact", "number", "group", "other")
ON_SURFACES = ["ink", "ink-soft", "accent", "good", "warn", "bad", "info", *(f"kind-{kind}" for kind in KINDS)]
PAIRS = [(text, ground) for text in ON_SURFACES for ground in ("surface", "ground", "raised")]
PAIRS += [("ink", "sunken"), ("ink-soft", "sunken"), ("accent-strong", "accent-wash"), ("on-accent", "accent")]
PAIRS += [("ink", f"{tone}-wash") for tone in ("good", "warn", "bad", "info", "accent")]
PAIRS += [(tone, f"{tone}-wash") for tone in ("good", "warn", "bad", "info", *(f"kind-{kind}" for kind in KINDS))]


def looks() -> dict[str, dict[str, str]]:
    """The tokens of each look: the first block is light, the one in the media query dark, the last dark by choice."""
    blocks = re.findall(r":root[^{]*\{([^}]*)\}", TOKENS.read_text())
    values = [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block)) for block in blocks]
    return {"light": values[0], "dark": values[1], "dark by choice": values[2]}


def luminance(colour: str) -> float:
    shares = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("look", ["light", "dark"])
def test_every_text_is_legible_on_its_ground(look: str) -> None:
    tokens = looks()[look]
    faint = {f"{a} on {b}": round(contrast(tokens[a], tokens[b]), 2) for a, b in PAIRS}
    assert not {pair: ratio for pair, ratio in faint.items() if ratio < 4.5}


def test_dark_is_the_same_by_preference_and_by_choice() -> None:
    assert looks()["dark"] == looks()["dark by choice"]


def test_contrast_is_computed_as_defined() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)
