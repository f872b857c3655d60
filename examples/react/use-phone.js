// A React hook: `const { state, call, waiting, incoming, dial, answer, decline, talk } = usePhone({ url, token });`
// One call is talked in (`call`), the others wait on hold until `talk(call)`.

import { useCallback, useEffect, useRef, useState } from 'react';
import { Phone } from '../../web/ringback.js'; // in a project of your own: from 'ringback'

/** @typedef {import('../../web/ringback.js').Call} Call */

/** @param {import('../../web/ringback.js').PhoneOptions} options of the phone; a new phone is made when the url changes. */
export function usePhone(options) {
  const phone = useRef(/** @type {Phone | null} */ (null));
  const latest = useRef(options);
  latest.current = options;
  const front = useRef(/** @type {Call | null} */ (null));
  const [state, setState] = useState(/** @type {import('../../web/ringback.js').PhoneState} */ ('offline'));
  const [incoming, setIncoming] = useState(/** @type {Call | null} */ (null));
  const [problem, setProblem] = useState(/** @type {import('../../web/ringback.js').PhoneError | null} */ (null));
  const [, count] = useState(0);
  const draw = useCallback(() => count((n) => n + 1), []);

  /** What changes in a call is drawn. */
  const watch = useCallback((/** @type {Call} */ watched) => {
    for (const event of /** @type {const} */ (['state', 'mute', 'hold', 'quality', 'warning', 'cleared'])) watched.on(event, draw);
    watched.on('end', () => {
      if (front.current === watched) front.current = phone.current?.calls.find((other) => other.answeredAt !== undefined) ?? null;
      setIncoming((present) => (present === watched ? null : present));
      draw();
    });
  }, [draw]);

  useEffect(() => {
    const made = new Phone(latest.current);
    phone.current = made;
    made.on('state', setState);
    made.on('error', setProblem);
    made.on('incoming', (arrived) => {
      watch(arrived);
      setIncoming(arrived);
    });
    made.on('resumed', (back) => {
      watch(back);
      if (!front.current || front.current.held) front.current = back;
      draw();
    });
    made.start().catch(() => {}); // told by the error event, and tried again
    return () => {
      front.current = null;
      made.stop();
    };
  }, [options.url, watch, draw]);

  /** The present call waits: two are not talked in at once. */
  const park = useCallback(async () => {
    const present = front.current;
    if (!present || present.ended || present.held) return;
    if (present.answeredAt === undefined) present.hangup(); // one that nobody has taken yet is given up
    else await present.hold();
  }, []);

  /** Talks in a call that waits. */
  const talk = useCallback(async (/** @type {Call} */ next) => {
    if (next !== front.current) await park();
    front.current = next;
    draw();
    if (next.held) await next.hold(false);
  }, [park, draw]);

  const dial = useCallback(async (/** @type {string} */ number) => {
    setProblem(null);
    await park();
    const placed = await phone.current?.call(number);
    if (!placed) return;
    watch(placed);
    front.current = placed;
    draw();
  }, [park, watch, draw]);

  const answer = useCallback(async () => {
    if (!incoming) return;
    await park();
    setIncoming(null);
    front.current = incoming;
    await incoming.accept();
  }, [incoming, park]);

  const decline = useCallback(() => incoming?.reject(), [incoming]);

  const call = front.current;
  const waiting = phone.current?.calls.filter((other) => other !== call && other.answeredAt !== undefined) ?? [];
  return { state, call, waiting, incoming, problem, dial, answer, decline, talk };
}
