"""What finding the rule of a destination costs, and what 1,000 rules add to a connect().

The destination matches none of the rules, or the last one, so that a look at one rule after another would have to
go through all. Each round connects in lanes of its own.
"""

import json
import subprocess

from ground import TUPLEBIND, Ground, bench_program, median

RULES = 1000
LENGTHS = (16, 20, 22, 24, 26, 28, 32)


def some_rules(last):
    """RULES rules; the last one is for everything of IPv4, or for nobody."""
    rules = [f"10.{n // 250}.{n % 250}.0/{LENGTHS[n % len(LENGTHS)]}{':443' if n % 2 else ''}=auto"
             for n in range(RULES - 1)]
    return ";".join(rules + [f"{last}=auto"])


def measure_rules(bench):
    done = subprocess.run([bench_program("rules")], check=True, stdout=subprocess.PIPE, text=True)
    looks = {line["rules"]: line["ns"] for line in map(json.loads, done.stdout.splitlines())}
    for count, ns in looks.items():
        bench.report.row("rules", f"finding the rule of a destination, {count:,} rules", "ns", ns)
    variants = {"none": {}, "no match": {"rules": some_rules("203.0.113.1")},
                "last matches": {"rules": some_rules("0.0.0.0/0")}}
    times = {name: [] for name in variants}
    connections = bench.pick(2000, 100)
    with Ground() as ground:
        for _ in bench.rounds("rules", 25, 2):
            for name, settings in variants.items():
                line, = ground.client(TUPLEBIND, "--open", connections, **settings)
                assert line["count"] == connections, line
                times[name].append(line["median"])
    for name in list(variants)[1:]:
        more = median(a - b for a, b in zip(times[name], times["none"]))
        bench.report.row("rules", f"{RULES:,} rules add to a connect(), {name}", "ns", more)
    bench.report.raw("rules", ["round", *times], [[n, *values] for n, values in enumerate(zip(*times.values()))])
