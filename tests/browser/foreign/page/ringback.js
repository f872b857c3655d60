/** Our own client on somebody else's page. */

import { Phone } from '../../../../web/ringback.js';
import { awaitSound, became, newCall, note, phone, register } from './phone.js';

const calls = [];
let ours;

phone.start = async ({ door, token, options }) => {
  ours = new Phone({ url: door, token, ...options });
  ours.on('state', (state) => note('phone', state));
  ours.on('error', (error) => note('error', `${error.code}: ${error.text}`));
  ours.on('resumed', (call) => take(call, newCall(call.direction, call.remote.number)));
  await ours.start();
  await ours.warmUp();
  register('registered');
};

const { measureEcho } = phone;
phone.measureEcho = async () => {
  await measureEcho();
  await ours.audio.useInput(null); // the one that is warm is another
};

/** What a page does when the pointer comes near its button. */
phone.prepare = () => ours.warmUp();

phone.call = async (target) => {
  const seen = newCall('out', target); // before the call itself, as its first events are wanted
  take(await ours.call(target), seen);
};

function take(call, seen) {
  calls.push(call);
  call.on('state', (state) => became(seen, state));
  call.on('end', (end) => became(seen, 'ended', end.cause));
  became(seen, call.state);
  phone.timings = call.timings;
  const watch = (track) => awaitSound(track);
  call.remoteStream.getAudioTracks().forEach(watch);
  call.remoteStream.addEventListener('addtrack', ({ track }) => watch(track));
}

phone.hangup = (n) => calls[n].hangup();
phone.digits = (n, digits) => calls[n].digits(digits);
phone.hold = (n, on) => calls[n].hold(on);
phone.stop = () => ours.stop();
