"""Fixtures of the recipes: the document's section, a machine, and the upstream beyond a cable."""

import contextlib
import os
import pathlib
import tempfile

import harness
import machine as machines
import origin as origins
import pytest
import recipes

from machine import UPSTREAM


def pytest_configure(config):
    config.addinivalue_line("markers", "recipe(heading): the section of docs/recipes.md that the test runs")


@pytest.fixture
def recipe(request, machine):  # which may skip the test, before any block is missed
    """The section that the test is marked with; all of its blocks have to be used."""
    made = recipes.Recipe(request.node.get_closest_marker("recipe").args[0])
    yield made
    assert made.left == [], "blocks of the recipe that the test has not used"


@pytest.fixture
def upstream():
    """A host at the other end of machine's eth0, 10.0.0.100."""
    with contextlib.closing(harness.Host()) as made:
        yield made


@pytest.fixture
def machine(upstream):
    """A Debian with the address 10.0.0.4 and the kernel's own range of ports."""
    if os.geteuid() != 0 or not pathlib.Path("/proc/self/uid_map").read_text().split()[2].startswith("4294967295"):
        pytest.skip("systemd as a machine's first process needs root")
    with contextlib.closing(machines.Machine(ports=(32768, 60999))) as made:
        harness.join(upstream, made, [f"{UPSTREAM}/24"], ["10.0.0.4/24"], other_device="eth0")
        yield made


@pytest.fixture
def directory():
    """For the upstream's files, open to workers that are not root."""
    with tempfile.TemporaryDirectory(prefix="tuplebind-", ignore_cleanup_errors=True) as name:
        made = pathlib.Path(name)
        made.chmod(0o755)
        yield made


@pytest.fixture
def pool(machine):
    """The machine with its fifty addresses."""
    machine.shell(recipes.Recipe("The addresses").commands("ip address add"))
    return machine


@pytest.fixture
def origin(upstream, directory):
    return origins.Origin(upstream, directory / "origin", UPSTREAM)
