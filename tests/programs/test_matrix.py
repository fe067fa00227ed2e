"""Programs as Debian ships them, unmodified, judged by what their peer saw of them.

Each runs twice in front of the same server, as a stranger and under `tuplebind run`. A witness
notes where its connections came from.
"""

import cases
import pytest

MANY = 20  # connections that use every address of the pool


def expect_stranger(ground, case, witness):
    """Not from the pool: or the other half of the test could not fail."""
    visits = witness.visits()
    assert len(visits) >= case.least
    assert {v.address for v in visits} == {ground.server}


def expect_from_pool(ground, case, witness):
    visits = witness.visits()
    assert len(visits) >= case.least
    assert {v.address for v in visits} <= set(ground.pool)
    assert {v.port for v in visits} <= ground.host.ports
    assert witness.twins() == []
    if len(visits) >= MANY:
        assert {v.address for v in visits} == set(ground.pool)


def expect_table(ground, visits):
    """The table has counted each of them, and nothing is left in it."""
    counters = ground.host.status()["counters"]
    assert counters["bound"] >= len(visits), counters
    assert counters["full"] == counters["table_full"] == 0, counters
    ground.host.reap()
    assert ground.host.claims() == []


@pytest.mark.parametrize("ground", ["v4", "v6"], indirect=True)
@pytest.mark.parametrize("case", cases.ALL, ids=lambda case: case.name.replace(" ", "-").replace(",", ""))
def test_program(ground, case, record_property):
    for name, value in (("program", case.name), ("how", case.how), ("family", ground.family)):
        record_property(name, value)
    port = case.server(ground)

    witness = ground.witness(case.protocol, port)
    case.visit(ground, witness, ground.settings(None, case.protocol))
    expect_stranger(ground, case, witness)

    witness = ground.witness(case.protocol, port)
    case.visit(ground, witness, ground.settings("run", case.protocol))
    expect_from_pool(ground, case, witness)
    visits = witness.visits()
    expect_table(ground, visits)
    record_property("connections", len(visits))
    record_property("addresses", len({v.address for v in visits}))
