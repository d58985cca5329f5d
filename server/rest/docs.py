"""The page at /docs: made here from the API's description, so it needs no network and no script."""

from __future__ import annotations

from functools import lru_cache
from html import escape
from typing import Any

from server.rest.openapi import document

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color:
#222; } code, pre { font-family: ui-monospace, monospace; font-size: .92em; background: #f4f4f2; } pre {
padding: .8rem; overflow-x: auto; } code { padding: .1em .3em; } section { border-top: 1px solid #ddd;
padding: .5rem 0; } h3 { margin-bottom: 0; } .method { display: inline-block; min-width: 5ch; font-weight:
700; color: #0b6; } table { border-collapse: collapse; } td, th { text-align: left; padding: .2rem .8rem .2rem
0; vertical-align: top; } @media (prefers-color-scheme: dark) { body { background: #181818; color: #ddd; }
code, pre { background: #2a2a28; } }
"""


@lru_cache(1)
def page() -> bytes:
    """The page, as UTF-8."""
    api = document()
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(api['info']['title'])}</title><style>{_STYLE}</style>",
        f"<h1>{escape(api['info']['title'])}</h1>{_text(api['info']['description'])}",
        '<p>For programs: <a href="/openapi.json">/openapi.json</a></p>',
    ]
    for path, operations in api["paths"].items():
        shared = operations.get("parameters", [])
        for method, operation in operations.items():
            if method != "parameters":
                parts.append(_operation(api, path, method, operation, shared))
    parts.append("<section><h2>Problems</h2><table>")
    for kind, (status, title) in api["x-problems"].items():
        parts.append(f"<tr><td><code>{kind}</code><td>{status}<td>{escape(title)}")
    parts.append("</table></section></html>")
    return "".join(parts).encode()


def _text(text: str) -> str:
    """Paragraphs, and lists of lines that begin with a dash, with what stands in backquotes as code."""
    found = []
    for paragraph in text.strip().split("\n\n"):
        pieces = escape(paragraph).split("`")
        words = "".join(f"<code>{p}</code>" if i % 2 else p for i, p in enumerate(pieces))
        if words.startswith("- "):
            found.append("<ul>" + "".join(f"<li>{item}" for item in words[2:].split("\n- ")) + "</ul>")
        else:
            found.append(f"<p>{words}</p>")
    return "".join(found)


def _operation(
    api: dict[str, Any], path: str, method: str, operation: dict[str, Any], shared: list[dict[str, Any]]
) -> str:
    rows = []
    for parameter in [*shared, *operation.get("parameters", [])]:
        named = _resolved(api, parameter)
        rows.append(
            f"<tr><td><code>{escape(named['name'])}</code><td>{named['in']}<td>{escape(named['description'])}"
        )
    answers = "".join(
        f"<tr><td>{status}<td colspan=2>{escape(_resolved(api, answer)['description'])}"
        for status, answer in operation["responses"].items()
    )
    title = f'<span class="method">{method.upper()}</span> <code>{escape(path)}</code>'
    about = _text(operation.get("description", ""))
    return (
        f"<section><h3>{title}</h3><p><b>{escape(operation['summary'])}</b></p>{about}"
        f"<table>{''.join(rows)}{answers}</table></section>"
    )


def _resolved(api: dict[str, Any], item: dict[str, Any]) -> dict[str, Any]:
    """What a reference points at."""
    found: Any = item
    if "$ref" in item:
        found = api
        for name in item["$ref"].removeprefix("#/").split("/"):
            found = found[name]
    result: dict[str, Any] = found
    return result
