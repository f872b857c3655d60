// A React hook: `const { state, call, incoming, dial, answer, decline } = usePhone({ url, token });`

import { useCallback, useEffect, useRef, useState } from 'react';
import { Phone } from '../../web/ringback.js'; // in a project of your own: from 'ringback'

/** @param {import('../../web/ringback.js').PhoneOptions} options of the phone; a new phone is made when the url changes. */
export function usePhone(options) {
  const phone = useRef(/** @type {Phone | null} */ (null));
  const latest = useRef(options);
  latest.current = options;
  const [state, setState] = useState(/** @type {import('../../web/ringback.js').PhoneState} */ ('offline'));
  const [call, setCall] = useState(/** @type {import('../../web/ringback.js').Call | null} */ (null));
  const [incoming, setIncoming] = useState(/** @type {import('../../web/ringback.js').Call | null} */ (null));
  const [problem, setProblem] = useState(/** @type {import('../../web/ringback.js').PhoneError | null} */ (null));
  const [, redraw] = useState(0);

  /** What changes in a call is drawn. */
  const watch = useCallback((/** @type {import('../../web/ringback.js').Call} */ watched) => {
    const draw = () => redraw((n) => n + 1);
    for (const event of /** @type {const} */ (['state', 'mute', 'hold', 'quality', 'warning', 'cleared'])) watched.on(event, draw);
    watched.on('end', () => {
      setCall((present) => (present === watched ? null : present));
      setIncoming((present) => (present === watched ? null : present));
    });
  }, []);

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
      setCall(back);
    });
    made.start().catch(() => {}); // told by the error event, and tried again
    return () => void made.stop();
  }, [options.url, watch]);

  const dial = useCallback(async (/** @type {string} */ number) => {
    setProblem(null);
    const placed = await phone.current?.call(number);
    if (!placed) return;
    watch(placed);
    setCall(placed);
  }, [watch]);

  const answer = useCallback(async () => {
    if (!incoming) return;
    setIncoming(null);
    setCall(incoming);
    await incoming.accept();
  }, [incoming]);

  const decline = useCallback(() => incoming?.reject(), [incoming]);

  return { state, call, incoming, problem, dial, answer, decline };
}
