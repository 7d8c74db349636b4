import dagre from "@dagrejs/dagre";
import { Background, Controls, Handle, Position, ReactFlow } from "@xyflow/react";
import { createContext, memo, useContext, useMemo, useState } from "react";
import { Failure } from "../parts/basic";
import { useLoad } from "../hooks";
import { ask } from "../server";
import type { Span } from "./use_run";

export type Stops = { before: string[]; after: string[] };
type Light = { spans: Span[]; next: string[]; stops: Stops; setStops: (stops: Stops) => void };

const Lights = createContext<Light>({ spans: [], next: [], stops: { before: [], after: [] }, setStops: () => {} });
const HEIGHT = 48;
const labelOf = (id: string) => id.replaceAll("__", "").split(":").at(-1)!;
const widthOf = (id: string) => Math.max(110, 28 + 7.5 * labelOf(id).length);

const GraphNode = memo(function GraphNode({ id, data }: any) {
  const { spans, next, stops, setStops } = useContext(Lights);
  const mine = spans.filter((span) => span.node === id || span.node.startsWith(id + ":"));
  const light = mine.some((span) => !span.end) ? "active" : mine.length ? "done" : next.includes(id) ? "next" : "";
  const ends = id === "__start__" || id === "__end__";
  const toggle = (where: keyof Stops) => setStops({
    ...stops, [where]: stops[where].includes(id) ? stops[where].filter((one) => one !== id) : [...stops[where], id],
  });
  return (
    <div className={`node ${light}`} data-node={id} data-light={light}>
      <Handle type="target" position={Position.Top} style={{ opacity: 0 }} />
      <span>{data.label}</span>{mine.some((span) => span.failed) && <span> failed</span>}
      {!ends && !id.includes(":") && (
        <div className="stops">
          <button className="nodrag" aria-pressed={stops.before.includes(id)} onClick={() => toggle("before")} aria-label={`Stop before ${id}`}>before</button>
          <button className="nodrag" aria-pressed={stops.after.includes(id)} onClick={() => toggle("after")} aria-label={`Stop after ${id}`}>after</button>
        </div>
      )}
      <Handle type="source" position={Position.Bottom} style={{ opacity: 0 }} />
    </div>
  );
});

function arrange(drawn: { nodes: any[]; edges: any[] }) {
  const plan = new dagre.graphlib.Graph().setGraph({ rankdir: "TB", ranksep: 44, nodesep: 28 }).setDefaultEdgeLabel(() => ({}));
  const ids = new Set(drawn.nodes.map((node) => String(node.id)));
  for (const id of ids) plan.setNode(id, { width: widthOf(id), height: HEIGHT });
  const edges = drawn.edges.filter((edge) => ids.has(String(edge.source)) && ids.has(String(edge.target)));
  for (const edge of edges) plan.setEdge(String(edge.source), String(edge.target));
  dagre.layout(plan);
  return {
    nodes: [...ids].map((id) => ({
      id, type: "step", data: { label: labelOf(id) }, style: { width: widthOf(id) },
      position: { x: plan.node(id).x - widthOf(id) / 2, y: plan.node(id).y - HEIGHT / 2 },
    })),
    edges: edges.map((edge, index) => ({
      id: `${index}`, source: String(edge.source), target: String(edge.target), animated: Boolean(edge.conditional),
      label: typeof edge.data === "string" && edge.data !== edge.target ? edge.data : undefined,
      style: edge.conditional ? { strokeDasharray: "4 4" } : {},
    })),
  };
}

const KINDS = { step: GraphNode };

/** The agent's graph; nodes light up while they work. */
export default function GraphView({ assistant, ...lights }: { assistant: string } & Light) {
  const [expanded, setExpanded] = useState(false);
  const graph = useLoad(() => ask("GET", `/assistants/${encodeURIComponent(assistant)}/graph?xray=${expanded}`), [assistant, expanded]);
  const drawn = useMemo(() => (graph.value ? arrange(graph.value) : null), [graph.value]);
  return (
    <>
      <div className="bar">
        <label><input type="checkbox" checked={expanded} onChange={(event) => setExpanded(event.target.checked)} /> expand subgraphs</label>
        <span className="push badge">{lights.stops.before.length + lights.stops.after.length} breakpoints</span>
      </div>
      <Failure text={graph.error} />
      {drawn && (
        <Lights.Provider value={lights}>
          <div className="graph" role="group" aria-label="Graph">
            <ReactFlow key={String(expanded)} nodes={drawn.nodes} edges={drawn.edges} nodeTypes={KINDS} fitView minZoom={0.1}
              nodesConnectable={false} proOptions={{ hideAttribution: true }}>
              <Background /><Controls showInteractive={false} />
            </ReactFlow>
          </div>
        </Lights.Provider>
      )}
    </>
  );
}
