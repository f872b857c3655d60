//! A trunk that speaks SIP by hand, for what no decent user agent does.

use std::net::SocketAddr;

use ringback::codec::Codec;
use ringback::sdp::{TrunkLocal, trunk};
use ringback::sip::{Headers, Message, Method, Request, Response};

/// What a script does with one message: messages to send back.
pub type Script = Box<dyn FnMut(&Message) -> Vec<Message>>;

pub struct Raw {
    pub address: SocketAddr,
    pub heard: Vec<Message>,
    pub script: Script,
}

impl Raw {
    pub fn new(address: SocketAddr, script: impl FnMut(&Message) -> Vec<Message> + 'static) -> Raw {
        Raw { address, heard: Vec::new(), script: Box::new(script) }
    }

    pub fn take(&mut self, bytes: &[u8]) -> Vec<Message> {
        let message = Message::parse(bytes).expect("we send nothing that does not parse");
        let replies = (self.script)(&message);
        self.heard.push(message);
        replies
    }

    /// The requests heard of a method.
    pub fn requests(&self, method: &Method) -> Vec<&Request> {
        let requests = self.heard.iter().filter_map(|message| match message {
            Message::Request(request) if request.method == *method => Some(request),
            _ => None,
        });
        requests.collect()
    }
}

/// A response with a To-tag, and with a description where `rtp` gives its port.
pub fn reply(request: &Request, status: u16, tag: &str, rtp: Option<u16>) -> Message {
    let mut response: Response = request.response(status, "");
    let to = request.headers.get("To").unwrap().to_owned();
    response.headers.set("To", if to.contains(";tag=") { to } else { format!("{to};tag={tag}") });
    response.headers.set("Contact", "<sip:raw@192.0.2.9:5060>");
    if let Some(port) = rtp {
        let local = local(port);
        response.headers.set("Content-Type", "application/sdp");
        response.body = trunk::answer(&local, &request.body).expect("our offer").0.into_bytes();
    }
    Message::Response(response)
}

/// The scripted trunk's own description.
pub fn local(port: u16) -> TrunkLocal {
    TrunkLocal {
        session_id: u64::from(port),
        codecs: vec![Codec::Pcmu],
        ..TrunkLocal::new(SocketAddr::from(([192, 0, 2, 9], port)), 1)
    }
}

/// A request inside the dialog that `invite` and the reply with `tag` opened, from the called side.
pub fn in_dialog(invite: &Request, method: Method, tag: &str, cseq: u32) -> Message {
    let contact = invite.headers.contacts().unwrap().remove(0);
    let mut request = Request::new(method.clone(), contact.uri);
    let mut headers = Headers::new();
    headers.push("Via", format!("SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bKraw{tag}{cseq}"));
    headers.push("Max-Forwards", "70");
    headers.push("From", format!("{};tag={tag}", invite.headers.get("To").unwrap()));
    headers.push("To", invite.headers.get("From").unwrap());
    headers.push("Call-ID", invite.headers.get("Call-ID").unwrap());
    headers.push("CSeq", format!("{cseq} {method}"));
    request.headers = headers;
    Message::Request(request)
}

/// An INVITE from a trunk by hand; the body's type and text, or none.
pub fn invite(number: &str, body: Option<(&str, &str)>) -> Message {
    let mut request = Request::new(Method::Invite, format!("sip:{number}@192.0.2.1").parse().unwrap());
    for (name, value) in [
        ("Via", "SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bKrawinvite"),
        ("Max-Forwards", "70"),
        ("From", "<sip:+447700900123@192.0.2.9>;tag=rawcaller"),
        ("Call-ID", "raw@192.0.2.9"),
        ("CSeq", "1 INVITE"),
        ("Contact", "<sip:raw@192.0.2.9:5060>"),
    ] {
        request.headers.push(name, value);
    }
    request.headers.push("To", format!("<sip:{number}@192.0.2.1>"));
    if let Some((kind, text)) = body {
        request.headers.push("Content-Type", kind);
        request.body = text.as_bytes().to_vec();
    }
    Message::Request(request)
}

/// The ACK to a final response to [`invite`], with an answer to its offer where `rtp` gives a port.
pub fn ack(response: &Response, rtp: Option<u16>) -> Message {
    let target = match response.headers.contacts() {
        Ok(contacts) if !contacts.is_empty() => contacts[0].uri.clone(),
        _ => "sip:192.0.2.1".parse().unwrap(),
    };
    let mut request = Request::new(Method::Ack, target);
    // RFC 3261 17.1.1.3: the ACK to a refusal is of the INVITE's transaction; that to a 2xx is one of its own.
    let branch = if response.status >= 300 { "z9hG4bKrawinvite" } else { "z9hG4bKrawack" };
    request.headers.push("Via", format!("SIP/2.0/UDP 192.0.2.9:5060;branch={branch}"));
    request.headers.push("Max-Forwards", "70");
    for name in ["From", "To", "Call-ID"] {
        request.headers.push(name, response.headers.get(name).unwrap());
    }
    request.headers.push("CSeq", "1 ACK");
    if let Some(port) = rtp {
        let local = local(port);
        request.headers.push("Content-Type", "application/sdp");
        request.body = trunk::answer(&local, &response.body).expect("our offer").0.into_bytes();
    }
    Message::Request(request)
}

/// A caller that acknowledges refusals and answers requests with 200.
pub fn polite() -> impl FnMut(&Message) -> Vec<Message> {
    |message| match message {
        Message::Response(response) if response.status >= 300 => vec![ack(response, None)],
        Message::Request(request) if request.method != Method::Ack => {
            vec![Message::Response(request.response(200, "OK"))]
        }
        _ => Vec::new(),
    }
}
