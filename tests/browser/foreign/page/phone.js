/** What the tests see and do of a library's phone: each library fills in the methods, and tells here what it was told. */

export const phone = {
  /** `none`, `registered`, or `failed` with a reason. */
  registration: 'none',
  /** Of each call, in the order they began: { state, cause, direction, remote, held, digits, transfer }. */
  calls: [],
  /** Everything the library told, for a failed test's message. */
  events: [],
};
globalThis.foreign = phone;

const speaker = document.querySelector('audio');

/** A remote track must play in a media element, or nothing of it can be recorded. */
export function play(track) { speaker.srcObject = new MediaStream([track]); }
export { speaker };

export function note(event, detail = '') { phone.events.push(`${Math.round(performance.now())} ${event} ${detail}`); }

export function newCall(direction, remote) {
  const call = { direction, remote, state: 'new', cause: null, held: false, heldByThem: false, digits: '', transfer: null };
  phone.calls.push(call);
  note(`call ${phone.calls.length - 1}`, `${direction} ${remote}`);
  return call;
}

export function register(outcome, reason) {
  phone.registration = reason ? `${outcome}: ${reason}` : outcome;
  note('registration', phone.registration);
}

export function became(call, state, cause) {
  note(`call ${phone.calls.indexOf(call)}`, `${state} ${cause ?? ''}`);
  if (call.state === 'ended') return;
  call.state = state;
  if (cause !== undefined) call.cause = cause;
}
