/** JsSIP, used as its documentation shows. */

import JsSIP from 'jssip';
import { awaitSound, became, newCall, note, phone, play, register } from './phone.js';

const MEDIA = { mediaConstraints: { audio: true, video: false }, pcConfig: { iceServers: [] } };
const sessions = [];
let ua;

phone.start = ({ socket, uri, password, token, jssip }) => {
  const credentials = token ? { authorization_jwt: `Bearer ${token}` } : { password };
  ua = new JsSIP.UA({ sockets: [new JsSIP.WebSocketInterface(socket)], uri, register_expires: 120, ...credentials, ...jssip });
  ua.on('registered', () => register('registered'));
  ua.on('unregistered', () => register('none'));
  ua.on('registrationFailed', ({ cause, response }) => register('failed', response?.status_code ?? cause));
  ua.on('disconnected', () => note('disconnected'));
  ua.on('newRTCSession', ({ session, originator }) => take(session, originator === 'local' ? 'out' : 'in'));
  ua.start();
};

function take(session, direction) {
  const call = newCall(direction, session.remote_identity.uri.user);
  call.name = session.remote_identity.display_name;
  sessions.push(session);
  session.on('peerconnection', ({ peerconnection }) => hear(peerconnection));
  session.on('progress', ({ response }) => became(call, direction === 'in' ? 'incoming' : response.body ? 'early' : 'ringing'));
  session.on('confirmed', () => became(call, 'active'));
  session.on('ended', ({ originator, cause }) => became(call, 'ended', `${originator}: ${cause}`));
  session.on('failed', ({ originator, cause, message }) => became(call, 'ended', `${originator}: ${message?.status_code ?? cause}`));
  session.on('hold', ({ originator }) => { call[originator === 'local' ? 'held' : 'heldByThem'] = true; });
  session.on('unhold', ({ originator }) => { call[originator === 'local' ? 'held' : 'heldByThem'] = false; });
  session.on('newDTMF', ({ originator, dtmf }) => { if (originator === 'remote') call.digits += dtmf.tone; });
  session.on('peerconnection:setremotedescriptionfailed', (error) => note('setRemoteDescription failed', error));
  if (session.connection) hear(session.connection);
}

function hear(connection) {
  connection.addEventListener('track', ({ track }) => {
    play(track);
    awaitSound(track);
  });
}

phone.call = (target) => { ua.call(target, MEDIA); };
phone.answer = (n) => sessions[n].answer(MEDIA);
phone.hangup = (n) => sessions[n].terminate();
phone.decline = (n) => sessions[n].terminate({ status_code: 603 });
phone.hold = (n, on) => new Promise((resolve, reject) => {
  const asked = on ? sessions[n].hold({}, resolve) : sessions[n].unhold({}, resolve);
  if (!asked) reject(new Error('JsSIP may not hold now'));
});
phone.digits = (n, digits, how) => sessions[n].sendDTMF(digits, { transportType: how === 'info' ? 'INFO' : 'RFC2833', duration: 120, interToneGap: 100 });
phone.transfer = (n, target, other) => {
  const call = phone.calls[n];
  const eventHandlers = {
    requestSucceeded: () => note('REFER taken'),
    requestFailed: ({ cause }) => { call.transfer = `refused: ${cause}`; },
    trying: () => { call.transfer = 'trying'; },
    progress: () => { call.transfer = 'progress'; },
    accepted: () => { call.transfer = 'accepted'; },
    failed: ({ status_line: { status_code: code } }) => { call.transfer = `failed: ${code}`; },
  };
  sessions[n].refer(target, { eventHandlers, ...(other === undefined ? {} : { replaces: sessions[other] }) });
};
phone.restart = (n) => new Promise((resolve) => sessions[n].renegotiate({ rtcOfferConstraints: { iceRestart: true } }, resolve));
phone.stop = () => ua.stop();
