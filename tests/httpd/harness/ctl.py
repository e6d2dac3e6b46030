# SPDX-License-Identifier: Apache-2.0
"""intune-scepctl, run as an administrator runs it."""
import json
import os
import subprocess

from . import place


class Result:
    """What the tool said. `json` is its document, where one was asked for."""

    def __init__(self, done, as_json):
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr
        self.json = json.loads(done.stdout) if as_json and done.stdout else None

    def __str__(self):
        return f"exit status {self.code}\n{self.out}{self.err}"


def run(*arguments, as_json=True, text=None, seconds=60, environment=None):
    """Runs the tool; a finding of a sanitizer fails the test. Output that is not text fails it, too."""
    command = [str(place.need("intune-scepctl")), *(["--json"] if as_json else []), *map(str, arguments)]
    done = subprocess.run(command, input=text, capture_output=True, encoding="ascii", timeout=seconds * place.SLOWNESS,
                          check=False, env={**os.environ, **(environment or {})})
    assert "Sanitizer" not in done.stderr and "runtime error" not in done.stderr, done.stderr
    assert done.returncode in (0, 1, 2, 3), done.stderr
    return Result(done, as_json)


class Check(Result):
    """The steps of one location's check."""

    def __init__(self, result):
        self.__dict__.update(result.__dict__)
        assert self.json is not None and "locations" in self.json, str(result)
        (location,) = self.json["locations"]
        self.steps = {step["step"]: step for step in location["steps"]}
        assert len(self.steps) == len(location["steps"])

    def colours(self):
        return {name: step["status"] for name, step in self.steps.items()}

    def expect(self, name, colour, *words):
        """Asserts a step's colour, and that it names what is wrong."""
        step = self.steps[name]
        told = f"{step['found']} -> {step.get('remedy', '')}"
        assert step["status"] == colour, f"{name} is {step['status']}: {told}\n{self}"
        for word in words:
            assert word in told, f"{name}: {word!r} is not in: {told}"
        assert colour in ("green", "skipped") or name == "settings" or step.get("remedy"), f"{name} has no remedy: {told}"


def parts(result, name):
    """What `decode` says of each part of that name."""
    return [part for part in result.json["parts"] if part["part"] == name]


def check(config, *options):
    return Check(run("check", "--config", config, *options))
