// The gateway's pages in Chromium: the first page, and the documentation with "Try it out".

import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";
import { report, task } from "./flows.mjs";

const quiet = ["disable-background-networking", "disable-component-update", "disable-sync", "no-first-run"];
const browser = await chromium.launchPersistentContext(await mkdtemp(join(tmpdir(), "chatfleet-browser-")), {
  executablePath: task.chromium,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-proxy-server", ...quiet.map((flag) => `--${flag}`)],
});
browser.setDefaultTimeout(60_000);

const troubles = [];

async function open(url) {
  const page = await browser.newPage();
  page.on("pageerror", (error) => troubles.push(String(error)));
  await page.goto(url);
  return page;
}

async function first(url) {
  const page = await open(url);
  const links = await page.locator("a").evaluateAll((all) => all.map((link) => link.getAttribute("href")));
  return { text: await page.locator("body").innerText(), links };
}

// Tries a chat out; gives what the page showed of the reply, each time that it was more.
async function tryOut(page, path, body) {
  const operation = page.locator(".opblock", { has: page.locator(`[data-path="${path}"]`) });
  await operation.locator(".opblock-summary").click();
  await operation.getByRole("button", { name: "Try it out" }).click();
  await operation.locator("textarea.body-param__text").fill(JSON.stringify(body));
  await operation.getByRole("button", { name: "Execute" }).click();
  const live = operation.locator(".live-responses-table .response").first();
  const shown = [];
  for (const until = Date.now() + 60_000; Date.now() < until; await page.waitForTimeout(50)) {
    const text = await live.locator("code, pre.microlight").first().innerText();
    if (text !== shown.at(-1)) shown.push(text);
    if (text.includes(task.end[path])) break;
  }
  return { status: (await live.locator(".response-col_status").innerText()).trim(), shown };
}

const seed = { messages: [{ source: "user", content: task.question }] };
const openai = { messages: [{ role: "user", content: task.question }], stream: true };

await report({
  first: () => first(task.url),
  keyed_first: () => first(task.keyed_url),
  summaries: async () => {
    const page = await open(`${task.url}/docs`);
    const blocks = page.locator(".opblock-summary-description");
    await blocks.first().waitFor();
    return { names: await blocks.allInnerTexts(), authorize: await page.locator("button.authorize").count() };
  },
  tried: async () => {
    const keyed = await open(`${task.keyed_url}/docs`);
    await keyed.locator(".auth-wrapper > button.authorize").click();
    const dialog = keyed.locator(".auth-container", { hasText: "bearer" }).first();
    await dialog.locator("input").fill(task.key);
    await dialog.locator("button[type=submit]").click();
    await keyed.locator(".modal-ux .close-modal").click();
    const [ndjson, events, with_key] = await Promise.all([
      tryOut(await open(`${task.url}/docs`), "/chat/completions", seed),
      tryOut(await open(`${task.url}/docs`), "/v1/chat/completions", openai),
      tryOut(keyed, "/chat/completions", seed),
    ]);
    return { ndjson, events, with_key };
  },
  troubles: () => troubles,
});
await browser.close();
