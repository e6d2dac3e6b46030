# SPDX-License-Identifier: Apache-2.0
"""The gateway's status location in its forms."""
import collections
import html.parser
import json
import re
import urllib.parse

from . import client, place, wait

PATH = "/intune-scep-status"
# IntuneScepHealth and what else the server needs may stand before it.
LOCATION = f'<Location "{PATH}">\nSetHandler intune-scep-status\n</Location>\n'
# What a device may have for a name, and for a transactionID.
HOSTILE_SUBJECT = "/CN=<script>alert(1)<\\/script><b>\"'&amp; %d/O=Ümläut"
HOSTILE_TRANSACTION = "<img src=x onerror=alert(1)>&\"'+/%41-%d"
SERIES = re.compile(r'^([a-z_]+)(?:\{((?:[a-z_]+="(?:[^"\\]|\\.)*",?)*)\})? (-?[0-9.e+-]+|NaN)$')
LABEL = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)"')


def starter(start_gateway):
    """start_gateway() with a status location."""
    def start(profiles, after="", **options):
        return start_gateway(profiles, after=LOCATION + after, **options)
    return start


def get(gateway, query="", **options):
    return client.request(gateway.port, "GET", PATH + (f"?{query}" if query else ""), **options)


def state(gateway, query=None):
    """?format=json, parsed; with a search."""
    answer = get(gateway, "format=json" + (f"&q={urllib.parse.quote(query, safe='')}" if query else ""))
    assert answer.status == 200 and answer.headers["content-type"] == "application/json", answer.text[:300]
    assert answer.text.isascii()
    return json.loads(answer.text)


def location(gateway, name=None):
    """One location of it; the only one without a name."""
    found = [one for one in state(gateway)["locations"] if name in (None, one["name"])]
    assert len(found) == 1
    return found[0]


def settled(gateway, name, **least):
    """The location's counts, once these are reached: a device that has hung up is counted when its transaction ends."""
    def reached():
        found = location(gateway, name)
        return found if all(found["outcomes"].get(outcome, 0) >= count for outcome, count in least.items()) else None
    return wait.until(reached, lambda: f"{least} in {location(gateway, name)['outcomes']}")


def page(gateway, query=None):
    answer = get(gateway, f"q={urllib.parse.quote(query, safe='')}" if query else "")
    assert answer.status == 200 and answer.headers["content-type"] == "text/html; charset=utf-8"
    return answer.body.decode()


def health(gateway):
    """Status and reasons."""
    answer = get(gateway, "health")
    return answer.status, answer.text.splitlines()


def metrics_text(gateway):
    answer = get(gateway, "format=prometheus")
    assert answer.status == 200 and answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return answer.body.decode()


def metrics(gateway):
    """{name: [(labels, value)]}, read strictly."""
    found = collections.defaultdict(list)
    for line in metrics_text(gateway).splitlines():
        if line.startswith("#"):
            continue
        match = SERIES.match(line)
        assert match, f"no series: {line!r}"
        labels = {name: re.sub(r"\\(.)", lambda one: "\n" if one[1] == "n" else one[1], value)
                  for name, value in LABEL.findall(match[2] or "")}
        found[match[1]].append((labels, float(match[3])))
    return found


def total(found, name, **labels):
    """The sum of the series that have these labels."""
    return sum(value for has, value in found[name] if labels.items() <= has.items())


class Dom(html.parser.HTMLParser):
    """Elements, attributes and text of a page, as a browser takes it."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.attributes = collections.Counter(), collections.Counter()
        self.texts, self.values, self.inside = [], [], None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements[tag] += 1
        self.attributes.update(name for name, _ in attrs)
        self.values += [value for name, value in attrs if name in ("title", "value")]
        self.inside = tag

    def handle_endtag(self, tag):
        self.inside = None

    def handle_data(self, data):
        if self.inside != "style":
            self.texts.append(data)

    @property
    def text(self):
        """What is shown, and then what comes up under the pointer or stands in the search field."""
        return re.sub(r"\s+", " ", " ".join(self.texts + self.values))


# What a page of ours is made of: anything else came from outside.
ELEMENTS = {"html", "head", "meta", "title", "style", "body", "header", "div", "h1", "h2", "h3", "h4", "p", "b", "time", "form", "label",
            "input", "button", "main", "article", "span", "ul", "li", "dl", "dt", "dd", "section", "table", "thead", "tbody", "tr", "th",
            "td", "details", "summary", "a", "small", "code", "strong", "footer", "wbr"}
ATTRIBUTES = {"lang", "charset", "name", "content", "class", "datetime", "title", "method", "for", "id", "type", "maxlength", "placeholder",
              "value", "scope", "data-label", "href"}


def browser_dom(text):
    """The page's parts, after it was made sure that there are none but ours."""
    dom = Dom(text)
    assert not set(dom.elements) - ELEMENTS, set(dom.elements) - ELEMENTS
    assert not set(dom.attributes) - ATTRIBUTES, set(dom.attributes) - ATTRIBUTES
    return dom


def directory():
    """Where screenshots go: in the build."""
    found = place.need("mod_intune_scep.so").parent / "screenshots"
    found.mkdir(exist_ok=True)
    return found
