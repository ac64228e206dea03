"""The drawings of the documents as SVG, made from tables of the code. ``docs.generate`` writes them.

They are plain files without a script, follow the reader's light or dark, and show text that can be found.
"""

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from html import escape
from typing import Any

STYLE = """<style>
text { font: 13px system-ui, sans-serif; fill: #24292f }
.head { text-anchor: middle; font-weight: 600 } .mid { text-anchor: middle }
.small { font-size: 12px; fill: #57606a }
.box { fill: #f6f8fa; stroke: #57606a } .end { stroke-width: 2.5 }
.life { stroke: #d0d7de } .way { stroke: #0969da; stroke-width: 1.5; fill: none } .tip { fill: #0969da }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .small { fill: #9198a1 } .box { fill: #21262d; stroke: #9198a1 }
.life { stroke: #3d444d } .way { stroke: #4493f8 } .tip { fill: #4493f8 }
}
</style>"""
#: Pixels: the width of a status, the height of an event, what is above the first event.
COLUMN, ROW, TOP = 104, 34, 46
LABEL = 82


def drawing(width: int, height: int, about: str, parts: Iterator[str]) -> str:
    """A whole SVG file; ``about`` is what is read out in its place."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'role="img" aria-label="{escape(about)}">'
    )
    return "\n".join([head, STYLE, *parts, "</svg>", ""])


def text(x: float, y: float, said: str, kind: str = "") -> str:
    """One line of text."""
    return f'<text x="{x:g}" y="{y:g}" class="{kind}">{escape(said)}</text>'


def box(x: float, y: float, width: float, height: float, kind: str = "") -> str:
    """A box with round corners."""
    size = f'width="{width:g}" height="{height:g}" rx="6"'
    return f'<rect x="{x:g}" y="{y:g}" {size} class="box {kind}"/>'


def line(x: float, y: float, to_x: float, to_y: float, kind: str) -> str:
    """A straight line."""
    return f'<path d="M{x:g} {y:g}L{to_x:g} {to_y:g}" class="{kind}"/>'


def arrow(x: float, to_x: float, y: float) -> str:
    """An arrow to the right or to the left, with a dot where it begins."""
    back = -8 if to_x > x else 8
    tip = f'<path d="M{to_x:g} {y:g}l{back} -4v8z" class="tip"/>'
    return line(x, y, to_x + back, y, "way") + f'<circle cx="{x:g}" cy="{y:g}" r="3.5" class="tip"/>' + tip


def transitions(table: Mapping[tuple[Any, Any], StrEnum], first: Sequence[StrEnum], about: str) -> str:
    """A table of transitions: a column for each status, a row for each event, an arrow for each change."""
    statuses = list(type(first[0]))
    events = list(dict.fromkeys(event for _, event in table))
    height = TOP + ROW * len(events) + 4
    middle = {status: LABEL + COLUMN * (at + 0.5) for at, status in enumerate(statuses)}

    def parts() -> Iterator[str]:
        for status, x in middle.items():
            ends = all(before is not status for before, _ in table)
            yield line(x, 40, x, height - 4, "life")
            yield box(x - COLUMN / 2 + 5, 14, COLUMN - 10, 26, "end" if ends else "")
            yield text(x, 31, status, "head")
            if status in first:
                yield f'<path d="M{x:g} 13l-5 -9h10z" class="tip"/>'
        for row, event in enumerate(events):
            y = TOP + ROW * (row + 0.5)
            yield text(4, y + 4, event)
            for (before, what), after in table.items():
                if what is event:
                    yield arrow(middle[before], middle[after], y)

    return drawing(LABEL + COLUMN * len(statuses) + 4, height, about, parts())


def waves(ends: Sequence[int], about: str) -> str:
    """The waves of a job, each as high as it is large, with the gates between them."""
    sizes = [end - begin for begin, end in zip([0, *ends], ends, strict=False)]
    step, most = 190, 90

    def parts() -> Iterator[str]:
        for at, size in enumerate(sizes):
            x, high = 10 + step * at, 12 + most * size / max(sizes)
            yield box(x, 20 + most - high + 12, 110, high)
            yield text(x + 55, 20 + most + 32, f"wave {at + 1}", "head")
            yield text(x + 55, 20 + most + 50, f"{size} gateway{'s' if size > 1 else ''}", "mid small")
            if at + 1 < len(sizes):
                yield arrow(x + 118, x + step - 6, 20 + most - 2)
                yield text(x + 150, 20 + most - 12, "gate", "mid")
                yield text(x + 150, 20 + most + 16, "soak", "mid small")

    return drawing(step * len(sizes) - 60, 175, about, parts())


def layers(names: Sequence[str], about: str) -> str:
    """Layers, the uppermost first. ``a | b`` are two beside each other."""
    width, high = 640, 40

    def parts() -> Iterator[str]:
        for at, layer in enumerate(names):
            beside = layer.split(" | ")
            wide = width / len(beside)
            for place, name in enumerate(beside):
                yield box(4 + wide * place + 3, 4 + high * at, wide - 6, high - 8)
                yield text(4 + wide * (place + 0.5), 4 + high * at + 20, name, "mid")

    return drawing(width + 8, high * len(names) + 8, about, parts())


def sequence(actors: Sequence[str], story: Sequence[str], about: str) -> str:
    """Who of ``actors`` says what to whom. A line is ``a -> b: what``, or ``a: what`` that happens to it."""
    steps = [(names.split(" -> "), said) for names, said in (line.split(": ", 1) for line in story)]
    wide, high = 150, 34
    middle = {name: wide * (at + 0.5) for at, name in enumerate(actors)}
    height = TOP + high * len(steps) + 8

    def parts() -> Iterator[str]:
        for name, x in middle.items():
            yield line(x, 40, x, height - 4, "life")
            yield box(x - 52, 14, 104, 26)
            yield text(x, 31, name, "head")
        for row, (names, said) in enumerate(steps):
            x, to_x, y = middle[names[0]], middle[names[-1]], TOP + high * (row + 0.7)
            if x == to_x:
                yield box(x - 6, y - 12, 12, 14)
                yield text(x + 14, y, said)
            else:
                yield arrow(x, to_x, y)
                yield text(min(x, to_x) + 10, y - 6, said, "small")

    return drawing(wide * len(actors), height, about, parts())
