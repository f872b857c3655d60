/**
 * Who is calling, in this order: a token from the page (`window.ringbackToken`, a function), from `#token=` (which no server
 * is told) or `?token=` (both taken out of the address bar, kept for this tab), or, where the gateway is open, the name in
 * `?user=` or a guest's name of this tab.
 */

const TOKEN_KEY = 'ringback.token';
const USER_KEY = 'ringback.user';

/** The gateway that served this page. */
export function phoneUrl() {
  const url = new URL('phone', location.href);
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  url.search = '';
  url.hash = '';
  return url.href;
}

/** `{ token }` or `{ user }`, as a Phone takes them. */
export function identity() {
  const parameters = new URLSearchParams(location.search);
  const fragment = new URLSearchParams(location.hash.slice(1));
  const given = fragment.get('token') ?? parameters.get('token');
  if (given !== null) {
    const hash = fragment.has('token') ? '' : location.hash;
    parameters.delete('token');
    const rest = parameters.toString();
    // First out of sight: a store that is full must not leave it in the address bar.
    history.replaceState(null, '', location.pathname + (rest && `?${rest}`) + hash);
    sessionStorage.setItem(TOKEN_KEY, given);
  }
  // Another link to this page, in the same tab, loads nothing anew where only what is after the # differs.
  addEventListener('hashchange', () => { if (location.hash.startsWith('#token=')) location.reload(); });
  if (typeof globalThis.ringbackToken === 'function') return { token: globalThis.ringbackToken };
  const token = sessionStorage.getItem(TOKEN_KEY);
  if (token) return { token };
  return { user: parameters.get('user') || guest() };
}

/** A token that was refused is not tried again at the next load. */
export function forgetToken() {
  sessionStorage.removeItem(TOKEN_KEY);
}

function guest() {
  let name = sessionStorage.getItem(USER_KEY);
  if (!name) {
    name = `guest-${crypto.getRandomValues(new Uint16Array(1))[0].toString(16).padStart(4, '0')}`;
    sessionStorage.setItem(USER_KEY, name);
  }
  return name;
}
