"""The code blocks of the README and the manual, with what their first line says of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
# By their paths from the checkout: also how tests call them.
PAGES = sorted(
    path.relative_to(ROOT).as_posix() for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md"))
)
TEXT = "text"  # the language of what is no code: pictures, and what a command prints

_FENCE = re.compile(r"^( *)(`{3,}|~{3,})(.*)$")
_NOT_RUN = re.compile(r"<!-- not run: (.+) -->")
_FILE = re.compile(r'(?:# |""")(shop/\w+\.py)\b')


@dataclass(frozen=True)
class Block:
    """``line`` is that of its first line of code. ``not_run`` is the reason, where a comment before it gives one."""

    page: str
    line: int
    language: str
    code: str
    not_run: str = ""

    @property
    def is_settings(self) -> bool:
        return self.language == "python" and self.code.startswith("# settings.py\n")

    @property
    def file(self) -> str:
        """The file of the site that it belongs to, such as ``shop/views.py``, or nothing."""
        match = _FILE.match(self.code)
        return match[1] if match else ""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: str) -> list[Block]:
    """All fenced blocks of a page. ValueError for one that does not end."""
    found: list[Block] = []
    opened: tuple[str, str, int] | None = None
    code: list[str] = []
    reason, indent = "", 0
    for number, line in enumerate((ROOT / page).read_text("utf-8").splitlines(), 1):
        fence = _FENCE.match(line)
        if opened is None:
            if fence:
                opened, code, indent = (fence[2], fence[3].strip(), number + 1), [], len(fence[1])
            elif line.strip():
                mark = _NOT_RUN.fullmatch(line.strip())
                reason = mark[1] if mark else ""
        elif fence and fence[2].startswith(opened[0]) and not fence[3].strip():
            found.append(Block(page, opened[2], opened[1], "\n".join(code) + "\n", reason))
            opened, reason = None, ""
        else:
            code.append(line[indent:])
    if opened:
        raise ValueError(f"{page}:{opened[2]}: this block does not end.")
    return found


def every(language: str = "") -> list[Block]:
    """The blocks of all pages that are to be run, or those of one language."""
    return [block for page in PAGES for block in blocks(page) if not block.not_run and language in ("", block.language)]


def python(page: str) -> list[Block]:
    """The Python of a page that is not its settings."""
    return [block for block in every("python") if block.page == page and not block.is_settings]
