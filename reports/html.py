"""The same report as one self-contained web page: pictures inside, no scripts, nothing fetched."""

from __future__ import annotations

import base64
import re
from html import escape

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:#fff}
table{border-collapse:collapse;display:block;overflow-x:auto;font-size:.85rem;margin:1rem 0}
th,td{border:1px solid #d0d0d0;padding:.3rem .6rem;vertical-align:top}th{background:#f4f4f4}
tr:nth-child(even) td{background:#fafafa}code{background:#f2f2f2;padding:0 .2em;border-radius:3px}
img{max-width:100%;height:auto}
""".strip()


def html(markdown: str, figures: dict[str, bytes], *, title: str) -> str:
    """The page of a report's markdown; raw HTML in it stays text."""
    from markdown_it import MarkdownIt

    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown)
    body = re.sub(r'src="figures/([^"]+)"', lambda match: f'src="{_inline(figures[match[1]])}"', body)
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
    head += f"<style>{_STYLE}</style>"
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}</body></html>\n'


def _inline(picture: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(picture).decode()
