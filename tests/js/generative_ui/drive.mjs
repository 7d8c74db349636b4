// Drives the page in a headless Chromium: node drive.mjs <server's url> <chromium> <folder for its profile>
import assert from "node:assert/strict";
import http from "node:http";
import { buildSync } from "esbuild";
import { Client } from "@langchain/langgraph-sdk";
import puppeteer from "puppeteer-core";

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
const browser = await puppeteer.launch({ executablePath, pipe: true, userDataDir: `${folder}/profile`, protocolTimeout: 2 * LONGEST, args: ["--no-sandbox", "--disable-dev-shm-usage"] });

const inside = (selector, index = 0) => document.querySelectorAll(".shown")[index]?.shadowRoot?.querySelector(selector);
const shows = (page, text, index = 0) => page.waitForFunction(
  (inside, text, index) => eval(inside)("p", index)?.textContent === text, { timeout: LONGEST, polling: 100 }, String(inside), text, index);
const click = (page, selector) => page.evaluate((inside, selector) => eval(inside)(selector).click(), String(inside), selector);

try {
  const [assistant] = await new Client({ apiUrl: api }).assistants.search({ graphId: "weather" });
  for (const by of ["weather", assistant.assistant_id]) {
    const page = await browser.newPage();
    page.on("pageerror", (error) => {
      console.log(`the page raised ${error.stack}`);
      process.exitCode = 1;
    });
    await page.goto(`http://127.0.0.1:${site.address().port}/?${new URLSearchParams({ url: api, assistant: by })}`);
    await page.waitForSelector("#say", { timeout: LONGEST });
    await page.click("#say");
    await shows(page, "Oslo: -3°, 0 clicks, forecast");
    await page.waitForFunction((inside) => getComputedStyle(eval(inside)(".forecast")).color === "rgb(1, 2, 3)", { timeout: LONGEST }, String(inside));
    await click(page, ".count");
    await shows(page, "Oslo: -3°, 1 clicks, forecast");
    await click(page, ".ask");
    await shows(page, "Rome: -3°, 0 clicks, forecast", 1);
    await page.reload();
    await shows(page, "Oslo: -3°, 0 clicks, forecast");
    await shows(page, "Rome: -3°, 0 clicks, forecast", 1);
    assert.equal(await page.evaluate(() => document.querySelectorAll(".shown").length), 2);
    await page.close();
    console.log(`ok by ${by === "weather" ? "the graph" : "an assistant"}`);
  }
} finally {
  await browser.close();
  site.close();
}
