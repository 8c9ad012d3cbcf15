// Talking to the console. What changes something carries our header and, where one is set, the token.

import {dialog, h} from "./dom.js";

const KEY = "unlost-token", PATIENCE = 10_000;

export class ApiError extends Error {
  constructor(status, message) { super(message); this.status = status; }
}

export async function get(path) {
  return answer(await call(path, {}));
}

export async function post(path, body) {
  return answer(await raw(path, JSON.stringify(body ?? {})));
}

// The response as it is; asks for the token where it is needed, until it is right or given up.
export async function raw(path, body) {
  for (;;) {
    const headers = {"content-type": "application/json", "x-unlost-console": "1"};
    const token = sessionStorage.getItem(KEY);
    if (token) headers.authorization = `Bearer ${token}`;
    const response = await call(path, {method: "POST", body, headers});
    if (response.status !== 401) return response;
    const given = await askToken(Boolean(token));
    if (given === null) throw new ApiError(401, "nothing was changed: the token is needed");
    sessionStorage.setItem(KEY, given);
  }
}

async function call(path, options) {
  try {
    return await fetch(path, options.method ? options : {...options, signal: AbortSignal.timeout(PATIENCE)});
  } catch (error) {
    if (error.name === "TimeoutError") throw new ApiError(0, `the console has not answered for ${PATIENCE / 1000} s; does its process hang?`);
    throw new ApiError(0, "the console cannot be reached; does unlost console still run?");
  }
}

async function answer(response) {
  const body = await response.json().catch(() => ({error: `the console answered ${response.status}`}));
  if (!response.ok && !(response.status === 404 && body.found === false)) throw new ApiError(response.status, body.error);
  return body;
}

function askToken(again) {
  return dialog("Token", end => {
    const input = h("input", {type: "password", id: "token", autocomplete: "off", autofocus: true, required: true});
    const done = event => { event.preventDefault(); if (input.value) end(input.value); };
    return h("form", {onsubmit: done},
      h("p", {}, again ? "That token is not the right one." : "Whoever changes something needs the console's token (CONSOLE_TOKEN)."),
      h("label", {for: "token"}, "Token"), input,
      h("div", {class: "row"}, h("button", {class: "main", type: "submit"}, "Go on")));
  });
}
