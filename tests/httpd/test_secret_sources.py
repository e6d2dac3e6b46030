# SPDX-License-Identifier: Apache-2.0
"""Every directive that takes a secret takes it from the same places, with the same demands on them."""
import pytest

from harness.credentials import Certificate
from harness.gateway import Gateway
from test_configuration import PROXY, accepted, make_file, refused  # noqa: F401 (two of them are fixtures)

SECRETS = {"AppKey": "AppKey~somewhere", "AppCertificatePassword": "Phrase~somewhere", "HTTPProxyPassword": "Proxy~somewhere",
           "StateKey": "State~somewhere-and-of-32-bytes-or-more", "Journal": "sqlite3:{state}/elsewhere.sqlite"}


def gateway_with_secret(site, scratch, directive):
    """A gateway, and the function that gives it the secret, or what says where it is."""
    if directive in ("StateKey", "Journal"):
        gateway = Gateway([site.profile("/scep")])

        def take(value):
            gateway.server = f"IntuneScep{directive} {value}\n"
        return gateway, take
    around = {"HTTPProxyPassword": {"HTTPProxy": PROXY, "HTTPProxyUser": "me"}}.get(directive, {})
    if directive == "AppCertificatePassword":
        own = Certificate(scratch, "app", phrase=SECRETS[directive])
        around = {"AppKey": None, "AppCertificate": f"{own.certificate} {own.key}"}
    gateway = Gateway([site.profile("/scep", **around)])

    def take(value):
        gateway.profiles = [gateway.profiles[0].changed(**{directive: value})]
    return gateway, take


@pytest.mark.parametrize("source", ["file", "below ServerRoot", "exec", "env"])
@pytest.mark.parametrize("directive", SECRETS)
def test_where_a_secret_may_be(site, accepted, scratch, directive, source):
    gateway, take = gateway_with_secret(site, scratch, directive)
    secret = SECRETS[directive].format(state=gateway.state)
    directory = gateway.root if source == "below ServerRoot" else scratch
    path = make_file(directory, "a-secret", secret + "\n")
    gateway.environment["ISCEP_SECRET"] = secret
    take({"file": f"file:{path}", "below ServerRoot": "file:a-secret", "exec": f'"exec:/bin/cat {path}"',
          "env": "env:ISCEP_SECRET"}[source])
    gateway.extra_modules = ("info",)
    accepted(gateway)
    dumped = gateway.run_tool("-t", "-D", "DUMP_CONFIG")
    assert f"IntuneScep{directive} " in dumped.stdout and secret not in dumped.stdout + dumped.stderr


@pytest.mark.parametrize("source", ["open", "writable", "gone", "empty", "two lines", "exec", "env"])
@pytest.mark.parametrize("directive", SECRETS)
def test_where_a_secret_may_not_be(site, refused, scratch, directive, source):
    gateway, take = gateway_with_secret(site, scratch, directive)
    secret = SECRETS[directive].format(state=gateway.state)
    texts = {"gone": None, "empty": "", "two lines": f"{secret}\n{secret}\n"}
    path = scratch / "a-secret"
    if texts.get(source, secret) is not None:
        make_file(scratch, path.name, texts.get(source, secret), {"open": 0o604, "writable": 0o620}.get(source, 0o600))
    value, word = {"exec": ("exec:/bin/false", "/bin/false"), "env": ("env:ISCEP_NOT_SET", "ISCEP_NOT_SET")}.get(
        source, (f"file:{path}", str(path)))
    take(value)
    assert secret not in refused(gateway, f"IntuneScep{directive}", word)


@pytest.mark.parametrize("directive", [name for name in SECRETS if name != "Journal"])
def test_a_secret_that_stands_there_is_blanked_out(site, accepted, scratch, directive):
    gateway, take = gateway_with_secret(site, scratch, directive)
    take(SECRETS[directive])
    gateway.extra_modules = ("info",)
    accepted(gateway)
    dumped = gateway.run_tool("-t", "-D", "DUMP_CONFIG")
    assert f"IntuneScep{directive} ***" in dumped.stdout and SECRETS[directive] not in dumped.stdout + dumped.stderr
