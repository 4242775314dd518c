"""The rules of the house that no linter checks: file lengths, floors, what the wheel holds."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIMITS = {
    "gateway": 400,
    "runtime": 400,
    "static": 400,
    "bench": 400,
    "examples": 400,
    "tests": 600,
}
SOURCES = {".py", ".js", ".mjs", ".css", ".html"}


def sources() -> Iterator[tuple[Path, int]]:
    for folder, limit in LIMITS.items():
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in SOURCES and "node_modules" not in path.parts:
                yield path.relative_to(ROOT), limit


def test_no_file_is_longer_than_the_house_allows() -> None:
    lengths = {path: len((ROOT / path).read_text().splitlines()) for path, _ in sources()}
    assert len(lengths) > 50, "the check looks at the wrong place"
    assert {path: lengths[path] for path, limit in sources() if lengths[path] > limit} == {}


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    done = subprocess.run(  # noqa: S603 - the commands are those of this file
        command, cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_no_module_imports_a_floor_above_its_own() -> None:
    assert "0 broken" in run(Path(sys.executable).with_name("lint-imports"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the built wheel. Built without isolation: that would ask a registry each time."""
    folder = tmp_path_factory.mktemp("wheel")
    build = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    run(sys.executable, "-m", "pip", *build, "--wheel-dir", folder, ROOT)
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_holds_the_page_and_both_packages_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    page = {path.relative_to(ROOT).as_posix() for path in (ROOT / "static").rglob("*.*")}
    assert {f"gateway/{name}" for name in page} <= names
    assert {"gateway/py.typed", "runtime/py.typed"} <= names
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"gateway", "runtime"}


def test_the_command_works_from_the_wheel_alone(wheel: Path, tmp_path: Path) -> None:
    (entries,) = [n for n in zipfile.ZipFile(wheel).namelist() if n.endswith("entry_points.txt")]
    assert "tidegate = gateway.__main__:main" in zipfile.ZipFile(wheel).read(entries).decode()
    start = (
        f"import sys; sys.path.insert(0, {str(wheel)!r}); sys.argv = ['tidegate', '--version'];"
        "from gateway.__main__ import main; main()"
    )
    told = run(sys.executable, "-P", "-c", start, cwd=tmp_path)
    assert told.split() == ["Tidegate", wheel.name.split("-")[1]]
