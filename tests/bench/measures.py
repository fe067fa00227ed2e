"""What is measured, against whom, and what is to be reached. Each function is one measure of scripts/bench."""

import json
import os
import pathlib
import subprocess
import time

import harness
from ground import LAST, ORACLE, PORTS, TUPLEBIND, Ground, bench_program, median, paired

# Built by scripts/bench beside the one that is measured.
WITHOUT_PROBES = harness.BUILD.with_name("build-without-probes") / "lib" / "libtuplebind.so"

RIVALS = ["plain", "bind0", "no-port", "range", "window"]
WAYS = [ORACLE, TUPLEBIND, *RIVALS]
LABELS = {"late": "raw late bind, port known", "plain": "plain connect()", "bind0": "bind(address, 0)",
          "no-port": "IP_BIND_ADDRESS_NO_PORT", "range": "IP_LOCAL_PORT_RANGE, whole",
          "window": "IP_LOCAL_PORT_RANGE, 500 at random", "explicit": "raw explicit bind, port known",
          TUPLEBIND: TUPLEBIND}
# A connect() of these takes milliseconds: of each bucket some are measured, the rest filled in.
SAMPLED = {"plain": 20, "no-port": 20, "bind0": 8}


def some(count, kind):
    """1 process, 2 processes."""
    return f"{count} " + ({"processes": "process", "threads": "thread"}[kind] if int(count) == 1 else kind)


def undisturbed(values):
    """One of ten was faster. Whatever else runs on the machine can only make things slower."""
    return sorted(values)[len(values) // 10]


def us(ns):
    return ns / 1000


def by_way(ways=WAYS):
    return {way: [] for way in ways}


def against_rivals(report, measure, what, values, unit="us", targets=None, scale=us):
    """A row for each rival: the oracle may be no faster than so much, the others are to be slower."""
    targets = targets or {}
    for way in values:
        if way == TUPLEBIND or not values[way]:
            continue
        ours = paired(values[TUPLEBIND], values[way])
        ratio = ours if way == ORACLE else 1 / ours
        report.row(measure, what, unit, scale(median(values[TUPLEBIND])), LABELS[way], scale(median(values[way])),
                   ratio, targets.get(way, ""))


def measure_fill(bench):
    """connect() latency by fill of a lane."""
    buckets, opened = bench.pick(100, 10), bench.pick(PORTS, 500)
    raw, medians, means = [], {}, {}
    with Ground((LAST - opened + 1, LAST)) as ground:
        for number in bench.rounds("fill", 11, 1):
            for way in WAYS:
                bench.step(way)
                own = ["--own", SAMPLED[way]] if way in SAMPLED else []
                lines = ground.client(way, "--open", opened, "--buckets", buckets, *own)
                assert way == "window" or lines[-1]["opened"] == opened, lines[-1]
                for bucket, line in enumerate(lines[:buckets]):
                    raw.append([number, way, bucket, line["opened"], *(us(line[key]) for key in (
                        "median", "mean", "p99", "max")), line["failed"]])
                    medians.setdefault((way, bucket), []).append(line["median"])
                    means.setdefault((way, bucket), []).append(line["mean"])
    bench.report.raw("fill", ["round", "way", "bucket", "opened", "median us", "mean us", "p99 us", "max us",
                              "failed"], raw)
    upper = range(buckets // 2 + buckets // 25, buckets)

    def ratio(values, way, bucket):
        pairs = zip(values[TUPLEBIND, bucket], values[way, bucket])
        return median([ours / other for ours, other in pairs])

    ratios = [ratio(medians, ORACLE, bucket) for bucket in range(buckets)]
    worst = ratios.index(max(ratios))
    bench.report.row("fill", f"connect(), the worst of {buckets} buckets ({100 * worst // buckets} % taken)", "us",
                     us(median(medians[TUPLEBIND, worst])), LABELS[ORACLE],
                     us(median(medians[ORACLE, worst])), max(ratios), "<= 1.10")
    bench.report.row("fill", "connect(), the median bucket", "us",
                     us(median(median(medians[TUPLEBIND, b]) for b in range(buckets))), LABELS[ORACLE],
                     us(median(median(medians[ORACLE, b]) for b in range(buckets))), median(ratios))
    for way in RIVALS:
        # A rival that ends before the last buckets has none there.
        above = [b for b in upper if len(medians.get((way, b), ())) == len(medians[TUPLEBIND, b])]
        if above:
            bench.report.row("fill", "connect(), mean above half", "us",
                             us(median(median(means[TUPLEBIND, b]) for b in above)), LABELS[way],
                             us(median(median(means[way, b]) for b in above)),
                             median(1 / ratio(means, way, b) for b in above),
                             {"plain": ">= 40", "bind0": ">= 250"}.get(way, ""))
    bench.report.plot("fill", f"connect() by fill of a lane of {opened:,} ports", "ports taken, %",
                      "us (median)",
                      {LABELS[way]: [(100 * (b + 1) / buckets, us(median(medians[way, b])))
                                     for b in range(buckets) if (way, b) in medians] for way in WAYS},
                      ["set logscale y"])


def measure_churn(bench):
    """Closing a connection drawn at random and opening another."""
    fills, ports = (50, 90, 99, 99.9), bench.pick(PORTS, 2000)
    raw, points = [], by_way()
    with Ground((LAST - ports + 1, LAST)) as ground:
        steps = {fill: by_way() for fill in fills}
        for number in bench.rounds("churn", 7, 1):
            for fill in fills:
                for way in WAYS:
                    bench.step(f"{fill} %, {way}")
                    line, = ground.client(way, "--open", int(ports * fill / 100), "--churn",
                                          bench.pick(0.3, 0.02))
                    raw.append([number, fill, way, us(line["median"]), us(line["mean"]), us(line["p99"]),
                                line["failed"], line["count"]])
                    steps[fill][way].append(line["median"])
    bench.report.raw("churn", ["round", "fill %", "way", "median us", "mean us", "p99 us", "failed", "steps"], raw)
    for fill in fills:
        targets = {ORACLE: "<= 1.10"} | ({"range": ">= 3"} if fill == 99.9 else {})
        against_rivals(bench.report, "churn", f"close() and connect(), {fill} % taken", steps[fill],
                       targets=targets)
        for way in WAYS:
            points[way].append((f"{fill} %", us(median(steps[fill][way]))))
    bench.report.plot("churn", "one closed, one opened: time by fill", "ports taken", "us (median)",
                      {LABELS[way]: points[way] for way in WAYS}, ["set logscale y"], "linespoints lw 2")


def measure_failing(bench):
    """connect() when all ports are taken."""
    ports = bench.pick(PORTS, 500)
    raw, medians, means = [], by_way(), by_way()
    with Ground((LAST - ports + 1, LAST)) as ground:
        for number in bench.rounds("failing", 7, 1):
            for way in WAYS:
                bench.step(way)
                tries = 200000 if way in (ORACLE, TUPLEBIND) else 1000 if way == "window" else 50
                _, line = ground.client(way, "--open", ports, "--own", 1, "--failing", bench.pick(tries, 10))
                assert line["failed"] == line["count"], line
                raw.append([number, way, us(line["median"]), us(line["mean"]), us(line["p99"]), us(line["max"])])
                medians[way].append(line["median"])
                means[way].append(line["mean"])
    bench.report.raw("failing", ["round", "way", "median us", "mean us", "p99 us", "max us"], raw)
    against_rivals(bench.report, "failing", "connect() that fails, all ports taken", medians,
                   targets={ORACLE: "<= 1.50", "plain": ">= 400"})
    bench.report.row("failing", "the same, mean (now and then the lane is looked through for dead claims)", "us",
                     us(median(means[TUPLEBIND])), LABELS[ORACLE], us(median(means[ORACLE])),
                     paired(means[TUPLEBIND], means[ORACLE]))


def measure_timewait(bench):
    """Connections to one destination once all ports have been in TIME_WAIT, over a cable."""
    ways, ports = ["explicit", TUPLEBIND, "plain"], bench.pick(2048, 256)
    seconds = bench.pick(1.0, 0.2)
    raw, rates, failed, waited = [], by_way(ways), by_way(ways), by_way(ways)
    for number in bench.rounds("timewait", 9, 1):
        for way in ways:
            bench.step(way)
            # Hosts of its own: what one leaves in TIME_WAIT the next would meet.
            with Ground((LAST - ports + 1, LAST), cable=True) as ground:
                server = ground.server.start(harness.program("echo"), ground.to, 8000)
                assert server.line() == "ready", server.errors()
                options = ["--open", 0, "--first", ground.first, "--churn"]
                made = 0
                for _ in range(50):  # until there was a lap over all ports
                    lap, = ground.client(way, *options, seconds / 2, port=8000)
                    made += lap["count"] + lap["failed"]
                    if made >= ports:
                        break
                assert made >= ports, f"no lap: {made}"
                line, = ground.client(way, *options, seconds, port=8000)
            raw.append([number, way, line["count"] / seconds, line["failed"] / seconds, us(line["median"])])
            rates[way].append(line["count"] / seconds)
            failed[way].append(line["failed"])
            waited[way].append(line["median"])
    bench.report.raw("timewait", ["round", "way", "connections/s", "failures/s", "median us of a connect()"], raw)
    bench.report.row("timewait", "connections/s, all ports in TIME_WAIT", "1/s", median(rates[TUPLEBIND]),
                     LABELS["explicit"], median(rates["explicit"]), paired(rates[TUPLEBIND], rates["explicit"]),
                     ">= 0.80")
    bench.report.row("timewait", "connections/s, all ports in TIME_WAIT", "1/s", median(rates[TUPLEBIND]),
                     LABELS["plain"], median(rates["plain"]))
    bench.report.row("timewait", "failed connect()s", "all rounds", sum(failed[TUPLEBIND]), LABELS["plain"],
                     sum(failed["plain"]), sum(failed[TUPLEBIND]), "<= 0")
    bench.report.row("timewait", "connect(), all ports in TIME_WAIT", "us", us(median(waited[TUPLEBIND])),
                     LABELS["explicit"], us(median(waited["explicit"])),
                     paired(waited[TUPLEBIND], waited["explicit"]))


def measure_first(bench):
    """The first connections of an empty lane."""
    count, ways = bench.pick(1000, 100), ["plain", ORACLE, TUPLEBIND]
    medians, means, raw = by_way(ways), by_way(ways), []
    with Ground() as ground:
        for number in bench.rounds("first", 41, 2):
            for way in ways:
                line, = ground.client(way, "--open", count)
                assert line["count"] == count, line
                medians[way].append(line["median"])
                means[way].append(line["mean"])
                raw.append([number, way, us(line["median"]), us(line["mean"])])
    bench.report.raw("first", ["round", "way", "median us", "mean us"], raw)
    for name, values, target in (("median", medians, "<= 1.10"), ("mean", means, "")):
        for way in ("plain", ORACLE):
            bench.report.row("first", f"the first {count:,} connects of an empty lane, {name}", "us",
                             us(median(values[TUPLEBIND])), LABELS[way], us(median(values[way])),
                             paired(values[TUPLEBIND], values[way]), target if way == "plain" else "")


def measure_scale(bench):
    """Connections per second of processes and threads."""
    ways, raw, points = ["plain", ORACLE, TUPLEBIND], [], {}
    cases = [(kind, workers, 400) for kind in ("processes", "threads") for workers in (1, 2, 4, 8)]
    cases.append(("processes", 2, int(0.55 * PORTS)))
    rates = {case: by_way(ways) for case in cases}
    seconds = bench.pick(0.3, 0.02)
    with Ground() as ground:
        for number in bench.rounds("scale", 5, 1):
            for kind, workers, held in cases:
                for way in ways:
                    bench.step(f"{workers} {kind}, {way}")
                    line, = ground.client(way, "--open", held, "--workers", workers, "--churn", seconds,
                                          *(["--threads"] if kind == "threads" else []))
                    rates[kind, workers, held][way].append(line["count"] / seconds)
                    raw.append([number, kind, workers, held, way, line["count"] / seconds])
    bench.report.raw("scale", ["round", "kind", "workers", "held", "way", "connections/s"], raw)
    for kind, workers, held in cases:
        values = rates[kind, workers, held]
        few = held == 400
        for way in (ORACLE, "plain"):
            bench.report.row("scale", f"connections/s, {some(workers, kind)}" + ("" if few else ", 55 % of the ports taken"),
                             "1/s", median(values[TUPLEBIND]), LABELS[way], median(values[way]),
                             paired(values[TUPLEBIND], values[way]), ">= 0.95" if way == ORACLE else "")
        for way in ways if few else ():
            points.setdefault(f"{LABELS[way]}, {kind}", []).append((str(workers), median(values[way])))
    bench.report.plot("scale", "connections per second, one closed and one opened", "processes or threads", "1/s",
                      points, ["set yrange [0:*]"], "linespoints lw 2")


def measure_table(bench):
    """Finding a free port and giving it back, without sockets."""
    rivals, fills = [TUPLEBIND, "ring", "bitmap"], (0, 50, 99, 100)
    names = {"ring": "ring of free ports (as HAProxy's)", "bitmap": "bitmap with a mutex"}
    kinds = [("1", "processes"), ("2", "processes"), ("2", "threads")]
    ns, raw = {}, []
    for number in bench.rounds("table", 31, 1):
        for fill in fills:
            for workers, kind in kinds:
                for rival in rivals:
                    done = subprocess.run([bench_program("table"), "churn", rival, str(fill), workers, kind,
                                           str(bench.pick(0.03, 0.005))], check=True, stdout=subprocess.PIPE)
                    line = json.loads(done.stdout)
                    ns.setdefault((fill, workers, kind), by_way(rivals))[rival].append(line["ns"])
                    raw.append([number, fill, workers, kind, rival, line["ns"], line["per_second"]])
    bench.report.raw("table", ["round", "fill %", "workers", "kind", "rival", "ns", "per second"], raw)
    for (fill, workers, kind), values in ns.items():
        what = f"a port taken and given back, {fill} % taken, {some(workers, kind)}" if fill < 100 else \
            f"the answer that none is free, {some(workers, kind)}"
        for rival in rivals[1:]:
            bench.report.row("table", what, "ns", median(values[TUPLEBIND]), names[rival], median(values[rival]),
                             1 / paired(values[TUPLEBIND], values[rival]),
                             ">= 1" if (workers, kind) == ("2", "processes") and fill < 100 else "")
    ours = undisturbed(ns[99, "1", "processes"][TUPLEBIND])
    bench.report.row("table", "a port taken and given back, 99 % taken, 1 process undisturbed; the ratio is "
                     "nanoseconds", "ns", ours, ratio=ours, target="<= 100")
    bench.report.plot("table", "a port taken and given back, without sockets, 2 processes", "ports taken",
                      "ns (median)",
                      {names.get(rival, rival): [(f"{fill} %", median(ns[fill, "2", "processes"][rival]))
                                                 for fill in fills] for rival in rivals},
                      ["set logscale y"], "linespoints lw 2")


def measure_memory(bench):
    """Memory of the table by destination and by port."""
    count = bench.pick(1000000, 10000)

    def fitting(*words):
        done = subprocess.run([bench_program("table"), *map(str, words)], check=True, stdout=subprocess.PIPE)
        return json.loads(done.stdout)

    least = fitting("destinations", 2 * count, 192 * count)
    assert least["fit"] >= count, least
    bench.report.row("memory", f"for each of {least['fit']:,} destinations with one connection", "bytes",
                     least["bytes"], ratio=least["bytes"], target="<= 192")
    lanes = fitting("lanes", bench.pick(64, 1) << 20)
    bench.report.row("memory", f"for each of {lanes['fit']:,} ports, all of their lanes taken", "bytes",
                     lanes["bytes"], ratio=lanes["bytes"], target="<= 1")
    bench.report.raw("memory", ["what", "fit", "bytes"], [["destinations", *least.values()],
                                                          ["ports", *lanes.values()]])


def measure_start(bench):
    """What the library adds to the start of a program."""
    programs = {"true": ["/bin/true"], "curl --version": ["/usr/bin/curl", "--version"]}
    variants = {"plain": {}, TUPLEBIND: {"LD_PRELOAD": str(harness.LIBRARY)}}
    times, raw = {}, []
    null = [(os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)]
    for number in bench.rounds("start", 201, 5):
        for name, argv in programs.items():
            for variant, environment in variants.items():
                start = time.perf_counter_ns()
                pid = os.posix_spawn(argv[0], argv, harness.clean_environment() | environment, file_actions=null)
                _, status = os.waitpid(pid, 0)
                took = time.perf_counter_ns() - start
                assert status == 0, (argv, status)
                times.setdefault((name, variant), []).append(took / 1e6)
                raw.append([number, name, variant, took / 1e6])
    bench.report.raw("start", ["round", "program", "variant", "ms"], raw)
    for name in programs:
        ours, plain = undisturbed(times[name, TUPLEBIND]), undisturbed(times[name, "plain"])
        bench.report.row("start", f"{name} from start to end; the ratio is milliseconds more", "ms", ours,
                         "not preloaded", plain, ours - plain, "<= 0.50")


def measure_udp(bench):
    """Connected UDP sockets to three destinations."""
    ports, ways = bench.pick(6000, 200), ["plain", ORACLE, TUPLEBIND]
    opened, first, raw, points = by_way(ways), by_way(ways), [], {}
    buckets = 18
    with Ground((40000, 40000 + ports - 1)) as ground:
        for number in bench.rounds("udp", 7, 1):
            for way in ways:
                bench.step(way)
                lines = ground.client(way, "--udp", "--open", 3 * ports, "--buckets", buckets, "--destinations", 3,
                                      protocols="tcp,udp")
                opened[way].append(lines[-1]["opened"])
                first[way].append(median(line["median"] for line in lines[:5]))
                for bucket, line in enumerate(lines):
                    raw.append([number, way, line["opened"], us(line["median"]), us(line["mean"]), line["failed"]])
                    if line["count"]:
                        points.setdefault((way, line["opened"]), []).append(line["median"])
    bench.report.raw("udp", ["round", "way", "opened", "median us", "mean us", "failed"], raw)
    bench.report.row("udp", f"connected sockets, {ports:,} ports, three destinations", "", median(opened[TUPLEBIND]),
                     LABELS["plain"], median(opened["plain"]), paired(opened[TUPLEBIND], opened["plain"]), ">= 3")
    for way, target in (("plain", "<= 1"), (ORACLE, "")):
        bench.report.row("udp", f"connect(), the first {ports * 5 // 6:,} sockets", "us",
                         us(median(first[TUPLEBIND])), LABELS[way], us(median(first[way])),
                         paired(first[TUPLEBIND], first[way]), target)
    bench.report.plot("udp", "connect() of UDP sockets, three destinations", "sockets", "us (median)",
                      {LABELS[way]: [(n, us(median(ns))) for (w, n), ns in sorted(points.items()) if w == way]
                       for way in ways}, ["set logscale y"], "linespoints lw 2")


def count_instructions(ground, library, connections, folder):
    """Instructions of the client and its children under callgrind, outside the kernel."""
    port = 8000
    preload = ["env", f"LD_PRELOAD={library}"] if library else []
    result = ground.host.run("valgrind", "--tool=callgrind", "--trace-children=yes", "-q",
                             f"--callgrind-out-file={folder}/%p", *preload, bench_program("client"), "--open",
                             connections, ground.to, port, limit=300, log="error", table="private")
    assert result.code == 0 and f'"count":{connections}' in result.out, result
    total = 0
    for file in pathlib.Path(folder).iterdir():
        for line in file.read_text().splitlines():
            if line.startswith(("summary:", "totals:")):
                total += int(line.split()[1])
                break
        file.unlink()
    return total


def measure_instructions(bench):
    """Instructions of a taken-over connect() (and its socket()) outside the kernel; with and without the probes."""
    few, many = bench.pick((4000, 12000), (100, 300))
    each = {}
    with Ground() as ground, bench.folder() as folder:
        ground.host.sink("127.0.0.1 8000")
        libraries = {"plain": None, TUPLEBIND: harness.LIBRARY, "built without probes": WITHOUT_PROBES}
        for way, library in libraries.items():
            if library and not library.exists():
                continue
            bench.step(way)
            counts = [count_instructions(ground, library, n, folder) for n in (few, many)]
            each[way] = (counts[1] - counts[0]) / (many - few)
    if "built without probes" in each:
        bench.report.row("instructions", "what the static probes add while nobody traces", "instructions",
                         each[TUPLEBIND], "built without probes", each["built without probes"],
                         each[TUPLEBIND] - each["built without probes"], "")
    more = each[TUPLEBIND] - each["plain"]
    bench.report.raw("instructions", ["way", "instructions of one socket() and connect()"], each.items())
    bench.report.row("instructions", "socket() and connect() outside the kernel; the ratio is what the library adds",
                     "instructions", each[TUPLEBIND], "plain", each["plain"], more, "<= 1500")


def kernel_memory():
    """Bytes of memory that are not free."""
    values = dict(line.split(":") for line in pathlib.Path("/proc/meminfo").read_text().splitlines())
    return 1024 * (int(values["MemTotal"].split()[0]) - int(values["MemAvailable"].split()[0]))


def open_million(bench, way, addresses, ports, buckets):
    """[connections, seconds, median, mean, p99, max in us, GiB of the host] by bucket."""
    count, port, lines = addresses * ports, 8000, []
    # tuplebind has its addresses from its settings, the client in its plain way chooses none.
    own = [] if way == TUPLEBIND else ["--addresses", addresses]
    with Ground((LAST - ports + 1, LAST)) as ground:
        ground.host.sink(f"127.0.0.1 {port}")
        before, start = kernel_memory(), time.monotonic()
        running = ground.start_client(way, port, "--open", count, "--buckets", buckets, *own, start="127.0.0.2",
                                      addrs=f"127.0.0.2-127.0.0.{addresses + 1}")
        for line in ground.lines(running, buckets):
            lines.append([line["opened"], time.monotonic() - start, *(us(line[key]) for key in (
                "median", "mean", "p99", "max")), (kernel_memory() - before) / 2**30])
            bench.step(f"{way}: {line['opened']:,} connections, {lines[-1][1]:.0f} s, {lines[-1][-1]:.1f} GiB")
        held = int(ground.host.must("sh", "-c", f"ss -tanH state established dport = :{port} | wc -l", limit=300))
        assert held == lines[-1][0] == count, (held, lines[-1])
        bench.step("ending")
        running.process.stdin.close()
        running.wait(600)
    return lines


def measure_million(bench):
    """A million connections from one host to one address and port, from unmodified processes."""
    addresses, ports = bench.pick((36, PORTS), (3, 500))
    buckets, ways = bench.pick(100, 10), [ORACLE, TUPLEBIND]
    lines = {way: open_million(bench, way, addresses, ports, buckets) for way in ways}
    last = {way: lines[way][-1] for way in ways}
    bench.report.raw("million", ["way", "opened", "s", "median us", "mean us", "p99 us", "max us", "GiB"],
                     [[way, *line] for way in ways for line in lines[way]])

    def row(what, unit, column, ratio="", target=""):
        bench.report.row("million", what, unit, last[TUPLEBIND][column], LABELS[ORACLE], last[ORACLE][column], ratio,
                         target)

    row("connections to one address and port, seen by the kernel", "", 0, last[TUPLEBIND][0],
        f">= {addresses * ports}")
    row("from the first to the last", "s", 1)
    row("memory of the host", "GiB", 6)
    tenth = buckets // 10

    def growth(way):
        return median(line[2] for line in lines[way][-tenth:]) / median(line[2] for line in lines[way][:tenth])

    bench.report.row("million", "connect() in the last tenth to the first tenth", "", growth(TUPLEBIND),
                     LABELS[ORACLE], growth(ORACLE), growth(TUPLEBIND) / growth(ORACLE), "<= 1.10")
    bench.report.plot("million", f"connect() on the way to {last[TUPLEBIND][0]:,} connections", "connections open",
                      "us (median)", {LABELS[way]: [(line[0], line[2]) for line in lines[way]] for way in ways},
                      ["set yrange [0:*]"])
