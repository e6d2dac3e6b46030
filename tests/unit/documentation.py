#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
Holds the documentation against the code's tables: directives (settings.def), log lines (messages.def, problems.def, httpd/),
Microsoft's codes (codes.c), and the paths that the pages name. Prints each difference; the exit status is 1 if there is one.
With --write it first makes the generated tables in docs/ anew.
"""
import collections
import os
import pathlib
import re
import sys
import textwrap

TREE = pathlib.Path(os.environ.get("ISCEP_SOURCE") or pathlib.Path(__file__).resolve().parents[2])
CODE = TREE / "mod_intune_scep"
FAIL_INFO = ("badAlg", "badMessageCheck", "badRequest", "badTime", "badCertId")
HRESULT_NAMES = {
    0x8007000D: "ERROR_INVALID_DATA", 0x8007000E: "E_OUTOFMEMORY", 0x800705B4: "ERROR_TIMEOUT",
    0x800704D3: "ERROR_REQUEST_ABORTED", 0x80072EE2: "WININET_E_TIMEOUT", 0x80072EFD: "WININET_E_CANNOT_CONNECT", 0x80072EFE: "WININET_E_CONNECTION_ABORTED",
    0x80072F78: "WININET_E_INVALID_SERVER_RESPONSE", 0x80090006: "NTE_BAD_SIGNATURE",
    0x80094014: "CERTSRV_E_ADMIN_DENIED_REQUEST",
}
VALUES = {
    "FLAG": "`On` or `Off`", "FILE": "a file, absolute or below ServerRoot", "DIRECTORY": "a directory, absolute or below ServerRoot",
    "MICROSOFT_URL": "an `https://` URL, `http://` for loopback only", "BACKEND_URL": "an `http://`, `https://` or `balancer://` URL",
    "RESYNC": "`resend`, `poll` or `none`", "COME_BACK": "`503` or `pending`",
    "JOURNAL": "`sqlite3:/PATH`, `pgsql:CONNECTION`, `file:PATH`, `exec:COMMAND`, `env:NAME` or `none`",
    "NOTIFY": "`before` or `after`", "CLOUD": "`public`, `usgov` or `china`",
    "ALGORITHMS": "words of AES, AES128, AES192, AES256, DES3, DES, MD5, SHA-1, SHA-224, SHA-256, SHA-384, SHA-512, in quotes",
    "PROXY": "an `http://` or `https://` URL, or `none`",
    "CERTIFICATE": "a file, absolute or below ServerRoot, and perhaps another one or an OSSL_STORE URI",
    "CAPABILITIES": "`auto`, or words of AES, DES3, GetNextCACert, POSTPKIOperation, Renewal, SCEPStandard, SHA-1, SHA-256, SHA-512",
    "HEALTH": "words of journal, breaker, expiry, outbox, microsoft, ca",
    "SECRET": "`file:PATH`, `exec:COMMAND`, `env:NAME` or the secret itself",
}
GRAPH = "`Authorization_"
Setting = collections.namedtuple("Setting", "name scope kind low high default help")
Line = collections.namedtuple("Line", "id level meaning remedy")
Problem = collections.namedtuple("Problem", "id level http fail_info hresult what remedy")
faults = []


def read(path):
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        faults.append(f"{path.relative_to(TREE)}: {error.strerror}")
        return ""


def without_comments(text):
    return re.sub(r"/\*.*?\*/", "", text, flags=re.S)


def rows_of(path, macro):
    """The arguments of each use of an X-macro; texts without quotes, joined; NULL is None."""
    version = re.search(r"AC_INIT\(\[.*?\], \[(.*?)\]\)", read(TREE / "configure.ac"))
    names = {"ISCEP_VERSION": version[1] if version else "?"}
    token = re.compile(r'"((?:[^"\\]|\\.)*)"|(\w+|-\d+)|([(),])|\s+')
    text = without_comments(read(path))
    for start in re.finditer(rf"^{macro}\(", text, flags=re.M):
        row, parts, position = [], [], start.end()
        while True:
            found = token.match(text, position)
            if not found:
                faults.append(f"{path.name}: cannot be read at: {text[position:position + 40]!r}")
                break
            position = found.end()
            if found[1] is not None:
                parts.append(re.sub(r"\\(.)", r"\1", found[1]))
            elif found[2]:
                parts.append(None if found[2] == "NULL" else names.get(found[2], found[2]))
            elif found[3]:
                row.append(None if parts == [None] else "".join(parts))
                parts = []
                if found[3] == ")":
                    yield row
                    break


def level(name):
    return name.replace("LOG_LEVEL_", "").lower()


def load_settings():
    return [Setting(name, scope, kind, int(low), int(high), default, text)
            for _, name, scope, kind, low, high, default, text in rows_of(CODE / "gateway/settings.def", "SETTING")]


def load_messages():
    return [Line(int(row[1]), level(row[2]), row[3], row[4]) for row in rows_of(CODE / "base/messages.def", "MESSAGE")]


def load_problems():
    return [Problem(int(row[1]), level(row[2]), int(row[3]), row[4], int(row[5].rstrip("u"), 0), row[6], row[7])
            for row in rows_of(CODE / "base/problems.def", "PROBLEM")]


def load_repeated():
    """The ids of repeats.def, in their order."""
    text = read(CODE / "base/repeats.def")
    found = re.findall(r"^REPEATED_(MESSAGE|PROBLEM)\((\w+)\)$", text, flags=re.M)
    numbers = {kind: {row[0]: int(row[1]) for row in rows_of(CODE / f"base/{kind.lower()}s.def", kind)}
               for kind in ("MESSAGE", "PROBLEM")}
    return sorted(numbers[kind][symbol] for kind, symbol in found)


def load_metrics():
    return [row[1:] for row in rows_of(CODE / "gateway/metrics.def", "METRIC")]


def load_outcomes():
    """The names of problems, as metrics, JSON and notes have them."""
    return [(row[0], int(row[1]), row[6]) for row in rows_of(CODE / "base/problems.def", "PROBLEM")]


def load_codes():
    """Microsoft's codes and their meanings."""
    table = re.search(r"codes\[\] = \{(.*?)\n\};", without_comments(read(CODE / "intune/codes.c")), flags=re.S)
    entry = re.compile(r'\{\s*"([^"]+)",\s*((?:"(?:[^"\\]|\\.)*"\s*)+)\}')
    found = [(code, "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', texts))) for code, texts in entry.findall(table[1] if table else "")]
    if not found:
        faults.append("intune/codes.c: no table of codes found")
    return found


# The generated tables.

def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for row in rows:
        lines.append("| " + " | ".join(cell.replace("|", "\\|") or "–" for cell in row) + " |")
    return "\n".join(lines)


def sentence(text):
    """As it stands in a table: a capital first, and a full stop."""
    return text and text[0].upper() + text[1:] + ("" if text.endswith(".") else ".")


def values_of(setting):
    if setting.kind == "DURATION":
        return f"{setting.low} to {setting.high} seconds, also as `1500ms` or `1min`"
    if setting.kind == "NUMBER":
        return f"{setting.low} to {setting.high}"
    if setting.kind in ("TEXT", "WORD", "CHALLENGE"):
        what = {"TEXT": "", "WORD": " (letters, digits, `-`, `.`, `_`)", "CHALLENGE": ": `shape`, `always` or a regular expression"}
        return f"{setting.low} to {setting.high} characters{what[setting.kind]}"
    if setting.kind not in VALUES:
        faults.append(f"settings.def: the kind {setting.kind} has no words in VALUES of this script")
    return VALUES.get(setting.kind, "?")


def directive_table(settings, scope):
    return table(("directive", "value", "default", "meaning"),
                 ((f"`{one.name}`", values_of(one), f"`{one.default}`" if one.default is not None else "", one.help)
                  for one in settings if one.scope == scope))


def answer_of(problem):
    if problem.http != 200:
        return f"HTTP {problem.http}" + (" and Retry-After" if problem.http == 503 else "")
    if problem.fail_info == "FAIL_INFO_OF_CA":
        return "FAILURE, the CA's failInfo"
    return f"FAILURE {FAIL_INFO[int(problem.fail_info)]}"


def hresult_table(problems):
    by_number = {}
    for problem in problems:
        if problem.hresult:
            by_number.setdefault(problem.hresult, []).append(f"{problem.what} (ISCEP{problem.id:04})")
    for number in by_number:
        if number not in HRESULT_NAMES:
            faults.append(f"problems.def: 0x{number:08X} has no name in HRESULT_NAMES of this script")
    return table(("HRESULT", "as Intune gets it", "Windows' name", "sent when"),
                 ((f"`0x{number:08X}`", str(number - 2 ** 32), HRESULT_NAMES.get(number, "?"), sentence("; ".join(whats)))
                  for number, whats in sorted(by_number.items())))


def cloud_table():
    """The national clouds' hosts, from gateway/settings.c."""
    clouds = re.findall(r'\{"(\w+)",\s*"(https:[^"]+)",\s*"(https:[^"]+)",\s*"(https:[^"]+)"\}', read(CODE / "gateway/settings.c"))
    if not clouds:
        faults.append("gateway/settings.c: no table of clouds found")
    return table(("`IntuneScepCloud`", "`IntuneScepAuthority`", "`IntuneScepGraphURL`", "`IntuneScepIntuneURL`"),
                 (tuple(f"`{cell}`" for cell in row) for row in clouds))


def generated():
    """(page, marker) → text."""
    settings, messages, problems, codes = load_settings(), load_messages(), load_problems(), load_codes()
    code_rows = [(f"`{code}`", meaning) for code, meaning in codes]
    return {
        ("directives.md", "server"): directive_table(settings, "SERVER"),
        ("directives.md", "location"): directive_table(settings, "LOCATION"),
        ("directives.md", "clouds"): cloud_table(),
        ("log-messages.md", "messages"): table(("id", "level", "meaning", "what to do"), (
            (f"ISCEP{one.id:04}", one.level, one.meaning, one.remedy) for one in messages)),
        ("log-messages.md", "problems"): table(("id", "level", "meaning", "what to do", "the device gets", "Intune is told"), (
            (f"ISCEP{one.id:04}", one.level, sentence(one.what), sentence(one.remedy), answer_of(one),
             f"`0x{one.hresult:08X}`" if one.hresult else "") for one in problems)),
        ("log-messages.md", "repeats"): textwrap.fill(", ".join(f"ISCEP{number:04}" for number in load_repeated()) + ".", 120),
        ("error-codes.md", "intune"): table(("code", "meaning and remedy"),
                                            (row for row in code_rows if not row[0].startswith(("`AADSTS", GRAPH)))),
        ("error-codes.md", "entra"): table(("code", "meaning and remedy"),
                                           (row for row in code_rows if row[0].startswith("`AADSTS"))),
        ("error-codes.md", "graph"): table(("code", "meaning and remedy"), (row for row in code_rows if row[0].startswith(GRAPH))),
        ("error-codes.md", "hresults"): hresult_table(problems),
        ("status.md", "metrics"): table(("metric", "type", "labels", "meaning"),
                                        ((f"`{name}`", kind, labels, text) for name, kind, labels, text in load_metrics())),
        ("status.md", "outcomes"): table(("outcome", "line in the log", "meaning"),
                                         ((f"`{name}`", f"ISCEP{number:04}", sentence(what)) for name, number, what in load_outcomes())),
    }


def check_generated(write):
    for (page, marker), text in generated().items():
        path = TREE / "docs" / page
        old = read(path)
        block = re.compile(rf"(<!-- generated: {marker} -->\n).*?(<!-- end -->)", flags=re.S)
        if not block.search(old):
            faults.append(f"docs/{page}: the markers of the table \"{marker}\" are missing")
            continue
        new = block.sub(lambda found, text=text: found[1] + text + "\n" + found[2], old, count=1)
        if write and new != old:
            path.write_text(new, encoding="utf-8")
        elif new != old:
            faults.append(f"docs/{page}: the table \"{marker}\" is not what the code says: run tests/unit/documentation.py --write")


# conf/reference.conf

def unquoted(text):
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text


def reference_lines():
    """Directive lines of the reference: name, value, whether commented out, the explanation above, whether in a Location."""
    comment, location = [], False
    for number, line in enumerate(read(TREE / "conf/reference.conf").splitlines(), 1):
        text = line.strip()
        found = re.match(r"(#?)(IntuneScep\w*)\s+(.*)$", text)
        if found:
            yield number, found[2], unquoted(found[3]), bool(found[1]), " ".join(comment), location
        elif text.startswith("# "):
            comment.append(text[2:])
            continue
        elif re.match(r"#?</?Location\b", text) and not text.startswith("#"):
            location = not text.startswith("</")
        comment = []


def check_reference(settings):
    by_name = {setting.name: setting for setting in settings}
    seen = set()
    for number, name, value, commented, explanation, in_location in reference_lines():
        where = f"conf/reference.conf:{number}: {name}"
        setting = by_name.get(name)
        if not setting:
            faults.append(f"{where} does not exist")
            continue
        if name in seen:
            faults.append(f"{where} stands there twice")
        seen.add(name)
        if not explanation:
            faults.append(f"{where} has no explanation above it")
        if setting.default is not None and value != setting.default and f"Default: {setting.default}." not in explanation:
            faults.append(f"{where}: the default is \"{setting.default}\", not \"{value}\"")
        if setting.default is not None and value == setting.default and not commented:
            faults.append(f"{where} is the default and should be commented out")
        if setting.kind in ("NUMBER", "DURATION") and f"{setting.low} to {setting.high}" not in explanation:
            faults.append(f"{where}: the explanation lacks the range \"{setting.low} to {setting.high}\"")
        if in_location and setting.scope == "SERVER":
            faults.append(f"{where} stands in a <Location>, but is for the whole server")
    for name in by_name.keys() - seen:
        faults.append(f"conf/reference.conf: {name} is missing")


# Names and paths

def pages():
    return [TREE / "README.md", *sorted((TREE / "docs").glob("*.md"))]


def texts_with_names():
    """Everything in which a directive may be named, the program's own messages included."""
    for folder in ("conf", "docs", "tests/sim", "mod_intune_scep"):
        for path in sorted((TREE / folder).rglob("*")):
            if path.suffix in (".md", ".conf", ".in", ".c", ".h", ".def"):
                yield path
    yield TREE / "README.md"


def check_names(settings):
    real = {setting.name for setting in settings}
    for path in texts_with_names():
        for number, line in enumerate(read(path).splitlines(), 1):
            for name in re.findall(r"\bIntuneScep\w*", line):
                if name not in real:
                    faults.append(f"{path.relative_to(TREE)}:{number}: there is no directive {name}")


def check_log_ids():
    """Ids in the tables and in httpd/ are unique, and the pages name all of httpd's and no others."""
    ids = collections.Counter(one.id for one in load_messages() + load_problems())
    direct = collections.Counter()
    for path in sorted((CODE / "httpd").glob("*.c")):
        direct.update(int(number) for number in re.findall(r'"ISCEP(\d{4}): ', read(path)))
    ids.update(direct)
    faults.extend(f"ISCEP{number:04} is used for {count} messages" for number, count in ids.items() if count > 1)
    faults.extend(f"ISCEP{number:04} of httpd/ is not in 0500 to 0599" for number in direct if not 500 <= number < 600)
    page = read(TREE / "docs/log-messages.md")
    for number in sorted(direct):
        row = re.search(rf"^\| ISCEP{number:04} \|(.*)$", page, flags=re.M)
        if not row or not all(cell.strip() for cell in row[1].rstrip("|").split("|")):
            faults.append(f"docs/log-messages.md: ISCEP{number:04} has no row with level, meaning and remedy")
    for path in pages():
        for number in set(re.findall(r"ISCEP(\d{4})", read(path))):
            if int(number) not in ids:
                faults.append(f"{path.relative_to(TREE)}: ISCEP{number} does not exist")


def exists(name):
    name = name.rstrip("/.")
    if name == "configure":
        return (TREE / "configure.ac").exists()
    return any(TREE.glob(name)) if "*" in name else (TREE / name).exists()


def check_paths():
    tops = r"(?:conf|docs|tests|apxs|mod_intune_scep)/[\w./*-]*"
    inside = r"(?:base|scep|intune|store|gateway|httpd|ctl)/\w+\.(?:c|h|def)"
    for path in pages():
        where = path.relative_to(TREE)
        text = read(path)
        for name in set(re.findall(rf"(?<![\w/.-])(?:\./)?({tops})", text)) | set(re.findall(r"(?<![\w/.])\./([\w][\w./-]*)", text)):
            if not exists(name):
                faults.append(f"{where}: {name} is not in the tree")
        for name in set(re.findall(rf"(?<![\w/.-])({inside})", text)):
            if not exists("mod_intune_scep/" + name):
                faults.append(f"{where}: mod_intune_scep/{name} is not in the tree")
        for name in set(re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text)):
            if not (path.parent / name).exists():
                faults.append(f"{where}: the link to {name} leads nowhere")


def check_minimal():
    """The README shows the location of conf/minimal.conf."""
    block = re.search(r"^<Location.*?^</Location>", read(TREE / "conf/minimal.conf"), flags=re.S | re.M)
    shown = block and re.sub(r"^", "    ", block[0], flags=re.M)
    if not shown or shown not in read(TREE / "README.md"):
        faults.append("README.md: the <Location> of conf/minimal.conf is not there as it stands")


def main():
    settings = load_settings()
    if not settings:
        faults.append("gateway/settings.def: no directives found")
    check_generated("--write" in sys.argv[1:])
    check_reference(settings)
    check_names(settings)
    check_log_ids()
    check_paths()
    check_minimal()
    print("\n".join(faults) if faults else f"{len(settings)} directives and {len(pages())} pages agree with the code")
    return 1 if faults else 0


sys.exit(main())
