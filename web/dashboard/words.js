/** What the gateway says in names and numbers, in words. Pure functions, tested in tests/browser/unit. */

const pad = (n) => String(n).padStart(2, '0');

/** Milliseconds as 0:07, 12:34 or 1:02:03. */
export function clock(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  return h > 0 ? `${h}:${pad(m)}:${pad(s)}` : `${m}:${pad(s)}`;
}

/** A time of day, with its seconds. */
export function time(at) {
  const then = new Date(at);
  return `${pad(then.getHours())}:${pad(then.getMinutes())}:${pad(then.getSeconds())}`;
}

/** Seconds as people say them. */
export function ago(seconds) {
  if (seconds < 90) return `${seconds} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return seconds < 172_800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86_400)} days`;
}

const STATES = {
  fetching: 'the user’s devices ring', asking: 'a web hook is asked', routing: 'begins', calling: 'calling', ringing: 'ringing', answered: 'talking', ending: 'ending',
};
export const stateOf = ({ state }) => STATES[state] ?? state;

/** Who is on a side, in a few words; `undefined` where nobody is. */
export function party(leg) {
  if (!leg) return undefined;
  const { kind, user, trunk, label } = leg;
  if (trunk) return label && label !== trunk ? `${label} by ${trunk}` : trunk;
  return user ? `${user} (${kind})` : label || kind;
}

/** A score's tone, by the classes of ITU-T G.109. */
export function tone(mos) {
  if (mos === undefined || mos === null) return undefined;
  return mos < 3.6 ? 'bad' : mos < 4.03 ? 'warn' : 'good';
}

export const score = (mos) => (mos === undefined || mos === null ? '–' : mos.toFixed(1));

const WRONG = {
  'no-ice': { text: 'Nothing gets through between the browser and the gateway.', help: 'UDP to the media port is blocked, or [media] advertise cannot be reached from there.' },
  'no-dtls': { text: 'The encryption with the browser is not set up.', help: 'Large packets are lost on the way (a VPN, a tunnel), or the certificate is another than announced.' },
  'no-rtp': { text: 'No sound arrives.', browser: 'The browser sends nothing.', help: 'A firewall stands before rtp_ports, or [media] rtp_advertise cannot be reached from the trunk.' },
  'wrong-payload-type': { text: 'Sound arrives in a coding that was not agreed.', browser: 'Something has changed the description on its way.', help: 'The trunk ignores the answer: compare the codecs.' },
  stranger: { text: 'Sound arrives from an address that is not the other side’s.', help: 'The trunk sends from machines that it did not name: add them to media_sources. Or somebody sprays the ports, and the trunk is silent.' },
  'not-authentic': { text: 'The sound is under another key than was agreed.', browser: 'SRTP is damaged on the way.', help: 'The trunk uses another key than its description has.' },
  silent: { text: 'Nothing but silence is sent.', browser: 'Muted in the system, or the wrong microphone.', help: 'Muted, or a line that was opened without anybody there.' },
  held: { text: 'The side neither sends nor takes sound.', browser: 'The page has stopped the sound.', help: 'The answer said inactive, sendonly or 0.0.0.0.' },
};
/** These may be just what the parties want. */
const HARMLESS = new Set(['silent', 'held']);
const SIDES = { a: 'who called', b: 'who was called' };

/**
 * A time without sound, from a call's `no_audio`: `{ text, more, tone }`. `kinds` are those of the parties.
 */
export function verdict({ at, from, leg, cause, ms }, kinds = {}) {
  const wrong = WRONG[cause] ?? { text: cause, help: '' };
  const lasted = ms === undefined || ms === null ? 'and it is so still' : `for ${(ms / 1000).toFixed(1)} s`;
  const why = kinds[leg] === 'browser' ? wrong.browser ?? wrong.help : wrong.help;
  const harmless = HARMLESS.has(cause);
  return {
    text: `${time(at)}: ${SIDES[from] ?? from} was not heard, ${lasted}. ${wrong.text}`,
    more: `On the line of ${SIDES[leg] ?? leg} (${cause}). ${why}`,
    tone: harmless ? 'warn' : 'bad',
  };
}

const BY = { browser: 'by the browser', trunk: 'by the other side', gateway: 'by the gateway', network: 'because something was lost' };

/** Why a call has ended, from its record. */
export function ending({ cause, by, sip, q850, text }) {
  const codes = [sip && `SIP ${sip}`, q850 && `Q.850 ${q850}`].filter(Boolean).join(', ');
  return `${text} (${cause}${codes ? `; ${codes}` : ''}), ${BY[by] ?? by}`;
}

const TROUBLES = { name: 'its name is not found', options: 'no answer to OPTIONS', call: 'a call found nobody', registration: 'it does not take our registration' };

/** What went wrong with a trunk last. */
export function failure({ what, sip, seconds_ago: seconds }) {
  return `${TROUBLES[what] ?? what}${sip ? ` (${sip})` : ''}, ${ago(seconds)} ago`;
}

export function registration(standing) {
  if (!standing) return { text: '–' };
  switch (standing.state) {
    case 'registered': return { text: 'registered', tone: 'good' };
    case 'refused': return { text: `refused (${standing.status})`, tone: 'bad' };
    case 'unreachable': return { text: 'no answer', tone: 'bad' };
    default: return { text: standing.state };
  }
}

/** A trunk takes calls where it is up and its name was found. */
export const takesCalls = ({ up, targets }) => up && targets.length > 0;

/** How much of each limit is used, one row a limit: `{ of, limit, used, most }`. */
export function limitRows(accounts) {
  return accounts.flatMap(({ scope, name, limits }) => limits.map(({ limit, used, most }) => ({ of: [scope, name].filter(Boolean).join(' '), limit: limit.replaceAll('_', ' '), used, most })));
}

/** What is wrong with the gateway, the worst first: `{ tone, text, more }`. */
export function health(status) {
  const found = [];
  const bad = (text, more) => found.push({ tone: 'bad', text, more });
  const warn = (text, more) => found.push({ tone: 'warn', text, more });
  for (const trunk of status.trunks) {
    const why = trunk.last_failure ? `Last: ${failure(trunk.last_failure)}.` : '';
    if (!takesCalls(trunk)) bad(`Trunk ${trunk.name} takes no calls.`, why);
    const { state, status: refusal, again_in_seconds: again } = trunk.registration ?? {};
    if (state === 'refused') bad(`Trunk ${trunk.name} refuses our registration (${refusal}).`, `It is asked again in ${ago(again)}.`);
    if (state === 'unreachable') bad(`Trunk ${trunk.name} does not answer our registration.`, `It is asked again in ${ago(again)}.`);
  }
  const { without_audio: silent } = status.sound;
  if (silent > 0) bad(`${silent === 1 ? 'One call has' : `${silent} calls have`} a side that is not heard.`, 'The call’s page says where the sound ends.');
  for (const place of status.cdr) {
    if (place.failing_since) bad(`Call records are not taken by ${place.sink} since ${time(place.failing_since)}.`, `${place.waiting} wait. ${place.error ?? ''}`);
    if (place.lost > 0) warn(`${place.lost} call records found no room in ${place.sink}.`, 'They stand in the log.');
  }
  if (status.draining) warn('The gateway takes no new calls, and ends with its last one.');
  return found.sort((one, other) => (one.tone === 'bad' ? 0 : 1) - (other.tone === 'bad' ? 0 : 1));
}
