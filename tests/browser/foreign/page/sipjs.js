/** SIP.js, by its SessionManager. */

import { SessionState, Web } from 'sip.js';
import { became, newCall, note, phone, register, speaker } from './phone.js';

const sessions = [];
let manager;
let inviting;

phone.start = async ({ socket, uri, user, password, token, earlyMedia = false }) => {
  const extraHeaders = token ? [`Authorization: Bearer ${token}`] : [];
  inviting = { extraHeaders, earlyMedia };
  manager = new Web.SessionManager(socket, {
    aor: uri,
    maxSimultaneousSessions: 4,
    media: { constraints: { audio: true, video: false }, remote: { audio: speaker } },
    registererOptions: { expires: 120, extraHeaders },
    userAgentOptions: {
      authorizationUsername: user,
      authorizationPassword: password,
      logBuiltinEnabled: false,
      logConnector: (level, category, label, content) => { if (level === 'warn' || level === 'error') note(level, content); },
      sessionDescriptionHandlerFactoryOptions: { peerConnectionConfiguration: { iceServers: [] } },
    },
    delegate: {
      onRegistered: () => register('registered'),
      onUnregistered: () => register('none'),
      onServerDisconnect: (error) => note('disconnected', error),
      onCallCreated: (session) => { if (!sessions.includes(session)) take(session, 'out'); },
      onCallReceived: (session) => became(sessions.includes(session) ? callOf(session) : take(session, 'in'), 'incoming'),
      onCallHold: (session, held) => { callOf(session).held = held; },
      onCallDTMFReceived: (session, tone) => { callOf(session).digits += tone; },
    },
  });
  await manager.connect();
  await manager.register({ requestDelegate: { onReject: ({ message }) => register('failed', message.statusCode) } });
};

const callOf = (session) => phone.calls[sessions.indexOf(session)];

function take(session, direction) {
  sessions.push(session);
  const call = newCall(direction, session.remoteIdentity.uri.user);
  call.name = session.remoteIdentity.displayName;
  session.stateChange.addListener((state) => {
    if (state === SessionState.Established) became(call, 'active');
    if (state === SessionState.Terminated) became(call, 'ended', call.cause ?? undefined);
  });
  return call;
}

phone.call = async (target) => {
  await manager.call(target, inviting, {
    requestDelegate: {
      onProgress: ({ message }) => became(phone.calls.at(-1), message.body ? 'early' : 'ringing'),
      onReject: ({ message }) => { phone.calls.at(-1).cause = `remote: ${message.statusCode}`; },
    },
  });
};
phone.answer = (n) => manager.answer(sessions[n]);
phone.hangup = (n) => manager.hangup(sessions[n]);
phone.decline = (n) => sessions[n].reject({ statusCode: 603 });
phone.hold = (n, on) => (on ? manager.hold(sessions[n]) : manager.unhold(sessions[n]));
/** Its INFOs wait for each other; of telephone-events, the next digit would take the place of the one that is being sent. */
phone.digits = async (n, digits, how) => {
  if (how === 'rfc4733') return sessions[n].sessionDescriptionHandler.sendDtmf(digits, { duration: 120, interToneGap: 100 });
  for (const digit of digits) await manager.sendDTMF(sessions[n], digit);
};
phone.transfer = (n, target, other) => {
  const call = phone.calls[n];
  const said = ({ request }) => {
    const code = Number(/^SIP\/2\.0 (\d+)/.exec(request.body)?.[1]);
    call.transfer = code < 200 ? 'progress' : code < 300 ? 'accepted' : `failed: ${code}`;
  };
  return manager.transfer(sessions[n], other === undefined ? target : sessions[other], {
    requestDelegate: { onAccept: () => note('REFER taken'), onReject: ({ message }) => { call.transfer = `refused: ${message.statusCode}`; } },
    onNotify: (notification) => { notification.accept(); said(notification); },
  });
};
phone.stop = async () => { await manager.unregister(); await manager.disconnect(); };
