// Vercel's AI SDK with its provider for OpenAI-compatible APIs.

import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateObject, generateText, jsonSchema, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import { failure, report, task } from "./flows.mjs";

const provider = createOpenAICompatible({
  name: "chatfleet",
  baseURL: task.base_url,
  apiKey: "none",
  includeUsage: true,
  supportsStructuredOutputs: true,
});
const model = provider("test");
// The SDK looks for Gemini's signatures under its provider's name.
const gemini = createOpenAICompatible({ name: "google", baseURL: task.base_url, apiKey: "none" })("test");
const once = { model, maxRetries: 0 };

const withWeather = (calls) => ({
  ...once,
  stopWhen: stepCountIs(3),
  tools: {
    get_weather: tool({
      description: task.tool.function.description,
      inputSchema: jsonSchema(task.tool.function.parameters),
      execute: async (input, { toolCallId }) => {
        calls.push({ id: toolCallId, input });
        return task.result;
      },
    }),
  },
});
const refusal = (prompt, with_ = model) =>
  failure(
    () => generateText({ ...once, model: with_, prompt }),
    "statusCode", "message", "isRetryable", "responseHeaders", "data",
  );

await report({
  async stream() {
    const result = streamText({ ...once, prompt: task.stream });
    let said = "";
    for await (const piece of result.textStream) said += piece;
    const usage = await result.usage;
    return { said, finish: await result.finishReason, usage: [usage.inputTokens, usage.outputTokens] };
  },

  async whole() {
    const result = await generateText({ ...once, prompt: task.whole });
    const { inputTokens, outputTokens, cachedInputTokens, reasoningTokens } = result.usage;
    return { said: result.text, usage: [inputTokens, outputTokens], details: [cachedInputTokens, reasoningTokens] };
  },

  async reasoning() {
    const result = streamText({ ...once, prompt: task.reasoning });
    return { said: await result.text, thought: await result.reasoningText };
  },

  async tools() {
    const calls = [];
    const result = streamText({ ...withWeather(calls), prompt: task.tools });
    return { said: await result.text, steps: (await result.steps).length, calls };
  },

  async thinking() {
    const streamed = streamText({ ...withWeather([]), model: gemini, prompt: task.thinking });
    const whole = await generateText({ ...withWeather([]), model: gemini, prompt: task.thinking });
    const [first] = await streamed.steps;
    return { said: [await streamed.text, whole.text], thought: [first.reasoningText, whole.steps[0].reasoningText] };
  },

  async object() {
    const schema = z.object({ city: z.string(), degrees: z.number() });
    return (await generateObject({ ...once, prompt: task.object, schema })).object;
  },

  unknown_model: () => refusal("Hello", provider("no-such")),
  too_long: () => refusal(task.too_long),
  filtered: () => refusal(task.filtered),
  limited: () => refusal(task.limited),
  unauthorized: () =>
    refusal("Hello", createOpenAICompatible({ name: "chatfleet", baseURL: task.keyed_url, apiKey: "none" })("test")),

  async left() {
    const leaving = new AbortController();
    const result = streamText({ ...once, prompt: task.endless, abortSignal: leaving.signal });
    for await (const _ of result.textStream) leaving.abort();
    return "left";
  },

  async broken_stream() {
    let said = "";
    let error = null;
    const result = streamText({ ...once, prompt: task.broken, onError: () => {} });
    for await (const part of result.fullStream) {
      if (part.type === "text-delta") said += part.text;
      if (part.type === "error") error = part.error?.message ?? part.error;
    }
    return { said, error };
  },
});
