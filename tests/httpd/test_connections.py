# SPDX-License-Identifier: Apache-2.0
"""
Connections to Microsoft are kept and bounded, and each tenant has its own: over hundreds of enrolments (ISCEP_LONG=1:
a thousand), in two processes.
"""
import http.client
import re
import threading

import pytest

from harness import busy, check, client, load, pki, place
from harness.gateway import Site
from harness.microsoft import Microsoft

WORKERS, PROCESSES = 8, 2


@pytest.fixture(scope="module")
def site(site):  # pylint: disable=redefined-outer-name
    """As always, but Microsoft has one more host, which closes connections that are idle for a second."""
    directory = site.directory / "connections"
    directory.mkdir()
    tls = pki.server_certificate(directory / "tls")
    microsoft = Microsoft(tls, {"impatient": (*tls, "KeepAliveTimeout 1\n")})
    microsoft.log_level = "info ssl:debug"  # a line for each handshake
    made = Site(directory, microsoft, site.ca, site.authority, site.ra)
    made.device_key = site.device_key
    made.microsoft.start()
    yield made
    made.microsoft.stop()


def over_tls(site, path, host=None, **changes):
    url = f"https://127.0.0.1:{site.microsoft.ports[host]}/" if host else site.microsoft.tls_url
    urls = {"Authority": url, "GraphURL": url, "IntuneURL": url, "TLSCAFile": site.microsoft.tls_certificate}
    return site.profile(path, **{**urls, **changes})


def profiles(site):
    return [site.profile("/plain"), over_tls(site, "/tls"), over_tls(site, "/one", Provider="one"),
            over_tls(site, "/two", Provider="two"), over_tls(site, "/three", Provider="three"),
            over_tls(site, "/impatient", "impatient")]


OPTIONS = {"processes": PROCESSES, "threads": 32, "server": "MaxKeepAliveRequests 0\nKeepAliveTimeout 60\n" + busy.LOG}


def enrol_all(gateway, messages):
    """All of them by a few workers; path and status of each."""
    def act(message):
        return message.post(gateway.port, timeout=60).status
    stream = load.Stream(WORKERS, messages, act).start()
    check.wait.until(lambda: not stream.running(), "all enrolments", 120, 0.1)
    return [(message.profile.path, outcome) for message, outcome in stream.stop()]


def kept_connections(gateway):
    """Connections of WORKERS devices, as many to each process: a kept connection stays with the process that took it."""
    by_process = {pid: [] for pid in gateway.children()}
    for number in range(500):
        connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=60 * place.SLOWNESS)
        page = f"/static.txt?{id(by_process)}-{number}-"
        client.request(gateway.port, "GET", page, connection=connection)
        ((_, _, pid),) = busy.wait_rows(gateway, page, 1)
        if len(by_process[pid]) < WORKERS // PROCESSES:
            by_process[pid].append(connection)
        else:
            connection.close()
        if all(len(taken) == WORKERS // PROCESSES for taken in by_process.values()):
            return sum(by_process.values(), [])
    raise AssertionError(f"one process takes all connections: {by_process}")


def enrol_on(connections, gateway, messages):
    """All of them by as many workers as connections, each on its own."""
    free, own = list(connections), threading.local()

    def act(message):
        if not hasattr(own, "connection"):
            own.connection = free.pop()
        return message.post(gateway.port, connection=own.connection).status
    outcomes = load.Stream(len(connections), messages, act).start().finish(120 * place.SLOWNESS)
    for connection in connections:
        connection.close()
    assert [status for _, status in outcomes] == [200] * len(messages)


def process_of_call(gateway):
    """From each client-request-id to the process that made the call."""
    lines = gateway.lines("ISCEP0302")
    return {re.search(r"client-request-id (\S+)", line)[1]: int(re.search(r"\[pid (\d+)", line)[1]) for line in lines}


def handshakes(site):
    """How many TLS connections Microsoft has made so far."""
    return len(site.microsoft.lines("AH02041: Protocol"))


def begin(site):
    """A fresh record without bodies, for load."""
    site.microsoft.reset(bodies=False)
    site.ca.reset()
    site.ca.control(keep_csr=False)


def calls_to_intune(site):
    return [call for call in site.microsoft.calls() if call["service"] in ("validate", "success", "failure")]


@pytest.mark.parametrize("way", [0, 1], ids=["http", "https"])
def test_connections_are_kept(site, gateway, devices, way):
    """No more connections than threads that were busy at once, in each process and in all; over https as many handshakes."""
    profile = gateway.profiles[way]
    messages, connections = devices(profile, load.MANY), kept_connections(gateway)
    begin(site)
    before = handshakes(site)
    enrol_on(connections, gateway, messages)
    rows, process = busy.wait_rows(gateway, profile.path, load.MANY), process_of_call(gateway)
    calls = calls_to_intune(site)
    assert len(calls) == 2 * load.MANY
    counts = {}
    for pid in gateway.children():
        threads = busy.at_once([row for row in rows if row[2] == pid])
        counts[pid] = (len({call["connection"] for call in calls if process[call["request_id"]] == pid}), threads)
    print(f"connections and threads busy at once, by process: {counts}; in all {busy.at_once(rows)}")
    assert all(1 <= used <= threads <= WORKERS // PROCESSES for used, threads in counts.values()), counts
    assert sum(used for used, _ in counts.values()) == len({call["connection"] for call in calls}) <= busy.at_once(rows)
    # Entra and Graph are at the same host, so that a connection serves for all three
    made = len({call["connection"] for call in site.microsoft.calls()})
    assert made <= busy.at_once(rows) and handshakes(site) - before == (made if way else 0)


def test_idle_connection_that_was_closed(site, gateway, devices):
    """Microsoft closes first: the next call takes another connection, and no device notices."""
    profile, port = gateway.profiles[5], site.microsoft.ports["impatient"]
    messages = devices(profile, 12)
    assert [answer.status for answer in load.all_at_once(messages[:4], lambda m: m.post(gateway.port))] == [200] * 4
    before = {call["connection"] for call in calls_to_intune(site)}
    check.wait.until(lambda: not established(port), "Microsoft to close its connections", 10)
    for message in messages[4:]:
        check.success(message, message.post(gateway.port))
    after = calls_to_intune(site)[8:]
    assert len(after) == 2 * 8 and not before & {call["connection"] for call in after}
    assert not gateway.lines("ISCEP110")


def established(port):
    """Connections to that port that are open at both ends."""
    with open("/proc/net/tcp", encoding="ascii") as table:
        rows = [line.split() for line in table.readlines()[1:]]
    return [row for row in rows if row[2].endswith(f":{port:04X}") and row[3] == "01"]


def count_tokens(site):
    return {(call["tenant"], call["user_agent"]) for call in site.microsoft.calls("token")}


def test_tenants_are_kept_apart(site, gateway, devices):
    """Two tenants, mixed: each call has the token of its own."""
    one, two = gateway.profiles[2:4]
    batches = zip(devices(one, load.MANY // 2), devices(two, load.MANY // 2))
    begin(site)
    outcomes = enrol_all(gateway, [message for pair in batches for message in pair])
    assert sorted(outcomes) == [("/one", 200)] * (load.MANY // 2) + [("/two", 200)] * (load.MANY // 2)
    calls = calls_to_intune(site)
    assert len(calls) == 2 * load.MANY
    senders = {(call["user_agent"], call["tenant"]) for call in calls}
    assert senders == {("one", one.tenant["tenant"]), ("two", two.tenant["tenant"])}
    for profile in (one, two):
        mine = [call for call in calls if call["tenant"] == profile.tenant["tenant"]]
        assert len(mine) == load.MANY, "validations and reports of half of the devices"
    assert count_tokens(site) <= {(one.tenant["tenant"], "one"), (two.tenant["tenant"], "two")}


def test_one_tenants_key_is_wrong(site, gateway, devices):
    """The others go on, at their usual pace."""
    good, bad = gateway.profiles[3:5]
    site.microsoft.set_tenant({**bad.tenant, "secret": "AppKey~changed-elsewhere"})
    batches = zip(devices(good, 40), devices(bad, 40))
    gateway.allow_log(r"ISCEP1104")
    outcomes = enrol_all(gateway, [message for pair in batches for message in pair])
    assert sorted(outcomes) == [("/three", 503)] * 40 + [("/two", 200)] * 40
    assert {call["tenant"] for call in calls_to_intune(site)} == {good.tenant["tenant"]}
    assert len(gateway.lines("ISCEP1104: .*AADSTS7000215")) == 40
    assert not gateway.lines(r"ISCEP110[0-35-9]")
