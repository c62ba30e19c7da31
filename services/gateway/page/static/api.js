// Requests to the server: every failure becomes one sentence that a doctor understands.

const TIMEOUT_MS = 15_000;
const RETRIES_MS = [1_000, 3_000];

let key = null; // in memory only: closing the tab ends the session
let askForKey = async () => null;

/** A request without an answer; `rule` is a stable code, `message` is for the doctor. */
export class Rejection extends Error {
  constructor(message, { status = 0, rule = "", errors = [] } = {}) {
    super(message);
    Object.assign(this, { status, rule, errors });
  }
}

/** Return the failure in words for the doctor. An error that is no `Rejection` comes from typed text that cannot be sent. */
export const reasonOf = (error) => (error instanceof Rejection ? error.message : "La página no ha podido enviar algo de lo escrito; revíselo.");

/** Set the function that asks for a key: it takes the reason, and resolves to a key, or null if the doctor enters none. */
export function onKeyNeeded(askForOne) {
  askForKey = askForOne;
}

export const hasKey = () => key !== null;

/** Remembers the last submitted content, so that a repetition carries the same `Idempotency-Key`. */
export class Submission {
  #content = null;
  #key = "";

  /** Return the `Idempotency-Key` of `content`: a new one unless the content was the last submitted. */
  key(content) {
    if (content !== this.#content) {
      const bytes = crypto.getRandomValues(new Uint8Array(16)); // crypto.randomUUID is missing on plain HTTP
      this.#content = content;
      this.#key = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
    }
    return this.#key;
  }

  /** Forget the last content: the same content is then another submission. */
  forget() {
    this.#content = null;
  }
}

export const get = (path) => call(path, { method: "GET" }, RETRIES_MS);

/** Send `body`. Only a request that the server recognises when it is repeated may be `repeatable`. */
export function post(path, body, { headers = {}, repeatable = false, waiting } = {}) {
  const request = { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json", ...headers } };
  return call(path, request, repeatable ? RETRIES_MS : [], waiting);
}

async function call(path, request, waits, waiting = () => {}) {
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await once(path, request);
    } catch (rejection) {
      if ((rejection.status === 401 || rejection.rule === "claves_no_validas") && (await enterKey(rejection.message))) {
        attempt -= 1;
      } else if (attempt < waits.length && [0, 429, 502, 503, 504].includes(rejection.status) && rejection.rule !== "modelo") {
        waiting(rejection.message);
        await new Promise((resolve) => setTimeout(resolve, waits[attempt]));
      } else {
        throw rejection;
      }
    }
  }
}

async function enterKey(reason) {
  const entered = (await askForKey(reason))?.replace(/[^\x21-\x7e]/g, ""); // pasted text may hold characters that no header can carry
  if (entered) key = entered;
  return Boolean(entered);
}

async function once(path, request) {
  const headers = { Accept: "application/json", ...request.headers, ...(key && { Authorization: `Bearer ${key}` }) };
  let response;
  let content = null;
  try {
    response = await fetch(path, { ...request, headers, cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
    content = await response.json();
  } catch (error) {
    if (error.name === "TimeoutError") throw new Rejection("El servidor tarda demasiado en responder.", { rule: "plazo" });
    if (!response) throw new Rejection("No hay conexión con el servidor.", { rule: "sin_conexion" });
  }
  if (response.ok && content !== null) return content;
  const rule = String(content?.type ?? "").split(":").at(-1);
  const message = rule === "sin_clave" ? "Este servicio pide una clave; se la da quien lo administra." : content?.detail;
  throw new Rejection(message ?? "El servidor no está disponible por el momento.", {
    status: response.ok ? 502 : response.status,
    rule,
    errors: content?.errores ?? [],
  });
}
