"""The pages that users read, taken apart: code blocks, links, commands."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(
    r"^(?:<!-- not run: (?P<why>.+?) -->\n)?^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
SPAN = re.compile(r"`([^`\n]+)`")


class Block(NamedTuple):
    """A fenced block of code."""

    kind: str
    text: str
    place: str  # page:line
    why_not: str  # why it is not run, if it is not


class Shown(NamedTuple):
    """A command and what it prints, as a page shows them."""

    words: list[str]
    output: str


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            found["kind"],
            found["text"],
            f"{name_of(page)}:{text.count(chr(10), 0, found.start()) + 1}",
            found["why"] or "",
        )
        for found in FENCE.finditer(text)
    ]


def prose(page: Path) -> str:
    """The text of a page without its blocks of code."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def shell_lines(block: Block) -> list[list[str]]:
    """The commands of a block of kind ``sh``, as words."""
    lines = (shlex.split(line, comments=True) for line in block.text.splitlines())
    return [words for words in lines if words]


def shown(block: Block) -> list[Shown]:
    """The commands of a block of kind ``console``, each with the output below it."""
    parts = re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]
    return [Shown(shlex.split(part.partition("\n")[0]), part.partition("\n")[2]) for part in parts]


def commands(page: Path) -> list[list[str]]:
    """Every command of ours that a page names, in blocks or in the text."""
    text = page.read_text(encoding="utf-8")
    spans = [span for span in SPAN.findall(prose(page)) if span.startswith("tunesmith ")]
    lines = re.findall(r"^(?:    |\$ )(tunesmith .*)$", text, re.MULTILINE)
    in_blocks = [words for block in blocks(page) if block.kind == "sh" for words in shell_lines(block)]
    found = [shlex.split(line, comments=True) for line in [*spans, *lines]] + in_blocks
    return [words for words in found if words[0] == "tunesmith"]


def links(page: Path) -> list[str]:
    """Where the links and pictures of a page lead, those to other sites left out."""
    return [link for link in LINK.findall(prose(page)) if "://" not in link]


def anchors(page: Path) -> set[str]:
    """What can be linked to in a page: its headings, written as GitHub does."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def figures(page: Path) -> list[tuple[str, str]]:
    """The passages whose numbers come from a file: the file, the text."""
    found = re.findall(r"<!-- figures: (\S+) -->\n(.*?)<!-- end of figures -->", page.read_text("utf-8"), re.DOTALL)
    return [(file, text) for file, text in found]
