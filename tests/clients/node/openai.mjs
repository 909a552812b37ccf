// OpenAI's own SDK for Node.js, with nothing changed but its base URL.

import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";
import { failure, report, task } from "./flows.mjs";

const client = new OpenAI({ baseURL: task.base_url, apiKey: "none", maxRetries: 0, timeout: 30_000 });
const asking = (content) => ({ model: "test", messages: [{ role: "user", content }] });

await report({
  async stream() {
    const stream = await client.chat.completions.create({
      ...asking(task.stream),
      stream: true,
      stream_options: { include_usage: true },
    });
    let said = "";
    let finish = null;
    let usage = null;
    for await (const chunk of stream) {
      said += chunk.choices[0]?.delta?.content ?? "";
      finish = chunk.choices[0]?.finish_reason ?? finish;
      usage = chunk.usage ?? usage;
    }
    return { said, finish, usage };
  },

  async whole() {
    const completion = await client.chat.completions.create(asking(task.whole));
    return { said: completion.choices[0].message.content, id: completion._request_id, usage: completion.usage };
  },

  async tools() {
    const asked = { ...asking(task.tools), tools: [task.tool] };
    const message = await client.chat.completions.stream(asked).finalMessage();
    const [call] = message.tool_calls;
    const result = { role: "tool", tool_call_id: call.id, content: task.result };
    const reply = await client.chat.completions.create({ ...asked, messages: [...asked.messages, message, result] });
    return { call: { id: call.id, ...call.function }, said: reply.choices[0].message.content };
  },

  async refused() {
    const response_format = zodResponseFormat(z.object({ city: z.string() }), "weather");
    const [choice] = (await client.chat.completions.parse({ ...asking(task.refused), response_format })).choices;
    const streamed = await client.chat.completions.stream({ ...asking(task.refused), response_format }).finalMessage();
    return [choice.message, streamed].map(({ refusal, parsed, content }) => ({ refusal, parsed, content }));
  },

  async models() {
    return (await client.models.list()).data.map((model) => model.id);
  },

  unknown_model: () =>
    failure(
      () => client.chat.completions.create({ ...asking("Hello"), model: "no-such" }),
      "status", "code", "param", "type", "requestID",
    ),

  wrong_field: () => failure(() => client.chat.completions.create({ ...asking("Hello"), top_p: "much" }), "status", "param"),

  async broken_stream() {
    let said = "";
    const thrown = await failure(async () => {
      for await (const chunk of await client.chat.completions.create({ ...asking(task.broken), stream: true })) {
        said += chunk.choices[0]?.delta?.content ?? "";
      }
    }, "message", "code");
    return { ...thrown, said };
  },

  async leaving() {
    const stream = await client.chat.completions.create({ ...asking(task.endless), stream: true });
    for await (const chunk of stream) {
      if (chunk.choices[0].delta.content) break;
    }
    return "left";
  },
});
