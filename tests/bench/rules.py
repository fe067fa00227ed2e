"""What 1,000 rules add to a connect(): whole programs, with and without them, in turn.

The destination matches none of the rules, or the last one, so that a look at one rule after another would have to
go through all. Each round connects to a port of its own, whose lane is empty. Prints medians.
"""

import pathlib
import statistics
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "system"))
import harness  # noqa: E402

ROUNDS, CONNECTIONS, RULES = 25, 2000, 1000
LENGTHS = (16, 20, 22, 24, 26, 28, 32)


def some_rules(last):
    """RULES rules; the last one is for everything of IPv4, or for nobody."""
    rules = [f"10.{n // 250}.{n % 250}.0/{LENGTHS[n % len(LENGTHS)]}{':443' if n % 2 else ''}=auto"
             for n in range(RULES - 1)]
    return ";".join(rules + [f"{last}=auto"])


def main():
    subprocess.run([harness.BUILD / "tests" / "bench" / "rules"], check=True)
    variants = {"no rules": None, "1,000 rules, none matches": some_rules("203.0.113.1"),
                "1,000 rules, the last one matches": some_rules("0.0.0.0/0")}
    times = {name: [] for name in variants}
    host = harness.Host((32768, 60999))
    try:
        port = 9000
        host.sink(*(f"127.0.0.1 {port + n}" for n in range(ROUNDS * len(variants))))
        for _ in range(ROUNDS):
            for name, rules in variants.items():
                settings = {"rules": rules} if rules else {}
                result, program = host.seed("127.0.0.1", port, CONNECTIONS, **settings)
                assert result["opened"] == CONNECTIONS, result
                times[name].append(result["us_first_half"])
                program.end()
                port += 1
    finally:
        host.close()
    plain = statistics.median(times["no rules"])
    for name, values in times.items():
        median = statistics.median(values)
        print(f"{name:34} {median:6.2f} us per connect()  {median - plain:+.2f}")


main()
