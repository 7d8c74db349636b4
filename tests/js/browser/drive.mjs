// Drives the chat page in a headless Chromium: node drive.mjs <server's url> <chromium> <folder for its profile and gate>
// @langchain/react over both transports: a conversation, tool calls, an interrupt that outlives a reload, an error, a stop seen
// in two tabs, a line that breaks in mid-frame. The older useStream, and assistant-ui, each as far as they go.
import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import http from "node:http";
import { buildSync } from "esbuild";
import puppeteer from "puppeteer-core";
import { Line } from "./line.mjs";

const [api, executablePath, folder] = process.argv.slice(2);
const LONGEST = 60_000;

const script = buildSync({
  entryPoints: [new URL("page.jsx", import.meta.url).pathname],
  bundle: true,
  write: false,
  jsx: "automatic",
  define: { "process.env.NODE_ENV": '"production"' },
}).outputFiles[0].contents;
const html = "<!doctype html><meta charset=utf-8><div id=root></div><script src=/page.js></script>";
const site = http.createServer((request, response) => {
  const isScript = request.url.startsWith("/page.js");
  response.setHeader("content-type", isScript ? "text/javascript" : "text/html");
  response.end(isScript ? script : html);
});
await new Promise((listening) => site.listen(0, "127.0.0.1", listening));

// By pipe: Chromium ends when this process does, however it ends.
const browser = await puppeteer.launch({
  executablePath,
  pipe: true,
  userDataDir: `${folder}/profile`,
  protocolTimeout: 2 * LONGEST,
  args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows", "--disable-renderer-backgrounding"],
});

class Tab {
  static all = new Set();
  static async open(params) {
    const page = await browser.newPage();
    const query = new URLSearchParams({ url: api, ...params });
    return await new Tab(page).goto(`http://127.0.0.1:${site.address().port}/?${query}`);
  }
  constructor(page) {
    this.page = page;
    Tab.all.add(this);
  }
  // A page holds some of the six connections that a browser has for one server: what it leaves open, others lack.
  static async closeAll() {
    await Promise.all([...Tab.all].map((tab) => tab.page.close()));
    Tab.all.clear();
  }
  async goto(url) {
    await this.page.goto(url);
    await this.page.waitForSelector("#say", { timeout: LONGEST });
    return this;
  }
  async copy() {
    return await new Tab(await browser.newPage()).goto(this.page.url());
  }
  click(id) {
    return this.page.evaluate((id) => document.getElementById(id).click(), id);
  }
  items(id) {
    return this.page.$$eval(`#${id} li`, (all) => all.map((item) => item.textContent));
  }
  text(id) {
    return this.page.$eval(`#${id}`, (element) => element.textContent);
  }
  async until(what, condition, ...args) {
    try {
      await this.page.waitForFunction(condition, { timeout: LONGEST, polling: 100 }, ...args);
    } catch (error) {
      throw new Error(`never came: ${what}; the page: ${(await this.text("root")).slice(0, 2000)}`, { cause: error });
    }
  }
  // Over server-sent events a run's end may be there before its last tokens: they come through connections of their own.
  idleWith(messages) {
    return this.until(`${messages.length} messages, idle`, (messages) =>
      JSON.stringify([...document.querySelectorAll("#messages li")].map((item) => item.textContent)) === messages &&
      document.getElementById("loading").textContent === "false", JSON.stringify(messages));
  }
  loading(value) {
    return this.until(`loading ${value}`, (value) => document.getElementById("loading").textContent === value, String(value));
  }
  shows(text) {
    return this.until(text, (text) => document.getElementById("values").textContent?.includes(text), text);
  }
  asks(count) {
    return this.until(`${count} questions`, (count) => document.querySelectorAll("#interrupts li").length === count, count);
  }
  reload() {
    return this.page.reload();
  }
}

const say = (content) => JSON.stringify({ messages: [{ type: "human", content }] });

const line = await new Line(api).open();

const protocol = {
  async "a conversation goes on and is there after a reload"(transport) {
    const tab = await Tab.open({ transport, input: say("hello from react") });
    const turn = ["human: hello from react", "ai: You said: hello from react"];
    await tab.click("say");
    await tab.idleWith(turn);
    await tab.click("say");
    await tab.idleWith([...turn, ...turn]);
    await tab.reload();
    await tab.idleWith([...turn, ...turn]);
  },

  async "tool calls are shown"(transport) {
    const tab = await Tab.open({ transport, graph: "agent", input: say("add 2 3") });
    await tab.click("say");
    await tab.idleWith(["human: add 2 3", "ai: Let me see", "tool: 5", "ai: The sum is 5"]);
    assert.deepEqual(await tab.items("tools"), ['add finished {"left":2,"right":3}']);
  },

  async "an interrupt is answered after a reload"(transport) {
    const tab = await Tab.open({ transport, graph: "ask", input: JSON.stringify({ items: ["a"] }) });
    await tab.click("say");
    await tab.asks(1);
    assert.deepEqual(await tab.items("interrupts"), ['{"question":"ok?"}']);
    await tab.loading(false);
    await tab.reload();
    await tab.asks(1);
    // The page shows the question of the state before its stream has come as far: until then it takes no answer.
    await tab.page.evaluate(async () => {
      while (!document.getElementById("values").textContent.includes("done")) {
        document.getElementById("answer").click();
        await new Promise((resolve) => setTimeout(resolve, 500));
      }
    });
    await tab.asks(0);
    assert.deepEqual(JSON.parse(await tab.text("values")).items, ["a", "yes", "done"]);
  },

  async "an error is shown"(transport) {
    const tab = await Tab.open({ transport, graph: "failing", input: JSON.stringify({ kind: "expected" }) });
    await tab.click("say");
    await tab.until("the error", () => document.getElementById("error").textContent === "the secret");
  },

  async "a run that is stopped ends in every tab"(transport) {
    const input = JSON.stringify({ items: ["mine"], gate: `${folder}/gate` });
    const tab = await Tab.open({ transport, graph: "gated", input });
    await tab.click("say");
    await tab.shows("mine");
    const other = await tab.copy();
    await other.loading(true);
    await tab.click("stop");
    await tab.loading(false);
    await other.loading(false);
  },

  async "a line that breaks in mid-frame loses and doubles nothing"(transport) {
    const tab = await Tab.open({ transport, url: line.url, input: say("hello over a bad line") });
    const turn = ["human: hello over a bad line", "ai: You said: hello over a bad line"];
    await tab.click("say");
    await tab.idleWith(turn);
    const broken = line.broken;
    // Over a WebSocket once: what the client is about to subscribe to again when the line breaks anew, it forgets.
    line.cutIn('"message-finish"', ...(transport === "sse" ? ['"content-block-delta"', '"completed"'] : []));
    await tab.click("say");
    await tab.idleWith([...turn, ...turn]);
    assert.ok(line.broken > broken, "it broke");
    line.cutIn();
  },
};

const runs = {
  async "a conversation goes on and is there after a reload"(library) {
    const tab = await Tab.open({ library, input: say("hello from react") });
    const turn = ["human: hello from react", "ai: You said: hello from react"];
    await tab.click("say");
    await tab.idleWith(turn);
    await tab.click("say");
    await tab.idleWith([...turn, ...turn]);
    await tab.reload();
    await tab.idleWith([...turn, ...turn]);
  },

  async "an interrupt is answered after a reload"(library) {
    const tab = await Tab.open({ library, graph: "ask", input: JSON.stringify({ items: ["a"] }) });
    await tab.click("say");
    await tab.asks(1);
    await tab.loading(false);
    await tab.reload();
    await tab.asks(1);
    await tab.click("answer");
    await tab.shows("done");
    await tab.asks(0);
    assert.deepEqual(JSON.parse(await tab.text("values")).items, ["a", "yes", "done"]);
  },

  async "a reload in mid-run joins the run"(library) {
    const gate = `${folder}/gate-of-runs`;
    mkdirSync(gate);
    const tab = await Tab.open({ library, graph: "gated", input: JSON.stringify({ items: ["mine"], gate }) });
    await tab.click("say");
    await tab.shows("first");
    await tab.reload();
    await tab.loading(true);
    writeFileSync(`${gate}/open`, "");
    await tab.shows("last");
    await tab.loading(false);
  },
};

const assistant = {
  async "a conversation goes on"(library) {
    const tab = await Tab.open({ library, input: say("hello from react") });
    const turn = ["human: hello from react", "ai: You said: hello from react"];
    await tab.click("say");
    await tab.idleWith(turn);
    await tab.click("say");
    await tab.idleWith([...turn, ...turn]);
  },

  async "tool calls are part of what the model says"(library) {
    const tab = await Tab.open({ library, graph: "agent", input: say("add 2 3") });
    await tab.click("say");
    await tab.idleWith(["human: add 2 3", "ai: Let me see add {\"left\":2,\"right\":3} 5 The sum is 5"]);
  },
};

try {
  const stories = { sse: protocol, websocket: protocol, runs, assistant };
  for (const [by, steps] of Object.entries(stories)) {
    for (const [name, step] of Object.entries(steps)) {
      try {
        await step(by);
        console.log(`ok ${name} (${by})`);
      } catch (error) {
        console.log(`not ok ${name} (${by})\n${error.stack}`);
        process.exitCode = 1;
      } finally {
        await Tab.closeAll();
      }
    }
  }
} finally {
  await browser.close();
  site.close();
  line.close();
}
