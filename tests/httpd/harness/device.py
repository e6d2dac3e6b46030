# SPDX-License-Identifier: Apache-2.0
"""Devices: messages made and answers opened by the `device` tool."""
import base64
import collections
import concurrent.futures
import hashlib
import itertools
import json
import subprocess
import tempfile

from cryptography import x509

from . import client, place

_numbers = itertools.count(1)
MESSAGE_TYPE = {"Content-Type": "application/x-pki-message"}


def _tool(*arguments, seconds=120):
    done = subprocess.run([str(place.need("tests/sim/device")), *map(str, arguments)], capture_output=True, text=True,
                          timeout=seconds * place.SLOWNESS, check=False)
    assert done.returncode == 0, f"device {' '.join(map(str, arguments))}: {done.stdout}{done.stderr}"
    return done.stdout


class Message:
    """One device's PKIMessage, and how its answer is opened."""

    def __init__(self, directory, index, profile, challenge):
        self.directory, self.index, self.profile, self.challenge = directory, index, profile, challenge
        self.der = (directory / f"{index}.der").read_bytes()
        facts = json.loads((directory / f"{index}.json").read_text())
        self.transaction = facts["transaction_id"]
        self.nonce = facts["sender_nonce"]
        self.csr = facts["csr_base64"]

    @property
    def key(self):
        return self.directory / f"{self.index}.key"

    def post(self, port, path=None, **options):
        target = f"{path or self.profile.path}?operation=PKIOperation"
        return client.request(port, "POST", target, self.der, MESSAGE_TYPE, **options)

    def get(self, port, path=None):
        return client.raw_get(port, client.pki_get_target(path or self.profile.path, self.der))

    @property
    def csr_sha256(self):
        """As in the stand-ins' records."""
        return hashlib.sha256(base64.b64decode(self.csr)).hexdigest()

    def open(self, answer):
        """What the device finds in a CertRep."""
        file = self.directory / f"{self.index}.{next(_numbers)}.answer"
        file.write_bytes(_body(answer))
        text = _tool("answer", "--dir", self.directory, "--index", self.index, "--ca", self.profile.chain,
                     "--ra", self.profile.ra_certificate, "--message", file)
        return _opened(text)


def _body(answer):
    return answer.body if isinstance(answer, client.Answer) else answer


def _opened(text):
    opened = json.loads(text)
    for name in ("status", "fail_info"):
        opened[name] = None if opened.get(name) in (None, "") else int(opened[name])
    return opened


def _arguments(options):
    found = []
    for name, value in options.items():
        option = "--" + name.strip("_").replace("_", "-")
        for single in value if isinstance(value, (list, tuple)) else [value]:
            found += [option] if single is True else [option, single]
    return found


def prepare(directory, profile, count=1, challenges=None, **options):
    """
    Messages for a profile. `challenges`: one for each device; options become the tool's (break_ is --break, oaep=True
    is --oaep).
    """
    out = directory / f"devices-{next(_numbers)}"
    out.mkdir()
    arguments = ["request", "--ra", profile.ra_certificate, "--out", out, "--count", count]
    if challenges is not None:
        (out / "challenges").write_text("".join(challenge + "\n" for challenge in challenges))
        arguments += ["--challenge-file", out / "challenges"]
    _tool(*arguments, *_arguments(options), seconds=120 + count / 50)
    first = 0 if (out / "0.der").exists() else 1
    return [Message(out, index, profile, challenges[index - first] if challenges else None)
            for index in range(first, first + count)]


def _groups(items, key):
    """From key to positions in `items`."""
    found = collections.defaultdict(list)
    for position, item in enumerate(items):
        found[key(item)].append(position)
    return found


def again_all(messages, new_signer=False, **options):
    """
    For each message, in the same order, another one of the same transaction, CSR and key, with a new nonce, encryption
    and signature: a retransmission, or what the options make of it. The signer certificate is the same, or with
    `new_signer` a new one with the same key.
    """
    made = [None] * len(messages)
    for (directory, _), positions in _groups(messages, lambda m: (m.directory, id(m.profile))).items():
        profile = messages[positions[0]].profile
        out = directory.parent / f"devices-{next(_numbers)}"
        out.mkdir()
        (out / "list").write_text("".join(f"{messages[position].index}\n" for position in positions))
        arguments = ["--new-signer"] if new_signer else []
        _tool("request", "--ra", profile.ra_certificate, "--out", out, "--again", directory, "--list", out / "list",
              *arguments, *_arguments(options), seconds=120 + len(positions) / 50)
        for position in positions:
            first = messages[position]
            made[position] = Message(out, first.index, profile, first.challenge)
    return made


def again(message, **options):
    """A retransmission."""
    return again_all([message], **options)[0]


def poll_all(messages, **options):
    """CertPolls for the transactions of these messages."""
    return again_all(messages, type=20, **options)


def poll(message, **options):
    """A CertPoll for the transaction of an earlier message; answers to it are opened as ever."""
    return poll_all([message], **options)[0]


def _open_some(pairs):
    """Pairs whose messages have directory and profile in common."""
    first = pairs[0][0]
    with tempfile.TemporaryDirectory(prefix="iscep-answers-", dir=place.quick_directory()) as name:
        lines = []
        for number, (message, answer) in enumerate(pairs):
            path = f"{name}/{number}"
            with open(path, "wb") as file:
                file.write(_body(answer))
            lines.append(f"{message.index} {path}\n")
        with open(f"{name}/list", "w", encoding="ascii") as file:
            file.writelines(lines)
        text = _tool("answers", "--dir", first.directory, "--ca", first.profile.chain,
                     "--ra", first.profile.ra_certificate, "--list", f"{name}/list", seconds=120 + len(pairs) / 50)
    found = [_opened(line) for line in text.splitlines()]
    assert len(found) == len(pairs)
    return found


def open_all(pairs, strict=True):
    """
    What the devices find: for each (message, answer) what message.open(answer) returns, by a few processes. An answer
    that is none fails, or has its `error` where not `strict`.
    """
    pairs = list(pairs)
    jobs = []
    for positions in _groups(pairs, lambda pair: (pair[0].directory, id(pair[0].profile))).values():
        half = max(200, (len(positions) + 1) // 2)
        jobs += [positions[start:start + half] for start in range(0, len(positions), half)]
    found = [None] * len(pairs)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for positions, opened in zip(jobs, pool.map(lambda job: _open_some([pairs[n] for n in job]), jobs)):
            for position, single in zip(positions, opened):
                found[position] = single
    wrong = [(pair[0].transaction, single["error"]) for pair, single in zip(pairs, found) if single["error"]]
    assert not (strict and wrong), f"{len(wrong)} answers cannot be opened: {wrong[:3]}"
    return found


class CertificateFacts:
    """A certificate in the words in which Intune wants it, found without the code under test."""

    def __init__(self, pem):
        certificate = x509.load_pem_x509_certificate(pem.encode())
        der = base64.b64decode("".join(pem.strip().splitlines()[1:-1]))
        serial = f"{certificate.serial_number:X}"
        self.der = der
        self.thumbprint = hashlib.sha1(der).hexdigest().upper()
        self.serial = serial if len(serial) % 2 == 0 else "0" + serial
        self.not_after = certificate.not_valid_after.strftime("%Y-%m-%dT%H:%M:%S.000Z")
        self.issuer = certificate.issuer
