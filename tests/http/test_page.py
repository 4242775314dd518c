"""The page's files, and what keeps them safe."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.http.page import bundled_files, files_of
from tests.support.site import Site


async def test_the_page_is_served_with_a_strict_policy(site: Site) -> None:
    async with site.http.get("/") as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/html; charset=utf-8"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Cache-Control"] == "no-cache"
        policy = dict(
            part.strip().split(" ", 1)
            for part in response.headers["Content-Security-Policy"].split(";")
        )
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "connect-src": "'self'",
        "img-src": "'self' data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }


async def test_every_file_of_the_page_has_its_type(site: Site) -> None:
    files = await asyncio.to_thread(bundled_files)
    assert any(path.endswith(".js") for path in files)
    for path in files:
        async with site.http.get(path) as response:
            assert response.status == 200
            if path.endswith(".js"):
                assert response.headers["Content-Type"] == "text/javascript; charset=utf-8"


async def test_a_file_that_did_not_change_is_not_sent_again(site: Site) -> None:
    async with site.http.get("/") as response:
        tag = response.headers["ETag"]
    async with site.http.get("/", headers={"If-None-Match": tag}) as response:
        assert response.status == 304


def test_only_known_kinds_of_files_are_served(tmp_path: Path) -> None:
    for name in ("index.html", "js/main.js", "secret.pem", ".env", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    assert sorted(files_of(tmp_path)) == ["/", "/static/index.html", "/static/js/main.js"]


@pytest.mark.parametrize("path", ["/static/../pyproject.toml", "/static/%2e%2e/pyproject.toml"])
async def test_nothing_else_is(site: Site, path: str) -> None:
    async with site.http.get(path) as response:
        assert response.status == 404
