// In a project of your own: import { Phone } from 'ringback';
import { Phone } from '../../web/ringback.js';

const $ = (id) => document.getElementById(id);
const { url } = await fetch('/gateway.json').then((response) => response.json());
const phone = new Phone({ url, token: () => fetch('/token').then((response) => response.text()) });

$('dial').onsubmit = async (event) => {
  event.preventDefault();
  try {
    const call = await phone.call($('number').value);
    $('hangup').disabled = false;
    $('hangup').onclick = () => call.hangup();
    call.on('state', (state) => { $('state').value = state; });
    call.on('end', ({ text, remedies }) => {
      $('hangup').disabled = true;
      $('state').value = [text, ...remedies].join(' ');
    });
  } catch (error) {
    $('state').value = [error.text, ...error.remedies].join(' '); // what happened, and what helps
  }
};
