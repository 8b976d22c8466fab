// The public API by fetch. Where a sign-in is missing or over it is asked for, and the request goes on after it.
import { signedIn } from "./sign_in.js";

export class ApiError extends Error {
  constructor(error, retryAfter) {
    super(error.message);
    this.code = error.code;
    this.status = error.status;
    this.retryAfterMs = retryAfter * 1000;
  }
}

/** No answer at all. */
export class Unreachable extends Error {
  constructor() {
    super("The server cannot be reached.");
  }
}

export async function failure(response) {
  const told = await response.json().catch(() => null);
  const error = told?.error ?? { code: "UNAVAILABLE", message: `The server answered ${response.status}.`, status: response.status };
  return new ApiError(error, Number(response.headers.get("Retry-After") ?? 2));
}

/** The JSON of an answer. Throws ApiError or Unreachable. */
export async function call(method, path, body, headers = {}) {
  for (;;) {
    let response;
    try {
      response = await fetch(path, {
        method,
        headers: { Accept: "application/json", ...(body === undefined ? {} : { "Content-Type": "application/json" }), ...headers },
        body: body === undefined ? undefined : JSON.stringify(body),
      });
    } catch {
      throw new Unreachable();
    }
    if (response.status === 401) {
      await signedIn();
      continue;
    }
    if (!response.ok) throw await failure(response);
    return response.json();
  }
}

export const get = (path) => call("GET", path);
export const post = (path, body = {}, headers = {}) => call("POST", path, body, headers);

/** A key that makes a request safe to send again; `crypto.randomUUID` is for https only. */
export const freshKey = () => Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(36)).join("");
