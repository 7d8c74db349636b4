import dagre from "@dagrejs/dagre";
import { Background, BaseEdge, Controls, Handle, MarkerType, Position, ReactFlow } from "@xyflow/react";
import { createContext, memo, useContext, useMemo, useState } from "react";
import { Failure } from "../parts/basic";
import { useLoad } from "../hooks";
import { ask } from "../server";
import type { Span } from "./use_run";

export type Stops = { before: string[]; after: string[] };
/** `shared`: nodes that ran before what is looked at. Without `setStops` there are no breakpoints to set. */
type Light = { spans: Span[]; next: string[]; shared?: string[]; stops?: Stops; setStops?: (stops: Stops) => void };

const NONE: Stops = { before: [], after: [] };
const Lights = createContext<Light>({ spans: [], next: [] });
const WIDEST = 260;
const LETTER_PX = 8.4;
const LINE_PX = 21;
const PADDING_PX = 30;
const STOPS_PX = 26;
const labelOf = (id: string) => id.replaceAll("__", "").split(":").at(-1)!;
const isEnd = (id: string) => id === "__start__" || id === "__end__";
const hasStops = (id: string) => !isEnd(id) && !id.includes(":");

function sizeOf(id: string, stops: boolean): { width: number; height: number } {
  const text = LETTER_PX * labelOf(id).length;
  const width = Math.min(WIDEST, Math.max(120, PADDING_PX + text));
  return { width, height: 12 + LINE_PX * Math.ceil(text / (width - PADDING_PX)) + (stops && hasStops(id) ? STOPS_PX : 0) };
}

const GraphNode = memo(function GraphNode({ id, data }: any) {
  const { spans, next, shared = [], stops = NONE, setStops } = useContext(Lights);
  const within = (node: string) => node === id || node.startsWith(id + ":");
  const mine = spans.filter((span) => within(span.node));
  const light = mine.some((span) => !span.end) ? "active" : mine.length ? "done" : next.includes(id) ? "next" : shared.some(within) ? "shared" : "";
  const toggle = (where: keyof Stops) => setStops?.({
    ...stops, [where]: stops[where].includes(id) ? stops[where].filter((one) => one !== id) : [...stops[where], id],
  });
  return (
    <div className={`node ${light}`} data-node={id} data-light={light}>
      <Handle type="target" position={Position.Top} style={{ opacity: 0 }} />
      <span className="name">{data.label.split(/(?<=[._-])/).map((part: string, index: number) => <span key={index}>{part}<wbr /></span>)}</span>{mine.some((span) => span.failed) && <span> failed</span>}
      {mine.length > 1 && <span className="times" title={`ran ${mine.length} times`}> ×{mine.length}</span>}
      {hasStops(id) && setStops && (
        <div className="stops">
          <button className="nodrag" aria-pressed={stops.before.includes(id)} onClick={() => toggle("before")} aria-label={`Stop before ${id}`}>before</button>
          <button className="nodrag" aria-pressed={stops.after.includes(id)} onClick={() => toggle("after")} aria-label={`Stop after ${id}`}>after</button>
        </div>
      )}
      <Handle type="source" position={Position.Bottom} style={{ opacity: 0 }} />
    </div>
  );
});

type Point = { x: number; y: number };

/** The way that the layout has found for an edge, around the nodes, its corners rounded. */
function pathOf(points: Point[]): string {
  const [first, ...rest] = points;
  let path = `M ${first.x} ${first.y}`;
  rest.forEach((point, index) => {
    const after = rest[index + 1];
    path += after ? ` Q ${point.x} ${point.y} ${(point.x + after.x) / 2} ${(point.y + after.y) / 2}` : ` L ${point.x} ${point.y}`;
  });
  return path;
}

function GraphEdge({ id, data, markerEnd, style, label }: any) {
  const points: Point[] = data.points;
  const middle = points[Math.floor(points.length / 2)];
  return <BaseEdge id={id} path={pathOf(points)} markerEnd={markerEnd} style={style} label={label} labelX={middle.x} labelY={middle.y} />;
}

/** A subgraph, around its nodes. */
const Frame = ({ data }: any) => <div className="frame"><span>{data.label}</span></div>;

/** `outer` and `outer:inner` of `outer:inner:node`. */
const framesOf = (id: string) => id.split(":").slice(0, -1).map((_, index, parts) => parts.slice(0, index + 1).join(":"));

function arrange(drawn: { nodes: any[]; edges: any[] }, stops: boolean) {
  const plan = new dagre.graphlib.Graph({ multigraph: true, compound: true }).setGraph({ rankdir: "TB", ranksep: 40, nodesep: 36, edgesep: 24 }).setDefaultEdgeLabel(() => ({}));
  const ids = new Set(drawn.nodes.map((node) => String(node.id)));
  for (const id of ids) plan.setNode(id, sizeOf(id, stops));
  const frames = new Set([...ids].flatMap(framesOf).filter((frame) => !ids.has(frame)));
  for (const frame of frames) plan.setNode(frame, { width: 0, height: 0 });
  for (const id of [...ids, ...frames]) {
    const frame = framesOf(id).filter((one) => frames.has(one)).at(-1);
    if (frame) plan.setParent(id, frame);
  }
  const edges = drawn.edges.filter((edge) => ids.has(String(edge.source)) && ids.has(String(edge.target)));
  edges.forEach((edge, index) => plan.setEdge(String(edge.source), String(edge.target), {}, String(index)));
  dagre.layout(plan);
  return {
    nodes: [...[...frames].sort((a, b) => a.length - b.length).map((id) => {
      const { x, y, width, height } = plan.node(id);
      return { id, type: "frame", data: { label: labelOf(id) }, zIndex: -1, selectable: false, style: { width, height }, position: { x: x - width / 2, y: y - height / 2 } };
    }), ...[...ids].map((id) => {
      const { width, height } = sizeOf(id, stops);
      return { id, type: "step", data: { label: labelOf(id) }, style: { width, height }, position: { x: plan.node(id).x - width / 2, y: plan.node(id).y - height / 2 } };
    })],
    edges: edges.map((edge, index) => ({
      id: `${index}`, type: "way", source: String(edge.source), target: String(edge.target),
      data: { points: plan.edge({ v: String(edge.source), w: String(edge.target), name: String(index) }).points },
      label: typeof edge.data === "string" && edge.data !== edge.target ? edge.data : undefined,
      markerEnd: { type: MarkerType.ArrowClosed, color: "var(--faint)" },
      style: { stroke: "var(--faint)", ...(edge.conditional ? { strokeDasharray: "4 4" } : {}) },
    })),
  };
}

const KINDS = { step: GraphNode, frame: Frame };
const WAYS = { way: GraphEdge };

/** The agent's graph; nodes light up while they work. */
export default function GraphView({ assistant, ...lights }: { assistant: string } & Light) {
  const { stops } = lights;
  const [expanded, setExpanded] = useState(false);
  const graph = useLoad(() => ask("GET", `/assistants/${encodeURIComponent(assistant)}/graph?xray=${expanded}`), [assistant, expanded]);
  const drawn = useMemo(() => (graph.value ? arrange(graph.value, Boolean(stops)) : null), [graph.value, !stops]);
  return (
    <>
      <div className="bar">
        <label><input type="checkbox" checked={expanded} onChange={(event) => setExpanded(event.target.checked)} /> expand subgraphs</label>
        {stops && <span className="push badge">{stops.before.length + stops.after.length} breakpoints</span>}
      </div>
      <Failure text={graph.error} />
      {drawn && (
        <Lights.Provider value={lights}>
          <div className="graph" role="group" aria-label="Graph">
            <ReactFlow key={`${assistant} ${expanded}`} nodes={drawn.nodes} edges={drawn.edges} nodeTypes={KINDS} edgeTypes={WAYS} fitView fitViewOptions={{ maxZoom: 1.2 }} minZoom={0.1}
              nodesConnectable={false} nodesDraggable={false} nodesFocusable={false} edgesFocusable={false} proOptions={{ hideAttribution: true }}>
              <Background /><Controls showInteractive={false} />
            </ReactFlow>
          </div>
        </Lights.Provider>
      )}
    </>
  );
}
