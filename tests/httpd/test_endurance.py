# SPDX-License-Identifier: Apache-2.0
"""Nothing grows: memory and descriptors of a worker process stay what they are, whatever is thrown at it."""
import os
import pathlib
import re

from harness import client, load, place, wait

ROUNDS = 60


def resident(pid):
    """Kilobytes of anonymous memory of a process."""
    return int(re.search(r"RssAnon:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1])


def descriptors(pid):
    """How many a process has open; 0 where this user may not look (a worker of ours is no one's to debug)."""
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except PermissionError:
        return 0


def all_kinds(site, devices, profile):
    """Requests of every kind and what must be their status."""
    messages = devices(profile, 2)
    broken = ["signature", "envelope", "rsa", "recipient", "csr-signature", "csr-key", "not-a-csr", "two-challenges",
              "sid", "truncated"]
    requests = [(message.der, {200}) for message in messages]
    requests += [(devices(profile, break_=what)[0].der, {200, 400}) for what in broken]
    expired = devices(profile, challenge=site.microsoft.challenge(profile.tenant, expires_in=-10))[0]
    no_challenge = devices(profile, challenge=False)[0]
    return requests + [(expired.der, {200}), (no_challenge.der, {200}), (b"nonsense", {400}), (b"0" * 200000, {413})]


def test_nothing_grows(site, start_gateway, devices):
    gateway = start_gateway([site.profile("/scep")], processes=1, threads=8, before="MaxConnectionsPerChild 0\n")
    gateway.allow_log(r"ISCEP1\d\d\d: ")
    requests = all_kinds(site, devices, gateway.profiles[0])
    operations = ["GetCACert", "GetCACaps", "GetNextCACert", "Nonsense"]

    def work(number):
        body, allowed = requests[number % len(requests)]
        try:
            answer = client.request(gateway.port, "POST", "/scep?operation=PKIOperation", body)
        except OSError:
            assert len(body) > 131072, "only an early 413 may cut the connection"
            return
        assert answer.status in allowed, (number, answer.status)
        client.request(gateway.port, "GET", f"/scep?operation={operations[number % 4]}")

    def rounds(count):
        stream = load.Stream(4, range(count * len(requests)), work).start()
        outcomes = stream.finish()
        assert not [outcome for _, outcome in outcomes if outcome is not None]
    (child,) = gateway.children()
    rounds(ROUNDS // 2)
    before = resident(child), descriptors(child)
    rounds(ROUNDS)
    after = resident(child)
    assert gateway.children() == [child]
    served = ROUNDS * len(requests)
    growth = after - before[0]
    # Pools and malloc settle late; a certificate lost with each request would be megabytes. Sanitizers keep freed memory.
    assert growth < 1000 or place.SANITIZE, f"{growth} kB more after {served} requests"
    # Connections of devices linger for some seconds.
    wait.until(lambda: descriptors(child) - before[1] <= 4, lambda: f"descriptors to fall to {before[1]}: {descriptors(child)}")
