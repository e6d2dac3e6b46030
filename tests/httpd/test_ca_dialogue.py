# SPDX-License-Identifier: Apache-2.0
"""How the gateway speaks to the CA: what it learns of it, what it uses towards it, which answers it reads."""
import concurrent.futures
import contextlib
import shutil
import socket
import socketserver
import threading

import pytest

from harness import check, client, device, pki, place, system
from harness.fake import FakeServer, http_answer
from harness.httpd import Httpd
from harness.tap import Tap


def ca_record(ca):
    """All requests, GetCACaps included."""
    return client.get_json(ca.port, "/ca/record")["requests"]


def questions(ca):
    return [request for request in ca_record(ca) if request["operation"].lower() == "getcacaps"]


def enrol(gateway, devices, profile=None, **options):
    (message,) = devices(profile or gateway.profiles[0], **options)
    answer = message.post(gateway.port)
    return message, answer, check.success(message, answer)


OLD = "SHA-1\nDES3\n"


def test_the_first_device_finds_an_old_ca(site, start_gateway, devices):
    """Nobody asked GetCACaps: the gateway does so itself, before it speaks to a CA without AES, SHA-256 and POST."""
    gateway = start_gateway([site.profile("/scep")])
    site.ca.control(caps=OLD)
    message, answer, opened = enrol(gateway, devices)
    check.reported(site, message, opened, answer)
    (request,) = site.ca.requests()
    assert (request["method"], request["cipher"], request["digest"]) == ("GET", "des3", "sha1")
    enrol(gateway, devices)
    assert len(questions(site.ca)) == 1
    assert "AES" in client.request(gateway.port, "GET", "/scep?operation=GetCACaps").text
    assert len(questions(site.ca)) == 1


def test_the_first_device_comes_by_get(site, start_gateway, devices):
    gateway = start_gateway([site.profile("/scep")])
    site.ca.control(caps=OLD)
    (message,) = devices(gateway.profiles[0])
    check.success(message, message.get(gateway.port, "/scep/certsrv/mscep%20x/pkiclient.exe"))
    assert len(questions(site.ca)) == 1 and site.ca.requests()[0]["cipher"] == "des3"


# What a server's rules refuse: requests without an operation; all GETs of the location.
RULES = {"operation": "RewriteCond %{QUERY_STRING} !operation=\nRewriteRule ^/scep - [F]\n",
         "GET": "RewriteCond %{REQUEST_METHOD} GET\nRewriteRule ^/scep - [F]\n"}


@pytest.mark.parametrize("rule", RULES)
def test_the_first_device_meets_a_rule(site, start_gateway, devices, rule):
    """The question is a GET of the location with an operation. Where that is refused, the log says so."""
    gateway = start_gateway([site.profile("/scep")], modules=["rewrite"], before="RewriteEngine On\n" + RULES[rule])
    site.ca.control(caps=OLD)
    enrol(gateway, devices)
    assert site.ca.requests()[0]["cipher"] == ("des3" if rule == "operation" else "aes128")
    assert len(gateway.lines(r"ISCEP0523: .*itself refused to ask, with HTTP 403\)")) == (rule == "GET")


def test_many_first_devices(site, start_gateway, devices):
    """All of them wait for the one that asks."""
    gateway = start_gateway([site.profile("/scep")])
    site.ca.control(caps=OLD)
    messages = devices(gateway.profiles[0], 12)
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda message: message.post(gateway.port), messages))
    for message, answer in zip(messages, answers):
        check.success(message, answer)
    assert len(questions(site.ca)) == 1
    assert {(request["method"], request["cipher"]) for request in site.ca.requests()} == {("GET", "des3")}


def test_a_ca_that_does_not_tell(site, start_gateway, devices):
    """RFC 8894's musts; one line says so, and the CA is left in peace for a while."""
    gateway = start_gateway([site.profile("/scep")])
    site.ca.control(caps="<html>It works!</html>")
    for _ in range(3):
        enrol(gateway, devices)
    assert {(request["method"], request["cipher"], request["digest"]) for request in site.ca.requests()} == {
        ("POST", "aes128", "sha256")}
    assert len(questions(site.ca)) == 1
    assert len(gateway.lines(r"ISCEP0523: .*\(HTTP 200\)")) == len(gateway.lines("ISCEP0523")) == 1


def test_a_ca_that_is_away_does_not_tell(site, start_gateway):
    gateway = start_gateway([site.profile("/scep", backend=f"http://127.0.0.1:{system.free_port()}/")])
    gateway.allow_log(r"AH00957|AH01114|AH00898|AH01097|\[proxy")
    assert client.request(gateway.port, "GET", "/scep?operation=GetCACaps").status == 200
    gateway.wait_log(r"ISCEP0523: .*\(no whole answer\)|ISCEP0523: .*\(HTTP 50[0-9]\)")


@pytest.mark.parametrize("first", ["GetCACaps", "PKIOperation"])
@pytest.mark.parametrize("pause", [0.1, 0], ids=["slow", "quick"])
def test_a_ca_that_tells_for_ever(site, start_gateway, devices, first, pause):
    """No device, and none of the places for enrolments, waits for its end."""
    ended = threading.Event()

    def tell():
        yield b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n"
        while not ended.wait(pause):
            yield b"AES\n" if pause else b"AES\n" * 4096

    def answer(request):
        return tell() if b"operation=GetCACaps" in request else http_answer(b"", "500 Internal Server Error")
    with FakeServer(answer) as fake:
        gateway = start_gateway([site.profile("/scep", backend=fake.url, BackendTimeout=3)])
        gateway.allow_log(r"ISCEP\d+: |\[proxy")
        try:
            if first == "GetCACaps":
                answered = client.request(gateway.port, "GET", "/scep?operation=GetCACaps")
                assert answered.status == 200 and "AES" in answered.text.split()
            else:
                (message,) = devices(gateway.profiles[0])
                answered = message.post(gateway.port)
                check.unavailable(answered)
            assert answered.seconds < 10 * place.SLOWNESS
            assert gateway.lines(r"ISCEP0523: .*\(no whole answer\)")
        finally:
            ended.set()


def test_the_operator_tells(site, start_gateway, devices):
    gateway = start_gateway([site.profile("/scep", BackendCapabilities='"DES3 SHA-512 GetNextCACert"')])
    assert "GetNextCACert" in client.request(gateway.port, "GET", "/scep?operation=GetCACaps").text.split()
    enrol(gateway, devices)
    (request,) = site.ca.requests()
    assert (request["method"], request["cipher"], request["digest"]) == ("GET", "des3", "sha512")
    assert questions(site.ca) == []


@pytest.mark.parametrize("allowed, caps, cipher, digest", [
    ("AES256 SHA-512 SHA-1", "AES\nSHA-256\nPOSTPKIOperation\n", "aes256", "sha512"),
    ("DES3 SHA-1", "AES\nDES3\nSHA-256\nSHA-1\nPOSTPKIOperation\n", "des3", "sha1")])
def test_forbidden_algorithms_are_not_used(site, start_gateway, devices, allowed, caps, cipher, digest):
    gateway = start_gateway([site.profile("/scep", BackendAlgorithms=f'"{allowed}"')])
    site.ca.control(caps=caps)
    enrol(gateway, devices)
    (request,) = site.ca.requests()
    assert (request["cipher"], request["digest"]) == (cipher, digest)


@pytest.mark.parametrize("answer", [{"cipher": "des"}, {"digest": "md5"}], ids=["cipher", "digest"])
def test_forbidden_algorithms_are_not_read(site, start_gateway, devices, answer):
    gateway = start_gateway([site.profile("/scep", BackendAlgorithms='"AES SHA-256"')])
    (message,) = devices(gateway.profiles[0])
    site.ca.control(**answer)
    check.unavailable(message.post(gateway.port), 502)
    check.final_line(gateway, 1206, message, "IntuneScepBackendAlgorithms")
    check.failure_reported(site, message, 1206)


def test_a_ca_that_hangs(site, start_gateway, devices):
    """It costs one device the proxy's time-out twice; the next ones do not ask again what it can."""
    with socket.create_server(("127.0.0.1", 0), backlog=20) as listener:
        kept = []

        def accept():
            try:
                while True:
                    kept.append(listener.accept()[0])
            except OSError:
                pass
        threading.Thread(target=accept, daemon=True).start()
        backend = f"http://127.0.0.1:{listener.getsockname()[1]}/ca"
        gateway = start_gateway([site.profile("/scep", backend=backend)], after="ProxyTimeout 1\n")
        gateway.allow_log(r"\[proxy|ISCEP1201")
        first, second = devices(gateway.profiles[0], 2)
        answer = first.post(gateway.port)
        check.unavailable(answer)
        assert answer.seconds < 4 * place.SLOWNESS
        answer = second.post(gateway.port)
        check.unavailable(answer)
        assert answer.seconds < 2 * place.SLOWNESS
        assert len(kept) == 3
        for connection in kept:
            connection.close()
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("manner", [
    {"oaep": True}, {"cipher": "des", "digest": "sha1"}, {"cipher": "des3", "oaep": True},
    {"digest": "sha512", "cipher": "aes256"}], ids=str)
def test_answers_of_all_manners(site, plain_gateway, devices, manner):
    site.ca.control(**manner)
    message, answer, opened = enrol(plain_gateway, devices, digest="sha256", cipher="aes128")
    assert (opened["cipher"], opened["digest"]) == ("aes128", "sha256")
    check.reported(site, message, opened, answer)


@pytest.fixture(scope="module")
def plain_gateway(site):
    from harness.gateway import Gateway
    gateway = Gateway([site.profile("/scep")]).start()
    yield gateway
    gateway.stop()


@pytest.fixture(scope="module")
def ca_with_ra(site):
    """A CA whose answers an RA of its own signs, and to which requests are encrypted."""
    directory = site.directory / "ca-with-ra"
    directory.mkdir()
    certificate, key = site.authority.issue("ndes")
    for source, name in ((site.authority.certificate, "ca.pem"), (site.authority.key, "ca.key"),
                         (certificate, "ra.pem"), (key, "ra.key")):
        pki.for_server(shutil.copy(source, directory / name))
    server = Httpd("ca-with-ra", f'LoadModule sim_ca_module "{place.need("tests/sim/mod_sim_ca.so")}"\n'
                   'LimitRequestLine 65534\n<Location "/ca">\nSetHandler sim-ca\n'
                   f'SimCADirectory "{directory}"\n</Location>\n', processes=1)
    server.strict = False
    server.certificate = certificate
    server.start()
    yield server
    server.stop()


def test_the_cas_own_ra(site, ca_with_ra, start_gateway, devices):
    backend = f"http://127.0.0.1:{ca_with_ra.port}/ca"
    profile = site.profile("/scep", backend=backend, BackendCertificate=ca_with_ra.certificate)
    gateway = start_gateway([profile, site.profile("/wrong", backend=backend)])
    enrol(gateway, devices)
    (message,) = devices(gateway.profiles[1])
    check.unavailable(message.post(gateway.port), 502)
    check.final_line(gateway, 1207, message, "IntuneScepBackendCertificate")


# a CA of several nodes

@pytest.mark.parametrize("capabilities", ["SCEPStandard", '"AES SHA-256"'], ids=["POST", "GET"])
@pytest.mark.parametrize("member, backend", [("http://127.0.0.1:{} route=x", "balancer://ca/ca"),
                                             ("http://127.0.0.1:{}/", "balancer://ca/ca"), ("http://127.0.0.1:{}/ca", "balancer://ca")])
def test_polls_go_to_the_same_node(site, start_gateway, devices, capabilities, member, backend):
    """Only the node that said PENDING may know of it."""
    with contextlib.ExitStack() as stack:
        taps = [stack.enter_context(Tap(site.ca.port)) for _ in range(3)]
        members = "".join(f"BalancerMember {member.format(tap.port)}\n" for tap in taps)
        profile = site.profile("/scep", backend=backend, BackendCapabilities=capabilities)
        gateway = start_gateway([profile], before=f'<Proxy "balancer://ca">\n{members}</Proxy>\n',
                                modules=["proxy_balancer", "slotmem_shm", "lbmethod_byrequests"])
        messages = devices(profile, 3)
        site.ca.control(approval="manual")
        for message in messages:
            assert check.certrep(message, message.post(gateway.port))["status"] == 3
        for _ in range(3):
            messages.reverse()
            for poll in device.poll_all(messages):
                assert check.certrep(poll, poll.post(gateway.port))["status"] == 3
        for tap in taps:
            asked = [message.transaction for exchange in tap.operations() for message in messages
                     if message.transaction.encode() in exchange.message]
            assert len(asked) == 4 and len(set(asked)) == 1
        site.ca.approve()
        for message in messages:
            check.success(message, message.post(gateway.port))


class SocketFront(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """A socket file that leads to a port."""
    daemon_threads = True

    def __init__(self, path, port):
        self.port = port
        super().__init__(str(path), None)
        path.chmod(0o777)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def finish_request(self, request, client_address):
        with socket.create_connection(("127.0.0.1", self.port)) as behind:
            back = threading.Thread(target=self.pump, args=(behind, request))
            back.start()
            self.pump(request, behind)
            back.join()

    @staticmethod
    def pump(source, target):
        with contextlib.suppress(OSError):
            while part := source.recv(65536):
                target.sendall(part)
            target.shutdown(socket.SHUT_WR)


def test_poll_of_a_member_behind_a_socket(site, start_gateway, devices, scratch):
    """Its URL is only a name, at which nobody, or somebody else, would answer."""
    with SocketFront(scratch / "ca.sock", site.ca.port) as front:
        member = f'<Proxy "balancer://ca">\nBalancerMember "unix:{front.server_address}|http://localhost"\n</Proxy>\n'
        gateway = start_gateway([site.profile("/scep", backend="balancer://ca/ca")], before=member,
                                modules=["proxy_balancer", "slotmem_shm", "lbmethod_byrequests"])
        site.ca.control(approval="manual")
        (message,) = devices(gateway.profiles[0])
        assert check.certrep(message, message.post(gateway.port))["status"] == 3
        assert site.ca.approve() == 1
        poll = device.poll(message)
        check.success(poll, poll.post(gateway.port))
        front.shutdown()
