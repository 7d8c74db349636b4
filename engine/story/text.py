"""The story of a run as lines for people: what is to be known of the run, then what happened."""

from __future__ import annotations

from collections.abc import Sequence

from threadlog.engine.story.story import Chapter, Story
from threadlog.engine.story.words import error_text


def lines_of(story: Story) -> list[str]:
    """All that people read of a run; the last lines tell what is left out."""
    lines = [*heading(story), "", *told(story.chapters)]
    if story.left_out:
        lines.append(f"… and {story.left_out:,} more")
    if not story.complete:
        lines.append("The log goes on: this is what the part of it that was looked through has.")
    return lines


def heading(story: Story) -> list[str]:
    """What is to be known of the run before its story."""
    lines = [f"run      {story.run_id}  {story.status}", f"thread   {story.thread_id}"]
    if story.graph_id:
        assistant = f", assistant {story.assistant_id}" if story.assistant_id else ""
        lines.append(f"graph    {story.graph_id}{assistant}")
    lines.append(f"asked    {story.asked_at or '?'} by {story.asked_by or 'a client that did not say who it is'}")
    times = []
    if story.waited_seconds is not None:
        times.append(f"waited {story.waited_seconds:.3f} s")
    if story.ran_seconds is not None:
        times.append(f"ran {story.ran_seconds:.3f} s")
    lines.append(f"took     {', '.join([*times, f'{len(story.attempts)} attempts, {story.steps} checkpoints'])}")
    for model, tokens in sorted(story.usage.items()):
        lines.append(f"tokens   {model}: {', '.join(f'{kind} {count:,}' for kind, count in sorted(tokens.items()))}")
    if story.error:
        lines.append(f"error    {error_text(story.error)}")
    return lines


def told(chapters: Sequence[Chapter]) -> list[str]:
    """A line per chapter: seconds since the request, position, what happened."""
    return [f"{c.seconds:>12.3f} s  {f'{c.partition}@{c.offset}':>9}  {c.text}" for c in chapters]
