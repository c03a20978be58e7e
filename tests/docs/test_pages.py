"""Every page of docs/ is followed from top to bottom, and all that it shows comes true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import BLOCK, ROOT, Reader
from tests.test_layout import FOLDERS

PAGES = sorted((ROOT / "docs").glob("*.md"))

# Pages whose programs take long.
LONG = ("recording", "observability")
TEXTS = [*PAGES, ROOT / "docs" / "llms.txt", *sorted(ROOT.glob("*.md"))]

LINK = re.compile(r"\]\(([^)\s:]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    found: set[str] = set()
    for heading in HEADING.findall(text):
        plain = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        found.add(f"{plain}-1" if plain in found else plain)
    return found


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=pytest.mark.slow if page.stem in LONG else (), id=page.stem)
        for page in PAGES
    ],
)
def test_what_a_page_shows_comes_true(page: Path, tmp_path: Path) -> None:
    Reader(tmp_path).follow(page)


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.stem)
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), f"{link}: {sorted(anchors(target))}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_says_in_its_first_line_what_it_is_about(page: Path) -> None:
    assert page.read_text(encoding="utf-8").startswith("# ")


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "SECURITY.md", "docs/architecture.md"])
def test_the_files_that_a_page_names_are_there(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    named = re.findall(r"`((?:wsrpc|tests|docs)/[\w./-]+)`", text)
    assert named
    for path in named:
        assert "NAME" in path or (ROOT / path).exists(), path


def test_the_architecture_names_every_file_on_the_path_of_a_call() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for path in re.findall(r"^\W*([a-z]+/[a-z_]+\.py) ", text, re.MULTILINE):
        assert (ROOT / "wsrpc" / path).exists(), path


def test_the_architecture_has_every_folder_in_the_order_of_its_imports() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    tree = text.partition("```text\n")[2].partition("```")[0]
    shown = re.findall(r"^  (\w+)/ ", tree, re.MULTILINE)
    order = [name for name in FOLDERS if name in shown]
    assert shown == order[::-1]
    folders = {path.parent.name for path in (ROOT / "wsrpc").glob("*/__init__.py")}
    assert set(shown) == folders


def test_contributing_has_the_order_of_the_folders() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    listed = text.partition("the order:\n\n")[2].partition("\n\n")[0]
    words = [word for word in listed.replace("the package itself", "").split() if word != "·"]
    assert words == [name for name in FOLDERS if name not in ("", "__main__")]


def test_contributing_is_at_most_60_lines() -> None:
    assert len((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()) <= 60
