# SPDX-License-Identifier: Apache-2.0
"""
Where the gateway's processor time goes: one process under Linux's perf, its samples sorted by what is on their stacks.
Run by `tests/bench/run --profile`; parts of some percent are rough.
"""
import collections
import re
import shutil
import signal
import subprocess
import time

import meter
import report
from bed import Variant

COUNT = 1000
# The first line that fits a sample's stack, innermost frame first, has it.
KINDS = [
    ("RSA with private keys", r"BN_mod_exp_mont_consttime|BN_BLINDING"),
    ("RSA with public keys", r"\bBN_mod_exp_mont\b"),
    ("reading public keys (OSSL_DECODER)", r"OSSL_DECODER|EVP_KEYMGMT_do_all"),
    ("SQLite: fsync", r"fdatasync|fsync"),
    ("SQLite: all else", r"\bsqlite3|apr_dbd"),
    ("journal without SQLite", r"\bjournal_|\bdatabase_"),
    ("calls to Intune: curl", r"\bhttp_client_call|curl_"),
    ("calls to Intune: all else (JSON, tokens, cache)", r"\bintune_|\bservice_call|\bexchange_run"),
    ("CMS: making messages", r"\bdraft_sign|\benvelope_make|\bscep_success_build|\bscep_pkcsreq_build"),
    ("CMS: opening the device's message", r"\bscep_request_open"),
    ("CMS: opening the CA's answer", r"\bscep_answer_open"),
    ("the gateway's other work", r"mod_intune_scep\.so\)$"),
    ("mod_proxy, to the CA", r"mod_proxy"),
    ("HTTP towards the device", r""),
]


def frames(process):
    """For each sample its frames as `symbol (object)`, innermost first."""
    stack = []
    for line in process.stdout:
        if line.startswith(("\t", "        ")):
            found = re.match(r"\s+[0-9a-f]+ (.*)$", line)
            stack.append(re.sub(r"\+0x[0-9a-f]+", "", found[1]) if found else line.strip())
        elif stack:
            yield stack
            stack = []
    if stack:
        yield stack


def kind_of(stack):
    """The module's own frame that is nearest to the sample counts only where nothing better fits."""
    for name, pattern in KINDS[:7]:
        if any(re.search(pattern, frame) for frame in stack):
            return name
    for name, pattern in KINDS[7:-3]:
        if any(re.search(pattern, frame) for frame in stack):
            return name
    own = next((n for n, frame in enumerate(stack) if "mod_intune_scep.so" in frame), len(stack))
    proxy = next((n for n, frame in enumerate(stack) if "mod_proxy" in frame), len(stack))
    return KINDS[-3][0] if own < proxy else KINDS[-2][0] if proxy < own else KINDS[-1][0]


def run(bed, syncs, operation, say):
    """Prints the table and writes it into docs/performance.md."""
    if not shutil.which("perf"):
        say("SKIP: perf is missing: install Debian's package linux-perf")
        return
    data = bed.quick / "perf.data"
    bed.reset(False)
    with bed.gateway(Variant(processes=1, threads=32), syncs) as gateway:
        options = {"messages": bed.messages["gateway"][0].directory, "connections": 16}
        meter.load(gateway.port, operation, first=0, count=100, **options)
        command = ["perf", "record", "-q", "-F", "997", "--call-graph", "dwarf,32000", "-o", str(data), "-p",
                   str(gateway.children()[0])]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as perf:
            time.sleep(1)
            found = meter.load(gateway.port, operation, bed.leaders(gateway), first=100, count=COUNT, **options)
            perf.send_signal(signal.SIGINT)
    each = found["cpu"]["server"] / COUNT * 1000
    counts = collections.Counter()
    with subprocess.Popen(["perf", "script", "-i", str(data), "-F", "ip,sym,dso", "--no-inline"], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True, errors="replace") as process:
        for stack in frames(process):
            counts[kind_of(stack)] += 1
    total = sum(counts.values())
    rows = [(name, report.number(counts[name] / total * each), f"{counts[name] / total * 100:.0f} %") for name, _ in KINDS]
    text = (f"{total} samples of {COUNT} enrolments in one process with 32 threads, {each:.2f} ms each, perf's own work included.\n\n"
            + report.table(["what", "ms", "part"], rows))
    say(text)
    report.write_parts({"profile": text})
