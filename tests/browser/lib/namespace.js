/**
 * A network of its own for the gateway and the telephone network, linked by cables to the one the tests run in, which
 * must be one that may be changed: tests/browser/run gives network.test.js such a one. Nothing stays when the tests end.
 */

import { execFileSync } from 'node:child_process';
import { Program } from './processes.js';

export const ip = (...words) => execFileSync('ip', words, { stdio: ['ignore', 'pipe', 'pipe'] });

export class Namespace {
  /** `address` is where it is reached, whatever the cable. Here, too, there is nothing before but a loopback that is down. */
  static async make(address) {
    ip('link', 'set', 'lo', 'up');
    const made = new Namespace();
    made.address = address;
    // The namespace lasts as long as a process in it: one that waits for its standard input to end.
    made.keeper = new Program('unshare', ['--net', '--', 'sh', '-c', 'echo ready; cat'], { stdio: ['pipe', 'pipe', 'pipe'] });
    await made.keeper.says(/ready/);
    made.inside('link', 'set', 'lo', 'up');
    made.inside('address', 'add', `${address}/32`, 'dev', 'lo');
    return made;
  }

  /** Words to put before a command that is to run inside. */
  get prefix() { return ['nsenter', '--target', String(this.keeper.child.pid), '--net', '--']; }
  get pid() { return this.keeper.child.pid; }

  inside(...words) {
    const [command, ...rest] = [...this.prefix, 'ip', ...words];
    execFileSync(command, rest, { stdio: ['ignore', 'pipe', 'pipe'] });
  }

  /** A cable `name` between here (10.77.N.2) and there (10.77.N.1). */
  cable(name, n) {
    ip('link', 'add', name, 'type', 'veth', 'peer', 'name', `${name}-far`, 'netns', String(this.pid));
    this.inside('address', 'add', `10.77.${n}.1/24`, 'dev', `${name}-far`);
    this.inside('link', 'set', `${name}-far`, 'up');
  }

  /** Puts this side on the cable, under the address 10.77.N.HOST: all ways lead there. */
  plug(name, n, host = 2) {
    ip('address', 'replace', `10.77.${n}.${host}/24`, 'dev', name);
    ip('link', 'set', name, 'up');
    ip('route', 'replace', 'default', 'via', `10.77.${n}.1`);
  }

  unplug(name) {
    ip('address', 'flush', 'dev', name);
    ip('link', 'set', name, 'down');
  }

  end() {
    this.keeper.child.stdin.end();
    return this.keeper.end();
  }
}
