"""A black-box suite: does a server hold the rules of PROTOCOL.md? It looks from outside only.

Nothing here knows how a server is made. What a server says is judged by its bytes, over plain HTTP and
WebSocket. Each check names one rule of PROTOCOL.md; a rule may have several.

    check     what a check is, and how it says what it found
    target    the server that is looked at: requests, sessions, logs
    streams   SSE, NDJSON and WebSocket readers that hide nothing
    logs      what must be true of every log; pure
    fold      the state that a log leads to; pure
    stories   a few runs that many checks look at
    runner    runs checks, each within its time
    verdict   what the checks of a rule come to; pure
    checks/   the checks, by section of PROTOCOL.md

To add a check, write a function below `@check(...)` in a module of `checks`.
"""
