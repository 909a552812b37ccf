// Runs every flow and prints, as one JSON object, what each gave or threw. The task comes as JSON on standard input.

import { text } from "node:stream/consumers";

export const task = JSON.parse(await text(process.stdin));

export async function report(flows) {
  const results = {};
  for (const [name, flow] of Object.entries(flows)) {
    try {
      results[name] = await flow();
    } catch (error) {
      results[name] = { threw: String(error?.stack ?? error) };
    }
  }
  process.stdout.write(JSON.stringify(results));
}

// What a flow that must fail throws, by the given fields.
export async function failure(flow, ...fields) {
  try {
    await flow();
  } catch (error) {
    return { class: error.constructor.name, ...Object.fromEntries(fields.map((field) => [field, error[field] ?? null])) };
  }
  return { class: "nothing was thrown" };
}
