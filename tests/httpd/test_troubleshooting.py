# SPDX-License-Identifier: Apache-2.0
"""docs/troubleshooting.md: each of its failures, made; the device sees what the page says, and the log has its line."""
import datetime
import re
import sqlite3
import threading

import pytest

from harness import check, client, device, pki, place, system, wait

PAGE = place.TREE / "docs/troubleshooting.md"
GRAPH_403 = '{"error": {"code": "Authorization_RequestDenied", "message": "Insufficient privileges to complete the operation."}}'
SMALL_LINE = "LimitRequestLine 8190\n"


def sections():
    """Title → (what the device gets, the log's line), from the page."""
    found = {}
    for part in re.split(r"^### ", PAGE.read_text(), flags=re.M)[1:]:
        title = part.splitlines()[0]
        gets = re.search(r"^The device gets \*\*(.*?)\*\*", part, re.M | re.S)
        line = re.search(r"^    (.*)$", part, re.M)
        found[title] = (" ".join(gets[1].split()) if gets else None, line[1] if line else None)
    return found


class Scene:
    """A gateway of its own, and what a story needs."""

    def __init__(self, site, start_gateway, devices):
        self.site, self.start_gateway, self.devices = site, start_gateway, devices
        self.gateway = self.profile = None

    def start(self, extra=None, **changes):
        changes.setdefault("Retries", 0)
        options = extra or {}
        self.profile = self.site.profile("/scep", **changes)
        self.gateway = self.start_gateway([self.profile], **options)
        self.gateway.always_allowed.append(".")  # the test looks for its line itself
        return self

    def message(self, **options):
        (made,) = self.devices(self.profile, **options)
        return made

    def post(self, **options):
        return self.send(self.message(**options))

    def send(self, message):
        return told(message, message.post(self.gateway.port))


def told(message, answer):
    """In the words of the page."""
    if answer.status != 200:
        return f"HTTP {answer.status}" + (" with Retry-After" if "retry-after" in answer.headers else "")
    opened = message.open(answer)
    words = {0: "badAlg", 1: "badMessageCheck", 2: "badRequest", 3: "badTime", 4: "badCertId"}
    return {0: "SUCCESS", 3: "PENDING"}.get(opened["status"]) or f"FAILURE {words[opened['fail_info']]}"


def browser(scene):
    scene.start()
    return f"HTTP {client.request(scene.gateway.port, 'GET', '/scep').status}"


def long_get(scene):
    scene.start()
    scene.gateway.stop(check=False)
    scene.gateway = scene.start_gateway([scene.profile], after=SMALL_LINE)
    scene.gateway.always_allowed.append(".")
    return f"HTTP {scene.message().get(scene.gateway.port).status}"


def too_large(scene):
    return scene.start(MaxMessage=4096).post()


def old_ra(scene):
    scene.start()
    other = scene.site.authority.issue("ra-of-yesterday")
    challenge = scene.site.microsoft.challenge(scene.profile.tenant)
    (message,) = device.prepare(scene.site.directory, scene.site.profile("/scep", ra=other, tenant=scene.profile.tenant), 1, [challenge])
    message.profile = scene.profile
    return scene.send(message)


def no_challenge(scene):
    return scene.start().post(challenge="a-password")


def old_algorithm(scene):
    return scene.start().post(cipher="des")


def small_key(scene):
    return scene.start().post(own_key=True, bits=1024)



def wrong_subject(scene):
    scene.start()
    challenge = scene.site.microsoft.challenge(scene.profile.tenant, subject="/CN=somebody-else")
    return scene.post(challenge=challenge)


def late(scene):
    scene.start()
    return scene.post(challenge=scene.site.microsoft.challenge(scene.profile.tenant, expires_in=-60))


def microsoft(target, mode, changes=None, **options):
    def act(scene):
        scene.start(**(changes or {}))
        scene.site.microsoft.fail(target, mode, **options)
        return scene.post()
    return act


def no_way_to_microsoft(scene):
    return scene.start(Authority=f"http://127.0.0.1:{system.free_port()}/").post()


def breaker(scene):
    scene.start()
    scene.site.microsoft.fail("validate", "status", status=503)
    messages = scene.devices(scene.profile, 6)
    for message in messages[:5]:
        message.post(scene.gateway.port)
    return scene.send(messages[5])


def too_many(scene):
    scene.start(MaxConcurrent=1)
    first, second = scene.devices(scene.profile, 2)
    scene.site.microsoft.fail("validate", "slow", seconds=2)
    thread = threading.Thread(target=first.post, args=(scene.gateway.port,))
    thread.start()
    wait.until(lambda: scene.site.microsoft.calls("validate"), "the first device at Intune")
    answer = scene.send(second)
    thread.join()
    return answer


def ca(mode, changes=None, **options):
    def act(scene):
        scene.start(**(changes or {}))
        scene.site.ca.control(mode, **options)
        return scene.post()
    return act


def ca_down(scene):
    return scene.start(backend=f"http://127.0.0.1:{system.free_port()}/ca").post()


def wrong_chain(scene):
    """The chain of a CA that is not the one behind the backend, with an RA of the former."""
    other = pki.Authority(scene.site.directory / "another-ca", "Another CA")
    return scene.start(authority=other, ra=other.issue("ra")).post()


def waits_at_the_ca(scene):
    scene.start(PendingLimit=1)
    scene.site.ca.control(approval="manual")
    message = scene.message()
    assert scene.send(message) == "PENDING"
    return wait.until(lambda: (lambda found: found if found != "PENDING" else None)(scene.send(device.poll(message))), "the end", 20)


def locked_journal(scene):
    scene.start()
    database = sqlite3.connect(scene.gateway.state / "journal.sqlite", isolation_level=None)
    database.execute("BEGIN EXCLUSIVE")
    try:
        return scene.post()
    finally:
        database.rollback()
        database.close()


def ra_expires(scene):
    end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=5, minutes=5)
    scene.start(ra=scene.site.authority.issue("ra-dying", end=end.strftime("%Y%m%d%H%M%SZ")))
    return scene.post()


def ra_without_usage(scene):
    scene.start(ra=scene.site.authority.issue("ra-without-usage", ("basicConstraints=critical,CA:FALSE",)))
    return scene.post()


STORIES = {
    "Somebody opened the URL in a browser": browser,
    "Devices that send by GET are refused": long_get,
    "Windows asks for certificates for ever and sends no request": ra_without_usage,
    "The message is too large": too_large,
    "The device encrypted to an old RA certificate": old_ra,
    "The device has no Intune challenge": no_challenge,
    "The device uses an old algorithm": old_algorithm,
    "The key is too small": small_key,
    "The subject is not what the profile orders": wrong_subject,
    "The request comes too late": late,
    "The application key has expired": microsoft("token", "aadsts", aadsts=7000222),
    "Intune does not accept the application": microsoft("validate", "status", status=403),
    "Graph does not tell where the service is": microsoft("endpoints", "status", status=403, body=GRAPH_403),
    "Entra cannot be reached": no_way_to_microsoft,
    "Intune does not answer in time": microsoft("validate", "slow", {"Timeout": 1}, seconds=3),
    "Microsoft has an outage": breaker,
    "Too many devices at once": too_many,
    "The CA cannot be reached": ca_down,
    "The CA is too slow": ca("slow", seconds=6),
    "The CA fails": ca("status", status=500),
    "The CA refuses": ca("refuse", fail_info=2, text="wrong challenge"),
    "The backend is not a SCEP URL": ca("html"),
    "The chain is another CA's": wrong_chain,
    "The CA gives a certificate for another key": ca("wrong_key"),
    "The CA's certificate is not of the chain": ca("foreign_issuer"),
    "The request waits at the CA for somebody": waits_at_the_ca,
    "Intune refuses the report": microsoft("success", "code", code="Unauthorized", description="not yours"),
    "Intune does not take the report": microsoft("success", "status", {"Timeout": 2}, status=500),
    "The journal cannot be written": locked_journal,
    "The RA certificate expires": ra_expires,
}


@pytest.mark.skipif(place.SANITIZE, reason="once is enough")
@pytest.mark.parametrize("title", STORIES)
def test_failure(site, start_gateway, devices, title):
    scene = Scene(site, start_gateway, devices)
    found = STORIES[title](scene)
    gets, line = sections().get(title, (None, None))
    log = scene.gateway.lines("ISCEP")
    assert gets is not None and line is not None, "not on the page: " + found + "\n" + "\n".join(log)
    assert found == gets
    regex = ".*".join(re.escape(part.strip()) for part in line.split("…"))
    assert [one for one in log if re.search(regex, one)], f"{line}\n" + "\n".join(log)


def test_every_section_has_its_story():
    assert sections().keys() == STORIES.keys() and len(STORIES) >= 20
