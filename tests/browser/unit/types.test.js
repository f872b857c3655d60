/** The types say what the client does, and the examples are right by them: tsc --strict. */

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import '../lib/stand-ins.js';
import * as client from '../../../web/client/index.js';

const HERE = fileURLToPath(new URL('../', import.meta.url));

test('a page of TypeScript, the types themselves and the React hook hold under tsc --strict', { timeout: 120_000 }, async () => {
  const { stdout } = await promisify(execFile)(`${HERE}node_modules/.bin/tsc`, ['--project', `${HERE}client/tsconfig.json`])
    .catch((error) => ({ stdout: error.stdout || String(error) }));
  assert.equal(stdout, '');
});

test('what the types name is there', () => {
  assert.deepEqual(Object.keys(client).sort(), ['Call', 'Phone', 'PhoneError']);
  const members = {
    Phone: ['state', 'user', 'calls', 'start', 'warmUp', 'call', 'check', 'renew', 'stop', 'on'],
    Call: ['state', 'muted', 'held', 'heldByThem', 'quality', 'warnings', 'ended', 'remoteStream', 'peerConnection', 'accept', 'reject', 'ignore', 'hangup', 'mute', 'hold', 'transfer', 'digits', 'stats', 'feedback', 'on'],
  };
  for (const [name, list] of Object.entries(members)) {
    for (const member of list) assert.ok(member in client[name].prototype, `${name}.${member}`);
  }
  const { audio } = new client.Phone({ url: 'wss://gw.example/phone' });
  for (const member of ['inputs', 'outputs', 'input', 'output', 'ringer', 'useInput', 'useOutput', 'useRinger', 'volume', 'unlock', 'testInput', 'play']) assert.ok(member in audio, `audio.${member}`);
});
