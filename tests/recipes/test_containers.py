"""docs/recipes.md's containers, run by podman from an image of a few files of this machine."""

import pytest
import recipes
from machine import POOL

# The device filter of cgroups needs a right that a tests' machine may not have; no recipe is concerned.
CONTAINERS_CONF = """
[containers]
cgroups = "disabled"
"""

IMPORT = r"""
for program in curl sh sleep df touch; do
	for file in $(command -v $program) $(ldd $(command -v $program) | grep -o '/[^ ]*'); do
		mkdir -p root${file%/*}
		cp -L $file root$file
	done
done
tar -C root -c . | podman import - client
"""


@pytest.fixture
def engine(pool):
    """The machine with podman and an image "client"."""
    pool.write("/etc/containers/containers.conf", CONTAINERS_CONF)
    pool.shell(f"mkdir /tmp/client; cd /tmp/client; {IMPORT}", limit=120)
    return pool


def expect_turns(engine, origin, *commands):
    """Each connects once, from the address after the one of the command before: they share a table."""
    used = []
    for command in commands:
        engine.shell(command)
        used += origin.visitors(1)
    start = POOL.index(used[0])
    assert used == [POOL[(start + n) % len(POOL)] for n in range(len(used))]


@pytest.mark.recipe("Containers")
def test_containers(recipe, engine, origin):
    mounted = recipe.commands("--ipc host")
    engine.shell(mounted.replace("--env LD_PRELOAD", "--env NO_PRELOAD"))
    assert origin.visitors(1) == {"10.0.0.4"} and engine.tables() == []

    expect_turns(engine, origin, *[mounted] * 3)
    assert engine.tables() == [f"/dev/shm/tuplebind.1000.{engine.namespace}"]

    recipe.write(engine, "/srv/image/Containerfile")
    engine.shell(recipe.commands("podman build"))
    both = recipe.commands("--ipc container:first")
    expect_turns(engine, origin, both, *[both[both.index("podman run --rm"):]] * 2)


def test_containers_with_tables_of_their_own(engine, origin):
    """What the recipe says of them."""
    command = recipes.Recipe("Containers").commands("--ipc host").replace("--ipc host ", "")
    engine.shell(command)
    assert origin.visitors(1) < set(POOL)
    assert engine.tables() == []

    larger = command.replace("--env", "--env TUPLEBIND_STRICT=1 --env TUPLEBIND_TABLE_SIZE=64M --env", 1)
    refused = engine.run("sh", "-ec", larger)
    assert refused.code == 78 and "/dev/shm" in refused.err, refused
    engine.shell(larger.replace("--rm", "--rm --shm-size 70m"))
    assert origin.visitors(1) < set(POOL)
