/** A page on which a test does what a page's own script would do. */

import { Phone, PhoneError } from '/web/ringback.js';

const bench = { Phone, PhoneError, phone: null, calls: [], told: [], errors: [], sockets: [], levels: [], players: [] };
globalThis.bench = bench;

/** The sockets, so that a test can break them. */
const Original = globalThis.WebSocket;
globalThis.WebSocket = class extends Original {
  constructor(...args) {
    super(...args);
    bench.sockets.push(this);
  }
};

/** What plays, so that a test can see where. */
const { play } = HTMLMediaElement.prototype;
HTMLMediaElement.prototype.play = function () {
  if (!bench.players.includes(this)) bench.players.push(this);
  return play.call(this);
};

/** Everything that a call tells, in order. */
bench.watch = (call) => {
  const n = bench.calls.push(call) - 1;
  for (const event of ['state', 'id', 'ringing', 'accept', 'hold', 'transfer', 'transferred', 'mute', 'digit', 'quality', 'warning', 'cleared', 'end']) {
    call.on(event, (...values) => bench.told.push({ call: n, event, values }));
  }
  call.on('level', (heard, said) => bench.levels.push({ heard, said }));
  return call;
};

/** Everything that a phone tells, in order. */
bench.open = (options) => {
  const phone = bench.phone = new Phone(options);
  for (const event of ['state', 'tokenexpiring', 'devices']) phone.on(event, (...values) => bench.told.push({ event, values }));
  phone.on('error', ({ code, text }) => bench.errors.push({ code, text }));
  for (const event of ['incoming', 'resumed']) {
    phone.on(event, (call) => {
      bench.watch(call);
      bench.told.push({ event });
    });
  }
  return phone;
};

bench.call = async (to, options) => void bench.watch(await bench.phone.call(to, options ?? {}));

/** What a test may see of a call. */
bench.seen = (n = bench.calls.length - 1) => {
  const { id, direction, state, remote, to, params, timings, muted, held, heldByThem, startedAt, answeredAt, quality, warnings, ended } = bench.calls[n] ?? {};
  return { id, direction, state, remote, to, params, timings, muted, held, heldByThem, startedAt, answeredAt, quality, warnings, ended };
};

const saved = sessionStorage.getItem('bench options');
if (saved) bench.open(JSON.parse(saved)).start();
