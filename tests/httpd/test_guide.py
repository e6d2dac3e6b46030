# SPDX-License-Identifier: Apache-2.0
"""
The guides, followed to the letter: every command block of README.md and docs/, in the order of an administrator who has
nothing yet, against the stand-ins. A block that is neither run here nor explained in ELSEWHERE fails. Paths are moved below a
directory of the test's own, hosts and ports to the stand-ins; nothing else of a block is changed.
"""
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess

import pytest

from harness import client, place, system, wait
from harness.gateway import Profile

PAGES = [place.TREE / "README.md", *sorted((place.TREE / "docs").glob("*.md"))]
COMMAND = re.compile(r"^(\$ |\()?(umask|\./|az |cat|cp|apt|dpkg|install |openssl|intune-scepctl|scepserver|tail|grep|setsebool|tests/|ISCEP_LONG|"
                     r"[A-Z0-9]+=)")
# By the first line: where it runs instead.
ELSEWHERE = {
    "./conf/demo/run": "tests/run runs the demo",
    "./tests/run": "this very run",
    "./bootstrap && ./configure && make && make install": "tests/run bootstraps and builds, tests/unit/install.sh installs",
    "dpkg-buildpackage -us -uc -b": "tests/package/run, on a root of its own",
    "setsebool -P httpd_can_network_connect on": "SELinux: not here; the page says that nobody tried",
    "tests/bench/run            on a machine that does nothing else": "test_bench.py runs its smallest form",
    "ISCEP_LONG=1 ISCEP_BUILD=$PWD/build/plain /usr/bin/python3 -m pytest -q -p no:cacheprovider tests/httpd -k 'matrix or "
    "mutations or timing'": "the long form of this very run",
}
# What is there to be read: figures, lines of the log, other programs' files.
FIGURES = re.compile(r"►|→|^ISCEP\d{4}: |^\{\"event\"|^ *authorized_signer:|^\[Service\]")


def blocks(page):
    """The indented blocks of a page."""
    found, lines, blank = [], None, True
    for line in [*page.read_text().splitlines(), "end"]:
        if line.startswith("    ") and (lines is not None or blank):
            lines = (lines or []) + [line[4:]]
        elif not line and lines is not None:
            lines.append("")
        elif lines is not None:
            found.append("\n".join(lines).strip("\n"))
            lines = None
        blank = not line
    return found


def pages_blocks():
    return {(page.name, block) for page in PAGES for block in blocks(page)}


class Journey:
    """Runs blocks in one directory; variables live on from one to the next."""

    def __init__(self, directory, site):
        self.directory, self.site = directory, site
        self.work, self.etc, self.depot, self.bin = (directory / name for name in ("work", "etc", "depot", "bin"))
        self.work.mkdir()
        self.bin.mkdir()
        (self.bin / "intune-scepctl").symlink_to(place.need("intune-scepctl"))
        (self.bin / "az").symlink_to(pathlib.Path(__file__).parent / "guide" / "az")
        self.tenant = site.microsoft.add_tenant("guide")
        self.variables = {**os.environ, "PATH": f"{self.bin}:{os.environ['PATH']}", "AZ_STATE": str(directory / "az.json"),
                          "AZ_SIM": f"http://127.0.0.1:{site.microsoft.port}/sim/tenant", "AZ_TENANT": self.tenant["tenant"]}
        self.port = system.free_port()
        self.moved = {"/etc/intune-scep": self.etc, "/var/lib/scep": self.depot, "-port 8080": f"-port {self.port}",
                      ":8080/scep": f":{self.port}/scep"}
        self.left = pages_blocks()
        self.services = []

    def move(self, text):
        for old, new in self.moved.items():
            text = text.replace(old, str(new))
        return text

    def block(self, page, start, nth=0):
        """The block of a page that starts so; it counts as run."""
        found = [block for block in blocks(place.TREE / ("." if page == "README.md" else "docs") / page)
                 if block.startswith(start)]
        assert len(found) > nth, f"{page} has no block that starts with {start!r}"
        self.left.discard((page, found[nth]))
        return self.move(found[nth])

    def shell(self, text, typed="", codes=(0,)):
        """What the commands print."""
        kept = self.directory / "variables"
        script = f"set -ae\n{text}\nenv -0 > {kept}\n"
        done = subprocess.run(["bash", "-c", script], cwd=self.work, env=self.variables, input=typed, text=True,
                              capture_output=True, timeout=60, check=False)
        assert done.returncode in codes, f"{text}\nexit status {done.returncode}\n{done.stdout}{done.stderr}"
        if done.returncode == 0:
            self.variables = dict(one.split("=", 1) for one in kept.read_text().split("\0") if one)
        return done.stdout

    def run(self, page, start, nth=0, **options):
        return self.shell(self.block(page, start, nth), **options)

    def service(self, command):
        """A command that does not end by itself."""
        self.services.append(subprocess.Popen(["bash", "-c", f"exec {command}"], cwd=self.work, env=self.variables,
                                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True))

    def end(self):
        for process in self.services:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(10)


@pytest.fixture
def journey(site, scratch):
    if not place.IS_ROOT:
        pytest.skip("the guides' files have owners: run as root")
    if not shutil.which("scepserver"):
        pytest.skip("scepserver is missing: install Debian's package scep")
    made = Journey(scratch, site)
    yield made
    made.end()


def listens(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


def entra(trip):
    """The application with its permissions, its key, and a certificate instead."""
    trip.run("install.md", "install -d -m 0750")
    trip.run("guide-entra.md", "INTUNE=")
    trip.run("guide-entra.md", "SP=$(az")
    trip.run("guide-entra.md", "umask 077\naz ad app credential reset")
    key = trip.etc / "app.key"
    assert key.read_text().startswith("AzKey~") and key.stat().st_mode & 0o777 == 0o640
    trip.run("operating.md", "install -m 0640", typed=key.read_text())
    trip.run("operating.md", "umask 027\nopenssl req -x509")
    trip.run("guide-entra.md", "az ad app credential reset --id \"$APP\" --append --cert")


def authority(trip):
    """The CA and the RA's certificate."""
    first, second = trip.block("guide-cas.md", "scepserver ca -init").splitlines()
    trip.shell(first)
    trip.service(second)
    wait.until(lambda: listens(trip.port), "scepserver")
    trip.run("guide-cas.md", "cp /var/lib/scep/ca.pem")
    trip.run("operating.md", "openssl genpkey")
    # this CA issues no such certificates, another does
    asked = trip.block("operating.md", "intune-scepctl ra-request").replace(f"http://127.0.0.1:{trip.port}/scep", trip.site.ca.url)
    trip.shell("mkdir aside; cd aside\n" + asked)
    assert (trip.work / "aside/ra.pem").read_text().startswith("-----BEGIN CERTIFICATE")
    trip.run("operating.md", "install -m 0600 ra.key")
    trip.run("operating.md", "openssl rand -hex 32")
    assert (trip.etc / "state.key").stat().st_size == 65
    trip.shell("cp ca.pem root.pem")
    trip.run("guide-intune.md", "openssl x509 -in root.pem")


def location(trip, credential=None):
    """The Location of README.md with its values put in, towards the stand-in of Microsoft."""
    text = trip.block("README.md", "<Location").replace("TENANT-ID", trip.tenant["tenant"]).replace("APPLICATION-ID", trip.variables["APP"])
    directives = dict(line.split(None, 1) for line in text.splitlines()[1:-1])
    url = trip.site.microsoft.url
    directives.update(IntuneScepAuthority=url, IntuneScepGraphURL=url, IntuneScepIntuneURL=url)
    if credential:
        del directives["IntuneScepAppKey"]
        directives["IntuneScepAppCertificate"] = credential
    return Profile("/scep", trip.tenant, trip.etc / "ra.pem", trip.etc / "ra.key", trip.etc / "chain.pem", directives)


def enrol(trip, gateway, transaction, codes=(0,)):
    """A device with Intune's challenge."""
    trip.variables["CHALLENGE"] = trip.site.microsoft.challenge(trip.tenant)
    trip.shell(f"intune-scepctl enrol http://127.0.0.1:{gateway.port}/scep --transaction {transaction} --subject /CN={transaction} "
               "--challenge env:CHALLENGE", codes=codes)


def first_device(trip, start):
    """Apache, the check, the device, and what the log says."""
    status = trip.block("status.md", "<Location")
    level = re.search(r"^ *LogLevel .*\n", (place.TREE / "conf/intune_scep.conf").read_text(), re.M)[0]
    gateway = start([location(trip)], modules=["status", "authz_host"], log_level="warn", before=level, after=status + "\n")
    trip.moved.update({"/etc/apache2/apache2.conf": gateway.config_file, "/var/log/apache2/error.log": gateway.error_log,
                       "https://scep.example.com/scep": f"http://127.0.0.1:{gateway.port}/scep",
                       "/var/lib/intune-scep": gateway.state})
    # scepserver gives to everybody: only the network can guard it, and the check says so
    said = trip.run("operating.md", "intune-scepctl check", codes=(1,))
    assert "ISSUES TO ANYBODY" in said, said
    trip.shell(trip.move("intune-scepctl check --no-stranger --config /etc/apache2/apache2.conf"))
    trip.service(trip.block("guide-intune.md", "tail -f").replace(" | grep ISCEP", " | grep --line-buffered ISCEP > seen"))
    transaction = "guide-1"
    enrol(trip, gateway, transaction)
    wait.until(lambda: f"ISCEP0400: [{transaction}]" in (trip.work / "seen").read_text(), "ISCEP0400 in the log")
    shown = trip.block("operating.md", "$ grep -F")
    command, *lines = shown.splitlines()
    told = trip.shell(command[2:].replace("qM7ynAD+XYGAD5IknvHfErjnoP8=", transaction).replace("error.log", str(gateway.error_log)))
    steps = [re.search(r"ISCEP\d{4}", line)[0] for line in lines]
    # the check has fetched both tokens and the location into its own cache, not into the server's
    assert [found for found in re.findall(r"ISCEP0[34]\d\d", told) if found in steps][-2:] == steps[-2:], told
    gateway.allow_log("ISCEP1014")
    trip.run("operating.md", "intune-scepctl enrol", codes=(1,))
    assert "CertificationRequest" in (said := trip.run("operating.md", "intune-scepctl decode")) or "subject" in said, said
    assert "ISCEP1014" in trip.run("troubleshooting.md", "grep -E")
    answer = client.request(gateway.port, "GET", "/intune-scep-status")
    assert answer.status == 200 and "guide-1" in answer.text
    return gateway


def journal(trip, gateway):
    """What an operator can do with a certificate that Intune does not take."""
    assert not re.search(r"guide-1\b", trip.run("journal.md", "intune-scepctl journal --state-dir"))
    trip.run("journal.md", "intune-scepctl journal --journal")
    table = re.findall(r"^\| `(\w+)", (place.TREE / "docs/journal.md").read_text().partition("## For the operator")[2], flags=re.M)
    said = trip.shell("intune-scepctl journal --help")
    assert table and all(re.search(rf"^  {word}\b", said, flags=re.M) for word in table), (table, said)
    trip.site.microsoft.fail("success", "code", code="InvalidParameter")
    # the background may be quicker with the second report than this test
    gateway.allow_log(r"ISCEP1300|ISCEP04\d\d")
    tool = f"intune-scepctl journal --state-dir {gateway.state}"
    for number, words in enumerate([("show", "release", "drop"), ("retry",)]):
        enrol(trip, gateway, f"guide-withheld-{number}", codes=(1,))
        (row,) = json.loads(trip.shell(f"intune-scepctl --json {tool.partition(' ')[2]} list guide-withheld-{number}"))["rows"]
        for word in words:
            trip.shell(f"{tool} {word} {row['id']}")
    assert re.search(r"(issued +success|withheld +refused) +1\b", trip.shell(f"{tool} counts"))
    trip.site.microsoft.fail("success", "ok")
    (trip.work / "issued").write_text("0123456789ABCDEF\n")
    assert "0123456789" in trip.shell(f"{tool} orphans --location localhost/scep --issued issued", codes=(0, 1)).upper()


def configuration(trip, start):
    """The blocks of configuration that the first device does not need are taken by the server, too, each as a whole."""
    journal_lines = trip.block("operating.md", "IntuneScepJournal").replace("db.example.com", f"127.0.0.1 port={system.free_port()}")
    cache_lines = trip.block("operating.md", "LoadModule").replace("modules/", f"{place.MODULES}/").replace("cache.example.com", "127.0.0.1")
    cache_lines = "\n".join(line for line in cache_lines.splitlines() if "socache_shmcb" not in line)
    for lines, options, said in ((journal_lines, {}, "ISCEP0544"), (cache_lines, {"shared_cache": None}, "resuming")):
        gateway = start([location(trip, f"{trip.etc}/app.pem {trip.etc}/app-cert.key")], name="several", server=lines + "\n", **options)
        gateway.allow_log(r"ISCEP\d{4}|\[socache")
        gateway.wait_log(said)
        trip.shell(f"apache2 -t -d {gateway.root} -f {gateway.config_file} 2>&1")


def test_from_nothing_to_the_first_device(journey, start_gateway):
    entra(journey)
    authority(journey)
    gateway = first_device(journey, start_gateway)
    journal(journey, gateway)
    # the certificate instead of the key
    other = start_gateway([location(journey, f"{journey.etc}/app.pem {journey.etc}/app-cert.key")], name="certificate")
    enrol(journey, other, "guide-2")
    configuration(journey, start_gateway)
    for page, block in sorted(journey.left):
        first = block.splitlines()[0]
        assert first in ELSEWHERE or FIGURES.search(block), f"{page}: nobody runs this block:\n{block}"
        assert first in ELSEWHERE or not COMMAND.search(first), f"{page}: a command among the figures:\n{block}"
    unknown = set(ELSEWHERE) - {block.splitlines()[0] for _, block in pages_blocks()}
    assert not unknown, f"no page has these blocks: {unknown}"
