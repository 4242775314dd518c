"""The demo page: the files of `static/`, and nothing else."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

__all__ = ["bundled_files", "files_of", "page_file"]

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}
"""What is served, and as what; the machine's own table of types may say anything."""

_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def bundled_files() -> dict[str, Path]:
    """Return the page's files: those inside the installed package, else of a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "static"
    return files_of(installed if installed.is_dir() else package.parent / "static")


def files_of(directory: Path) -> dict[str, Path]:
    """Return the files of a directory by their path in URLs; `/` is its `index.html`.

    Only what is listed here is served: no path of a request ever reaches the file system.
    """
    files = {
        f"/static/{path.relative_to(directory).as_posix()}": path
        for path in sorted(directory.rglob("*"))
        if path.suffix in _TYPES and path.is_file()
    }
    if "/static/index.html" in files:
        files["/"] = files["/static/index.html"]
    return files


def page_file(file: Path) -> web.FileResponse:
    """Answer with one of the page's files."""
    return web.FileResponse(file, headers={**_HEADERS, "Content-Type": _TYPES[file.suffix]})
