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


def expect_left_alone(ground, case, witness):
    """As if tuplebind were not there. It has counted them, if they were connects at all."""
    expect_stranger(ground, case, witness)
    assert case.protocol == "udp" or ground.host.status()["counters"]["passed"] >= case.least


def expect_from_pool(ground, case, witness):
    visits = witness.visits()
    assert len(visits) >= case.least
    assert {v.address for v in visits} <= set(ground.pool)
    assert {v.port for v in visits} <= ground.host.ports
    assert witness.twins() == []
    if len(visits) >= MANY:
        assert {v.address for v in visits} == set(ground.pool)
    counters = ground.host.status()["counters"]
    assert counters["bound"] >= len(visits), counters
    assert counters["full"] == counters["table_full"] == 0, counters


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
    (expect_left_alone if case.left_alone else expect_from_pool)(ground, case, witness)
    ground.host.reap()
    assert ground.host.claims() == []

    visits = witness.visits()
    record_property("seen", "left alone" if case.left_alone else
                    f"{len(visits)} from {len({v.address for v in visits})}")
