/** Everything that a call needs, tried without calling anybody. */

import { openMicrophone, stopStream, unsupported } from './microphone.js';
import { PhoneError, warning } from './texts.js';

const SECONDS = 4;
/** Worse than this there will be something to complain of. */
const LIMITS = [['lossPct', 2, 'high-loss'], ['jitterMs', 40, 'high-jitter'], ['rttMs', 300, 'high-delay']];
const LEAST_MOS = 3.6;
/** The gateway has no probe, or none for us at present: nothing is known of the sound, and nothing is wrong. */
const UNTRIED = new Set(['wrong-state', 'too-often']);

const mean = (values) => (values.length > 0 ? Math.round(100 * values.reduce((sum, value) => sum + value, 0) / values.length) / 100 : undefined);

export async function preflight(Phone, { seconds = SECONDS, signal, ...options }) {
  const report = { verdict: 'ready', microphone: 'ok', reasons: [] };
  const blocked = (error) => {
    report.verdict = 'blocked';
    report.reasons.push(warning(error.code, { text: error.text }));
  };
  const never = unsupported();
  if (never) {
    blocked(new PhoneError(never));
    return { ...report, microphone: never };
  }
  const phone = new Phone({ ...options, keepCalls: false, guardPage: false, sounds: { ring: null, busy: null, end: null, dtmf: null } });
  let microphone;
  try {
    microphone = await openMicrophone(options.audio ?? true).catch((error) => {
      report.microphone = error.code;
      blocked(error);
    });
    await reach(phone, report);
    // Without a microphone the way is tried all the same, with silence.
    const stream = microphone ?? phone.audio._context().createMediaStreamDestination().stream;
    await probe(phone, stream, { seconds, signal, report });
    judge(report);
  } catch (error) {
    signal?.throwIfAborted();
    blocked(error instanceof PhoneError ? error : new PhoneError('failed', { detail: error }));
  } finally {
    stopStream(microphone);
    await phone.stop();
  }
  return report;
}

async function reach(phone, report) {
  const began = performance.now();
  await phone.start();
  report.websocketMs = Math.round(performance.now() - began);
}

/** A call with nobody on the other side: how the sound comes over, and which way it takes. */
async function probe(phone, stream, { seconds, signal, report }) {
  const heard = [];
  const call = await phone._place('probe', { remote: { number: '' } }, { audio: stream, signal });
  const ended = new Promise((resolve) => { call.on('end', resolve); });
  const enough = new Promise((resolve) => { call.on('quality', (quality) => heard.push(quality) >= seconds && resolve()); });
  const end = await Promise.race([ended, enough]);
  if (UNTRIED.has(end?.cause)) return;
  await way(call.peerConnection, report);
  call.hangup();
  if (end && heard.length === 0) {
    report.ice = 'none';
    throw new PhoneError(end.cause === 'normal' ? 'media-failed' : end.cause);
  }
  const legs = heard.flatMap(({ down, up }) => [down, up]).filter(Boolean);
  const of = (name) => legs.map((leg) => leg[name]).filter((value) => value !== undefined);
  report.lossPct = mean(of('lossPct'));
  report.jitterMs = mean(of('jitterMs'));
  report.rttMs ??= mean(of('rttMs'));
  report.mos = mean(of('mos'));
}

/** UDP or TCP, straight or over a TURN server. */
async function way(pc, report) {
  const stats = await pc?.getStats?.().catch(() => null);
  const all = [...(stats?.values() ?? [])];
  const pair = all.find(({ type, state, nominated, selected }) => type === 'candidate-pair' && (selected || nominated && state === 'succeeded'));
  const local = pair && stats.get(pair.localCandidateId);
  if (!local) return;
  report.turn = local.candidateType === 'relay';
  report.ice = (local.relayProtocol ?? local.protocol) === 'udp' ? 'udp' : 'tcp';
  if (pair.currentRoundTripTime !== undefined) report.rttMs = Math.round(1000 * pair.currentRoundTripTime);
}

function judge(report) {
  for (const [name, limit, code] of LIMITS) {
    if (report[name] > limit) report.reasons.push(warning(code, { value: report[name], limit }));
  }
  if (report.mos < LEAST_MOS && report.reasons.length === 0) report.reasons.push(warning('low-quality', { value: report.mos, limit: LEAST_MOS }));
  if (report.verdict === 'ready' && report.reasons.length > 0) report.verdict = 'degraded';
}
