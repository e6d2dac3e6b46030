# SPDX-License-Identifier: Apache-2.0
"""intune-scepctl on real servers: `enrol` and `ra-request`."""
import pathlib
import stat
import threading

import pytest
from cryptography import x509

from harness import check as answers, ctl, pki, place, system, wait


def profiles(site):
    return [site.profile("/scep")]


@pytest.fixture
def profile(gateway):
    return gateway.profiles[0]


@pytest.fixture
def url(gateway):
    return f"http://127.0.0.1:{gateway.port}/scep"


# enrol

@pytest.fixture
def challenge(site, profile):
    return site.microsoft.challenge(profile.tenant)


def issued(result, site):
    """The certificate, as the CA has recorded it and Intune was told."""
    assert result.code == 0 and result.json["status"] == "issued", str(result)
    certificate = x509.load_pem_x509_certificate(result.json["certificate"].encode())
    assert result.json["serial"] == site.ca.requests()[-1]["serial"]
    return certificate


def key_of(certificate):
    return certificate.public_key().public_numbers()


def test_enrol(site, url, challenge):
    result = ctl.run("enrol", url, "--challenge", challenge, "--subject", "/O=Müller & Söhne/CN=Gerät 1", "--san",
                     "dns:a.example,upn:u@example.org")
    certificate = issued(result, site)
    assert certificate.subject.rfc4514_string() == "CN=Gerät 1,O=Müller & Söhne"
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["a.example"]
    (notification,) = site.microsoft.bodies("success")
    assert notification["certificateSerialNumber"] == result.json["serial"]
    assert challenge[100:200] not in result.out
    assert [step["step"] for step in result.json["steps"]] == ["capabilities", "ca-certificates", "request", "answer", "certificate"]


@pytest.mark.parametrize("method", ["--get", None])
@pytest.mark.parametrize("dress", ["windows", "ios", "macos", "android", None])
def test_enrol_in_each_dress(site, gateway, url, challenge, scratch, dress, method):
    file = pki.write_secret(scratch / "challenge", challenge)
    before = len(gateway.text(gateway.access_log).splitlines())
    words = (["--dress", dress] if dress else []) + ([method] if method else [])
    issued(ctl.run("enrol", url, "--challenge", f"file:{file}", *words), site)

    def requests():
        lines = gateway.text(gateway.access_log).splitlines()[before:]
        return [line.split('"')[1] for line in lines] if len(lines) >= 3 else None
    asked = wait.until(requests, "three lines in the access log")
    paths = [line.split()[1] for line in asked]
    first, second = ("GetCACert", "GetCACaps") if dress in ("ios", "macos") else ("GetCACaps", "GetCACert")
    assert first in paths[0] and second in paths[1] and "PKIOperation" in paths[2]
    assert asked[2].split()[0] == ("GET" if method else "POST")
    assert all(path.startswith("/scep/pkiclient.exe?") == (dress == "windows") for path in paths)
    raw = "%2b" not in paths[2].lower() and "%2f" not in paths[2].lower()
    assert raw == (method is None or dress in ("ios", "macos", "android"))


@pytest.mark.parametrize("cipher, digest", [("aes256", "sha512"), ("des3", "sha1"), ("aes128", "sha256")])
def test_enrol_with_algorithms(site, url, challenge, scratch, cipher, digest):
    out = scratch / "out"
    issued(ctl.run("enrol", url, "--challenge", challenge, "--cipher", cipher, "--digest", digest, "--oaep", "--out", out), site)
    (message,) = ctl.parts(ctl.run("decode", out / "request.der"), "message")
    assert message["digest"] == digest
    (recipient,) = ctl.parts(ctl.run("decode", out / "request.der"), "recipient")
    assert recipient["key transport"] == "rsaesOaep"
    # the answer in words, as the device may read it
    decoded = ctl.run("decode", out / "answer.der", "--ra-certificate", out / "signer.pem", "--ra-key", out / "key.pem")
    (message,) = ctl.parts(decoded, "message")
    assert message["pkiStatus"] == "0 (SUCCESS)" and message["digest"] == digest
    assert ctl.parts(decoded, "certificate")[-1]["serial"] == f"{x509.load_pem_x509_certificate((out / 'certificate.pem').read_bytes()).serial_number:X}".zfill(32)
    assert stat.S_IMODE((out / "key.pem").stat().st_mode) == 0o600
    assert ctl.run("decode", out / "ca.der").code == 0


def test_enrol_keeps_its_key(site, url, scratch, profile):
    key = scratch / "device.key"
    first = ctl.run("enrol", url, "--challenge", site.microsoft.challenge(profile.tenant), "--key", key, "--transaction", "again-1")
    certificate = issued(first, site)
    assert first.json["transaction"] == "again-1" and stat.S_IMODE(key.stat().st_mode) == 0o600
    again = ctl.run("enrol", url, "--challenge", site.microsoft.challenge(profile.tenant), "--key", key)
    assert key_of(issued(again, site)) == key_of(certificate)


def test_enrol_is_refused(site, gateway, url, profile):
    gateway.allow_log("ISCEP1100|ISCEP1014")
    result = ctl.run("enrol", url, "--challenge", site.microsoft.challenge(profile.tenant, subject="/CN=another"))
    assert result.code == 1 and result.json["status"] == "refused"
    assert "FAILURE badRequest" in result.out
    result = ctl.run("enrol", url)
    assert result.code == 1 and result.json["status"] == "refused"
    answers.ca_untouched(site)


def test_enrol_polls(site, url, challenge):
    site.ca.control(approval="manual")
    done = []
    thread = threading.Thread(target=lambda: done.append(ctl.run("enrol", url, "--challenge", challenge, "--poll", "30")))
    thread.start()
    try:
        wait.until(lambda: len(site.ca.requests()) >= 1, "the request to wait", 20)
        site.ca.approve()
    finally:
        thread.join(60 * place.SLOWNESS)
    (result,) = done
    assert result.code == 0 and result.json["status"] == "issued", str(result)
    assert "PENDING" in result.out
    site.ca.control(approval="automatic")


def test_enrol_does_not_wait_unasked(site, url, challenge):
    site.ca.control(approval="manual")
    result = ctl.run("enrol", url, "--challenge", challenge)
    assert result.code == 1 and result.json["status"] == "pending"
    site.ca.reject()
    site.ca.control(approval="automatic")


def test_what_cannot_be_kept(site, url, challenge, scratch):
    """One document all the same, and no certificate is asked for: nobody would have it."""
    (scratch / "file").write_text("")
    before = len(site.ca.requests())
    result = ctl.run("enrol", site.ca.url, "--out", scratch / "file")
    assert result.code == 3 and "cannot be" in result.json["error"]
    for out in ("nowhere/ra.pem", "."):
        result = ctl.run("ra-request", site.ca.url, "--key", scratch / "key", "--out", scratch / out, "--subject", "/CN=x")
        assert result.code == 3 and str(scratch) in result.json["error"], str(result)
    assert len(site.ca.requests()) == before
    result = ctl.run("enrol", site.ca.url, "--ca-chain", scratch / "file")
    assert result.code == 3 and "is empty" in result.json["error"]


def test_enrol_at_a_ca_of_another_chain(site, scratch):
    other = pki.Authority(scratch / "other", name="Other CA")
    result = ctl.run("enrol", site.ca.url, "--ca-chain", other.certificate)
    assert result.code == 1 and result.json["status"] == "failed" and "not signed by" in result.out
    assert ctl.run("enrol", site.ca.url, "--ca-chain", site.authority.certificate).code == 0


def test_enrol_comes_again_after_503(site, gateway, url, challenge):
    gateway.allow_log("ISCEP110")
    site.microsoft.fail("validate", "status", times=1, status=503, retry_after=6)
    result = ctl.run("enrol", url, "--challenge", challenge, "--poll", "60", seconds=90)
    issued(result, site)
    assert "HTTP 503" in result.out and "Retry-After" in result.out


def test_enrol_at_the_ca_itself(site):
    issued(ctl.run("enrol", site.ca.url), site)


def test_enrol_where_nothing_is(site, gateway):
    for target, words in ((f"http://127.0.0.1:{system.free_port()}/", "connection refused"),
                          (f"http://127.0.0.1:{gateway.port}/static.txt", "neither one certificate")):
        result = ctl.run("enrol", target)
        assert result.code == 1 and result.json["status"] == "failed" and words in result.out


@pytest.mark.parametrize("mode, words", [
    ("foreign_signer", "not signed by"), ("wrong_key", "for the requested key"), ("other_nonce", "another transaction"),
    ("truncate", "dropped"), ("html", "is not a SCEP answer"), ("refuse", "FAILURE")])
def test_enrol_at_a_ca_that_misbehaves(site, mode, words):
    site.ca.control(mode)
    result = ctl.run("enrol", site.ca.url)
    assert result.code == 1 and words in result.out, str(result)


@pytest.mark.parametrize("words", [
    [], ["http://x/", "y"], ["ftp://x/"], ["http://x/?q"], ["http://x/", "--dress", "palm"], ["http://x/", "--cipher", "sha256"],
    ["http://x/", "--digest", "rot13"], ["http://x/", "--subject", "x"], ["http://x/", "--san", "phone:1"], ["http://x/", "--eku", "no such"],
    ["http://x/", "--key-usage", "cRLSign"], ["http://x/", "--poll", "soon"], ["http://x/", "--poll", "-1"]])
def test_enrol_wrong_words(words):
    refused = ctl.run("enrol", *words, as_json=False)
    assert refused.code == 2 and refused.err and refused.out == ""


def test_enrol_against_scepserver(site, scepserver, start_gateway):
    gateway = start_gateway([site.profile("/s", backend=scepserver.url, authority=scepserver.authority, ra=scepserver.ra)])
    profile = gateway.profiles[0]
    result = ctl.run("enrol", f"http://127.0.0.1:{gateway.port}/s", "--challenge", site.microsoft.challenge(profile.tenant),
                     "--subject", "/CN=ctl-1")
    assert result.code == 0, str(result)
    direct = ctl.run("enrol", scepserver.url, "--subject", "/CN=ctl-2")
    assert direct.code == 0 and direct.json["status"] == "issued", str(direct)
    checked = ctl.check(gateway.config_file)
    checked.expect("ca-certificates", "green")
    checked.expect("stranger", "red", "ISSUES TO ANYBODY")


# ra-request

def test_ra_request(site, scratch, start_gateway):
    """From nothing to a gateway that serves with it, and on to the next certificate."""
    key, out = scratch / "ra.key", scratch / "ra.pem"
    result = ctl.run("ra-request", site.ca.url, "--key", key, "--out", out, "--subject", "/O=Contoso/CN=New RA", "--challenge", "c")
    certificate = issued(result, site)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.digital_signature and usage.key_encipherment
    assert stat.S_IMODE(key.stat().st_mode) == 0o600 and x509.load_pem_x509_certificate(out.read_bytes()) == certificate
    gateway = start_gateway([site.profile("/scep", ra=(out, key))])
    challenge = site.microsoft.challenge(gateway.profiles[0].tenant)
    assert ctl.run("enrol", f"http://127.0.0.1:{gateway.port}/scep", "--challenge", challenge).code == 0
    # with a new key, signed by the old one
    new_key, new_out = scratch / "new.key", scratch / "new.pem"
    renewed = ctl.run("ra-request", site.ca.url, "--key", new_key, "--out", new_out, "--renew", "--certificate", out,
                      "--certificate-key", key)
    second = issued(renewed, site)
    request = site.ca.requests()[-1]
    assert str(request["message_type"]) == "17" and int(request["signer_serial"], 16) == certificate.serial_number
    assert second.subject == certificate.subject and key_of(second) != key_of(certificate)
    # with the same key, in the old one's place
    third = issued(ctl.run("ra-request", site.ca.url, "--key", new_key, "--out", new_out, "--renew", "--certificate", new_out), site)
    assert key_of(third) == key_of(second) and third.serial_number != second.serial_number
    assert x509.load_pem_x509_certificate(new_out.read_bytes()) == third


def test_ra_request_from_scepserver(scepserver, scratch):
    """Its certificates have no keyEncipherment: they are shown, and never put in place of a good one."""
    out = scratch / "ra.pem"
    out.write_text("the old one\n")
    result = ctl.run("ra-request", scepserver.url, "--key", scratch / "ra.key", "--out", out, "--subject", "/CN=ctl-ra")
    assert result.code == 1 and result.json["status"] == "unfit", str(result)
    assert "keyEncipherment" in result.out and out.read_text() == "the old one\n"
    assert pathlib.Path(f"{out}.rejected").read_text().startswith("-----BEGIN CERTIFICATE-----")


def test_ra_request_waits_for_approval(site, scratch):
    site.ca.control(approval="manual")
    options = ["--key", scratch / "ra.key", "--out", scratch / "ra.pem", "--subject", "/CN=waiting RA"]
    result = ctl.run("ra-request", site.ca.url, *options)
    assert result.code == 1 and result.json["status"] == "pending" and not (scratch / "ra.pem").exists()
    done = []
    thread = threading.Thread(target=lambda: done.append(ctl.run("ra-request", site.ca.url, *options, "--poll", "30")))
    thread.start()
    wait.until(lambda: len(site.ca.requests()) >= 2, "the second request", 20)
    site.ca.approve()
    thread.join(60 * place.SLOWNESS)
    assert done[0].code == 0 and (scratch / "ra.pem").exists()
    site.ca.control(approval="automatic")


def test_ra_request_is_refused(site, scratch):
    site.ca.control("refuse", fail_info=2, text="not you")
    result = ctl.run("ra-request", site.ca.url, "--key", scratch / "ra.key", "--out", scratch / "ra.pem", "--subject", "/CN=x")
    assert result.code == 1 and result.json["status"] == "refused" and "not you" in result.out
    assert not (scratch / "ra.pem").exists()


@pytest.mark.parametrize("words", [
    ["--key", "k"], ["--out", "o"], ["--key", "k", "--out", "o"], ["--key", "k", "--out", "o", "--renew"],
    ["--key", "k", "--out", "o", "--subject", "/CN=x", "--certificate", "c"]])
def test_ra_request_wrong_words(words):
    refused = ctl.run("ra-request", "http://127.0.0.1:1/", *words, as_json=False)
    assert refused.code == 2 and refused.err


@pytest.mark.parametrize("option", ["--trust", "--client", "--ca-chain", "--key", "--challenge"])
def test_file_that_cannot_be_used(scratch, option):
    nothing = scratch / "not" / "there"
    refused = ctl.run("enrol", "http://127.0.0.1:1/", option, f"file:{nothing}" if option == "--challenge" else nothing, as_json=False)
    assert refused.code == 3 and str(nothing) in refused.err, str(refused)


def test_ra_request_over_a_key(site, scratch):
    """The certificate does not take the place of a key, and the CA is not asked for one that nobody has the key of."""
    new, old = scratch / "new.key", pki.write_secret(scratch / "old.key", site.ra[1].read_text())
    (scratch / "link.pem").symlink_to("new.key")
    for out, words in ((new, ["--subject", "/CN=x"]), (scratch / "link.pem", ["--subject", "/CN=x"]),
                       (old, ["--renew", "--certificate", site.ra[0], "--certificate-key", old])):
        refused = ctl.run("ra-request", site.ca.url, "--key", new, "--out", out, *words, as_json=False)
        assert refused.code == 2 and "--out names the file of a key" in refused.err, str(refused)
    assert "PRIVATE KEY" in new.read_text() and "PRIVATE KEY" in old.read_text() and site.ca.requests() == []


def test_ra_request_with_a_key_that_others_read(site, scratch):
    key = scratch / "ra.key"
    pki.openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", key)
    key.chmod(0o644)
    refused = ctl.run("ra-request", site.ca.url, "--key", key, "--out", scratch / "ra.pem", "--subject", "/CN=x", as_json=False)
    assert refused.code == 3 and "open to others" in refused.err
