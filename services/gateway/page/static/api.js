// Asking the server: every failure becomes one sentence that a doctor understands.

const TIMEOUT_MS = 15_000;
const RETRIES_MS = [1_000, 3_000];

let key = null; // in memory only: whoever closes the tab has left
let askForKey = async () => null;

/** A request that was not answered; `rule` is a stable code, `message` is for the doctor. */
export class Refusal extends Error {
  constructor(message, { status = 0, rule = "", errors = [] } = {}) {
    super(message);
    Object.assign(this, { status, rule, errors });
  }
}

/** What went wrong, for the doctor: whatever is not a refusal comes from something typed that the page cannot send. */
export const reasonOf = (error) => (error instanceof Refusal ? error.message : "La página no ha podido enviar algo de lo escrito; revíselo.");

/** Set who asks for a key: given the reason, resolves to a key, or null if the doctor will not give one. */
export function onKeyNeeded(ask) {
  askForKey = ask;
}

export const hasKey = () => key !== null;

/** Remembers what was last submitted, so that the same, sent again for whatever reason, carries the same key. */
export class Submission {
  #content = null;
  #key = "";

  /** Give the `Idempotency-Key` of `content`: a new one unless it is what was submitted last. */
  key(content) {
    if (content !== this.#content) {
      const bytes = crypto.getRandomValues(new Uint8Array(16)); // crypto.randomUUID is missing on plain HTTP
      this.#content = content;
      this.#key = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
    }
    return this.#key;
  }

  /** Begin anew: even the same content is another submission. */
  forget() {
    this.#content = null;
  }
}

export const get = (path) => call(path, { method: "GET" }, RETRIES_MS);

/** Send `body`. Only what the server recognises when it comes again may be `repeatable`. */
export function post(path, body, { headers = {}, repeatable = false, waiting } = {}) {
  const request = { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json", ...headers } };
  return call(path, request, repeatable ? RETRIES_MS : [], waiting);
}

async function call(path, request, waits, waiting = () => {}) {
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await once(path, request);
    } catch (refusal) {
      if (refusal.status === 401 && (await enterKey(refusal.message))) {
        attempt -= 1;
      } else if (attempt < waits.length && [0, 429, 502, 503, 504].includes(refusal.status) && refusal.rule !== "modelo") {
        waiting(refusal.message);
        await new Promise((resolve) => setTimeout(resolve, waits[attempt]));
      } else {
        throw refusal;
      }
    }
  }
}

async function enterKey(reason) {
  const given = (await askForKey(reason))?.replace(/[^\x21-\x7e]/g, ""); // what is pasted brings signs that no header can carry
  if (given) key = given;
  return Boolean(given);
}

async function once(path, request) {
  const headers = { Accept: "application/json", ...request.headers, ...(key && { Authorization: `Bearer ${key}` }) };
  let response;
  let content = null;
  try {
    response = await fetch(path, { ...request, headers, cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
    content = await response.json();
  } catch (error) {
    if (error.name === "TimeoutError") throw new Refusal("El servidor tarda demasiado en responder.", { rule: "plazo" });
    if (!response) throw new Refusal("No hay conexión con el servidor.", { rule: "sin_conexion" });
  }
  if (response.ok && content !== null) return content;
  const rule = String(content?.type ?? "").split(":").at(-1);
  const message = rule === "sin_clave" ? "Este servicio pide una clave; se la da quien lo administra." : content?.detail;
  throw new Refusal(message ?? "El servidor no está disponible por el momento.", {
    status: response.ok ? 502 : response.status,
    rule,
    errors: content?.errores ?? [],
  });
}
