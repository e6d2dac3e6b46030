# SPDX-License-Identifier: Apache-2.0
"""The status page in Debian's Chromium: a good, a failing and an empty system. Its screenshots are for somebody to look at."""
import datetime
import time

import pytest

from harness import browser, client, status
from harness.status import HOSTILE_SUBJECT, HOSTILE_TRANSACTION


@pytest.fixture
def start(start_gateway):
    """A gateway with a status location."""
    return status.starter(start_gateway)


def failing_gateway(site, start, devices):
    """Microsoft down, the CA down, a report owed, something about to expire, requests of all kinds."""
    end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=3, hours=1)
    ra = site.authority.issue(f"ra-failing-{time.monotonic_ns()}", end=end.strftime("%Y%m%d%H%M%SZ"))
    profile = site.profile("/scep", Name='"Corporate laptops"', Retries=0, ra=ra)
    gateway = start([profile])
    gateway.allow_log("ISCEP1\\d\\d\\d|ISCEP0320|ISCEP0420|ISCEP0552|AH01102|AH00898")
    for message in devices(profile, 3, subject="/CN=laptop-%d/OU=Sales/O=Contoso"):
        message.post(gateway.port)
    site.microsoft.fail("validate", "code", code="ChallengeExpired", times=1)
    (hostile,) = devices(profile, subject=HOSTILE_SUBJECT, transaction=HOSTILE_TRANSACTION)
    hostile.post(gateway.port)
    site.microsoft.fail("success", "status", status=500, times=1)
    devices(profile, subject="/CN=phone-7")[0].post(gateway.port)
    site.ca.control("drop", times=5)
    for message in devices(profile, 5, subject="/CN=tablet-%d"):
        message.post(gateway.port)
    site.microsoft.fail("validate", "status", status=503)
    site.microsoft.fail("success", "status", status=503)
    site.microsoft.fail("failure", "status", status=503)
    for message in devices(profile, 12, subject="/CN=laptop-%d"):
        message.post(gateway.port)
    return gateway, hostile


def shown(gateway, path=status.PATH):
    """The text of the page as Chromium has it, after it was made sure that nothing but ours is in it."""
    return status.browser_dom(browser.dump(f"http://127.0.0.1:{gateway.port}{path}")).text


@pytest.fixture
def chromium():
    if not browser.is_there():
        pytest.skip("chromium is missing: install Debian's package of that name")
    return browser


def test_page_of_an_empty_system(site, start, chromium):
    gateway = start([site.profile("/scep", Name='"Corporate laptops"')])
    text = shown(gateway)
    assert "not used yet" in text and "No device has come yet." in text and "Corporate laptops" in text
    assert "the RA's certificate in 364 days" in text
    chromium.screenshots(f"http://127.0.0.1:{gateway.port}{status.PATH}", "empty", {"wide": 900, "narrow": 1700})


def test_page_of_a_good_system(site, start, devices, chromium):
    first, second = site.profile("/scep", Name='"Corporate laptops"'), site.profile("/phones", Name="Phones")
    gateway = start([first, second])
    agents = ("Mozilla/4.0 (compatible; Win32; NDES client 10.0.22621.1/ni_release)", "profiled/1.0 CFNetwork/1490 Darwin/23.0.0",
              "Dalvik/2.1.0 (Linux; U; Android 14)")
    for number, message in enumerate(devices(first, 12, subject="/CN=laptop-%d/OU=Sales/O=Contoso") + devices(second, 5, subject="/CN=phone-%d")):
        answer = client.request(gateway.port, "POST", message.profile.path + "?operation=PKIOperation", message.der,
                                {"Content-Type": "application/x-pki-message", "User-Agent": agents[number % 3]})
        assert answer.status == 200
    status.settled(gateway, "Phones", enrolled=5)
    text = shown(gateway)
    assert "certificate delivered" in text and "O=Contoso, OU=Sales, CN=laptop-11" in text and "Windows" in text
    assert "enrolled 12" in text and "failing" not in text and "look at it" not in text
    chromium.screenshots(f"http://127.0.0.1:{gateway.port}{status.PATH}", "good", {"wide": 1900, "narrow": 4800})


def test_page_of_a_failing_system(site, start, devices, chromium):
    gateway, hostile = failing_gateway(site, start, devices)
    text = shown(gateway)
    for words in ("failing", "Microsoft is not asked for validations", "HTTP 503", "the RA's certificate in 3 days",
                  "Intune refused the request", "ChallengeExpired", "alert(1)", "5 in a row"):
        assert words in text, f"{words!r} is not on the page: {text[:3000]}"
    chromium.screenshots(f"http://127.0.0.1:{gateway.port}{status.PATH}", "failing", {"wide": 1800, "narrow": 5200})
    found = shown(gateway, f"{status.PATH}?q={client.urllib.parse.quote(hostile.transaction, safe='')}")
    assert "onerror=alert(1)" in found and "Recent requests that fit 1" in found
    chromium.screenshots(f"http://127.0.0.1:{gateway.port}{status.PATH}?q={client.urllib.parse.quote(hostile.transaction, safe='')}",
                         "search", {"wide": 700, "narrow": 900})
