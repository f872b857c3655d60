//! [RFC 5118](https://www.rfc-editor.org/rfc/rfc5118), SIP torture test messages for IPv6: all 12. In the copy at hand the
//! Content-Length of three does not fit their bodies.

use crate::table::Answer::{Call, Status};
use crate::table::{Case, Mend, refused, request};

pub const CASES: &[Case] = &[
    request("4.1_ipv6-good.sip", "4.1", Status(405), "IPv6 references where they belong; no registrar here"),
    refused("4.2_ipv6-bad.sip", "4.2", 400, "an IPv6 address without brackets in the Request-URI"),
    request("4.3_port-ambiguous.sip", "4.3", Status(405), "5070 is part of the address, and there is no port"),
    request("4.4_port-unambiguous.sip", "4.4", Status(405), "5070 is the port"),
    request(
        "4.5_via-received-param-no-delim.sip",
        "4.5",
        Status(200),
        "received without brackets, as its grammar has it",
    ),
    request("4.5_via-received-param-with-delim.sip", "4.5", Status(481), "received in brackets is taken too"),
    request("4.6_ipv6-in-sdp.sip", "4.6", Call, "IPv6 in the body").mended(Mend::ContentLength),
    request("4.7_mult-ip-in-header.sip", "4.7", Status(481), "IPv4 and IPv6 in the Via lines of one message"),
    request("4.8_mult-ip-in-sdp.sip", "4.8", Call, "IPv4 and IPv6 in one body").mended(Mend::ContentLength),
    request("4.9_ipv4-mapped-ipv6.sip", "4.9", Call, "IPv4-mapped IPv6 addresses").mended(Mend::ContentLength),
    request("4.10_ipv6-correct-abnf-2-colons.sip", "4.10", Status(200), "IPv4 inside IPv6, as it is right"),
    request(
        "4.10_ipv6-bug-abnf-3-colons.sip",
        "4.10",
        Status(200),
        "the third colon that RFC 3261's grammar wants by mistake",
    ),
];

#[test]
fn all_12_are_there() {
    assert_eq!(CASES.len(), 12);
}
