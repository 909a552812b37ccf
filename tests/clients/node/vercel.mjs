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
const once = { model, maxRetries: 0 };

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
    return { said: result.text, usage: [result.usage.inputTokens, result.usage.outputTokens] };
  },

  async reasoning() {
    const result = streamText({ ...once, prompt: task.reasoning });
    return { said: await result.text, thought: await result.reasoningText };
  },

  async tools() {
    const calls = [];
    const weather = tool({
      description: task.tool.function.description,
      inputSchema: jsonSchema(task.tool.function.parameters),
      execute: async (input, { toolCallId }) => {
        calls.push({ id: toolCallId, input });
        return task.result;
      },
    });
    const result = streamText({
      ...once,
      prompt: task.tools,
      tools: { get_weather: weather },
      stopWhen: stepCountIs(3),
    });
    return { said: await result.text, steps: (await result.steps).length, calls };
  },

  async object() {
    const schema = z.object({ city: z.string(), degrees: z.number() });
    return (await generateObject({ ...once, prompt: task.object, schema })).object;
  },

  unknown_model: () =>
    failure(
      () => generateText({ ...once, model: provider("no-such"), prompt: "Hello" }),
      "statusCode", "message", "isRetryable",
    ),

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
