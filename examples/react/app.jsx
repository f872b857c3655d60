import React, { useState } from 'react';
import { createRoot } from 'react-dom/client';
import { usePhone } from './use-phone.js';

const token = () => fetch('/token').then((response) => response.text());

function App({ url }) {
  const { state, call, waiting, incoming, problem, dial, answer, decline, talk } = usePhone({ url, token });
  const [number, setNumber] = useState('');
  return (
    <main>
      <p id="phone">{state}</p>
      {problem && <p role="alert">{problem.text} {problem.remedies.join(' ')}</p>}
      {incoming && (
        <p>
          {incoming.remote.name ?? incoming.remote.number} is calling
          <button id="answer" onClick={answer}>Answer</button>
          <button onClick={decline}>Decline</button>
        </p>
      )}
      {waiting.map((other) => (
        <p className="waiting" key={other.id}>
          {other.remote.number} {other.held && 'waits'}
          <button onClick={() => talk(other)}>Talk</button>
        </p>
      ))}
      {call ? (
        <p id="call">
          {call.remote.number}: {call.state} {call.held && 'on hold'} {call.quality?.grade}
          {call.held && <button id="resume" onClick={() => talk(call)}>Resume</button>}
          <button id="mute" aria-pressed={call.muted} onClick={() => call.mute(!call.muted)}>Mute</button>
          <button id="hangup" onClick={() => call.hangup()}>Hang up</button>
        </p>
      ) : (
        <form onSubmit={(event) => { event.preventDefault(); dial(number).catch(() => {}); }}>
          <input id="number" aria-label="Number" value={number} onChange={(event) => setNumber(event.target.value)} />
          <button>Call</button>
        </form>
      )}
    </main>
  );
}

const { url } = await fetch('/gateway.json').then((response) => response.json());
createRoot(document.getElementById('app')).render(<App url={url} />);
