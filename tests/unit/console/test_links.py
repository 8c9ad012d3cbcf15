"""Links to logs, traces and dashboards: http or https only, and no id can leave its place in them."""

import pytest

from unlost.ops.console.links import links_of, mistake_in


@pytest.mark.parametrize(
    "template",
    ["javascript:alert(1)", "data:text/html,x", "//evil", "https://", "https://{event_id}/x", "https://u:p@h/",
     "https://h/{password}", "https://h/{"],
)  # fmt: skip
def test_other_templates_are_refused(template: str) -> None:
    assert mistake_in(template)


def test_values_are_escaped_and_a_link_without_its_value_is_left_out() -> None:
    templates = {"Logs": "https://logs/q?x={event_id}&g={group}", "Grafana": "http://grafana/d/unlost", "Traces": ""}
    assert not any(mistake_in(one) for one in templates.values() if one)
    assert links_of(templates, {"event_id": "a/b&c=<'\"{group}", "group": "shop"}) == {
        "Logs": "https://logs/q?x=a%2Fb%26c%3D%3C%27%22%7Bgroup%7D&g=shop", "Grafana": "http://grafana/d/unlost",
    }  # fmt: skip
    assert links_of(templates, {"group": "shop"}) == {"Grafana": "http://grafana/d/unlost"}
