// Drives Agent Chat UI, with the Agent Inbox in it, in a headless Chromium: node drive.mjs <server's url> <chromium> <folder>
// The application is what create-agent-chat-app makes projects of (its Vite template), built with the client that the template
// names and with today's.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import http from "node:http";
import { build } from "esbuild";
import puppeteer from "puppeteer-core";

const [api, executablePath, folder] = process.argv.slice(2);
const LONGEST = 60_000;
const application = new URL("node_modules/create-agent-chat-app/templates/vite/src", import.meta.url).pathname;

async function scriptWith(client = {}) {
  const { outputFiles } = await build({
    entryPoints: [`${application}/main.tsx`],
    bundle: true,
    write: false,
    jsx: "automatic",
    format: "esm",
    outdir: "out",
    alias: { "@": application, ...client },
    define: { "process.env.NODE_ENV": '"production"', "import.meta.env": "{}", "process.env": "{}", global: "window" },
    loader: { ".css": "empty" },
    logLevel: "error",
  });
  return outputFiles[0].contents;
}

const scripts = { "0.0": await scriptWith(), now: await scriptWith({ "@langchain/langgraph-sdk": "langgraph-sdk-now", "@langchain/core": "langchain-core-now" }) };
const site = http.createServer((request, response) => {
  const script = scripts[request.url.match(/^\/(.*)\.js$/)?.[1]];
  response.setHeader("content-type", script ? "text/javascript" : "text/html");
  const version = new URL(request.url, "http://site").searchParams.get("sdk");
  response.end(script ?? `<!doctype html><meta charset=utf-8><div id=root></div><script type=module src=/${version}.js></script>`);
});
await new Promise((listening) => site.listen(0, "127.0.0.1", listening));

// By pipe: Chromium ends when this process does, however it ends.
const browser = await puppeteer.launch({
  executablePath,
  pipe: true,
  userDataDir: `${folder}/profile`,
  protocolTimeout: 2 * LONGEST,
  defaultViewport: { width: 1400, height: 900 },
  args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows", "--disable-renderer-backgrounding"],
});

class Tab {
  static all = [];
  static async open(params) {
    const page = await browser.newPage();
    page.on("pageerror", (error) => console.log(`the page raised ${error.stack}`));
    await page.goto(`http://127.0.0.1:${site.address().port}/?${new URLSearchParams(params)}`);
    const tab = new Tab(page);
    Tab.all.push(tab);
    return tab;
  }
  static of(sdk, assistantId, more = {}) {
    return this.open({ sdk, apiUrl: api, assistantId, ...more });
  }
  static async closeAll() {
    await Promise.all(this.all.map((tab) => tab.page.close()));
    this.all = [];
  }
  constructor(page) {
    this.page = page;
  }
  async until(what, condition, ...args) {
    try {
      await this.page.waitForFunction(condition, { timeout: LONGEST, polling: 100 }, ...args);
    } catch (error) {
      throw new Error(`never came: ${what}; the page: ${(await this.text()).slice(0, 2000)}`, { cause: error });
    }
  }
  text() {
    return this.page.evaluate(() => document.body.innerText);
  }
  shows(...texts) {
    return this.until(texts.join(", "), (texts) => texts.every((text) => document.body.innerText.includes(text)), texts);
  }
  lacks(text) {
    return this.until(`no ${text}`, (text) => !document.body.innerText.includes(text), text);
  }
  /** Nothing runs: the button says Send. */
  idle() {
    return this.until("the end of the run", () => [...document.querySelectorAll("button")].some((one) => one.innerText === "Send"));
  }
  async say(text) {
    await this.idle();
    await (await this.page.waitForSelector('textarea[placeholder="Type your message..."]', { timeout: LONGEST })).type(text);
    await this.page.keyboard.press("Enter");
  }
  async press(name, index = 0) {
    const found = (name) => [...document.querySelectorAll("button")].filter((one) => one.textContent.trim() === name && !one.disabled);
    await this.until(`the button ${name}`, (name, index) =>
      [...document.querySelectorAll("button")].filter((one) => one.textContent.trim() === name && !one.disabled).at(index), name, index);
    await this.page.evaluate((name, index, found) => eval(found)(name).at(index).click(), name, index, String(found));
  }
  async write(selector, text) {
    const field = await this.page.waitForSelector(selector, { timeout: LONGEST });
    await field.click({ clickCount: 3 });
    await field.type(text);
  }
  get thread() {
    return new URL(this.page.url()).searchParams.get("threadId");
  }
}

async function state(thread) {
  return await (await fetch(`${api}/threads/${thread}/state`)).json();
}

/** The question of the Agent Inbox, and the answer that the graph was given at last. */
async function asked(sdk, words) {
  const tab = await Tab.of(sdk, "inbox");
  await tab.say(words);
  await tab.shows("I would send this e-mail", "send_email");
  await tab.idle();
  return tab;
}

async function answer(tab) {
  await tab.shows("The answer: ");
  const { values, next } = await state(tab.thread);
  assert.deepEqual(next, []);
  return JSON.parse(values.messages.at(-1).content.replace("The answer: ", ""));
}

const EMAIL = { action: "send_email", args: { copies: 2, subject: "Hello", to: "ann@example.com" } };

const stories = {
  async "it asks for the server, and a conversation goes on and is there after a reload"(sdk) {
    const tab = await Tab.open({ sdk });
    await tab.write("#apiUrl", api);
    await tab.write("#assistantId", "chat");
    await tab.press("Continue");
    await tab.say("hello there");
    await tab.shows("You said: hello there");
    await tab.say("and again");
    await tab.shows("You said: and again");
    await tab.idle();
    await tab.page.reload();
    await tab.shows("You said: hello there", "You said: and again");
    assert.equal((await state(tab.thread)).values.messages.length, 4);
  },

  async "threads of the graph are listed and opened"(sdk) {
    const word = `hello ${randomUUID()}`;
    const first = await Tab.of(sdk, "chat");
    await first.say(word);
    await first.shows(`You said: ${word}`);
    await first.idle();
    const other = await Tab.of(sdk, "chat", { chatHistoryOpen: "true" });
    await other.press(word);
    await other.shows(`You said: ${word}`);
    assert.equal(other.thread, first.thread);
  },

  async "tool calls and their results are shown, or hidden"(sdk) {
    const tab = await Tab.of(sdk, "agent");
    await tab.say("add 2 3");
    await tab.shows("The sum is 5", "call-1", "left", "Tool Result: add");
    await tab.idle();
    await tab.page.click("#render-tool-calls");
    await tab.lacks("Tool Result: add");
  },

  async "a message is edited and an answer asked for anew: branches"(sdk) {
    const tab = await Tab.of(sdk, "chat");
    await tab.say("one");
    await tab.shows("You said: one");
    await tab.idle();
    await tab.press("Refresh");
    await tab.shows("2 / 2", "You said: one");
    await tab.idle();
    await tab.press("Edit");
    await tab.until("the editor", () => document.querySelectorAll("textarea").length === 2);
    await tab.write("textarea", "two");
    await tab.press("Submit");
    await tab.shows("You said: two");
    await tab.idle();
    assert.deepEqual((await state(tab.thread)).values.messages.map((one) => one.content), ["two", "You said: two"]);
  },

  async "any other interrupt is shown"(sdk) {
    const tab = await Tab.of(sdk, "review");
    await tab.say("write");
    await tab.shows("Human Interrupt", "send it?");
  },

  async "the inbox accepts"(sdk) {
    const tab = await asked(sdk, "accept ignore");
    await tab.press("Accept");
    assert.deepEqual(await answer(tab), [{ type: "accept", args: null }]);
  },

  async "the inbox edits"(sdk) {
    const tab = await asked(sdk, "edit");
    await tab.until("the fields", () => [...document.querySelectorAll("textarea")].some((one) => one.value === "Hello"));
    const field = (await tab.page.$$("textarea"))[1];
    assert.equal(await field.evaluate((one) => one.value), "Hello");
    await field.click({ clickCount: 3 });
    await field.type("Good morning");
    await tab.press("Submit");
    assert.deepEqual(await answer(tab), [{ type: "edit", args: { ...EMAIL, args: { ...EMAIL.args, subject: "Good morning" } } }]);
  },

  async "the inbox responds, after a reload"(sdk) {
    const tab = await asked(sdk, "respond");
    await tab.page.reload();
    await tab.write('textarea[placeholder="Your response here..."]', "rather not");
    await tab.press("Send Response");
    assert.deepEqual(await answer(tab), [{ type: "response", args: "rather not" }]);
  },

  async "the inbox ignores"(sdk) {
    const tab = await asked(sdk, "ignore single");
    await tab.press("Ignore");
    assert.deepEqual(await answer(tab), [{ type: "ignore", args: null }]);
  },
};

// The client that the template names does all of it, today's this.
const today = ["it asks for the server, and a conversation goes on and is there after a reload", "the inbox edits"];

try {
  for (const sdk of Object.keys(scripts)) {
    for (const [name, story] of Object.entries(stories)) {
      if (sdk === "now" && !today.includes(name)) continue;
      try {
        await story(sdk);
        console.log(`ok ${name} (${sdk})`);
      } catch (error) {
        console.log(`not ok ${name} (${sdk})\n${error.stack}`);
        process.exitCode = 1;
      } finally {
        await Tab.closeAll();
      }
    }
  }
} finally {
  await browser.close();
  site.close();
}
