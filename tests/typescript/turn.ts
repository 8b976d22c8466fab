// A turn by the generated client: `node build/turn.js <address> <token> <request>`. Prints what it saw as JSON.

import { client } from "./client/client.gen.js";
import {
  apiAnswerPermission,
  apiCreateSession,
  apiGetSession,
  messagesFollowSession,
  messagesSendMessage,
} from "./client/index.js";
import type { DoneData, ErrorBody, PermissionRequestData } from "./client/index.js";

const [baseUrl, token, content] = process.argv.slice(2) as [string, string, string];
client.setConfig({ baseUrl, auth: token });

// @ts-expect-error a field that there is not does not compile
const refused = await apiCreateSession({ body: { surprise: 1 } });
const code: ErrorBody["code"] | undefined = refused.error?.error.code;

const created = await apiCreateSession({ body: { tools: ["bash"], permission: { bash: "ask" } }, throwOnError: true });
const path = { session_id: created.data.session_id };
const begun = await messagesSendMessage({
  path,
  body: { content },
  headers: { Prefer: "respond-async" },
  throwOnError: true,
});
if (!("seq" in begun.data)) throw new Error("202 was asked for");

const names: string[] = [];
const ids: string[] = [];
let text = "";
let done: DoneData | undefined;
const { stream } = await messagesFollowSession({
  path,
  query: { after: begun.data.seq },
  onSseEvent: (event) => {
    if (!event.event) return; // the head of the stream, which only says where it begins
    names.push(event.event);
    ids.push(event.id ?? "");
  },
});
for await (const data of stream) {
  if (!data) continue;
  if ("permission_id" in data && "call_id" in data) {
    const asked: PermissionRequestData = data;
    const answer = { ...path, permission_id: asked.permission_id };
    await apiAnswerPermission({ path: answer, body: { response: "once" }, throwOnError: true });
  } else if ("duration" in data) {
    done = data;
    break;
  } else if (names.at(-1) === "text" && "content" in data) {
    text += data.content;
  }
}

const detail = await apiGetSession({ path, throwOnError: true });
const last = detail.data.messages.at(-1);
console.log(JSON.stringify({ code, names, ids, text, status: done?.status, stored: last?.content, role: last?.role }));
process.exit(0);
