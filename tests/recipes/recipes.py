"""docs/recipes.md, taken apart: what a reader would type and write is what the tests run."""

import collections
import re

import harness

DOCUMENT = harness.REPOSITORY / "docs" / "recipes.md"

# path: where the line before the block says that it is a file, "`/path`:"
Block = collections.namedtuple("Block", "path language text")

BLOCK = re.compile(r"(?:`(?P<path>/[^`\n]*)`:\n+)?```(?P<language>\w+)\n(?P<text>.*?)^```$", re.M | re.S)


def sections():
    """The blocks of each section, by its heading."""
    found = {}
    for section in re.split(r"^## ", DOCUMENT.read_text(), flags=re.M)[1:]:
        heading, _, rest = section.partition("\n")
        found[heading] = [Block(**match.groupdict()) for match in BLOCK.finditer(rest)]
    return found


class Recipe:
    """One section. It knows which of its blocks have been taken, so that none is left untested."""

    def __init__(self, heading):
        self.blocks = sections()[heading]
        self.left = list(self.blocks)

    def take(self, holds):
        found = [block for block in self.blocks if holds(block)]
        assert len(found) == 1, found
        if found[0] in self.left:
            self.left.remove(found[0])
        return found[0].text

    def commands(self, words):
        """The one block of commands that contains these words."""
        return self.take(lambda block: block.language == "sh" and words in block.text)

    def write(self, machine, path):
        """Writes the file that the recipe has for this path."""
        machine.write(path, self.take(lambda block: block.path == path))
