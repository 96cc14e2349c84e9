// Drives headless Chromium. A line of standard input is JSON {"in": context, "run": code}; the code
// runs with `page` and `context` of that name, and a line of JSON comes back.
"use strict";
const readline = require("node:readline");
const { createRequire } = require("node:module");
const { chromium } = createRequire(process.argv[2] + "/package.json")("playwright-core");

const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync"];
const LIMIT = 60_000;

(async () => {
  // A new, empty profile each time: that is what `launch` makes.
  const browser = await chromium.launch({ executablePath: process.argv[3], headless: true, args: FLAGS });
  const contexts = new Map();
  const open = async (name, options) => {
    const context = await browser.newContext({ ignoreHTTPSErrors: true, ...options });
    context.setDefaultTimeout(LIMIT);
    // Nothing but this machine is asked for anything.
    await context.route((url) => !["localhost", "127.0.0.1"].includes(url.hostname), (route) => route.abort());
    const page = await context.newPage();
    page.on("dialog", (dialog) => { page.dialogs = (page.dialogs || 0) + 1; dialog.dismiss(); });
    page.errors = [];
    page.on("console", (message) => { if (message.type() === "error") page.errors.push(message.text()); });
    page.on("pageerror", (error) => page.errors.push(String(error)));
    contexts.set(name, { context, page });
    return contexts.get(name);
  };
  console.log(JSON.stringify({ ok: "ready" }));
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { in: name, run, options } = JSON.parse(line);
    let answer;
    try {
      const { context, page } = contexts.get(name) || (await open(name, options));
      const code = new Function("page", "context", `return (async () => { ${run} })();`);
      answer = { ok: (await code(page, context)) ?? null };
    } catch (error) {
      answer = { error: String(error && error.stack) };
    }
    console.log(JSON.stringify(answer));
  }
  await browser.close();
})();
