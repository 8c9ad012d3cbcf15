"""JSON Patch as RFC 6902 defines it: its examples, and what it must refuse."""

import json
from typing import Any

import pytest

from unlost.dlq.record import json_patch
from unlost.dlq.record.json_patch import BadPatch, patched, read_patch


def applied(value: Any, *steps: dict[str, Any]) -> Any:
    return patched(value, read_patch(json.dumps(steps).encode()))


@pytest.mark.parametrize(
    ("value", "step", "result"),
    [
        ({"foo": "bar"}, {"op": "add", "path": "/baz", "value": "qux"}, {"baz": "qux", "foo": "bar"}),
        ({"foo": ["bar", "baz"]}, {"op": "add", "path": "/foo/1", "value": "qux"}, {"foo": ["bar", "qux", "baz"]}),
        ({"foo": ["bar"]}, {"op": "add", "path": "/foo/-", "value": ["abc"]}, {"foo": ["bar", ["abc"]]}),
        ({"foo": ["bar"]}, {"op": "add", "path": "/foo/1", "value": 1}, {"foo": ["bar", 1]}),
        ({"foo": 1}, {"op": "add", "path": "/foo", "value": 2}, {"foo": 2}),
        ({"foo": "bar"}, {"op": "add", "path": "/child", "value": {}, "xyz": 1}, {"foo": "bar", "child": {}}),
        ({"baz": "qux", "foo": "bar"}, {"op": "remove", "path": "/baz"}, {"foo": "bar"}),
        ({"foo": ["bar", "qux", "baz"]}, {"op": "remove", "path": "/foo/1"}, {"foo": ["bar", "baz"]}),
        ({"baz": "qux"}, {"op": "replace", "path": "/baz", "value": "boo"}, {"baz": "boo"}),
        ({"a": [1, 2]}, {"op": "replace", "path": "/a/0", "value": 3}, {"a": [3, 2]}),
        (None, {"op": "replace", "path": "", "value": {"a": 1}}, {"a": 1}),
        ({"foo": {"waldo": "fred"}, "qux": {}}, {"op": "move", "from": "/foo/waldo", "path": "/qux/thud"},
         {"foo": {}, "qux": {"thud": "fred"}}),
        ({"foo": ["all", "grass", "eat"]}, {"op": "move", "from": "/foo/1", "path": "/foo/2"},
         {"foo": ["all", "eat", "grass"]}),
        ({"a": {"b": [1]}}, {"op": "copy", "from": "/a", "path": "/c"}, {"a": {"b": [1]}, "c": {"b": [1]}}),
        ({"baz": [1, {"a": 2}]}, {"op": "test", "path": "/baz/1", "value": {"a": 2}}, {"baz": [1, {"a": 2}]}),
        ({"/": 9, "~1": 10}, {"op": "test", "path": "/~01", "value": 10}, {"/": 9, "~1": 10}),
        ({"/": 9, "~1": 10}, {"op": "remove", "path": "/~1"}, {"~1": 10}),
        ({"": 1}, {"op": "replace", "path": "/", "value": 2}, {"": 2}),
        ({"foo": None}, {"op": "test", "path": "/foo", "value": None}, {"foo": None}),
    ],
)  # fmt: skip
def test_each_operation_does_what_the_rfc_says(value: Any, step: dict[str, Any], result: Any) -> None:
    before = json.dumps(value)
    assert applied(value, step) == result
    assert json.dumps(value) == before, "the value itself is not changed"


@pytest.mark.parametrize(
    ("step", "why"),
    [
        ({"op": "add", "path": "/baz/bat", "value": 1}, "there is no 'baz'"),
        ({"op": "add", "path": "/list/3", "value": 1}, "no place 3"),
        ({"op": "remove", "path": "/list/2"}, "no place 2"),
        ({"op": "remove", "path": "/list/-"}, "no place in an array"),
        ({"op": "remove", "path": "/list/01"}, "no place in an array"),
        ({"op": "replace", "path": "/new", "value": 1}, "there is no 'new'"),
        ({"op": "replace", "path": "/word/0", "value": 1}, "there is no '0'"),
        ({"op": "add", "path": "/word/x", "value": 1}, "neither an object nor an array"),
        ({"op": "test", "path": "/word", "value": "b"}, "another one"),
        ({"op": "test", "path": "/one", "value": True}, "another one"),
        ({"op": "test", "path": "/list/1", "value": "2"}, "another one"),
        ({"op": "copy", "from": "/none", "path": "/x"}, "there is no 'none'"),
    ],
)
def test_a_patch_that_does_not_fit_is_refused_with_its_operation(step: dict[str, Any], why: str) -> None:
    value = {"list": [1, 2], "word": "a", "one": 1}
    with pytest.raises(BadPatch, match=why) as refused:
        applied(value, {"op": "test", "path": "/one", "value": 1}, step)
    assert str(refused.value).startswith(f"operation 2 ({step['op']} ")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"{}", "array of operations"),
        (b"[1]", "array of operations"),
        (b"[" * 100_000, "array of operations"),
        (b'[{"op": "spam", "path": ""}]', "op is one of"),
        (b'[{"op": "add", "path": "/a"}]', "lacks value"),
        (b'[{"op": "move", "path": "/a"}]', "lacks from"),
        (b'[{"op": "remove"}]', "lacks path"),
        (b'[{"op": "remove", "path": "a"}]', "no JSON Pointer"),
        (b'[{"op": "remove", "path": 1}]', "no JSON Pointer"),
        (b'[{"op": "move", "from": "/a", "path": "/a/b"}]', "into itself"),
        (json.dumps([{"op": "remove", "path": "/a" * 200}]).encode(), "200 parts"),
        (json.dumps([{"op": "remove", "path": "/a"}] * 1_001).encode(), "1,001 operations"),
    ],
)
def test_an_invalid_patch_is_refused(text: bytes, why: str) -> None:
    with pytest.raises(BadPatch, match=why):
        read_patch(text)


def test_copies_that_double_are_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_patch, "MOST_COPIED", 1_000)
    with pytest.raises(BadPatch, match="would be copied"):
        applied({"a": []}, *[{"op": "copy", "from": "/a", "path": "/a/-"}] * 60)
    assert len(applied({"a": []}, *[{"op": "copy", "from": "/a", "path": "/a/-"}] * 5)["a"]) == 5
