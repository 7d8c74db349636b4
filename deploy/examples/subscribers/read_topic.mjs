// Read the topic with kafkajs: prints what counts, a line each. KAFKA_BOOTSTRAP_SERVERS=… node read_topic.mjs
import { randomUUID } from "node:crypto";
import { Kafka, logLevel } from "kafkajs";
import { AcceptedEvents } from "./accepted_events.mjs";

const kafka = new Kafka({ brokers: process.env.KAFKA_BOOTSTRAP_SERVERS.split(","), logLevel: logLevel.ERROR });
const consumer = kafka.consumer({ groupId: `read-topic-${randomUUID()}` }); // a new one each time: from the beginning
const accepted = new AcceptedEvents();

await consumer.connect();
await consumer.subscribe({ topic: `${process.env.THREADLOG_TOPIC_PREFIX ?? "threadlog."}events`, fromBeginning: true });
await consumer.run({
  eachMessage: async ({ partition, message }) => {
    const record = accepted.read(partition, message.offset, message.value, message.headers);
    for (const event of record?.events ?? []) {
      console.log(JSON.stringify({ at: record.at, position: [partition, Number(message.offset)], ...event }));
    }
  },
});
