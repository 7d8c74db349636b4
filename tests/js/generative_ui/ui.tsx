import "./ui.css";
import { useState } from "react";
import { useStreamContext } from "@langchain/langgraph-sdk/react-ui";

function Forecast({ city, degrees }: { city: string; degrees: number }) {
  const [clicks, setClicks] = useState(0);
  const { submit, meta } = useStreamContext() as any;
  return (
    <section className="forecast">
      <p>{`${city}: ${degrees}°, ${clicks} clicks, ${meta.ui.name}`}</p>
      <button className="count" onClick={() => setClicks(clicks + 1)}>count</button>
      <button className="ask" onClick={() => submit({ messages: [{ type: "human", content: "Rome" }] })}>ask</button>
    </section>
  );
}

export default { forecast: Forecast };
