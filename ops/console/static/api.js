// Talking to the console. Each request carries the token, where one was entered, or else the cookie of a person who has
// signed in; what changes something carries our header.

import {dialog, h} from "./dom.js";

const KEY = "unlost-token", BACK = "unlost-back", PATIENCE = 10_000;

export class ApiError extends Error {
  constructor(status, message) { super(message); this.status = status; }
}

export async function get(path) {
  return answer(await authorized(path, {}, {}));
}

export async function post(path, body) {
  return answer(await raw(path, JSON.stringify(body ?? {})));
}

// The response as it is.
export async function raw(path, body) {
  declined = false;
  return authorized(path, {method: "POST", body}, {"content-type": "application/json", "x-unlost-console": "1"});
}

// Who has signed in, and whether people can.
export async function signedIn() {
  return answer(await call("/api/signin", {}));
}

// Leaves for the identity provider. After it, the page shows the same view again.
function signIn() {
  sessionStorage.setItem(BACK, location.hash);
  location.assign("/signin");
}

export function returnToView() {
  const back = sessionStorage.getItem(BACK);
  sessionStorage.removeItem(BACK);
  if (back && !location.hash) history.replaceState(null, "", back);
}

export async function signOut() {
  await post("/api/signout");
  location.reload();
}

// Asks for the token where it is needed, until it is right or given up. Views ask at the same time; one dialog is enough.
let asking = null, declined = false;

async function authorized(path, options, headers) {
  for (;;) {
    const token = sessionStorage.getItem(KEY);
    const response = await call(path, {...options, headers: token ? {...headers, authorization: `Bearer ${token}`} : headers});
    if (response.status !== 401) return response;
    if (token !== sessionStorage.getItem(KEY)) continue;
    if (!declined) asking ??= askToken(Boolean(token));
    const given = declined ? null : await asking;
    asking = null;
    if (given === null) {
      declined = true;
      throw new ApiError(401, "a token is needed; reload the page to enter one");
    }
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

async function askToken(again) {
  const {oidc} = await signedIn().catch(() => ({oidc: false}));
  return dialog(oidc ? "Sign in" : "Token", end => {
    const input = h("input", {type: "password", id: "token", autocomplete: "off", autofocus: !oidc, required: true});
    const done = event => { event.preventDefault(); if (input.value) end(input.value); };
    const door = oidc && h("div", {class: "row"}, h("button", {class: "main", type: "button", autofocus: true, onclick: signIn}, "Sign in"));
    return [door, h("form", {onsubmit: done},
      h("p", {}, again ? "That token is not the right one." : "This console needs a token: unlost token create NAME --rights read,publish,operate"),
      h("label", {for: "token"}, "Token"), input,
      h("div", {class: "row"}, h("button", {class: "main", type: "submit"}, "Go on")))];
  });
}
