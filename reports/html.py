"""The same report as one self-contained web page: pictures inside, no scripts, nothing fetched."""

from __future__ import annotations

import base64
import re
from html import escape

# Text on background at 7:1 or more throughout; an alarm is red, bold and boxed, so colour is not its only sign.
_STYLE = """
:root{color-scheme:light}
body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:#fff}
p,li{max-width:46rem}h1,h2,h3{line-height:1.25}
table{border-collapse:collapse;display:block;overflow-x:auto;font-size:.85rem;margin:1rem 0}
th,td{border:1px solid #d0d0d0;padding:.3rem .6rem;vertical-align:top}th{background:#f0f0f0;text-align:left}
tr:nth-child(even) td{background:#fafafa}code{background:#f2f2f2;padding:0 .2em;border-radius:3px}
img{max-width:100%;height:auto}
.alarm{border:3px solid #9b0000;background:#fff0f0;color:#6b0000;margin:1rem 0;padding:.2rem 1rem}
@media print{
body{max-width:none;margin:0;font-size:10pt}table{display:table;font-size:7.5pt;overflow:visible}
thead{display:table-header-group}tr,img{break-inside:avoid}h2,h3{break-after:avoid}p,li{max-width:none}
}
""".strip()


def html(markdown: str, figures: dict[str, bytes], *, title: str) -> str:
    """The page of a report's markdown; raw HTML in it stays text."""
    from markdown_it import MarkdownIt

    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown)
    body = re.sub(r'src="figures/([^"]+)"', lambda match: f'src="{_inline(figures[match[1]])}"', body)
    body = re.sub(r"<th(?=[ >])", '<th scope="col"', body)
    body = body.replace("<blockquote>", '<blockquote class="alarm" role="alert">')  # nothing else is one
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
    head += f"<style>{_STYLE}</style>"
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n<main>\n{body}</main>\n</body></html>\n'


def _inline(picture: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(picture).decode()
