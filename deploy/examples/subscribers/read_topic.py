"""Read the topic with aiokafka: prints what counts, a line each. `KAFKA_BOOTSTRAP_SERVERS=… python read_topic.py`."""

import asyncio
import json
import os

from aiokafka import AIOKafkaConsumer

import threadlog


async def main():
    consumer = AIOKafkaConsumer(
        os.environ.get("THREADLOG_TOPIC_PREFIX", "threadlog.") + "events",
        bootstrap_servers=os.environ["KAFKA_BOOTSTRAP_SERVERS"],
        auto_offset_reset="earliest",
    )
    accepted = threadlog.AcceptedEvents()
    await consumer.start()
    try:
        async for message in consumer:
            record = accepted.read(message.partition, message.offset, message.value, message.headers)
            if record is not None:
                for event in record.events:
                    print(json.dumps({"at": record.at, "position": record.position, **event}), flush=True)
    finally:
        await consumer.stop()


if __name__ == "__main__":
    asyncio.run(main())
