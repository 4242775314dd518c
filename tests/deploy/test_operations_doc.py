"""docs/operations.md and deploy/ name nothing that does not exist, and no number that is not so."""

from __future__ import annotations

import re
from collections.abc import Iterator

import asyncpg
import pytest
import typer

from gateway.cli.commands import _app
from gateway.config import Settings
from tests.deploy.proxied import DEPLOY, ROOT
from tests.support.postgres import empty_database

GUIDE = (ROOT / "docs" / "operations.md").read_text()
FILES = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in DEPLOY.rglob("*")
    if path.is_file()
} | {"docs/operations.md": GUIDE}
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
FIELDS = {f"TIDEGATE_{name.upper()}": field for name, field in Settings.model_fields.items()}
COMMAND = typer.main.get_command(_app)


@pytest.mark.parametrize("name", FILES)
def test_every_setting_that_is_named_exists(name: str) -> None:
    named = set(re.findall(r"\bTIDEGATE_[A-Z_]+[A-Z]\b", FILES[name]))
    assert named - FIELDS.keys() == set()


def test_settings_are_named_at_all() -> None:
    assert len(set(re.findall(r"\bTIDEGATE_[A-Z_]+[A-Z]\b", GUIDE))) > 25


def told() -> Iterator[tuple[str, list[str]]]:
    """Yield each command of ours that a shell is told, with the options of it."""
    for text in (*FILES.values(), *(block for _, block in BLOCKS)):
        for found in re.finditer(r"\btidegate (serve|migrate)\b((?: --?[a-z-]+[^\s`&|;]*)*)", text):
            yield found[1], re.findall(r"(--[a-z-]+)", found[2])


def test_every_option_of_ours_exists() -> None:
    commands = getattr(COMMAND, "commands")  # noqa: B009 - typer's group has them
    seen = 0
    for name, options in told():
        known = {"--help"} | {
            word
            for parameter in commands[name].params
            for word in (*parameter.opts, *parameter.secondary_opts)
        }
        assert set(options) <= known
        seen += len(options)
    assert seen > 5


def test_the_time_limits_are_the_defaults() -> None:
    rows = re.findall(r"^\| `(TIDEGATE_\w+)` \| ([\d.]+) \|", GUIDE, re.MULTILINE)
    assert len(rows) > 10
    assert {name: float(said) for name, said in rows} == {
        name: float(FIELDS[name].default) for name, _ in rows
    }


@pytest.mark.parametrize(
    ("name", "number"), re.findall(r"`(TIDEGATE_\w+)` \(([\d,]+)(?: s| KiB)?[;)]", GUIDE)
)
def test_a_number_beside_a_setting_is_its_default(name: str, number: str) -> None:
    said = float(number.replace(",", ""))
    assert FIELDS[name].default in {said, said * 1024}


def test_a_node_that_stops_has_the_time_for_it_under_systemd_too() -> None:
    settings = Settings()
    (seconds,) = re.findall(r"^TimeoutStopSec=(\d+)$", GUIDE, re.MULTILINE)
    assert float(seconds) >= settings.drain_delay_s + settings.shutdown_timeout_s + 5
    (files,) = re.findall(r"^LimitNOFILE=(\d+)$", GUIDE, re.MULTILINE)
    assert int(files) > settings.max_connections


def test_what_the_log_is_said_to_say_it_says() -> None:
    table = GUIDE.partition("## What the log says")[2]
    words = re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)
    assert len(words) > 10
    sources = "".join(path.read_text() for path in (ROOT / "gateway").rglob("*.py"))
    joined = re.sub(r'"\s+"', "", sources)
    assert [each for each in words if each not in joined] == []


async def test_what_postgres_is_told_it_understands() -> None:
    """Every statement of the guide on a database with our tables, but for what changes a whole server."""
    db = await asyncpg.connect(await empty_database())
    statements = [
        statement
        for kind, block in BLOCKS
        for statement in block.split(";")
        if kind == "sql" and statement.strip()
    ]
    try:
        assert len(statements) >= 6
        for statement in statements:
            if "ALTER SYSTEM" in statement or "pg_reload_conf" in statement:
                continue
            here = await db.fetchval("SELECT quote_ident(current_database())")
            transaction = db.transaction()
            await transaction.start()
            await db.execute(statement.replace("DATABASE tidegate", f"DATABASE {here}"))
            await transaction.rollback()
    finally:
        await db.close()


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(((?!https?:)[^)#]+)", GUIDE)
    assert links
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []
