"""The picture that stands in a notebook without a kernel: cards, what was found, the figure, and what to press."""

import functools
import io

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from labkit.live.picture import LiveFigure
from labkit.live.view import Summary

SCALE = 2  # pixels a point
MARGIN = 12
HINT = "still picture: run this cell (Shift+Enter) to move the controls"


def png(live: LiveFigure, words: Summary) -> bytes:
    """A PNG of a result as it stands, 2 pixels a point."""
    figure = live.pixels(72 * SCALE)
    title, cards, below = 34 if words.title else 0, 96, 30
    picture = Image.new("RGB", (figure.width, figure.height + title + cards + below), "white")
    picture.paste(figure, (0, title + cards))
    pen = ImageDraw.Draw(picture)
    if words.title:
        pen.text((MARGIN, 4), words.title, "#111111", font(24, bold=True))
    width = (figure.width - 2 * MARGIN) / max(1, len(words.cards))
    for i, (label, value, note) in enumerate(words.cards):
        left = MARGIN + i * width
        pen.rectangle((left, title + 6, left + 4, title + 84), "#0072b2")
        for text, size, y, bold in ((label, 20, 4, False), (value, 32, 26, True), (note, 18, 64, False)):
            pen.text((left + 14, title + y), fitted(text, size, width - 24, bold), "#222222", font(size, bold))
    pen.text((MARGIN, picture.height - below + 2), HINT, "#555555", font(18))
    out = io.BytesIO()
    picture.quantize(256, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
    return out.getvalue()


def fitted(text: str, size: float, width: float, bold: bool = False) -> str:
    """The text, cut with … where it is wider than `width`."""
    known = font(size, bold)
    while len(text) > 1 and known.getlength(text) > width:
        text = text[:-2].rstrip("…") + "…"
    return text


@functools.cache
def font(size: float, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib brings along."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/{name}", size)
