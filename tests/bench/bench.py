# SPDX-License-Identifier: Apache-2.0
"""The benchmark's course; tests/bench/run builds and starts it. README.md says what is measured and how."""
import argparse
import dataclasses
import json
import os
import pathlib
import shutil
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "httpd")]

import meter  # noqa: E402
import profiling  # noqa: E402
import report  # noqa: E402
from bed import NO_IFMA, Bed, Variant  # noqa: E402

OPERATION = "/scep?operation=PKIOperation"
BASE = Variant()


@dataclasses.dataclass
class Size:
    """How much of everything."""
    rounds: int
    count: int  # enrolments of one measurement
    warm: int
    devices: int  # at once, with slow stand-ins
    slow_count: int
    gets: int
    floor: int
    rows: list = None  # None: all


FULL = Size(rounds=5, count=2000, warm=300, devices=512, slow_count=4000, gets=20000, floor=400)
QUICK = Size(rounds=3, count=1000, warm=200, devices=512, slow_count=2500, gets=8000, floor=200)
SMOKE = Size(rounds=1, count=30, warm=10, devices=16, slow_count=30, gets=200, floor=10,
             rows=["sqlite", "none", "close", "open", "slow", "cold", "gets", "proxy"])


def variants(size, has_ifma):
    """From a row's name to what is run, in the order of a round."""
    crowd = {"processes": 4, "threads": max(64, size.devices * 5 // 16), "connections": size.devices, "slow": True,
             "server": f"IntuneScepMaxConcurrent {size.devices}\n"}
    found = {"sqlite": BASE, "none": Variant(journal="none"), "postgres": Variant(journal="postgres"),
             "tls": Variant(tls=True), "close": Variant(close=True), "unpooled": Variant(pooled=False),
             "open": Variant(), "1x1": Variant(processes=1, threads=1, connections=1),
             "1x64": Variant(processes=1, threads=64), "4x16": Variant(processes=4, threads=16),
             "4x64": Variant(processes=4, threads=64), "slow": Variant(**crowd),
             "slow-postgres": Variant(journal="postgres", **crowd), "cold": Variant(warm=False, **crowd)}
    if has_ifma:
        found["no-ifma"] = Variant(environment=NO_IFMA)
        found["no-ifma-none"] = Variant(environment=NO_IFMA, journal="none")
    return found


class Bench:
    """One run: rounds of all rows, one after the other, so that a drift of the machine hits all alike."""

    def __init__(self, size, results):
        self.size, self.results = size, results
        self.facts = meter.machine()
        self.bed = Bed(max(size.count, size.slow_count) + size.warm, size.devices)
        self.syncs = meter.Syncs(self.bed.quick / "syncs")
        self.found = {"machine": self.facts, "size": dataclasses.asdict(size), "rows": {}, "floor": [], "fsync": [],
                      "floor-no-ifma": []}

    def note(self, name, value):
        self.found["rows"].setdefault(name, []).append(value)

    def wanted(self, name):
        return self.size.rows is None or name in self.size.rows

    def run(self):
        started = time.monotonic()
        say(f"preparing {self.bed.count} messages")
        self.bed.prepare()
        say(f"prepared in {time.monotonic() - started:.0f} s")
        for number in range(1, self.size.rounds + 1):
            say(f"round {number} of {self.size.rounds}")
            self.round()
            self.results.write_text(json.dumps(self.found, indent=1))
        self.found["minutes"] = (time.monotonic() - started) / 60
        self.found["load_after"] = os.getloadavg()[0]
        self.results.write_text(json.dumps(self.found, indent=1))
        return self.found

    def round(self):
        self.found["fsync"].append(meter.fsync_milliseconds(self.bed.directory))
        for name, variant in variants(self.size, self.facts["ifma"]).items():
            if self.wanted(name) and (variant.journal != "postgres" or self.bed.postgres):
                self.floors("no-ifma" in name)
                self.enrol(name, variant)
        for name, measure in (("gets", self.gets), ("proxy", self.proxy), ("scepserver", self.scepserver)):
            if self.wanted(name) and (name != "scepserver" or self.bed.scepserver):
                measure()

    def floors(self, slower):
        name, environment = ("floor-no-ifma", NO_IFMA) if slower else ("floor", None)
        self.found[name].append(meter.floor(self.size.floor, environment=environment))

    # rows

    def count_of(self, name, variant):
        if name == "cold":
            return self.size.devices
        if variant.slow:
            return self.size.slow_count
        return self.size.count // 3 if variant.connections == 1 else self.size.count

    def rate_of(self, name):
        """The open loop's: seven tenths of what the closed one had."""
        return 0.7 * self.found["rows"]["sqlite"][0]["rate"] if name == "open" else None

    def enrol(self, name, variant):
        """Devices enrol through the gateway; every one must have its certificate, and Intune every report."""
        bed, count, warm = self.bed, self.count_of(name, variant), self.size.warm if variant.warm else 0
        bed.reset(variant.slow)
        syncs = bed.postgres_syncs if variant.journal == "postgres" else self.syncs
        directory = bed.quick / "gateway"
        with bed.gateway(variant, self.syncs) as gateway:
            options = {"messages": bed.messages["gateway"][0].directory, "connections": variant.connections,
                       "close": variant.close}
            if warm:
                meter.load(gateway.port, OPERATION, first=0, count=warm, **options)
            with answers(directory):
                found = meter.load(gateway.port, OPERATION, bed.leaders(gateway), syncs, first=warm, count=count,
                                   rate=self.rate_of(name), answers=directory, every=max(1, count // 20), **options)
                found["count"] = count
                if set(found["statuses"]) == {"200"}:
                    bed.check_sample("gateway", directory)
            calls = bed.site.microsoft.calls(bodies=False)
        services = [call["service"] for call in calls]
        found["calls"] = {service: services.count(service) for service in set(services)}
        accepted = sum(call["accepted"] for call in calls if call["service"] == "success")
        found["failed"] = count + warm - accepted
        assert variant.slow or not found["failed"], f"{name}: {found['failed']} of {count + warm} failed: {found}"
        self.note(name, found)
        say(report.line(name, found, self.found))

    def gets(self):
        """GetCACaps and GetCACert beside static files of the same sizes."""
        self.bed.reset(False)
        found = {}
        with self.bed.gateway(BASE, self.syncs) as gateway:
            for operation, size in self.bed.served_sizes(gateway.port).items():
                (gateway.root / "htdocs" / operation).write_bytes(bytes(size))
                for target in (f"/{operation}", f"/scep?operation={operation}"):
                    meter.load(gateway.port, target, count=max(10, self.size.gets // 10), connections=16)
                    run = meter.load(gateway.port, target, self.bed.leaders(gateway), count=self.size.gets,
                                     connections=16)
                    assert set(run["statuses"]) == {"200"} and run["body_least"] == run["body_most"] == size, run
                    found[target] = run
        for operation in ("GetCACaps", "GetCACert"):
            static, served = found[f"/{operation}"], found[f"/scep?operation={operation}"]
            one = {"rate": served["rate"], "static": static["rate"], "part": served["rate"] / static["rate"],
                   "cpu": served["cpu"]["server"] / self.size.gets * 1000,
                   "static_cpu": static["cpu"]["server"] / self.size.gets * 1000}
            self.note(operation, one)
            say(f"  {operation:16}{one['part']:8.2f} of the static file's {one['static']:.0f}/s")

    def direct(self, name, port, leaders, connections):
        """Devices that speak to `name` itself: the CA behind mod_proxy, or scepserver."""
        bed, count = self.bed, self.size.count // 2
        directory = bed.quick / name
        options = {"messages": bed.messages[name][0].directory, "connections": connections}
        meter.load(port, OPERATION, first=0, count=max(1, count // 10), **options)
        with answers(directory):
            found = meter.load(port, OPERATION, leaders, count=count, answers=directory, every=max(1, count // 20), **options)
            assert set(found["statuses"]) == {"200"}, found
            bed.check_sample(name, directory)
        found["count"] = count
        return found

    def proxy(self):
        self.bed.reset(False)
        with self.bed.proxy(BASE) as server:
            found = self.direct("ca", server.port, self.bed.leaders(server), BASE.connections)
        self.note("proxy", found)
        say(report.line("proxy", found, self.found))

    def scepserver(self):
        server = self.bed.scepserver
        # several at once fall over each other at its file with the next serial number
        found = self.direct("scepserver", server.port, {"server": server.process.pid}, 1)
        self.note("scepserver", found)
        say(report.line("scepserver", found, self.found))


class answers:
    """A directory for some answers, while they are looked at."""

    def __init__(self, directory):
        self.directory = directory

    def __enter__(self):
        self.directory.mkdir()

    def __exit__(self, *_):
        shutil.rmtree(self.directory)


def say(text):
    print(text, flush=True)


def profiled():
    bed = Bed(profiling.COUNT + 100, 16)
    try:
        bed.prepare()
        profiling.run(bed, meter.Syncs(bed.quick / "syncs"), OPERATION, say)
    finally:
        bed.close()


def main():
    parser = argparse.ArgumentParser(prog="tests/bench/run", description="Measures the gateway.")
    parser.add_argument("--quick", action="store_true", help="three short rounds; docs/performance.md stays as it is")
    parser.add_argument("--smoke", action="store_true", help="tiny numbers, only to see that it works")
    parser.add_argument("--rows", help="only these rows, by commas")
    parser.add_argument("--profile", action="store_true", help="where the time goes, by perf")
    parser.add_argument("--report", action="store_true", help="no run: the page anew from the last results")
    arguments = parser.parse_args()
    if arguments.profile:
        return profiled()
    whole = not (arguments.quick or arguments.smoke or arguments.rows)
    results = pathlib.Path(os.environ["ISCEP_BUILD"]) / ("results.json" if whole else "results-partial.json")
    if arguments.report:
        found = json.loads(results.read_text())
    else:
        size = SMOKE if arguments.smoke else QUICK if arguments.quick else FULL
        if arguments.rows:
            size = dataclasses.replace(size, rows=arguments.rows.split(","))
        bench = Bench(size, results)
        try:
            found = bench.run()
        finally:
            bench.bed.close()
    say("\n" + report.text(found))
    if whole:
        report.write(found)


if __name__ == "__main__":
    main()
