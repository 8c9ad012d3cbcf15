"""Runs a Postman collection, as far as ours need: variables, bearer authorization, raw bodies, and two kinds of tests.

A test that it cannot understand fails, so none passes unread.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx

STATUS = re.compile(r'pm\.test\("[^"]+", \(\) => pm\.response\.to\.have\.status\((\d+)\)\);')
FIELD = re.compile(r'pm\.test\("[^"]+", \(\) => pm\.expect\(pm\.response\.json\(\)\.(\w+)\)\.to\.eql\((.+)\)\);')


def requests_of(items: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The requests of all folders, in order."""
    for one in items:
        if "item" in one:
            yield from requests_of(one["item"])
        else:
            yield one


def run(collection: Path, given: Mapping[str, str]) -> list[str]:
    """Send every request, and check its tests; return the names of the requests."""
    read = json.loads(collection.read_text())
    variables = {**{one["key"]: one["value"] for one in read["variable"]}, **given}
    assert read["auth"]["type"] == "bearer"
    token = filled(read["auth"]["bearer"][0]["value"], variables)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    names = []
    with httpx.Client(trust_env=False, timeout=20, headers=headers) as client:
        for one in requests_of(read["item"]):
            check(one, send(client, one["request"], variables), variables)
            names.append(one["name"])
    return names


def send(client: httpx.Client, request: dict[str, Any], variables: Mapping[str, str]) -> httpx.Response:
    headers = {one["key"]: one["value"] for one in request["header"]}
    body = request.get("body", {"mode": "raw", "raw": ""})
    assert body["mode"] == "raw"
    return client.request(
        request["method"],
        filled(request["url"]["raw"], variables),
        content=filled(body["raw"], variables),
        headers=headers,
    )


def check(one: dict[str, Any], answer: httpx.Response, variables: Mapping[str, str]) -> None:
    scripts = [line for event in one["event"] for line in event["script"]["exec"]]
    assert scripts, one["name"]
    for line in scripts:
        if found := STATUS.fullmatch(line):
            assert answer.status_code == int(found[1]), f"{one['name']}: {answer.text}"
        elif found := FIELD.fullmatch(line):
            assert answer.json()[found[1]] == json.loads(filled(found[2], variables)), f"{one['name']}: {answer.text}"
        else:
            raise AssertionError(f"{one['name']} has a test that is not understood: {line}")


def filled(text: str, variables: Mapping[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda name: variables[name[1]], text)
