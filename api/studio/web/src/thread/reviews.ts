// Questions whether an agent may act, in the forms that agents ask them: LangChain's middleware (a list of tool calls, or one
// by one) and the Agent Inbox (HumanInterrupt).

export type Answer = "approve" | "edit" | "reject" | "respond" | "ignore";

/** One action to be reviewed. `argsSchema`: of its arguments, where the agent tells it. */
export type Action = { name: string; args: any; description: string; allowed: Answer[]; argsSchema?: any };

export type Decision = { answer: Answer; args?: any; message?: string };

/** `reply`: what the agent is told of the decisions, one for each action. */
export type Review = { actions: Action[]; reply: (decisions: Decision[]) => any };

const ALL: Answer[] = ["approve", "edit", "reject", "respond"];
const isObject = (value: any) => value !== null && typeof value === "object" && !Array.isArray(value);
const text = (value: any) => (typeof value === "string" ? value : "");
const known = (names: any): Answer[] => (Array.isArray(names) ? ALL.filter((one) => names.includes(one)) : ALL);

/** The review that an interrupt asks for; null: it asks something else. */
export function reviewOf(value: any, schema: any): Review | null {
  if (isObject(value) && Array.isArray(value.action_requests) && value.action_requests.length && value.action_requests.every(isObject)) return ofMiddleware(value);
  if (isObject(value) && value.type === "tool_approval" && typeof value.name === "string") return ofToolCall(value, schema);
  const requests = Array.isArray(value) ? value : [value];
  const ofInbox = requests.length > 0 && requests.every((one: any) => isObject(one) && isObject(one.action_request) && isObject(one.config) &&
    Object.keys(one.config).some((name) => name.startsWith("allow_")));
  return ofInbox ? inbox(requests) : null;
}

function toMiddleware(action: Action, { answer, args, message }: Decision): any {
  if (answer === "edit") return { type: "edit", edited_action: { name: action.name, args } };
  return message ? { type: answer, message } : { type: answer };
}

function ofMiddleware(value: any): Review {
  const configs: any[] = Array.isArray(value.review_configs) ? value.review_configs : [];
  const actions = value.action_requests.map((one: any): Action => {
    const config = configs.find((each) => each?.action_name === one.name);
    return { name: String(one.name), args: one.args ?? one.arguments ?? {}, description: text(one.description), allowed: known(config?.allowed_decisions), argsSchema: config?.args_schema };
  });
  return { actions, reply: (decisions) => ({ decisions: decisions.map((one, index) => toMiddleware(actions[index], one)) }) };
}

function ofToolCall(value: any, schema: any): Review {
  const named = (one: any): any => (typeof one?.$ref === "string" ? schema.$defs?.[one.$ref.replace("#/$defs/", "")] : one);
  const options = ((schema?.oneOf ?? schema?.anyOf ?? (schema ? [schema] : [])) as any[]).map(named);
  const types = options.map((one) => one?.properties?.type?.const);
  const edited = named(options.find((one) => one?.properties?.type?.const === "edit")?.properties?.edited_action)?.properties?.args;
  const action: Action = {
    name: value.name, args: value.args ?? {}, description: text(value.description), allowed: types.some(Boolean) ? known(types) : ALL,
    argsSchema: edited && schema.$defs ? { ...named(edited), $defs: schema.$defs } : edited,
  };
  return { actions: [action], reply: ([decision]) => toMiddleware(action, decision) };
}

const IN_INBOX = { approve: "accept", edit: "edit", respond: "response", ignore: "ignore", reject: "ignore" };
const ALLOWS: [string, Answer][] = [["allow_accept", "approve"], ["allow_edit", "edit"], ["allow_respond", "respond"], ["allow_ignore", "ignore"]];

/** Each question gets one answer, in a list, also where the graph asked without one: so does the Agent Inbox. */
function inbox(requests: any[]): Review {
  const actions = requests.map((one): Action => ({
    name: String(one.action_request.action), args: one.action_request.args ?? {}, description: text(one.description),
    allowed: ALLOWS.filter(([name]) => one.config[name]).map(([, answer]) => answer),
  }));
  return {
    actions,
    reply: (decisions) => decisions.map(({ answer, args, message }, index) => ({
      type: IN_INBOX[answer], args: answer === "edit" ? { action: actions[index].name, args } : answer === "respond" ? (message ?? "") : null,
    })),
  };
}

/** A schema of such values, for a form to edit one in; null: a form can't hold it. */
export function schemaLike(value: any): any {
  if (typeof value === "string") return { type: "string" };
  if (typeof value === "boolean") return { type: "boolean" };
  if (typeof value === "number") return { type: "number" };
  if (Array.isArray(value)) {
    const kinds = new Set(value.map((one) => JSON.stringify(schemaLike(one))));
    const [kind] = kinds;
    return kinds.size === 1 && kind !== "null" ? { type: "array", items: JSON.parse(kind) } : null;
  }
  if (!isObject(value)) return null;
  const properties = Object.entries(value).map(([name, one]) => [name, schemaLike(one)]);
  return properties.some(([, one]) => one === null) ? null : { type: "object", properties: Object.fromEntries(properties) };
}
