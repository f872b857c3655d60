/** sipML5: the library itself is a plain script, `SIPml`. */

import { became, newCall, note, phone, register, speaker } from './phone.js';

const { SIPml } = globalThis;
const sessions = [];
let stack;
let registration;

phone.start = ({ socket, uri, user, password, realm }) => {
  SIPml.setDebugLevel('error');
  SIPml.init(() => {
    stack = new SIPml.Stack({
      realm, impi: user, impu: uri, password, websocket_proxy_url: socket,
      ice_servers: [], // or it asks STUN servers on the Internet
      enable_rtcweb_breaker: false,
      events_listener: { events: '*', listener: onStack },
    });
    stack.start();
  }, ({ description }) => register('failed', description));
};

function onStack(event) {
  note('stack', `${event.type} ${event.description}`);
  if (event.type === 'started') {
    registration = stack.newSession('register', { expires: 120, events_listener: { events: '*', listener: onRegistration } });
    registration.register();
  }
  if (event.type === 'failed_to_start') register('failed', event.description);
  if (event.type === 'i_new_call') {
    const call = take(event.newSession, 'in', event.newSession.getRemoteUri());
    call.name = event.newSession.getRemoteFriendlyName();
    became(call, 'incoming');
  }
}

function onRegistration(event) {
  if (event.type === 'connected') register('registered');
  if (event.type === 'terminated' && phone.registration !== 'registered') register('failed', event.description);
}

function take(session, direction, remote) {
  const call = newCall(direction, remote);
  sessions.push(session);
  session.setConfiguration({ audio_remote: speaker, events_listener: { events: '*', listener: (event) => onCall(call, event) } });
  return call;
}


function onCall(call, event) {
  const code = event.getSipResponseCode?.();
  note('session', `${event.type} ${code} ${event.description}`);
  if (event.type === 'i_ao_request' && code >= 180 && code < 200 && call.state !== 'early') became(call, 'ringing');
  if (event.type === 'm_early_media') became(call, 'early');
  if (event.type === 'connected') became(call, 'active');
  if (event.type === 'terminated') became(call, 'ended', code >= 300 ? `remote: ${code}` : event.description);
  if (event.type === 'm_local_hold_ok') call.held = true;
  if (event.type === 'm_local_resume_ok') call.held = false;
  if (event.type === 'o_ect_trying') call.transfer = 'trying';
  if (event.type === 'o_ect_notify') call.transfer = code < 200 ? 'progress' : code < 300 ? 'accepted' : `failed: ${code}`;
  if (event.type === 'o_ect_failed') call.transfer = `refused: ${code}`;
}

phone.call = (target) => {
  const session = stack.newSession('call-audio');
  take(session, 'out', target);
  session.call(target);
};
phone.answer = (n) => { sessions[n].accept(); };
phone.hangup = (n) => { sessions[n].hangup(); };
phone.decline = (n) => { sessions[n].reject(); };
phone.hold = (n, on) => { if (on) sessions[n].hold(); else sessions[n].resume(); };
phone.digits = (n, digits) => { for (const digit of digits) sessions[n].dtmf(digit); };
phone.transfer = (n, target) => { sessions[n].transfer(target); };
phone.stop = () => { stack.stop(); };
