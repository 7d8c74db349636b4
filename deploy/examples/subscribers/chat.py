"""Post to a chat when a run waits for an answer: `CHAT_URL=https://… python chat.py worker`."""

import os

import aiohttp

import threadlog

app = threadlog.subscriber("post-questions")


@app.agent(threadlog.events)
async def post(records):
    async with aiohttp.ClientSession() as http:
        async for record in records:
            for event in record.events:
                if event["type"] == "run.succeeded" and event.get("interrupts"):
                    questions = [asked["value"] for task in event["interrupts"].values() for asked in task]
                    text = f"Thread {event['thread_id']} asks: {questions}"
                    async with http.post(os.environ["CHAT_URL"], json={"text": text}) as response:
                        response.raise_for_status()  # the worker ends, and the record comes again


if __name__ == "__main__":
    app.main()
