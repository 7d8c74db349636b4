"""The conversation of `make run`: a support agent on threadlog, through the public client, shown live.

python -m threadlog.deploy.examples.demo              # starts `threadlog up` with the example, talks, keeps serving
python -m threadlog.deploy.examples.demo --once       # ends after the conversation; exit code 1 if anything went wrong
python -m threadlog.deploy.examples.demo --url http://127.0.0.1:2024   # talks to a server that already runs the example
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from langgraph_sdk import get_client
from langgraph_sdk.schema import StreamPart

APP = Path(__file__).parent / "support_agent" / "langgraph.json"
ASSISTANT = "support"
PORT = 2024
SCRIPTED = not any(os.environ.get(n) for n in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "SUPPORT_AGENT_MODEL"))
WAREHOUSES = 5


class Screen:
    """Plain text with a little colour where the output is a terminal."""

    def __init__(self) -> None:
        self._colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self._in_line = False

    def _paint(self, code: str, text: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self._colour else text

    def line(self, text: str = "", code: str = "0") -> None:
        if self._in_line:
            sys.stdout.write("\n")
            self._in_line = False
        print(self._paint(code, text) if text else "", flush=True)

    def scene(self, title: str, explanation: str) -> None:
        self.line()
        self.line(f"── {title} " + "─" * max(0, 90 - len(title)), "1")
        self.line(textwrap.fill(explanation, 94), "2")

    def customer(self, text: str) -> None:
        self.line(f"customer  {text}", "36")

    def token(self, text: str) -> None:
        if not self._in_line:
            sys.stdout.write(self._paint("32", "agent     "))
            self._in_line = True
        sys.stdout.write(text)
        sys.stdout.flush()

    def note(self, text: str) -> None:
        self.line(f"  · {text}", "33")

    def server(self, text: str) -> None:
        self.line(f"  │ {text}", "2")


screen = Screen()


class Surprise(Exception):
    """The conversation did not go as promised."""


def expect(condition: bool, sentence: str) -> None:
    if not condition:
        raise Surprise(sentence)


async def show(parts: AsyncIterator[StreamPart]) -> AsyncIterator[StreamPart]:
    """Print a run's stream as it arrives, and pass it on."""
    async for part in parts:
        if part.event == "metadata":
            attempt = part.data.get("attempt", 1)
            screen.note(f"run {part.data['run_id']}" + (f", attempt {attempt}" if attempt > 1 else ""))
        elif part.event == "messages":
            chunk = part.data[0]
            if chunk.get("type") in ("AIMessageChunk", "ai") and (text := text_of(chunk)):
                screen.token(text)
        elif part.event == "updates":
            for update in part.data.values():
                show_tools(update)
        elif part.event == "custom":
            screen.note(f"walking through the warehouse in {part.data['warehouse']}")
        elif part.event == "error":
            screen.note(f"error: {part.data}")
        yield part


def text_of(message: dict[str, Any]) -> str:
    content = message.get("content", "")
    if isinstance(content, str):
        return content
    return "".join(block.get("text", "") for block in content if isinstance(block, dict))


def show_tools(update: Any) -> None:
    for message in (update or {}).get("messages", []) if isinstance(update, dict) else []:
        for call in message.get("tool_calls") or []:
            screen.note(f"calls {call['name']}({', '.join(f'{k}={v!r}' for k, v in call['args'].items())})")
        if message.get("type") == "tool":
            screen.note(f"{message['name']} → {textwrap.shorten(text_of(message), 84)}")


def said(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


class Conversation:
    """The scenes, on one thread."""

    def __init__(self, url: str) -> None:
        self._client = get_client(url=url, api_key=None)
        self._url = url
        self.thread_id = ""

    async def run(self) -> None:
        thread = await self._client.threads.create(metadata={"customer": "Ada"})
        self.thread_id = thread["thread_id"]
        await self.question()
        await self.approval()
        await self.double_text()
        await self.killed_executor()
        await self.event_log()

    async def ask(self, text: str | None = None, **options: Any) -> list[StreamPart]:
        if text is not None:
            screen.customer(text)
            options["input"] = said(text)
        modes = ["messages-tuple", "updates", "custom"]
        stream = self._client.runs.stream(self.thread_id, ASSISTANT, stream_mode=modes, **options)
        return [part async for part in show(stream)]

    async def question(self) -> None:
        screen.scene("A question", "The answer streams, word by word; the tools are called in between.")
        parts = await self.ask("Where is my order A-1042? It should have been here days ago.")
        tokens = [p for p in parts if p.event == "messages"]
        expect(len(tokens) > 5, "the answer was not streamed")
        if SCRIPTED:
            expect(any("search_policies" in str(p.data) for p in parts), "the agent did not use its tools")

    async def approval(self) -> None:
        screen.scene("An approval", "A refund stops at an interrupt. The run has ended; nothing waits in any process.")
        await self.ask("Then please refund it.")
        state = await self._client.threads.get_state(self.thread_id)
        interrupts = state["interrupts"]
        if not interrupts:
            expect(not SCRIPTED, "the refund did not ask for approval")
            screen.note("the model saw no need to refund, so there is nothing to approve")
            return
        for request in interrupts[0]["value"]["action_requests"]:
            screen.note(f"waits for approval of {request['name']}({request['args']}); the colleague approves")
        decisions = [{"type": "approve"} for _ in interrupts[0]["value"]["action_requests"]]
        await self.ask(command={"resume": {"decisions": decisions}})
        state = await self._client.threads.get_state(self.thread_id)
        expect(not state["next"], "the approved run did not finish")

    async def double_text(self) -> None:
        screen.scene("A double-text", "A second message arrives while the first is being answered: it takes over.")
        talking = asyncio.Event()
        run_ids: list[str] = []
        screen.customer("Write me a long letter that explains everything.")

        async def first() -> None:
            stream = self._client.runs.stream(
                self.thread_id,
                ASSISTANT,
                input=said("Write me a long letter that explains everything."),
                stream_mode=["messages-tuple"],
            )
            words = 0
            async for part in show(stream):
                if part.event == "metadata":
                    run_ids.append(part.data["run_id"])
                words += part.event == "messages"
                if words == 25:
                    talking.set()
            talking.set()

        letter = asyncio.create_task(first())
        await talking.wait()
        await self.ask("Too long! Make it short.", multitask_strategy="interrupt")
        await letter
        run = await self._client.runs.get(self.thread_id, run_ids[0])
        screen.note(f"the letter's run is now {run['status']!r}")
        if SCRIPTED:
            expect(run["status"] == "interrupted", "the first run was not interrupted")

    async def killed_executor(self) -> None:
        screen.scene(
            "A crash",
            "The agent walks through five warehouses. In the second one, its executor is killed with kill -9. The run "
            "goes on elsewhere, from the last finished step.",
        )
        screen.customer("Please do a stock audit.")
        stream = self._client.runs.stream(
            self.thread_id,
            ASSISTANT,
            input=said("Please do a stock audit."),
            stream_mode=["updates", "custom"],
            durability="sync",  # a step begins when the one before is in the log: a crash repeats no finished step
        )
        walks: list[tuple[str, int]] = []
        attempts = [1]
        run_id = ""
        async for part in show(stream):
            if part.event == "metadata":
                run_id = part.data["run_id"]
                attempts.append(part.data.get("attempt", 1))
            if part.event == "custom":
                walks.append((part.data["warehouse"], part.data["executor_pid"]))
                if len(walks) == 2:
                    screen.note(f"kill -9 {walks[-1][1]}")
                    os.kill(walks[-1][1], signal.SIGKILL)
        run = await self._client.runs.get(self.thread_id, run_id)
        expect(run["status"] == "success", f"the run ended as {run['status']}")
        if len(walks) < 2:
            expect(not SCRIPTED, "the agent did not walk")
            return
        expect(max(attempts) == 2, "there was no second attempt")
        first_again = walks[2][0] if len(walks) > 2 else "?"
        screen.note(
            f"attempt 2 took up the work in {first_again}, in process {walks[-1][1]}; what was done stayed done"
        )
        if SCRIPTED:
            cities = [city for city, _ in walks]
            expect(len(cities) == WAREHOUSES + 1, f"expected one warehouse to be walked twice, got {cities}")
            expect(first_again == walks[1][0], f"expected to go on in {walks[1][0]}, not in {first_again}")
            state = await self._client.threads.get_state(self.thread_id)
            counted = [m for m in state["values"]["messages"] if m["type"] == "tool" and m["name"] == "check_warehouse"]
            expect(len(counted) == WAREHOUSES, f"the state holds {len(counted)} warehouse reports")
            screen.token(text_of(state["values"]["messages"][-1]))

    async def event_log(self) -> None:
        screen.scene("The log", "All of it is in the log of this thread: threadlog events --thread " + self.thread_id)
        listing = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "threadlog.deploy.cli",
            "events",
            "--thread",
            self.thread_id,
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await listing.communicate()
        lines = out.decode().splitlines()
        for line in lines:
            screen.line("  " + line)
        expect(listing.returncode == 0 and len(lines) > 20, "the event log could not be listed")
        expect(any("run.lease_expired" in line for line in lines), "the log does not tell of the crash")


def _another_port() -> list[str]:
    """`--port` with a free one, when another program has the usual one and no certain one was asked for."""
    if "THREADLOG_PORT" in os.environ:
        return []
    with socket.socket() as usual:
        usual.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            usual.bind(("127.0.0.1", PORT))
            return []
        except OSError:
            pass
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    screen.line(f"Another program has port {PORT}: this server takes {port}. THREADLOG_PORT=… chooses one.", "33")
    return ["--port", str(port)]


class Server:
    """`threadlog up` with the example, its output shown beside the conversation."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.url: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._reader = asyncio.create_task(self._read())

    @staticmethod
    async def start() -> Server:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "threadlog.deploy.cli", "up", "--config", str(APP), *_another_port(),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is ours to handle
        )  # fmt: skip
        return Server(process)

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for raw in self._process.stdout:
            line = raw.decode(errors="replace").rstrip()
            screen.server(line)
            if not self.url.done() and line.lstrip().startswith("ready"):
                self.url.set_result(next(word for word in line.split() if word.startswith("http")).rstrip(".,"))
        if not self.url.done():
            self.url.set_exception(Surprise("the server did not start"))

    async def stop(self) -> None:
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGINT)
        await self._process.wait()
        with suppress(Surprise):
            await self._reader

    async def wait(self) -> int:
        return await self._process.wait()


async def main(once: bool, url: str | None) -> int:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    server = None if url else await Server.start()
    try:
        story = asyncio.create_task(converse(server, url))
        stop = asyncio.create_task(stopped.wait())
        await asyncio.wait([story, stop], return_when=asyncio.FIRST_COMPLETED)
        if not story.done():
            story.cancel()
            return 130
        if not story.result():
            return 1
        if server is not None and not once:
            screen.line()
            screen.line(f"The server keeps running: see it all at {await server.url}/studio. Ctrl-C stops it.", "1")
            await asyncio.wait([stop, asyncio.create_task(server.wait())], return_when=asyncio.FIRST_COMPLETED)
        return 0
    finally:
        if server is not None:
            await server.stop()


async def converse(server: Server | None, url: str | None) -> bool:
    try:
        address = url or await asyncio.wait_for(server.url, 120) if server else url
        assert address is not None
        conversation = Conversation(address)
        await conversation.run()
    except Surprise as surprise:
        screen.line(f"That went wrong: {surprise}.", "31")
        return False
    screen.line()
    screen.line("Everything went as promised.", "1;32")
    return True


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--once", action="store_true", default=os.environ.get("ONCE", "") not in ("", "0"))
    options.add_argument("--url")
    given = options.parse_args()
    sys.exit(asyncio.run(main(given.once, given.url)))
