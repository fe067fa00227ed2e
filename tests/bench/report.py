"""What the measures came to: rows of a table, raw data, plots.

Everything is kept in one folder. summary.tsv has a row for each result of the last run of each measure, and
results.md is made of it; MEASURE.tsv has what was measured in each round, MEASURE.svg shows it.
"""

import collections
import csv
import os
import pathlib
import platform
import subprocess

# ratio: tuplebind to rival, or rival to tuplebind where more is better for us; target: "<= 1.10",
# ">= 40", "" (only stated).
Row = collections.namedtuple("Row", "measure what unit tuplebind rival rival_value ratio target machine")


def machine():
    """The machine and its kernel, in one line."""
    model = memory = ""
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
    for line in pathlib.Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemTotal"):
            memory = f"{int(line.split()[1]) / 2**20:.0f} GiB"
    return f"{model or platform.machine()}, {os.cpu_count()} processors, {memory}, Linux {platform.release()}"


def reached(row):
    """True, False, or None when there is nothing to reach."""
    if not row.target:
        return None
    relation, limit = row.target.split()
    value = float(row.ratio)
    return value <= float(limit) if relation == "<=" else value >= float(limit)


def number(value):
    """Three digits that count, and no exponent."""
    if value in ("", None):
        return ""
    value = float(value)
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


class Report:
    def __init__(self, folder, names):
        """names: the measures, in the order in which they are shown."""
        self.names = list(names)
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.summary = self.folder / "summary.tsv"
        self.machine = machine()
        self.rows = []  # of this run

    def row(self, measure, what, unit, tuplebind, rival="", rival_value="", ratio="", target=""):
        self.rows.append(Row(measure, what, unit, tuplebind, rival, rival_value, ratio, target, self.machine))

    def raw(self, measure, columns, rows):
        with open(self.folder / f"{measure}.tsv", "w", newline="") as file:
            file.write(f"# {self.machine}\n")
            writer = csv.writer(file, delimiter="\t", lineterminator="\n")
            writer.writerow(columns)
            writer.writerows(rows)

    def plot(self, name, title, xlabel, ylabel, series, settings=(), style="lines lw 2"):
        """series: name -> points (x, y); x may be a word, then the points stand side by side."""
        blocks, plots = [], []
        # Ours is drawn last, on top.
        ordered = sorted(series.items(), key=lambda item: item[0].startswith("tuplebind"))
        for n, (label, points) in enumerate(ordered):
            words = bool(points) and isinstance(points[0][0], str)
            lines = [f'"{x}"\t{y}' if words else f"{x}\t{y}" for x, y in points]
            blocks += [f"$data{n} << END", *lines, "END"]
            using = "2:xtic(1)" if words else "1:2"
            plots.append(f'$data{n} using {using} with {style} title "{label}"')
        script = [*blocks, "set terminal svg noenhanced size 900,560 background '#ffffff' font 'sans,12'",
                  f"set output '{self.folder / (name + '.svg')}'", f'set title "{title}"',
                  f'set xlabel "{xlabel}"', f'set ylabel "{ylabel}"', "set grid", "set key outside below maxrows 3",
                  *settings, "plot " + ", ".join(plots)]
        subprocess.run(["gnuplot"], input="\n".join(script) + "\n", text=True, check=True)

    def write(self):
        """Puts this run's rows in the place of earlier ones of the same measures."""
        measured = {row.measure for row in self.rows}
        kept = [row for row in self.read() if row.measure not in measured]
        rows = sorted(kept + self.rows, key=lambda row: self.names.index(row.measure))
        with open(self.summary, "w", newline="") as file:
            writer = csv.writer(file, delimiter="\t", lineterminator="\n")
            writer.writerow(Row._fields)
            writer.writerows(rows)
        (self.folder / "results.md").write_text(markdown(rows))

    def read(self):
        if not self.summary.exists():
            return []
        with open(self.summary, newline="") as file:
            return [Row(**line) for line in csv.DictReader(file, delimiter="\t")]

    def missed(self):
        return [row for row in self.rows if reached(row) is False]


def markdown(rows):
    lines = []
    for name in dict.fromkeys(row.machine for row in rows):
        lines += ["", f"{name}:", "", "| measure | what | tuplebind | rival | its value | ratio | to reach | |",
                  "|---|---|---|---|---|---|---|---|"]
        for row in rows:
            if row.machine != name:
                continue
            verdict = {True: "reached", False: "**missed**", None: ""}[reached(row)]
            lines.append(f"| {row.measure} | {row.what}{', ' * bool(row.unit)}{row.unit} | {number(row.tuplebind)} | {row.rival} | "
                         f"{number(row.rival_value)} | {number(row.ratio)} | {row.target} | {verdict} |")
    return "# Results\n" + "\n".join(lines) + "\n"
