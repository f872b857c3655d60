//! Session descriptions of browsers.

/// An offer as Chromium 156 makes it, shortened.
pub fn browser_offer() -> String {
    "v=0\r\no=- 4611731400430051336 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\na=extmap-allow-mixed\r\n\
     m=audio 9 UDP/TLS/RTP/SAVPF 111 63 9 0 8 13 110 126\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\n\
     a=ice-ufrag:4ZcD\r\na=ice-pwd:2/1muCWoOi3uLifh0NuRHlqw\r\na=ice-options:trickle\r\n\
     a=fingerprint:sha-256 75:74:5A:A6:A4:E5:52:F4:A7:67:4C:01:C7:EE:91:3F:21:3D:A2:E3:53:7B:6F:30:86:F2:30:FF:A6:22:D2:04\r\n\
     a=setup:actpass\r\na=mid:0\r\na=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\na=sendrecv\r\na=rtcp-mux\r\n\
     a=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10;useinbandfec=1\r\na=rtpmap:63 red/48000/2\r\n\
     a=rtpmap:9 G722/8000\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:13 CN/8000\r\n\
     a=rtpmap:110 telephone-event/48000\r\na=rtpmap:126 telephone-event/8000\r\n"
        .to_owned()
}

/// The same connection's next offer: after an ICE restart.
pub fn restarted_offer() -> String {
    browser_offer()
        .replace("4ZcD", "9kQz")
        .replace("2/1muCWoOi3uLifh0NuRHlqw", "3/1muCWoOi3uLifh0NuRHlqw")
        .replace(" 2 IN", " 3 IN")
}

/// The offer of a page that was loaded anew.
pub fn another_offer() -> String {
    restarted_offer().replace("4611731400430051336", "7711731400430051337").replace("75:74:5A", "11:22:33")
}

/// The browser's answer to one of our offers: the same, with its own role in DTLS and the offer's numbers.
pub fn browser_answer(offer: &str) -> String {
    let line = offer.lines().find(|line| line.starts_with("m=audio")).expect("an audio line");
    let numbers: Vec<&str> = line.split_ascii_whitespace().skip(3).collect();
    let maps: String = offer
        .lines()
        .filter(|line| line.starts_with("a=rtpmap") || line.starts_with("a=mid") || line.starts_with("a=group"))
        .map(|line| format!("{line}\r\n"))
        .collect();
    let (group, rest): (Vec<&str>, Vec<&str>) = maps.lines().partition(|line| line.starts_with("a=group"));
    let lines = |lines: Vec<&str>| lines.into_iter().map(|line| format!("{line}\r\n")).collect::<String>();
    format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n{}m=audio 9 UDP/TLS/RTP/SAVPF {}\r\nc=IN IP4 0.0.0.0\r\n\
         a=ice-ufrag:9uB6\r\na=ice-pwd:YH75Fviy6338Vbrhrlp8Yh\r\n\
         a=fingerprint:sha-256 75:74:5A:A6:A4:E5:52:F4:A7:67:4C:01:C7:EE:91:3F:21:3D:A2:E3:53:7B:6F:30:86:F2:30:FF:A6:22:D2:04\r\n\
         a=setup:active\r\na=sendrecv\r\na=rtcp-mux\r\n{}",
        lines(group),
        numbers.join(" "),
        lines(rest)
    )
}
