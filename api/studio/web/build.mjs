// Builds the page into the folder that is named: node build.mjs ../bundle
// The same sources and the same package-lock.json give the same bytes: `make test` builds it again and compares.
import { build } from "esbuild";
import { existsSync } from "node:fs";
import { cp, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import path from "node:path";

const out = path.resolve(process.argv[2] ?? "../bundle");
await rm(out, { recursive: true, force: true });
await mkdir(out, { recursive: true });
const { metafile } = await build({
  entryPoints: { studio: "src/main.tsx" },
  bundle: true,
  splitting: true,
  format: "esm",
  minify: true,
  metafile: true,
  legalComments: "none",
  target: "es2022",
  define: { "process.env.NODE_ENV": '"production"' },
  chunkNames: "part-[hash]",
  outdir: out,
  alias: { "@rjsf/validator-ajv8": "./src/parts/no_ajv.ts" },
  logLevel: "warning",
});
await cp("src/index.html", path.join(out, "index.html"));

/** For a package that names the licence and leaves out its text. */
const mit = (author) => `Copyright (c) ${author}

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation files (the "Software"), to deal in the Software without restriction, including without limitation the rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.`;

// The licences of what is in the bundle, and of nothing else.
const packages = new Set();
for (const input of Object.keys(metafile.inputs)) {
  const folders = [...input.matchAll(/node_modules\/(?:@[^/]+\/)?[^/]+(?=\/)/g)].map((found) => input.slice(0, found.index + found[0].length));
  const folder = folders.reverse().find((one) => existsSync(path.join(one, "package.json"))); // some carry others' code along
  if (folder) packages.add(folder);
}
const texts = [];
for (const folder of [...packages].sort()) {
  const { name, version, license, author } = JSON.parse(await readFile(path.join(folder, "package.json"), "utf8"));
  let text = "";
  for (const file of ["LICENSE", "LICENSE.md", "license", "LICENSE.txt", "LICENCE", "License"]) {
    text ||= await readFile(path.join(folder, file), "utf8").catch(() => "");
  }
  if (!text && license === "MIT") text = mit(typeof author === "string" ? author : (author?.name ?? "its authors"));
  if (!text) throw new Error(`${name} has no licence text`);
  texts.push(`${name} ${version} (${license})\n\n${text.trim()}\n`);
}
const line = "\n" + "-".repeat(80) + "\n\n";
await writeFile(path.join(out, "LICENSES.txt"), "The page at /studio contains these packages.\n" + line + texts.join(line));
