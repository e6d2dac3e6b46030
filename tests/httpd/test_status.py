# SPDX-License-Identifier: Apache-2.0
"""What the administrator sees: counters that add up, all forms of the status, the health check, notes, warnings of what expires."""
import copy
import datetime
import json
import os
import pathlib
import re
import shutil
import sqlite3
import statistics
import subprocess
import time

import jsonschema
import pytest

from harness import check, client, journal, load, pki, place, status

MANY = 1000 if load.LONG else 60
SCHEMA = json.loads((place.TREE / "docs/status.schema.json").read_text())


@pytest.fixture
def start(start_gateway):
    """A gateway with a status location."""
    return status.starter(start_gateway)


def strict(schema):
    """The schema without room for more members."""
    schema = copy.deepcopy(schema)

    def close(part):
        if isinstance(part, dict):
            if "properties" in part:
                part.setdefault("additionalProperties", False)
            for value in part.values():
                close(value)
        elif isinstance(part, list):
            for value in part:
                close(value)
    close(schema)
    return schema


def valid(found):
    jsonschema.Draft202012Validator(strict(SCHEMA)).validate(found)
    return found


def post_all(gateway, messages, workers=16):
    outcomes = load.Stream(workers, messages, lambda message: message.post(gateway.port)).start().finish(300)
    return {message: answer for message, answer in outcomes}


def calls(found, service):
    return sum(found["services"][service]["calls"].values())


# counting

def test_counters_add_up(site, start, devices):
    """Over two processes, for two tenants: what the stand-ins saw is what is counted, to the last one."""
    first, second = site.profile("/scep"), site.profile("/other", Name="Others")
    gateway = start([first, second], processes=2)
    gateway.allow_log("ISCEP1100|ISCEP1204|ISCEP1014")
    good = devices(first, MANY)
    assert all(answer.status == 200 for answer in post_all(gateway, good).values())
    again = good[:7]
    post_all(gateway, again)
    others = devices(second, 5)
    post_all(gateway, others)
    site.microsoft.fail("validate", "code", code="ChallengeExpired", times=3)
    post_all(gateway, devices(second, 3), 1)
    site.ca.control("refuse", fail_info=2, times=2)
    post_all(gateway, devices(second, 2), 1)
    post_all(gateway, devices(second, 4, challenge=None), 2)
    a = status.settled(gateway, "localhost/scep", enrolled=MANY, delivered_again=7)
    names = [one["name"] for one in status.state(gateway)["locations"]]
    b = status.settled(gateway, names[1], enrolled=5, INTUNE_REFUSED=3, CA_REFUSED=2, NO_CHALLENGE=4)
    assert a["outcomes"] == {"enrolled": MANY, "delivered_again": 7, "pending": 0, "inquiry": 0}
    assert b["outcomes"] == {"enrolled": 5, "delivered_again": 0, "pending": 0, "inquiry": 0, "INTUNE_REFUSED": 3,
                             "CA_REFUSED": 2, "NO_CHALLENGE": 4}
    assert (a["successes"], a["failures"], b["successes"], b["failures"]) == (MANY + 7, 0, 5, 9)
    asked = {}
    for found, profile in ((a, first), (b, second)):
        seen = site.microsoft.calls(tenant=profile.tenant, bodies=False)
        asked[profile.path] = count = {service: len([call for call in seen if call["service"] == service])
                                       for service in ("token", "endpoints", "validate", "success", "failure")}
        assert calls(found, "entra") == found["durations"]["token"]["count"] == count["token"]
        assert calls(found, "graph") == found["durations"]["endpoints"]["count"] == count["endpoints"]
        assert found["durations"]["validate"]["count"] == count["validate"]
        assert found["durations"]["report"]["count"] == count["success"] + count["failure"]
        assert calls(found, "intune") == count["validate"] + count["success"] + count["failure"]
    assert (asked["/scep"]["validate"], asked["/scep"]["success"]) == (MANY, MANY)
    assert asked["/other"]["failure"] == 2 and b["services"]["intune"]["calls"]["refused"] == 3
    at_ca = site.ca.requests(csr=False)
    assert calls(a, "ca") + calls(b, "ca") == len(at_ca) == MANY + 7
    assert a["services"]["ca"]["calls"]["success"] == MANY and b["services"]["ca"]["calls"]["refused"] == 2
    assert a["last_5_minutes"]["successes"] <= MANY + 7
    assert len({process for process in gateway.children()}) == 2
    metrics = status.metrics(gateway)
    assert status.total(metrics, "intune_scep_transactions_total", location=names[0]) == MANY + 7
    assert status.total(metrics, "intune_scep_transactions_total", location=names[1], outcome="INTUNE_REFUSED") == 3
    assert status.total(metrics, "intune_scep_calls_total", service="ca") == MANY + 7
    assert status.total(metrics, "intune_scep_call_duration_seconds_bucket", call="validate", le="+Inf",
                        location=names[0]) == MANY


def test_a_graceful_restart_goes_on(site, start, devices):
    first, second = site.profile("/scep"), site.profile("/other")
    gateway = start([first])
    post_all(gateway, devices(first, 10))
    before = status.settled(gateway, "localhost/scep", enrolled=10)
    began = status.state(gateway)["counting_since"]
    transactions = status.state(gateway)["transactions"]
    check.wait.until(lambda: status.state(gateway)["time"] > began, "another second than the start's")
    gateway.restart_gracefully()
    found = status.state(gateway)
    assert found["counting_since"] == began < found["running_since"]
    after = status.location(gateway)
    assert after["outcomes"] == before["outcomes"] and after["durations"]["ca"] == before["durations"]["ca"]
    assert [one["transaction"] for one in found["transactions"]] == [one["transaction"] for one in transactions]
    running = load.Stream(8, devices(first, 60), lambda message: message.post(gateway.port)).start()
    check.wait.until(lambda: running.count() >= 15, "enrolments before a restart")
    gateway.restart_gracefully()
    served = [answer for _, answer in running.finish() if not isinstance(answer, Exception) and answer.status == 200]
    status.settled(gateway, "localhost/scep", enrolled=10 + len(served))
    assert status.location(gateway)["outcomes"]["enrolled"] == 10 + len(served), "the old generation counts, too"
    # other locations are another story
    gateway.profiles.append(second)
    gateway.write_config()
    gateway.restart_gracefully()
    assert [one["outcomes"]["enrolled"] for one in status.state(gateway)["locations"]] == [0, 0]
    (message,) = devices(second)
    check.success(message, message.post(gateway.port))
    status.settled(gateway, "localhost/other", enrolled=1)


def test_a_killed_process_takes_no_counts_along(site, start, devices):
    profile = site.profile("/scep")
    gateway = start([profile])
    post_all(gateway, devices(profile, 20))
    status.settled(gateway, None, enrolled=20)
    for child in gateway.children():
        gateway.kill_one(child)
    check.wait.until(lambda: len(gateway.children()) >= 2, "new processes")
    gateway.allow_log("AH00052|exit signal")
    post_all(gateway, devices(profile, 5))
    status.settled(gateway, None, enrolled=25)


# forms

def hostile_gateway(site, start, devices, **options):
    """With everything from outside that a form could trip over."""
    profile = site.profile("/scep", Name='"<i>the \\"first\\" \\\\ location</i>"')
    gateway = start([profile], **options)
    gateway.allow_log("ISCEP1100|ISCEP1204|ISCEP1102")
    messages = devices(profile, 2, subject=status.HOSTILE_SUBJECT, transaction=status.HOSTILE_TRANSACTION)
    check.success(messages[0], messages[0].post(gateway.port))
    site.microsoft.fail("validate", "code", code='"><script>alert(2)</script>', description="<b>\u202e\n\\", times=1)
    messages[1].post(gateway.port)
    site.ca.control("refuse", fail_info=2, times=1)
    (refused,) = devices(profile, subject=status.HOSTILE_SUBJECT)
    refused.post(gateway.port)
    return gateway, messages


def test_hostile_text_is_text(site, start, devices):
    gateway, messages = hostile_gateway(site, start, devices)
    hostile = messages[0].transaction
    assert "<img" in hostile
    for query in (None, hostile, "<script>alert(3)</script>", '"><script>', "' OR 1=1 --", "\u202e", "%00", "+", ""):
        text = status.page(gateway, query)
        dom = status.browser_dom(text)
        assert "<script" not in text and "<img" not in text and "\u202e" not in text
        if query in (None, hostile):
            assert "alert(1)" in dom.text and "onerror=alert(1)" in dom.text
            assert '<i>the "first" \\ location</i>' in dom.text
        found = valid(status.state(gateway, query))
        if query == hostile:
            assert [one["transaction"] for one in found["transactions"]] == [hostile]
            assert [row["transaction"] for row in found["search"]["journal"]] == [hostile]
    found = valid(status.state(gateway))
    assert found["locations"][0]["name"] == '<i>the "first" \\ location</i>'
    by_id = {one["transaction"]: one for one in found["transactions"]}
    assert "Ümläut" in by_id[hostile]["subject"] and "\\<script\\>alert(1)\\</script\\>" in by_id[hostile]["subject"]
    assert '"><script>alert(2)</script>' not in by_id[messages[1].transaction]["code"], "codes are escaped where they come in"
    metrics = status.metrics(gateway)
    assert {labels["location"] for labels, _ in metrics["intune_scep_level"]} == {'<i>the "first" \\ location</i>'}
    assert "alert" not in status.metrics_text(gateway)
    policy = status.get(gateway).headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-") and "unsafe" not in policy


def test_promtool(site, start, devices):
    if not shutil.which("promtool"):
        pytest.skip("promtool is missing: install Debian's package prometheus")
    gateway, _ = hostile_gateway(site, start, devices)
    done = subprocess.run(["promtool", "check", "metrics"], input=status.metrics_text(gateway), text=True, capture_output=True,
                          check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    listed = set(re.findall(r'METRIC\(\w+, "(\w+)"', (place.TREE / "mod_intune_scep/gateway/metrics.def").read_text()))
    assert set(re.findall(r"^# TYPE (\w+)", status.metrics_text(gateway), flags=re.M)) == listed


def test_alerting_rules():
    """conf/prometheus-rules.yml is one that Prometheus takes, and fires when it should."""
    rules = place.TREE / "conf"
    subprocess.run(["promtool", "check", "rules", rules / "prometheus-rules.yml"], check=True, capture_output=True)
    subprocess.run(["promtool", "test", "rules", rules / "prometheus-rules.test.yml"], check=True, capture_output=True)


def test_json_and_schema(site, start, devices):
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    profile = site.profile("/scep", Retries=0)
    gateway = start([profile], server='IntuneScepReportRate 7\n')
    valid(status.state(gateway))
    gateway.allow_log("ISCEP1301|ISCEP1102|ISCEP0320|ISCEP1107")
    windows = {"User-Agent": "Mozilla/4.0 (compatible; Win32; NDES client 10.0.22621.1/ni_release)"}
    (message,) = devices(profile, subject="/CN=laptop")
    target = "/scep?operation=PKIOperation"
    answer = client.request(gateway.port, "POST", target, message.der, {"Content-Type": "application/x-pki-message", **windows})
    opened = check.success(message, answer)
    site.microsoft.fail("success", "status", status=500)
    (owed,) = devices(profile)
    check.unavailable(owed.post(gateway.port))
    journal.wait_for(gateway, owed, report="success")
    check.wait.until(lambda: status.location(gateway)["journal"]["owed"] == 1, "the owed report to be counted", 15)
    found = valid(status.state(gateway))
    one = next(one for one in found["transactions"] if one["transaction"] == message.transaction)
    assert (one["outcome"], one["platform"], one["subject"], one["serial"]) == ("enrolled", "Windows", "CN=laptop", opened["serial"])
    assert one["validate_ms"] >= 0 and one["ca_ms"] >= 0 and one["total_ms"] >= one["ca_ms"]
    late = next(one for one in found["transactions"] if one["transaction"] == owed.transaction)
    assert late["outcome"] == "REPORT_UNAVAILABLE" and "HTTP 500" in late["detail"] and len(late["reference"]) == 8
    assert gateway.lines(f"reference {late['reference']}")
    (location,) = found["locations"]
    assert location["services"]["intune"]["failures_in_row"] >= 1 and "HTTP 500" in location["services"]["intune"]["failure"]
    assert {"name": "IntuneScepReportRate", "value": "7"} in found["settings"]
    assert {"name": "IntuneScepTenant", "value": profile.tenant["tenant"]} in location["settings"]
    (row,) = valid(status.state(gateway, owed.transaction))["search"]["journal"]
    assert (row["state"], row["report"], row["location"]) == ("issued", "success", "localhost/scep")
    by_serial = valid(status.state(gateway, opened["serial"].lower()))
    assert [one["transaction"] for one in by_serial["transactions"]] == [message.transaction]
    assert [row["transaction"] for row in by_serial["search"]["journal"]] == [message.transaction]
    assert late["reference"] in status.page(gateway, late["reference"])


def test_http_manners(gateway_of_status):
    gateway = gateway_of_status
    whole = status.get(gateway)
    assert whole.headers["cache-control"] == "no-store" and "set-cookie" not in whole.headers
    assert whole.headers["x-content-type-options"] == "nosniff"
    head = client.request(gateway.port, "HEAD", status.PATH)
    assert head.status == 200 and not head.body and head.headers["content-type"] == whole.headers["content-type"]
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        refused = client.request(gateway.port, method, status.PATH)
        assert refused.status == 405 and {"GET", "HEAD"} <= set(refused.headers["allow"].replace(" ", "").split(","))
    assert status.get(gateway, "format=xml").status == 400
    assert status.get(gateway, "format=html").status == 200
    assert client.raw_get(gateway.port, status.PATH + "?q=" + "x" * 20000).status in (200, 414)
    assert client.raw_get(gateway.port, status.PATH + "?q=%zz%&&&=&q").status == 200


@pytest.fixture
def gateway_of_status(site, start):
    return start([site.profile("/scep")])


def test_only_for_whom_it_is(site, start):
    """The line of the reference configuration: the status is for this machine; whoever comes from elsewhere gets 403."""
    reference = (place.TREE / "conf/reference.conf").read_text()
    block = re.search(r'<Location "/intune-scep-status">.*?</Location>\n', reference, re.S)[0]
    assert "Require local" in block and "SetHandler intune-scep-status" in block
    gateway = start([site.profile("/scep")], after='<Location "/elsewhere">\nSetHandler intune-scep-status\nRequire ip 192.0.2.1\n</Location>\n'
                    '<Location "/local">\nSetHandler intune-scep-status\nRequire local\n</Location>\n', modules=["authz_host"])
    gateway.allow_log("AH01630")
    assert client.request(gateway.port, "GET", "/elsewhere").status == 403
    assert client.request(gateway.port, "GET", "/local").status == 200


def test_beside_a_gateway_that_is_everywhere(site, start):
    """A whole server that is served does not swallow the status location."""
    profile = site.profile("/scep")
    lines = "".join(f"{name} {value}\n" for name, value in profile.directives.items())
    gateway = start([], before=lines)
    assert status.state(gateway)["locations"][0]["name"] == "localhost/"
    assert client.request(gateway.port, "GET", "/any?operation=GetCACert").status == 200


# secrets

def test_no_form_shows_a_secret(site, start, devices):
    tenant = site.microsoft.add_tenant("literal")
    profile = site.profile("/scep", tenant=tenant, AppKey=tenant["secret"], HTTPProxyUser="proxy-user", HTTPProxy="http://127.0.0.1:1",
                           HTTPProxyPassword="Proxy~secret-password", Retries=0, Timeout=2)
    plain = site.profile("/plain", AppKey='"exec:/bin/echo Argument~secret"')
    gateway = start([profile, plain], modules=["status"], allow=["ISCEP0531"],
                    server='IntuneScepStateKey "State~secret-key-of-more-than-32-bytes"\n'
                    'IntuneScepEventCommand "/bin/true https://hook.example/Hook~secret"\n',
                    after='<Location "/server-status">\nSetHandler server-status\n</Location>\n')
    gateway.allow_log("ISCEP1\\d\\d\\d|ISCEP0320")
    messages = devices(profile, 2) + devices(plain, 2)
    for message in messages:
        message.post(gateway.port)
    texts = {query: status.get(gateway, query).text for query in ("", "format=json", "format=prometheus", "health", "q=secret")}
    texts["server-status"] = client.request(gateway.port, "GET", "/server-status").text
    for query, text in texts.items():
        for secret in (tenant["secret"], "Proxy~", "State~", "Argument~", "Hook~", "AppKey~"):
            assert secret not in text, f"{query} shows {secret}"
        for message in messages:
            assert message.challenge[:60] not in text and message.csr[:60] not in text
    shown = {one["name"]: one["value"] for one in status.location(gateway, "localhost/scep")["settings"]}
    assert shown["IntuneScepAppKey"] == shown["IntuneScepHTTPProxyPassword"] == "***"
    assert shown["IntuneScepHTTPProxyUser"] == "proxy-user" and shown["IntuneScepRAKey"] == str(profile.ra_key)
    server = {one["name"]: one["value"] for one in status.state(gateway)["settings"]}
    assert server["IntuneScepStateKey"] == "***" and server["IntuneScepEventCommand"] == "/bin/true ..."
    other = {one["name"]: one["value"] for one in status.location(gateway, "localhost/plain")["settings"]}
    assert other["IntuneScepAppKey"] == "exec:/bin/echo ..."


# health

def test_health(site, start, devices):
    profile = site.profile("/scep", Retries=0)
    gateway = start([profile])
    assert status.health(gateway) == (200, ["healthy"])
    gateway.allow_log("ISCEP0320|ISCEP1102|ISCEP1107")
    site.microsoft.fail("validate", "status", status=503)
    for message in devices(profile, 5):
        check.unavailable(message.post(gateway.port))
    code, (reason,) = status.health(gateway)
    assert code == 503 and "Microsoft is not asked" in reason and "503" in reason
    assert status.location(gateway)["breaker"]["state"] == "open" and status.location(gateway)["level"] == "bad"
    # once somebody may try again it must get traffic
    check.wait.until(lambda: status.health(gateway)[0] == 200, "half-open", 10)
    assert status.location(gateway)["breaker"]["state"] == "half-open"
    site.microsoft.reset()
    (message,) = devices(profile)
    check.wait.until(lambda: message.post(gateway.port).status == 200, "the breaker to close", 15, 0.3)
    assert status.location(gateway)["breaker"]["state"] == "closed"


def test_health_words(site, start, devices):
    """The CA counts only where the operator says so."""
    profile = site.profile("/scep")
    gateway = start([profile], server="IntuneScepHealth ca outbox\n")
    gateway.allow_log("ISCEP120\\d")
    site.ca.control("status", status=500)
    for message in devices(profile, 5):
        check.unavailable(message.post(gateway.port))
    code, (reason,) = status.health(gateway)
    assert code == 503 and "the CA does not answer" in reason and "HTTP 500" in reason
    gateway.config_file.write_text(gateway.config().replace("IntuneScepHealth ca outbox\n", ""))
    gateway.restart_gracefully()
    assert status.health(gateway) == (200, ["healthy"]), "what was counted is still there, but is not asked for"


def test_places_of_several_locations(site, start):
    """Of a number for the whole server, too, a location without one of its own has three quarters at most."""
    profiles = [site.profile("/scep"), site.profile("/other"), site.profile("/own", MaxConcurrent=7)]
    gateway = start(profiles, server="IntuneScepMaxConcurrent 8\n")
    shares = [status.location(gateway, name)["places"]["limit"] for name in ("localhost/scep", "localhost/other", "localhost/own")]
    assert shares == [6, 6, 7], shares


def test_what_is_owed_and_since_when(site, start, devices):
    """A failure in its grace is not owed yet, a report of what waited for days at the CA not for days; what is not taken is."""
    profile = site.profile("/scep", Retries=0, Grace=3600)
    quick = site.profile("/quick", Retries=0, Grace=1, BackendTimeout=1, Timeout=1)
    gateway = start([profile, quick], server="IntuneScepHealth outbox\n", allow=[r"\[proxy(_http)?:error\]"])
    gateway.allow_log("ISCEP1203|ISCEP1301|ISCEP1200")
    waiting, lost = devices(profile, 2)
    (overdue,) = devices(quick)
    site.ca.control("drop_after", times=1)
    check.unavailable(lost.post(gateway.port))
    site.ca.control(approval="manual")
    assert check.certrep(waiting, waiting.post(gateway.port))["status"] == 3
    journal.make_older(gateway, 2 * 86400, waiting)
    site.ca.approve()
    site.microsoft.fail("success", "status", status=500)
    site.microsoft.fail("failure", "status", status=500)
    check.unavailable(waiting.post(gateway.port))
    site.ca.control(approval="automatic")
    site.ca.control("drop_after", times=1)
    check.unavailable(overdue.post(gateway.port))

    def seen(name, **wanted):
        found = status.location(gateway, name)["journal"]
        return found if all(found.get(key) == value for key, value in wanted.items()) else None
    first = check.wait.until(lambda: seen("localhost/scep", owed=1, unknown=1), "the report that is owed", 15)
    assert first["oldest_owed_seconds"] < 60
    second = check.wait.until(lambda: seen("localhost/quick", owed=1, unknown=1), "the overdue failure", 30)
    assert second["oldest_owed_seconds"] < 60
    assert status.health(gateway) == (200, ["healthy"])
    journal.make_older(gateway, 4000)
    # the check alone would look into the journal less often
    check.wait.until(lambda: status.state(gateway) and status.health(gateway)[0] == 503, "an hour to be too long", 30, step=0.2)
    _, reasons = status.health(gateway)
    assert len(reasons) == 2 and all("1 reports are owed, the oldest for 6" in reason for reason in reasons), reasons


def test_health_of_the_journal(site, start, devices):
    profile = site.profile("/scep")
    gateway = start([profile])
    gateway.allow_log("ISCEP1400|ISCEP0413")
    assert status.health(gateway)[0] == 200
    database = sqlite3.connect(gateway.state / "journal.sqlite", isolation_level=None)
    try:
        database.execute("BEGIN EXCLUSIVE")
        (message,) = devices(profile)
        check.unavailable(message.post(gateway.port))
        code, (reason,) = status.health(gateway)
        assert code == 503 and "the journal cannot be used" in reason and "locked" in reason
        found = status.state(gateway)
        assert found["transactions"][0]["outcome"] == "JOURNAL_UNAVAILABLE" and found["level"] == "bad"
        time.sleep(3)
        assert status.health(gateway)[0] == 503, "it can be read, which the background does, but not written"
    finally:
        database.execute("ROLLBACK")
        database.close()
    check.wait.until(lambda: status.health(gateway)[0] == 200, "the background to find the journal well again", 15)


def test_health_on_a_full_disk(site, start, devices, disk):
    """The journal can be read all the time: it is well again once there is room, and not before."""
    profile = site.profile("/scep")
    gateway = start([profile], state=disk.directory)
    gateway.allow_log("ISCEP1400|ISCEP0413")
    delivered, message = devices(profile, 2)
    assert delivered.post(gateway.port).status == 200
    disk.fill()
    check.unavailable(message.post(gateway.port))
    assert delivered.post(gateway.port).status == 200, "what is in the journal can be read"
    for _ in range(20):
        code, (reason,) = status.health(gateway)
        assert code == 503 and "full" in reason
        time.sleep(0.2)
    disk.free()
    check.wait.until(lambda: status.health(gateway)[0] == 200, "the background to find the journal well again", 15)
    assert message.post(gateway.port).status == 200
    with sqlite3.connect(f"file:{gateway.state}/journal.sqlite?mode=ro", uri=True) as database:
        assert database.execute("SELECT COUNT(*) FROM iscep_meta WHERE name = 'room'").fetchone() == (0,)


def test_health_is_cheap(site, start, devices):
    """No work that grows: many in a second, from one connection."""
    gateway = start([site.profile("/scep")])
    began = time.monotonic()
    for _ in range(200):
        assert status.health(gateway)[0] == 200
    each = (time.monotonic() - began) / 200
    print(f"\nhealth: {each * 1000:.2f} ms each")
    assert each < 0.02 * place.SLOWNESS


# logs

NOTES = ("transaction", "outcome", "code", "request-id", "reference", "location", "validate-ms", "ca-ms", "report-ms")


def reference_formats():
    """The LogFormat lines of conf/reference.conf."""
    lines = re.findall(r"^#?(LogFormat .*)$", (place.TREE / "conf/reference.conf").read_text(), flags=re.M)
    assert len(lines) == 2
    return lines


def test_notes_for_the_access_log(site, start, devices):
    profile = site.profile("/scep")
    own = 'LogFormat "' + " ".join("%{intune-scep-" + note + "}n" for note in NOTES) + ' %s" own\nCustomLog own.log own\n'
    names = [line.rsplit(" ", 1)[1] for line in reference_formats()]
    lines = "\n".join(reference_formats()) + "\n" + "".join(f"CustomLog {name}.log {name}\n" for name in names)
    gateway = start([profile], before=own + lines)
    gateway.allow_log("ISCEP1100|ISCEP120\\d|AH01102|AH00898")
    good, refused, lost = devices(profile, 3)
    opened = check.success(good, good.post(gateway.port))
    site.microsoft.fail("validate", "code", code="ChallengeExpired", times=1)
    refused.post(gateway.port)
    site.ca.control("drop", times=1)
    lost.post(gateway.port)
    client.request(gateway.port, "GET", "/scep?operation=Nonsense")
    client.request(gateway.port, "GET", "/static.txt")

    def read():
        rows = [line.split(" ") for line in gateway.text(gateway.root / "own.log").splitlines()]
        return rows if len(rows) >= 5 else None
    rows = check.wait.until(read, "five lines")
    by_outcome = {row[1]: dict(zip(NOTES, row)) for row in rows}
    one = by_outcome["enrolled"]
    assert one["transaction"] == good.transaction and one["location"] == "localhost/scep" and one["code"] == "-"
    assert all(one[name].isdigit() for name in ("validate-ms", "ca-ms", "report-ms"))
    two = by_outcome["INTUNE_REFUSED"]
    assert (two["transaction"], two["code"], two["ca-ms"]) == (refused.transaction, "ChallengeExpired", "-")
    assert two["request-id"] == site.microsoft.calls("validate")[1]["request_id"]
    assert gateway.lines(f"reference {two['reference']};")
    three = [row for row in by_outcome.values() if row["transaction"] == lost.transaction][0]
    assert three["outcome"].startswith("CA_") and three["ca-ms"] != "-"
    assert by_outcome["BAD_OPERATION"]["transaction"] == "-" and "-" in by_outcome
    texts = [line for name in names for line in gateway.text(gateway.root / f"{name}.log").splitlines()]
    parsed = [json.loads(line) for line in texts if line.startswith("{")]
    assert len(parsed) == 5 and {"enrolled", "INTUNE_REFUSED"} <= {row["outcome"] for row in parsed}
    assert any(good.transaction in line and "enrolled" in line for line in texts if not line.startswith("{"))
    assert opened["serial"]


def test_notes_after_an_internal_redirect(start, site, devices):
    own = 'LogFormat "%{intune-scep-outcome}n %U" own\nCustomLog own.log own\n'
    rule = '<Location "/old">\nRewriteEngine On\nRewriteRule .* /scep [L]\n</Location>\n'
    gateway = start([site.profile("/scep")], before=own + rule, modules=["rewrite"])
    (message,) = devices(gateway.profiles[0])
    check.success(message, message.post(gateway.port, "/old/url"))
    check.wait.until(lambda: "enrolled /old/url\n" in gateway.text(gateway.root / "own.log"), "its line")


@pytest.mark.parametrize("days, level", [(20, "warning"), (5, "bad")])
def test_what_expires(site, start, days, level):
    end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=days, hours=1)
    ra = site.authority.issue(f"ra-for-{days}-days", end=end.strftime("%Y%m%d%H%M%SZ"))
    gateway = start([site.profile("/scep", ra=ra)], processes=3)
    gateway.expect_log("ISCEP0552: ")
    location = status.location(gateway)
    (one,) = [one for one in location["expires"] if one["what"] == "the RA's certificate"]
    assert (one["days"], one["level"], one["directive"]) == (days, level, "IntuneScepRACertificate")
    assert location["level"] == level and status.health(gateway)[0] == 200


# mod_status

def test_summary_in_mod_status(site, start, devices):
    profile = site.profile("/scep", Name='"a <b> name"')
    gateway = start([profile], modules=["status"], after='<Location "/server-status">\nSetHandler server-status\n</Location>\n')
    (message,) = devices(profile)
    check.success(message, message.post(gateway.port))
    status.settled(gateway, None, enrolled=1)
    auto = client.request(gateway.port, "GET", "/server-status?auto").text
    found = dict(re.findall(r"^(ScepGateway\w+): (\S+)$", auto, flags=re.M))
    assert found == {"ScepGatewayLevel": "good", "ScepGatewaySuccesses": "1", "ScepGatewayFailures": "0", "ScepGatewayPlacesUsed": "0",
                     "ScepGatewayBreakersOpen": "0"}
    whole = client.request(gateway.port, "GET", "/server-status").text
    assert "Intune SCEP gateway" in whole and "a &lt;b&gt; name" in whole and "a <b> name" not in whole


# load

FORMS = ("", "format=json", "format=prometheus", "health")


def cpu_seconds(gateway):
    """What the gateway's processes have used so far."""
    ticks = 0
    for pid in gateway.children():
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def test_status_under_load(site, start, devices):
    """
    The status stays quick while devices enrol, and they hardly notice it: all four forms once a second take less than 2 % of
    the processors. By the processes' own time, so that other work on the machine does not count.
    """
    profile = site.profile("/scep")
    gateway = start([profile], processes=2, threads=16)
    count = 1000 if load.LONG else 100
    post_all(gateway, devices(profile, 20), 8)
    before = cpu_seconds(gateway)
    assert all(answer.status == 200 for answer in post_all(gateway, devices(profile, count), 8).values())
    enrolment = (cpu_seconds(gateway) - before) / count
    running = load.Stream(8, devices(profile, count), lambda message: message.post(gateway.port)).start()
    quick = []
    while running.running():
        answer = status.get(gateway, FORMS[len(quick) % 4])
        assert answer.status == 200
        quick.append(answer.seconds)
        time.sleep(0.05)
    assert all(answer.status == 200 for _, answer in running.finish())
    before = cpu_seconds(gateway)
    for number in range(4 * 50):
        assert status.get(gateway, FORMS[number % 4]).status == 200
    each = (cpu_seconds(gateway) - before) / (4 * 50)
    share = 4 * each / os.cpu_count()
    print(f"\nstatus under load: median {statistics.median(quick) * 1000:.1f} ms, most {max(quick) * 1000:.1f} ms; processor time: an "
          f"enrolment {enrolment * 1000:.2f} ms, a status request {each * 1000:.2f} ms; all forms once a second: {share * 100:.2f} %")
    assert statistics.median(quick) < 0.25 * place.SLOWNESS
    assert share < 0.02 * place.SLOWNESS
