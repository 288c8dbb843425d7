"""The findings as one HTML page with pictures; it needs neither the network nor other files."""

from __future__ import annotations

import base64
import html
import io
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from kemr_lightning.core.files import atomic_write
from kemr_lightning.doctor import KINDS, Diagnosis, Finding
from kemr_lightning.doctor.diagnosis_table import becomes, line_of, size_lines

log = logging.getLogger(__name__)

SIDE = 240
"""Longest side of a picture, in pixels."""

MARGIN = 40
"""Pixels of the image shown around a place."""

_BOX, _OUTLINE = (255, 210, 0), (230, 60, 130)

_STYLE = """
:root { color-scheme: light; }
body { margin: 0 auto; max-width: 1180px; padding: 0 24px 60px; font: 15px/1.45 system-ui, sans-serif; color: #1d1d1b;
  background: #f6f6f3; overflow-wrap: anywhere; }
h1 { font-size: 26px; margin: 24px 0 0; } h2 { font-size: 18px; margin: 0; }
p { margin: 4px 0 10px; } .muted, figcaption, summary { color: #62625c; }
section, .panel { background: #fff; border: 1px solid #d8d8d4; border-radius: 6px; padding: 14px 16px; margin: 14px 0; }
.row { display: flex; flex-wrap: wrap; gap: 14px; align-items: flex-start; } .row .panel { margin: 0; }
.badge { display: inline-block; padding: 0 8px; border-radius: 10px; font-size: 13px; color: #fff; margin-right: 8px; }
.error { background: #b3261e; } .warning { background: #9a6700; } .note { background: #62625c; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 2px 16px 2px 0; text-align: left; vertical-align: top; } th { color: #62625c; font-weight: 400; }
td.number { text-align: right; } .pictures { display: flex; flex-wrap: wrap; gap: 12px; margin: 8px 0; }
figure { margin: 0; width: 240px; font-size: 13px; }
figure img { display: block; max-width: 240px; background: #1d1d1b; }
.pair { display: flex; gap: 4px; } .pair img { max-width: 118px; }
svg text { font: 12px system-ui, sans-serif; fill: #62625c; } a { color: inherit; }
"""


def write_page(path: Path, diagnosis: Diagnosis, pictures: int = 12) -> None:
    """Write the page.

    Args:
        path: The HTML file.
        diagnosis: What `examine` has found.
        pictures: Number of pictures of each kind of finding.
    """
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for part in _page(diagnosis, pictures):
            file.write(part)


def _page(diagnosis: Diagnosis, pictures: int) -> Iterator[str]:
    counts = diagnosis.counts()
    instances = sum(len(image.labels) for image in diagnosis.images)
    yield '<!doctype html><html lang="en"><head><meta charset="utf-8">'
    yield f"<title>{html.escape(diagnosis.root.name)}: data set examined</title><style>{_STYLE}</style></head><body>"
    yield f"<h1>{html.escape(str(diagnosis.root))}</h1>"
    yield f"<p>{len(diagnosis.images)} annotated images, {instances} chromosomes: "
    yield ", ".join(f"{count} {name}{'' if count == 1 else 's'}" for name, count in counts.items()) + "</p>"
    kinds = list(dict.fromkeys(finding.kind for finding in diagnosis.findings))
    tally = Counter(finding.kind for finding in diagnosis.findings)
    yield '<div class="row"><div class="panel"><h2>Findings</h2><table>'
    for kind in kinds:
        yield f'<tr><td>{_badge(kind)}<a href="#{kind}">{html.escape(diagnosis.kinds[kind].title)}</a></td>'
        yield f'<td class="number">{tally[kind]}</td></tr>'
    yield ("" if kinds else "<tr><td>nothing found</td></tr>") + "</table></div>"
    yield from _panels(diagnosis)
    yield "</div>"
    for kind in kinds:
        yield from _section(diagnosis, kind, [f for f in diagnosis.findings if f.kind == kind], pictures)
    yield "</body></html>\n"


def _badge(kind: str) -> str:
    severity = KINDS[kind].severity
    return f'<span class="badge {severity}">{severity}</span>'


def _panels(diagnosis: Diagnosis) -> Iterator[str]:
    yield '<div class="panel"><h2>Labels</h2><table><tr><th>label</th><th>count</th><th>becomes</th></tr>'
    for label, count in diagnosis.labels.items():
        yield f'<tr><td>{html.escape(label)}</td><td class="number">{count}</td>'
        yield f"<td>{html.escape(becomes(diagnosis, label))}</td></tr>"
    yield "</table></div>"
    images = [image for image in diagnosis.images if image.labels]
    if not images:
        return
    yield '<div class="panel"><h2>Chromosomes in an image</h2>' + _histogram([float(len(i.labels)) for i in images], 1)
    yield "</div>"
    lengths = np.concatenate([image.lengths for image in images]).tolist()
    yield '<div class="panel"><h2>Length, px</h2>' + _histogram(lengths) + "</div>"
    lines = "<br>".join(html.escape(line) for line in size_lines(diagnosis))
    yield f'<div class="panel"><h2>Sizes</h2><p>{lines}</p></div>'


def _histogram(values: Sequence[float], step: float | None = None, width: int = 300, height: int = 110) -> str:
    """A histogram as SVG. The tooltip of a bar gives its range and count.

    Args:
        values: At least one.
        step: Width of a bar; None for 24 bars.
        width: Width of the picture in pixels.
        height: Height of the bars in pixels.
    """
    low, high = min(values), max(values)
    bins = 24 if step is None or high - low > 60 else max(1, round((high - low) / step) + 1)
    edges = np.linspace(low - 0.5 * (step or 0), high + 0.5 * (step or 0) + (1e-9 if high == low else 0), bins + 1)
    counts, _ = np.histogram(values, edges)
    across = width / bins
    bars = []
    for index, count in enumerate(counts.tolist()):
        tall = height * count / max(counts)
        what = (
            f"{edges[index]:.0f} to {edges[index + 1]:.0f}"
            if step is None
            else f"{(edges[index] + edges[index + 1]) / 2:.0f}"
        )
        place = f'x="{index * across:.1f}" y="{height - tall:.1f}" width="{max(across - 1, 1):.1f}" height="{tall:.1f}"'
        bars.append(f'<rect {place} fill="#56759c"><title>{what}: {count}</title></rect>')
    ends = f'<text x="0" y="{height + 16}">{low:.0f}</text>'
    ends += f'<text x="{width}" y="{height + 16}" text-anchor="end">{high:.0f}</text>'
    return f'<svg width="{width}" height="{height + 20}" role="img">{"".join(bars)}{ends}</svg>'


def _section(diagnosis: Diagnosis, kind: str, findings: Sequence[Finding], pictures: int) -> Iterator[str]:
    yield f'<section id="{kind}"><h2>{_badge(kind)}{html.escape(diagnosis.kinds[kind].title)}: {len(findings)}</h2>'
    yield f"<p>{html.escape(diagnosis.kinds[kind].advice)}</p>"
    shown: list[Finding] = []
    yield '<div class="pictures">'
    for finding in findings:
        if len(shown) >= pictures:
            break
        figure = _figure(diagnosis, finding)
        if figure:
            shown.append(finding)
            yield figure
    yield "</div>"
    rest = [finding for finding in findings if finding not in shown]
    if rest:
        opened = " open" if len(rest) <= 10 else ""
        yield f"<details{opened}><summary>{'the other ' if shown else ''}{len(rest)}</summary><ul>"
        for finding in rest:
            yield f"<li>{html.escape(line_of(finding))}</li>"
        yield "</ul></details>"
    yield "</section>"


def _figure(diagnosis: Diagnosis, finding: Finding) -> str:
    """A picture of a finding with its caption; empty if there is no picture."""
    names = [name for name in (finding.file, *finding.others)[:2] if name in diagnosis.load]
    coded = [text for name in names if (text := _picture(diagnosis, finding, name))]
    if not coded:
        return ""
    tags = "".join(f'<img alt="" src="data:image/jpeg;base64,{text}">' for text in coded)
    inner = f'<div class="pair">{tags}</div>' if len(coded) > 1 else tags
    return f"<figure>{inner}<figcaption>{html.escape(line_of(finding))}</figcaption></figure>"


def _picture(diagnosis: Diagnosis, finding: Finding, name: str) -> str:
    """A JPEG in base64 of the finding's place with its surroundings, or of the whole image.

    Empty if the image cannot be decoded.
    """
    try:
        pixels = diagnosis.load[name]().pixels
    except Exception:  # decoders raise all kinds of errors; the finding itself says what is wrong
        log.debug("no picture of %s", name, exc_info=True)
        return ""
    height, width = pixels.shape
    left, top, right, bottom = 0, 0, width, height
    if finding.boxes and name == finding.file:
        corners = np.array(finding.boxes)
        left, top = (max(0, int(value) - MARGIN) for value in corners[:, :2].min(axis=0))
        right, bottom = (int(value) + 1 + MARGIN for value in corners[:, 2:].max(axis=0))
        # Of a place beyond the image, the nearest edge of the image is shown.
        left, top = min(left, width - 2), min(top, height - 2)
        right, bottom = min(max(right, left + 2), width), min(max(bottom, top + 2), height)
    picture = Image.fromarray(np.ascontiguousarray(pixels[top:bottom, left:right])).convert("RGB")
    scale = SIDE / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    picture = picture.resize(size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC)
    if name == finding.file:
        draw = ImageDraw.Draw(picture)
        for x0, y0, x1, y1 in finding.boxes:
            place = [(x0 - left) * scale, (y0 - top) * scale, (x1 - left) * scale, (y1 - top) * scale]
            draw.rectangle(place, outline=_BOX)
        for outline in finding.outlines:
            line = [(float(x - left) * scale, float(y - top) * scale) for x, y in outline]
            draw.line([*line, line[0]], fill=_OUTLINE, width=1)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
