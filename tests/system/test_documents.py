"""Links between the documents lead somewhere, in the tree and within a page."""

import re

import harness
import pytest

DOCUMENTS = sorted(str(path.relative_to(harness.REPOSITORY))
                   for where in (".", "docs", "tests", "tests/fuzz") for path in (harness.REPOSITORY / where).glob("*.md"))


def anchors(text):
    """As they are made of headings: small letters, blanks as dashes, no other marks."""
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-")
            for heading in re.findall(r"^#+ (.*)", text, re.M)}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links(document):
    path = harness.REPOSITORY / document
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text()) if "://" not in link]
    for link in links:
        file, _, anchor = link.partition("#")
        target = path.parent / file if file else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text()), link


def test_index_has_all():
    index = (harness.REPOSITORY / "docs/README.md").read_text()
    for path in (harness.REPOSITORY / "docs").glob("*.md"):
        assert path.name == "README.md" or f"({path.name})" in index, path
