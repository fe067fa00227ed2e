"""Programs as Debian ships them, unmodified, judged by what their peer saw of them.

Each runs twice in front of the same server, as a stranger and under `tuplebind run`. A witness
notes where its connections came from.
"""

import collections
import json

import cases
import harness
import pytest

MANY = 20  # connections that use every address of the pool


def expect_stranger(ground, case, witness):
    """Not from the pool: or the other half of the test could not fail."""
    visits = witness.visits()
    assert len(visits) >= case.least
    assert {v.address for v in visits} == {ground.server}


def counters(host):
    """Summed over the host's tables: a program that becomes another user may have two."""
    sums = collections.Counter()
    for table in json.loads(host.must(harness.COMMAND, "status", "--json"))["tables"]:
        if table["netns"] == host.namespace:
            sums.update(table["counters"])
    return sums


def expect_from_pool(ground, case, witness):
    visits = witness.visits()
    assert len(visits) >= case.least
    assert {v.address for v in visits} <= set(ground.pool)
    assert {v.port for v in visits} <= ground.host.ports
    assert witness.twins() == []
    if len(visits) >= MANY:
        assert {v.address for v in visits} == set(ground.pool)
    counted = counters(ground.host)
    assert counted["bound"] >= len(visits), counted
    assert counted["full"] == counted["table_full"] == 0, counted


@pytest.mark.parametrize("ground", ["v4", "v6"], indirect=True)
@pytest.mark.parametrize("case", cases.ALL, ids=lambda case: case.name.replace(" ", "-").replace(",", ""))
def test_program(request, ground, case):
    tell = request.node.user_properties  # for conftest's table
    tell += [("program", case.name), ("how", case.how), ("family", ground.family)]
    port = case.server(ground)

    witness = ground.witness(case.protocol, port)
    case.visit(ground, witness, ground.settings(None, case.protocol))
    expect_stranger(ground, case, witness)

    witness = ground.witness(case.protocol, port)
    case.visit(ground, witness, ground.settings("run", case.protocol))
    (expect_stranger if case.left_alone else expect_from_pool)(ground, case, witness)
    ground.host.reap()
    assert ground.host.claims() == []

    visits = witness.visits()
    tell.append(("seen", "left alone" if case.left_alone else
                 f"{len(visits)} from {len({v.address for v in visits})}"))
