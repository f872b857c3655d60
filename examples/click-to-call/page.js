import '../../web/ringback-call.js'; // in a project of your own: import 'ringback/call';

const { url, to } = await fetch('/gateway.json').then((response) => response.json());
const hotline = document.getElementById('hotline');
hotline.setAttribute('url', url);
hotline.setAttribute('to', to);
// One visitor a page: a call that lost its connection goes on for the same user only.
hotline.setAttribute('token-from', `/token?visitor=${crypto.randomUUID()}`);
