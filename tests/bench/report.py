# SPDX-License-Identifier: Apache-2.0
"""From runs to a table of ratios, and to docs/performance.md."""
import re
import statistics

from harness import place

PAGE = place.TREE / "docs" / "performance.md"
WORDS = {
    "sqlite": "journal in SQLite (the default), connections kept",
    "none": "without a journal",
    "postgres": "journal in PostgreSQL",
    "tls": "Microsoft and the CA over https",
    "close": "a new connection for each device",
    "unpooled": "a new connection to the CA each time (no `<Proxy>` worker)",
    "open": "70 % of the first row's rate, whatever the answers (open loop)",
    "1x1": "1 process with 1 thread",
    "1x64": "1 process with 64 threads",
    "4x16": "4 processes with 16 threads",
    "4x64": "4 processes with 64 threads",
    "slow": "Intune 300 ms, CA 100 ms, all devices at once",
    "slow-postgres": "the same with PostgreSQL",
    "no-ifma": "OpenSSL without AVX512IFMA, SQLite",
    "no-ifma-none": "OpenSSL without AVX512IFMA, no journal",
    "proxy": "mod_proxy alone before the CA",
    "scepserver": "micromdm's scepserver alone, one device at a time",
}


class Runs:
    """The runs of one row."""

    def __init__(self, found, name):
        self.found, self.name = found, name
        self.runs = found["rows"].get(name, [])

    def __bool__(self):
        return bool(self.runs)

    def values(self, of):
        return [of(run) for run in self.runs]

    @property
    def floor(self):
        return floor_of(self.found, self.name)

    def cpu(self, group="server"):
        """Milliseconds for an enrolment."""
        return self.values(lambda run: cpu_of(run, group))

    def times_floor(self):
        return [value / self.floor for value in self.cpu()]

    def rate(self):
        return self.values(lambda run: run["rate"])

    def share(self):
        return self.values(share_of)

    def syncs(self):
        return self.values(lambda run: run["syncs"] / run["count"]) if all("syncs" in run for run in self.runs) else []

    def latency(self, name):
        return self.values(lambda run: run["latency"][name] * 1000)


def cpu_of(run, group="server"):
    return run["cpu"].get(group, 0) / run["count"] * 1000


def share_of(run):
    """Of the processor time that was the server's to have, how much it used: all but what others used."""
    return run["cpu"]["server"] / (run["cpu"]["server"] + run["idle"]) if run["idle"] + run["cpu"]["server"] else 0


def floor_of(found, name):
    which = "floor-no-ifma" if "no-ifma" in name else "floor"
    return statistics.median(run["enrolment"] for run in found[which]) if found[which] else float("nan")


def number(value, digits=2):
    return f"{value:.{digits}f}"


def spread(values, digits=2):
    """The median, and between which values it lies."""
    if not values:
        return "–"
    middle = number(statistics.median(values), digits)
    return middle if len(values) == 1 else f"{middle} ({number(min(values), digits)}–{number(max(values), digits)})"


def line(name, run, found):
    """One run, while it goes on."""
    others = " ".join(f"{group} {cpu_of(run, group):.2f}" for group in ("microsoft", "ca", "postgres") if group in run["cpu"])
    syncs = f", {run['syncs'] / run['count']:.2f} syncs of {run['sync_seconds'] / max(1, run['syncs']) * 1000:.2f} ms" if "syncs" in run else ""
    return (f"  {name:16}{cpu_of(run):6.2f} ms CPU, {cpu_of(run) / floor_of(found, name):5.2f} × floor, {run['rate']:7.1f}/s, "
            f"share {share_of(run):4.2f}, p50 {run['latency']['p50'] * 1000:.0f} p99 {run['latency']['p99'] * 1000:.0f} "
            f"max {run['latency']['max'] * 1000:.0f} ms{syncs}; {others} load {run['load'] / run['count'] * 1000:.2f}")


# The tables

def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def most(found, runs):
    """Enrolments per second that the machine's processors make if they do nothing else; too few to count give none."""
    cpu = statistics.median(runs.cpu())
    return number(found["machine"]["cores"] * 1000 / cpu, 0) if cpu else "–"


def main_table(found):
    rows = []
    for name, words in WORDS.items():
        runs = Runs(found, name)
        if not runs:
            continue
        rate = name != "open"
        rows.append([words, spread(runs.cpu()), spread(runs.times_floor()), spread(runs.rate(), 0) if rate else f"[{number(runs.rate()[0], 0)}]",
                     most(found, runs),
                     spread(runs.share()) if rate and name != "scepserver" else "–", spread(runs.syncs()),
                     " / ".join(number(statistics.median(runs.latency(part)), 0) for part in ("p50", "p90", "p99", "max"))])
    return table(["", "CPU ms", "× floor", "enrolments/s", "cores ÷ CPU", "share", "syncs", "latency ms p50 / p90 / p99 / max"], rows)


def others_table(found):
    rows = []
    for name in ("sqlite", "postgres", "tls", "proxy"):
        runs = Runs(found, name)
        if runs:
            load = runs.values(lambda run: run["load"] / run["count"] * 1000)
            rows.append([WORDS[name], *(spread(runs.cpu(group)) for group in ("server", "microsoft", "ca", "postgres")), spread(load)])
    return table(["CPU ms for an enrolment", "gateway", "Microsoft", "CA", "PostgreSQL", "load"], rows)


def gets_table(found):
    rows = []
    for name in ("GetCACaps", "GetCACert"):
        runs = Runs(found, name)
        if runs:
            rows.append([name, spread(runs.rate(), 0), spread(runs.values(lambda run: run["static"]), 0),
                         spread(runs.values(lambda run: run["part"])), spread(runs.values(lambda run: run["cpu"] / max(1e-9, run["static_cpu"])))])
    return table(["", "/s", "static file of the same size /s", "ratio", "ratio of CPU"], rows)


def ratio(found, one, other, of):
    """Of the same rounds, one by one."""
    left, right = of(Runs(found, one)), of(Runs(found, other))
    return [a / b for a, b in zip(left, right) if b]


def judged(met):
    return "yes" if met else "**no**"


def targets(found):
    """(what is wanted, what was measured, whether it is met)"""
    median, rows = statistics.median, found["rows"]

    def cpu(name, words):
        runs = Runs(found, name)
        if runs:
            values = runs.times_floor()
            yield f"CPU for an enrolment ≤ 1.5 × floor, {words}", spread(values), judged(median(values) <= 1.5)

    def share(name, limit, words):
        runs = Runs(found, name)
        if runs:
            values = runs.share()
            yield words, spread(values), judged(median(values) >= limit)
    yield from cpu("sqlite", "http")
    yield from cpu("tls", "https")
    yield from cpu("no-ifma", "http, OpenSSL without AVX512IFMA")
    yield from share("sqlite", 0.9, "enrolments/s ≥ 90 % of what the CPU allows")
    yield from share("slow", 0.85, f"the same with {found['size']['devices']} devices at once, Intune 300 ms, CA 100 ms: ≥ 85 %")
    if "slow" in rows:
        failed, longest = max(run["failed"] for run in rows["slow"]), max(run["latency"]["max"] for run in rows["slow"])
        yield "… none of them fails, none waits longer than 10 s", f"{failed} failed, {longest:.1f} s", judged(not failed and longest <= 10)
    if "1x64" in rows and "4x16" in rows:
        values = ratio(found, "4x16", "1x64", Runs.rate)
        yield "4 processes against 1: no loss", f"{spread(values)} of the rate", judged(median(values) >= 0.97)
    if "1x1" in rows and "1x64" in rows:
        values = ratio(found, "1x64", "1x1", Runs.cpu)
        yield "64 threads against 1: no loss", f"{spread(values)} of the CPU", judged(median(values) <= 1.05)
    if "cold" in rows:
        calls = [(run["calls"].get("token", 0), run["calls"].get("endpoints", 0)) for run in rows["cold"]]
        good = all(call == (2, 1) for call in calls) and not any(run["failed"] for run in rows["cold"])
        yield (f"cold start with {found['size']['devices']} devices: 2 token requests, 1 discovery",
               ", ".join(sorted({f"{token} and {discovery}" for token, discovery in calls})), judged(good))
    for name in ("GetCACaps", "GetCACert"):
        runs = Runs(found, name)
        if runs:
            values = runs.values(lambda run: run["part"])
            yield f"{name} ≥ 80 % of a static file's rate", spread(values), judged(median(values) >= 0.8)


def target_table(found):
    return table(["wanted", "measured", "met"], targets(found))


def journal_lines(found):
    """What the journal costs."""
    lines = []
    for name, words in (("sqlite", "SQLite"), ("postgres", "PostgreSQL")):
        if name in found["rows"] and "none" in found["rows"]:
            syncs = Runs(found, name).syncs()
            took = [run["sync_seconds"] / run["syncs"] * 1000 for run in found["rows"][name] if run["syncs"]]
            lines.append(f"- {words} against no journal: {spread(ratio(found, name, 'none', Runs.rate))} of the enrolments/s, "
                         f"{spread(ratio(found, name, 'none', Runs.cpu))} of the gateway's CPU; {spread(syncs)} syncs for an "
                         f"enrolment, {spread(took)} ms each.")
    return "\n".join(lines)


def facts(found):
    machine, floors = found["machine"], found["floor"]
    floor = [run["enrolment"] for run in floors]
    text = (f"{machine['date']}: {machine['cores']} cores ({machine['model']}, AVX512IFMA: {'yes' if machine['ifma'] else 'no'}), "
            f"Linux {machine['kernel']}, {machine['openssl'].split(' (')[0]}, {machine['httpd'].replace('Server version: ', '')}. "
            f"Load of the machine before the run {machine['load']:.1f}. fdatasync() of 4 kB: {spread(found['fsync'])} ms. "
            f"The floor: {spread(floor)} ms for an enrolment")
    if found["floor-no-ifma"]:
        text += f", {spread([run['enrolment'] for run in found['floor-no-ifma']])} ms without AVX512IFMA"
    parts = ", ".join(f"{spread([run[name] for run in floors], 3)} ms for a {name}" for name in ("signature", "decryption", "verification", "encryption"))
    return (f"{text} ({parts}). {found['size']['rounds']} rounds, all rows in turn; {found['size']['count']} enrolments for each "
            f"figure, {found['size']['slow_count']} with slow stand-ins. Medians, in brackets the least and the greatest.")


def text(found):
    parts = [facts(found), target_table(found), main_table(found), journal_lines(found), others_table(found), gets_table(found)]
    return "\n\n".join(part for part in parts if part)


def wrapped(text_):
    """Prose at 120 columns; tables and lists as they are."""
    lines, words = [], ""
    for word in text_.split():
        if words and len(words) + 1 + len(word) > 118:
            lines.append(words)
            words = ""
        words = f"{words} {word}".strip()
    return "\n".join([*lines, words])


def write(found):
    """Puts the figures into the page."""
    write_parts({"machine": wrapped(facts(found)), "targets": target_table(found), "rows": main_table(found),
                 "journal": journal_lines(found), "others": others_table(found), "gets": gets_table(found)})


def write_parts(parts):
    """Puts texts between the page's markers."""
    page = PAGE.read_text(encoding="utf-8")
    for marker, part in parts.items():
        block = re.compile(rf"(<!-- measured: {marker} -->\n).*?(<!-- end -->)", flags=re.S)
        assert block.search(page), f"docs/performance.md has no marker {marker}"
        page = block.sub(lambda found_, part=part: found_[1] + part + "\n" + found_[2], page, count=1)
    PAGE.write_text(page, encoding="utf-8")
