// A TCP line between the browser and the server, which breaks in the middle of what it carries.
import net from "node:net";

export class Line {
  #target;
  #cuts = [];
  // How often it broke.
  broken = 0;

  constructor(url) {
    this.#target = new URL(url);
  }

  async open() {
    this.server = net.createServer((browser) => this.#carry(browser));
    await new Promise((listening) => this.server.listen(0, "127.0.0.1", listening));
    this.url = `http://127.0.0.1:${this.server.address().port}`;
    return this;
  }

  // Break once for each: when the server next sends it, in its middle.
  cutIn(...words) {
    this.#cuts = words.map((word) => Buffer.from(word));
  }

  close() {
    this.server.close();
  }

  #carry(browser) {
    const server = net.connect(this.#target.port, this.#target.hostname);
    const end = () => {
      browser.destroy();
      server.destroy();
    };
    for (const socket of [browser, server]) socket.on("error", end).on("close", end);
    browser.pipe(server);
    server.on("data", (data) => {
      const at = this.#cuts.length ? data.indexOf(this.#cuts[0]) : -1;
      if (at < 0) return void browser.write(data);
      const half = at + Math.ceil(this.#cuts.shift().length / 2);
      this.broken += 1;
      browser.write(data.subarray(0, half), end);
    });
  }
}
