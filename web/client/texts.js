/** What can go wrong, why, and what helps: in words fit to be shown. Short ones, as every page loads them. */

const OTHER_NETWORK = 'Try without the VPN, or another network.';
const OPEN_UDP = 'Allow UDP to the gateway’s media port, or try another network.';
const ADVERTISE = 'Set `advertise` under [media] to an address that browsers can reach.';
const UDP_BLOCKED = 'A firewall, VPN or proxy blocks UDP.';
const ASK_THEM = 'Ask them to try another network.';
const TELL_PROVIDER = 'Send the call id to the provider.';
const TELL_OPERATOR = 'Send the call id to the person who runs the gateway.';
const CALL_AGAIN = 'Call again.';
const IN_A_MINUTE = 'Try again in a minute.';
const LATER = 'Try again later.';
const RELOAD = 'Reload the page and call again.';
const RESTARTED = 'It is being restarted.';
const NETWORK_FAILED = 'The network changed or failed.';
const BUSY_LINE = 'The network is busy, or its signal weak.';
const BETTER_LINE = 'Use a cable, or move closer.';
const LESS_LOAD = 'Stop downloads and videos.';
const COMPARE_CODECS = 'Compare `codecs` of the trunk with what the provider supports.';

/** code -> [what happened, causes, remedies]: codes of our own, and those of the gateway (docs/browser-protocol.md). */
export const HELP = {
  // the browser
  'unsupported': ['This browser cannot make calls.', ['It has no WebRTC.'], ['Use a current browser.']],
  'insecure-page': ['The microphone is out of reach on this page.', ['It is not of https or localhost.'], ['Open the page with https://.']],
  'microphone-denied': ['The browser was not allowed to use the microphone.', ['You or the system blocked it.', 'The page is in a frame without allow="microphone".'], ['Click the icon left of the address and allow the microphone.', 'Look under Privacy in the system’s settings.']],
  'microphone-dismissed': ['The question for the microphone was not answered.', [], ['Call again and allow it.']],
  'microphone-missing': ['No microphone was found.', ['None is plugged in.'], ['Plug one in.']],
  'microphone-busy': ['The microphone could not be opened.', ['Another program is using it.'], ['Close that program, or choose another microphone.']],
  'microphone-failed': ['The microphone could not be opened.', [], ['Restart the browser.']],
  'microphone-unplugged': ['The microphone went away during the call.', ['It was unplugged, switched off or forbidden.'], ['Plug it in, or choose another microphone.']],
  'output-failed': ['The sound cannot be played there.', ['It was unplugged, or this browser cannot choose one.'], ['Choose another loudspeaker.']],
  'sound-blocked': ['The browser plays nothing before a click or a key.', [], ['Click anywhere on the page.']],
  // the way to the gateway
  'unreachable': ['The gateway does not answer.', ['It is not running, or its address is wrong.', 'A proxy or firewall blocks WebSocket connections.', 'The page’s origin is not on the gateway’s list.'], ['Check its address and its log.']],
  'connection-lost': ['The connection to the gateway was lost.', [NETWORK_FAILED, 'The gateway was stopped.'], ['Check the network.']],
  'taken-over': ['This phone went on in another window.', ['The page was opened again.'], ['Go on there, or reload.']],
  'unauthorized': ['The gateway refused the sign-in.', ['The token is missing, over or signed with another key.'], ['Sign in again for a new token.', 'Compare the key under [auth] with the one that signs.']],
  'token-unavailable': ['The page could not get a token.', ['Its server did not answer or refused.'], ['Sign in again.']],
  'draining': ['The gateway is shutting down.', [RESTARTED], [IN_A_MINUTE]],
  'media-failed': ['No sound path to the gateway could be made.', [UDP_BLOCKED, 'The gateway announces an address that is not reached from here.'], [OPEN_UDP, ADVERTISE]],
  // what the gateway or this page refuses
  'bad-message': ['The gateway did not understand the page.', ['They are of different versions.'], ['Reload the page without the cache.']],
  'bad-sdp': ['The gateway cannot use what this browser offers.', ['It has no codec that the gateway has.'], ['Use a current browser.']],
  'forbidden': ['The gateway does not allow that.', ['You have too many sessions.'], ['Close other windows of this phone.']],
  'too-often': ['Too many requests.', [], ['Wait a moment.']],
  'not-answered': ['The call is not answered.', [], ['Wait until it is answered.']],
  'bad-digits': ['Digits are 0-9, *, #, A-D and w.', [], []],
  // why there is no sound (`no-audio`: its cause, and whose leg it is)
  'no-ice-us': ['Nothing gets through between this browser and the gateway.', [UDP_BLOCKED, 'The gateway announces an address that is not reached from here.'], [OPEN_UDP, ADVERTISE]],
  'no-ice-them': ['Nothing gets through between the other browser and the gateway.', [UDP_BLOCKED], [ASK_THEM]],
  'no-dtls-us': ['The encryption between this browser and the gateway fails.', ['A VPN loses large packets.'], [OTHER_NETWORK]],
  'no-dtls-them': ['The encryption between the other browser and the gateway fails.', ['A VPN loses large packets.'], [ASK_THEM]],
  'no-rtp-us': ['They cannot hear you: nothing arrives from this browser.', [NETWORK_FAILED, 'The browser has stopped recording.'], ['Check the network.', RELOAD]],
  'no-rtp-them': ['You cannot hear them: nothing arrives from their side.', ['A firewall blocks UDP from the telephone network.', 'The gateway announces an address that is not reached from there.'], ['Open `rtp_ports` under [media] for UDP.', 'Set `rtp_advertise` under [media] to an address that the trunk can reach.']],
  'wrong-payload-type-us': ['They cannot hear you: this browser sends another coding than was agreed.', ['The page or an extension changes it.'], [RELOAD]],
  'wrong-payload-type-them': ['You cannot hear them: their side sends another coding than was agreed.', ['A fault of the telephone network.'], [COMPARE_CODECS, TELL_PROVIDER]],
  'stranger-us': ['They cannot hear you: your sound comes from another address than was agreed.', [NETWORK_FAILED], [CALL_AGAIN]],
  'stranger-them': ['You cannot hear them: their sound comes from another address than was agreed.', ['The provider sends from other addresses.'], ['Add the network of its media servers to `media_sources` of the trunk.']],
  'not-authentic-us': ['They cannot hear you: your sound is under another key than was agreed.', ['Something on the way changes the packets.'], [CALL_AGAIN]],
  'not-authentic-them': ['You cannot hear them: their sound is under another key than was agreed.', ['A fault of the telephone network.'], ['Compare `srtp` of the trunk with what the provider supports.', TELL_PROVIDER]],
  'silent-us': ['They hear nothing but silence: your microphone gives no sound.', ['It is muted by a switch or in the system’s settings.', 'You speak into another one.'], ['Look for a mute switch, or choose another microphone.']],
  'silent-them': ['You hear nothing but silence: their microphone gives no sound.', ['They are muted, or nobody is there.'], ['Ask them to look for a mute switch.']],
  'held-us': ['They cannot hear you: this browser sends no sound.', ['The page has stopped it.'], [RELOAD]],
  'held-them': ['The other side holds the call.', ['They put you on hold.'], ['Wait until they take it back.']],
  'no-audio': ['There is no sound in one direction.', [], [CALL_AGAIN, TELL_OPERATOR]],
  // how good it is
  'high-loss': ['Sound is getting lost on the way.', [BUSY_LINE], [BETTER_LINE, LESS_LOAD]],
  'high-delay': ['Sound takes long to arrive.', ['The way is long or busy.'], [LESS_LOAD, OTHER_NETWORK]],
  'high-jitter': ['Sound arrives unevenly.', [BUSY_LINE], [BETTER_LINE, LESS_LOAD]],
  'low-quality': ['Calls sound bad here.', [BUSY_LINE], [BETTER_LINE, OTHER_NETWORK]],
  // how calls end (`cause` of `ended`)
  'normal': ['The call has ended.', [], []],
  'answered-elsewhere': ['Answered elsewhere.', [], []],
  'transferred': ['The call was transferred.', [], []],
  'ignored': ['The call was left to ring elsewhere.', [], []],
  'transfer-failed': ['The call could not be transferred.', ['The new party is busy, away or not allowed.'], ['The call goes on: try another number.']],
  'cancelled': ['The call was given up.', [], []],
  'max-duration': ['The longest duration has been reached.', ['The token or the dial plan limits it.'], [CALL_AGAIN]],
  'busy': ['The line is busy.', [], [LATER]],
  'no-answer': ['Nobody answered.', [], [LATER]],
  'declined': ['The call was declined.', [], []],
  'unwanted': ['They do not want such calls.', [], []],
  'blocked': ['The telephone network blocked the call.', ['It took the call for a nuisance.'], ['Ask the provider about the reputation of your number.']],
  'unavailable': ['They cannot be reached just now.', ['Their phone is off or not registered.'], [LATER]],
  'unknown-number': ['This number does not exist.', ['It is mistyped, or no longer in use.'], ['Check the number and its country code.']],
  'number-changed': ['This number has changed.', [], ['Look up the new number.']],
  'invalid-number': ['This number cannot be called.', ['Digits are missing or too many.'], ['Check the number and its country code.']],
  'not-allowed': ['Calls to this number are not allowed.', ['The dial plan or your token excludes it.'], ['`ringback route USER NUMBER` shows the rule.']],
  'caller-id-not-allowed': ['This caller id is not yours.', ['Neither the token nor the dial plan allows it.'], ['Call without choosing a caller id.']],
  'no-common-media': ['The telephone network and the gateway share no codec.', [], [COMPARE_CODECS]],
  'media-lost': ['The sound path broke.', [NETWORK_FAILED, UDP_BLOCKED], ['Check the network.', OPEN_UDP, ADVERTISE]],
  'browser-gone': ['The connection to the gateway was lost.', [NETWORK_FAILED], ['Check the network.', CALL_AGAIN]],
  'trunk-auth-failed': ['The telephone network refused the gateway’s sign-in.', ['User or password are wrong.'], ['Check `user` and `password` of the trunk.']],
  'trunk-unreachable': ['The telephone network does not answer.', ['The trunk is down, or its address is wrong.'], [IN_A_MINUTE, 'Check `address` of the trunk.']],
  'timeout': ['The telephone network does not answer in time.', ['The trunk is down, or its address is wrong.'], [IN_A_MINUTE]],
  'congestion': ['The telephone network has no free line.', [], [IN_A_MINUTE]],
  'network-failure': ['The telephone network has a fault.', [], [IN_A_MINUTE]],
  'refused-by-network': ['The telephone network refused the call.', [], [TELL_OPERATOR]],
  'refused': ['The telephone network refused the call.', ['It asks for payment.'], ['Check the account with the provider.']],
  'loop': ['The call ran in a circle.', ['Two dial plans send it to each other.'], [TELL_OPERATOR]],
  'too-many-calls': ['All lines are taken.', ['The gateway or you have as many as may be.'], [IN_A_MINUTE]],
  'no-resources': ['The gateway has no free media ports.', ['`rtp_ports` under [media] is too small a range.'], [IN_A_MINUTE]],
  'shutdown': ['The gateway was stopped.', [RESTARTED], [IN_A_MINUTE]],
  'gateway-fault': ['The gateway has a fault.', [], [TELL_OPERATOR]],
  'failed': ['The call failed.', [], [LATER, TELL_OPERATOR]],
};

export function help(code) {
  const [text, causes, remedies] = HELP[code] ?? HELP.failed;
  return { text, causes: [...causes], remedies: [...remedies] };
}

/** What a warning says. */
export const warning = (code, more) => ({ code, ...help(code), ...more });

export class PhoneError extends Error {
  constructor(code, { text, fatal = false, detail } = {}) {
    const known = help(code);
    super(text ?? known.text);
    this.name = 'PhoneError';
    this.code = code;
    this.text = this.message;
    this.causes = known.causes;
    this.remedies = known.remedies;
    this.fatal = fatal;
    if (detail !== undefined) this.cause = detail;
  }
}
