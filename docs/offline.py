"""A hook of mkdocs: the build fails if a page of the site would load something from the internet."""

import re
from pathlib import Path
from typing import Any

#: What a browser fetches by itself. A link that somebody has to click on may lead anywhere.
LOADED = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*\bsrc=["']?(?:https?:)?//
    |<link\b(?![^>]*\brel=["']?(?:canonical|next|prev))[^>]*\bhref=["']?(?:https?:)?//
    |url\(["']?(?:https?:)?//
    |@import\s+["'](?:https?:)?//""",
    re.VERBOSE,
)


def loaded(text: str) -> list[str]:
    """What this page or style sheet would load from elsewhere."""
    return [found.group() for found in LOADED.finditer(text)]


def on_post_build(config: Any) -> None:
    """Mkdocs calls this when the site is on disk. Raises RuntimeError: a page would load something."""
    site = Path(config["site_dir"])
    for page in (*site.rglob("*.html"), *site.rglob("*.css")):
        if found := loaded(page.read_text(encoding="utf-8")):
            raise RuntimeError(f"{page.relative_to(site)} would load something from the internet: {found[0]}")
