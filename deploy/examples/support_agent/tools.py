"""What the support agent can do. The shop is small enough to fit in a dictionary."""

import asyncio
import os

from langchain_core.tools import tool
from langgraph.config import get_stream_writer

ORDERS = {
    "A-1042": {"item": "walnut desk lamp", "price_eur": 89, "status": "lost in transit", "promised": "2 November"},
    "A-1043": {"item": "reading chair", "price_eur": 420, "status": "delivered", "promised": "5 November"},
}
POLICIES = {
    "late": "An order more than ten days late is refunded in full, or sent again by express, as the customer prefers.",
    "return": "Unused goods can be sent back within thirty days; we pay the postage.",
}
STOCK = {"Berlin": 12, "Lyon": 0, "Porto": 31, "Turin": 7, "Vienna": 4}


@tool
def lookup_order(order_id: str) -> dict[str, str | int]:
    """Look up an order by its number, as in A-1042."""
    return ORDERS.get(order_id, {"status": "unknown order number"})


@tool
def search_policies(topic: str) -> str:
    """Find what the shop's policies say about a topic."""
    found = [text for word, text in POLICIES.items() if word in topic.lower()]
    return " ".join(found) or "The policies do not mention it."


@tool
def refund_order(order_id: str, amount_eur: float) -> str:
    """Pay an order's money back. A colleague has to approve it first."""
    return f"EUR {amount_eur:.2f} for {order_id} will be back on the customer's card in two days."


@tool
async def check_warehouse(city: str) -> str:
    """Count the stock of one warehouse; somebody has to walk there, so it takes a while."""
    # Tells whoever follows the stream which process does the work: the demo kills it.
    get_stream_writer()({"warehouse": city, "executor_pid": os.getpid()})
    await asyncio.sleep(float(os.environ.get("SUPPORT_AGENT_WALK_SECONDS", "0.7")))
    return f"{city}: {STOCK.get(city, 0)} lamps in stock."
