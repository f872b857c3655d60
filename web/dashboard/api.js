/** The gateway's answers, by the door that this page came through. */

const KEY = 'ringback.dashboard';

/** The gateway has refused, or does not answer: `status` is 0 then. */
export class Refused extends Error {
  constructor(status, title) {
    super(title);
    this.status = status;
  }
}

/** What opens the gateway: kept as long as this tab. */
export const key = {
  get() { try { return sessionStorage.getItem(KEY) ?? ''; } catch { return this.kept ?? ''; } },
  set(value) {
    this.refused = false;
    this.kept = value;
    try { sessionStorage.setItem(KEY, value); } catch { /* this page remembers it */ }
  },
  /** The gateway does not know it, or no longer; it may well let this page in without. */
  drop() {
    this.set('');
    this.refused = true;
  },
};

async function ask(path, method = 'GET') {
  const headers = key.get() ? { Authorization: `Bearer ${key.get()}` } : {};
  let response;
  try {
    response = await fetch(`../v1/${path}`, { method, headers, cache: 'no-store' });
  } catch {
    throw new Refused(0, 'The gateway does not answer.');
  }
  if (response.status === 401 && key.get()) {
    key.drop();
    return ask(path, method);
  }
  if (response.ok) return response.status === 204 ? null : response.json();
  const problem = await response.json().catch(() => ({}));
  throw new Refused(response.status, problem.title ?? `The gateway answers ${response.status}.`);
}

/** `undefined` for what there is not, or no longer. */
async function ifThere(path) {
  try {
    return await ask(path);
  } catch (error) {
    if (error.status === 404) return undefined;
    throw error;
  }
}

export const status = () => ask('status');
export const calls = () => ask('calls').then(({ calls: all }) => all);
export const limits = () => ask('limits');
export const ended = () => ask('ended');
export const call = (id) => ifThere(`calls/${id}`);
export const record = (id) => ifThere(`calls/${id}/record`);
export const quality = (id) => ifThere(`calls/${id}/quality`);
export const trace = (id, since) => ifThere(`calls/${id}/trace?since=${since}`);
export const hangUp = (id) => ask(`calls/${id}`, 'DELETE');
