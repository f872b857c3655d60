// All of the client, as a page of TypeScript uses it: this is compiled, not run.

import { Call, Phone, PhoneError } from '../../../web/ringback.js';
import type { Check, Ended, Leg, PreflightReport, Quality, Warning } from '../../../web/ringback.js';
import type { RingbackCall } from '../../../web/ringback-call.js';

const phone = new Phone({
  url: 'wss://gw.example/phone', token: async () => 'token', codecs: ['opus', 'PCMU'], audio: { echoCancellation: true },
  sounds: { ring: '/ring.ogg', dtmf: null }, whileBusy: 'reject', guardPage: true, keepCalls: true, log: ({ t, level, text, call }) => console.log(t, level, text, call),
});

export async function everything(): Promise<void> {
  if (Phone.supported !== true) throw new PhoneError('unsupported', { text: Phone.supported });
  const off: () => void = phone.on('state', (state) => console.log(state === 'reconnecting'));
  phone.on('incoming', async (call: Call) => call.direction === 'in' && (await call.accept({ audio: true })));
  phone.on('resumed', ({ remote: { number, name, verified } }) => console.log(number, name, verified === 'A'));
  phone.on('tokenexpiring', (msLeft) => void phone.renew(String(msLeft)));
  phone.on('devices', ({ inputs, outputs }) => console.log(inputs[0]?.label, outputs.length));
  phone.on('error', ({ code, text, causes, remedies, fatal }) => console.log(code, text, causes, remedies, fatal));
  await phone.start();
  await phone.warmUp({ microphone: false });
  const checked: Check = await phone.check('020 7946 0958', { from: 'anonymous' });
  const call = await phone.call(checked.number ?? checked.to, { from: 'anonymous', params: { customer: '4711' }, signal: AbortSignal.timeout(1000) });
  call.on('hold', (who, on) => console.log(who === 'us', on));
  call.on('transfer', (state, sip) => console.log(state === 'done', sip?.toFixed()));
  call.on('level', (heard, said) => console.log(heard - said));
  call.on('quality', ({ grade, down }: Quality) => console.log(grade === 'lost', (down as Leg | undefined)?.rttMs));
  call.on('warning', ({ code, limit }: Warning) => console.log(code, limit));
  call.on('end', ({ by, cause, durationMs }: Ended) => console.log(by, cause, durationMs));
  await call.hold(call.held);
  await call.digits('1w2#', { ms: 100, gap: 100 });
  await call.transfer(phone.calls[0] ?? '603');
  const { sound = 0 }: Call['timings'] = call.timings;
  call.feedback(sound > 100 ? 3 : 5, 'delay');
  const { audio } = phone;
  await audio.useInput(null);
  await audio.useOutput(audio.outputs[0]?.deviceId ?? null);
  const stop = await audio.testInput((db) => console.log(db));
  stop();
  audio.play('dtmf', '5');
  const report: PreflightReport = await Phone.preflight({ url: 'wss://gw.example/phone', seconds: 3 });
  console.log(report.verdict === 'degraded', report.ice);
  const button: RingbackCall | null = document.querySelector('ringback-call');
  button?.addEventListener('ringback-end', ({ detail }) => console.log(detail.cause));
  off();
  // @ts-expect-error: no such event
  phone.on('nothing', () => {});
  // @ts-expect-error: no such score
  call.feedback(6);
  // @ts-expect-error: a call's state is read only
  call.state = 'ended';
}
