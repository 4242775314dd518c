"""Which origins and hosts are answered."""

from __future__ import annotations

import pytest

from gateway.errors import NotPermitted
from gateway.http.guard import Rules, check, is_loopback
from tests.support.site import Site, running_site

LOOPBACK = Rules("127.0.0.1", frozenset({"my.box"}), frozenset({"https://app.example"}))
OPEN = Rules("0.0.0.0")  # noqa: S104 - a rule, not a socket


@pytest.mark.rule("origin")
@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("127.0.0.1:8080", None),
        ("localhost:8080", None),
        ("[::1]:8080", None),
        ("my.box", None),
        ("127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("127.0.0.1:8080", "http://localhost:8080"),
        ("LocalHost:8080", "http://localhost:8080"),
        ("[::1]:8080", "http://[::1]:8080"),
        ("localhost", "http://localhost"),
        ("my.box", "https://my.box"),
        ("127.0.0.1:8080", "https://app.example"),
    ],
)
def test_the_own_host_and_what_is_allowed_are_answered(host: str, origin: str | None) -> None:
    check(LOOPBACK, host=host, origin=origin)


@pytest.mark.rule("origin")
@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("evil.example", None),
        ("evil.example:8080", "http://evil.example:8080"),
        ("127.0.0.1.evil.example", None),
        ("", None),
        (None, None),
        ("127.0.0.1:x", None),
        ("127.0.0.1:8080", "null"),
        ("127.0.0.1:8080", ""),
        ("127.0.0.1:8080", "http://evil.example"),
        ("127.0.0.1:8080", "http://127.0.0.1:8081"),
        ("127.0.0.1:8080", "http://127.0.0.1"),
        ("127.0.0.1:8080", "http://127.0.0.1:8080.evil.example"),
        ("127.0.0.1:8080", "file://127.0.0.1:8080"),
        ("127.0.0.1:8080", "https://app.example.evil.example"),
        ("127.0.0.1:8080", "http://app.example"),
        ("127.0.0.1:8080", "http://[::1"),
        ("127.0.0.1:8080", "http://127.0.0.1:99999"),
    ],
)
def test_others_are_not(host: str | None, origin: str | None) -> None:
    with pytest.raises(NotPermitted):
        check(LOOPBACK, host=host, origin=origin)


def test_a_server_for_others_answers_to_any_name_but_only_to_its_own_pages() -> None:
    check(OPEN, host="chat.example", origin=None)
    check(OPEN, host="chat.example", origin="https://chat.example")
    for origin in ("https://evil.example", "http://localhost"):
        with pytest.raises(NotPermitted):
            check(OPEN, host="chat.example", origin=origin)


def test_loopback_addresses_are_known() -> None:
    assert all(is_loopback(host) for host in ("localhost", "127.0.0.1", "127.9.9.9", "::1"))
    assert not any(is_loopback(host) for host in ("0.0.0.0", "10.0.0.1", "my.box", "::"))  # noqa: S104


@pytest.mark.rule("origin", "http.problem")
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/ws"),
        ("GET", "/v1/sessions/s/events"),
        ("GET", "/v1/clients/c/events"),
        ("POST", "/v1/sessions"),
        ("POST", "/v1/sessions/s/commands"),
        ("DELETE", "/v1/sessions/s"),
        ("GET", "/"),
    ],
)
async def test_pages_of_other_sites_get_403_everywhere(site: Site, method: str, path: str) -> None:
    await site.create("s")
    for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}):
        async with site.http.request(method, path, headers=headers, json={}) as response:
            assert response.status == 403
            assert (await response.json(content_type=None))["code"] == "not_permitted"


async def test_an_allowed_origin_may_read_the_answers_and_the_streams() -> None:
    origin = "https://app.example"
    async with running_site(allowed_origins=(origin,)) as site:
        session_id = await site.create()
        preflight = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        async with site.http.options("/v1/sessions", headers=preflight) as response:
            assert response.status == 204
            assert response.headers["Access-Control-Allow-Origin"] == origin
            assert "Content-Type" in response.headers["Access-Control-Allow-Headers"]
        asked = preflight | {"Access-Control-Request-Headers": "authorization,x-stainless-lang"}
        async with site.http.options("/v1/models", headers=asked) as response:
            allowed = response.headers["Access-Control-Allow-Headers"]
            assert allowed == "authorization,x-stainless-lang"
        odd = preflight | {"Access-Control-Request-Headers": "x;y"}
        async with site.http.options("/v1/models", headers=odd) as response:
            assert "x;y" not in response.headers["Access-Control-Allow-Headers"]
        path = f"/v1/sessions/{session_id}/events"
        async with site.http.get(path, headers={"Origin": origin}) as response:
            assert response.headers["Access-Control-Allow-Origin"] == origin
            assert response.headers["Vary"] == "Origin"
        async with site.http.get(path) as response:
            assert "Access-Control-Allow-Origin" not in response.headers
