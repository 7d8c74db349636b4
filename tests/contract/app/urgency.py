"""How urgent the runs of a thread are: what its metadata says at its first run."""

from langgraph_sdk import Priority, PriorityContext, PrioritySettings

priority = Priority()


@priority.assign
async def assign(ctx: PriorityContext) -> PrioritySettings | None:
    if "urgency" not in ctx.thread_metadata:
        return None
    return {"priority": ctx.thread_metadata["urgency"], "fairness_group": ctx.thread_metadata.get("group")}
