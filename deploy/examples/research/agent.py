"""Long work in steps: plan, read several sources side by side with progress, write, remember. A cron repeats it.

    client.crons.create("research", schedule="0 7 * * *", input={"topic": "tides"})

What one run has found is in the store, so the next one, on whatever thread, reads only what is new. The sources are
scripted: put yours in `read`.
"""

import asyncio
import operator
from typing import Annotated, TypedDict

from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import Send

from threadlog.testing import ScriptedChatModel

SOURCES = ("almanac", "harbour office", "weather service", "museum")
PAGES = 5


class State(TypedDict, total=False):
    topic: str
    known: list[str]
    findings: Annotated[list[dict[str, str]], operator.add]
    report: str
    seconds_per_page: float


class Reading(TypedDict):
    topic: str
    source: str
    seconds_per_page: float


async def plan(state: State, runtime: Runtime):
    """What was found before is not looked up again."""
    items = await runtime.store.asearch(("research", state["topic"]), limit=100)
    return {"known": sorted(item.key for item in items)}


def each_source(state: State):
    pace = state.get("seconds_per_page", 0.5)
    new = [source for source in SOURCES if source not in state["known"]]
    sends = [Send("read", Reading(topic=state["topic"], source=source, seconds_per_page=pace)) for source in new]
    return sends or "write"


async def read(reading: Reading):
    tell = get_stream_writer()
    for page in range(1, PAGES + 1):
        await asyncio.sleep(reading["seconds_per_page"])
        tell({"source": reading["source"], "page": page, "of": PAGES})
    return {"findings": [{"source": reading["source"], "text": f"{reading['source']}: a note on {reading['topic']}"}]}


async def write(state: State):
    findings = state.get("findings", [])
    text = f"{len(findings)} new notes on {state['topic']}, {len(state['known'])} known before."
    model = ScriptedChatModel([text], seconds_per_token=0.03)
    return {"report": (await model.ainvoke(text)).text}


async def remember(state: State, runtime: Runtime):
    for finding in state.get("findings", []):
        await runtime.store.aput(("research", state["topic"]), finding["source"], {"text": finding["text"]})


builder = StateGraph(State)
for step in (plan, read, write, remember):
    builder.add_node(step.__name__, step)
builder.add_edge(START, "plan")
builder.add_conditional_edges("plan", each_source, ["read", "write"])
builder.add_edge("read", "write")
builder.add_edge("write", "remember")
builder.add_edge("remember", END)
research = builder.compile()
