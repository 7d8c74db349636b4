"""What the support desk says without a real model, as a script for `threadlog.testing.ScriptedChatModel`.

What it says next depends only on the messages it is given, so a run that is taken up again after a crash, by another
process, goes on as if nothing had happened.
"""

import re

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolCall, ToolMessage

from threadlog.testing import call

CITIES = ["Berlin", "Lyon", "Porto", "Turin", "Vienna"]


def support_desk(messages: list[BaseMessage]) -> AIMessage:
    """The reply: words, and which tool to call."""
    text, wanted = _next(messages)
    return AIMessage(text, tool_calls=[] if wanted is None else [wanted])


def _next(messages: list[BaseMessage]) -> tuple[str, ToolCall | None]:
    asked = max(i for i, message in enumerate(messages) if isinstance(message, HumanMessage))
    question = messages[asked].text
    done = {m.name: m.text for m in messages[asked:] if isinstance(m, ToolMessage)}
    walked = [m.text for m in messages[asked:] if isinstance(m, ToolMessage) and m.name == "check_warehouse"]
    named = re.findall(r"[A-Z]-\d{4}", " ".join(m.text for m in messages if isinstance(m, HumanMessage)))
    order = named[-1] if named else "A-1042"
    wish = question.lower()
    if "audit" in wish:
        return _audit(walked)
    if "refund" in wish or "money back" in wish:
        return _refund(order, done)
    if "letter" in wish:
        return LETTER, None
    if "short" in wish:
        return "Your lamp got lost, we are sorry, and your money is on its way.", None
    if named:
        return _late(order, done)
    return "Hello! Tell me your order number and I will see what I can do.", None


def _late(order: str, done: dict[str | None, str]) -> tuple[str, ToolCall | None]:
    if "lookup_order" not in done:
        return "Let me look that up.", call("lookup_order", order_id=order)
    if "search_policies" not in done:
        return "It should have been with you. I check what we can do.", call("search_policies", topic="late delivery")
    return (
        f"I am sorry: order {order}, the walnut desk lamp, was promised for 2 November and got lost in transit. You "
        "can have your EUR 89 back in full, or I send a new one by express today. Which do you prefer?"
    ), None


def _refund(order: str, done: dict[str | None, str]) -> tuple[str, ToolCall | None]:
    if "refund_order" not in done:
        return "Of course. I ask a colleague to approve it.", call("refund_order", order_id=order, amount_eur=89)
    if "will be back" in done["refund_order"]:
        return f"Done: {done['refund_order']} Thank you for your patience.", None
    return "My colleague did not approve the refund. I will find out why and come back to you.", None


def _audit(walked: list[str]) -> tuple[str, ToolCall | None]:
    if len(walked) < len(CITIES):
        return "", call("check_warehouse", city=CITIES[len(walked)])
    return "Stock audit. " + " ".join(walked) + " Lyon needs lamps; Porto has plenty to send.", None


LETTER = (
    "Dear customer, thank you for writing to us about your walnut desk lamp. Let me begin at the beginning: on the "
    "last day of October your parcel left our warehouse in Berlin, well wrapped and in good spirits. It travelled by "
    "night train to Lyon, where it was scanned twice and admired once. From there it was meant to take the morning van "
    "to your door. The van left, your parcel did not, and since then nobody has seen it. We have asked the driver, the "
    "driver's brother, and the cat that lives in the depot. None of them could help. We have also written to the "
    "carrier, who answered with a poem. We are, in short, very sorry, and we would like to make it up to you."
)
