"""An agent in plain Python."""

from fake_model import Refund, answer, pieces
from langgraph.types import interrupt


async def agent(messages):
    said = [message["content"] for message in messages if message["role"] == "user"]
    turn = answer(said)
    if isinstance(turn, Refund):
        decision = interrupt({"action": "refund", "order": turn.order})
        result = f"order {turn.order} is refunded." if decision == "approve" else "a colleague refused."
        yield {"tool": "refund", "result": result}  # streamed as `custom`
        turn = answer(said, result)
    for piece in pieces(turn):
        yield piece  # streamed as chunks of the agent's message
