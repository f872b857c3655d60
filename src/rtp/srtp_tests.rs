#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;

const PROFILES: [Profile; 4] =
    [Profile::Aes128CmSha1_80, Profile::Aes128CmSha1_32, Profile::AeadAes128Gcm, Profile::AeadAes256Gcm];
const SSRC: u32 = 0xcafe_babe;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn context(profile: Profile) -> SrtpContext {
    let key: Vec<u8> = (1..=profile.key_len() as u8).collect();
    let salt: Vec<u8> = (101..).take(profile.salt_len()).collect();
    SrtpContext::new(profile, &key, &salt).unwrap()
}

fn rtp(sequence: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, 111, 0, 0, 0, 0, 0, 9];
    packet[2..4].copy_from_slice(&sequence.to_be_bytes());
    packet.extend(SSRC.to_be_bytes());
    packet.extend(payload);
    packet
}

fn rtcp(payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, 200, 0, 6];
    packet.extend(SSRC.to_be_bytes());
    packet.extend(payload);
    packet
}

fn protect(context: &mut SrtpContext, plain: &[u8]) -> Vec<u8> {
    let mut buf = plain.to_vec();
    buf.resize(plain.len() + 20, 0xEE);
    let protect = if plain[1] == 200 { SrtpContext::protect_rtcp } else { SrtpContext::protect_rtp };
    let len = protect(context, &mut buf, plain.len()).unwrap();
    buf.truncate(len);
    buf
}

fn open(context: &mut SrtpContext, sealed: &[u8]) -> Result<Vec<u8>, SrtpError> {
    let mut buf = sealed.to_vec();
    let unprotect = if sealed[1] == 200 { SrtpContext::unprotect_rtcp } else { SrtpContext::unprotect_rtp };
    let len = unprotect(context, &mut buf)?;
    buf.truncate(len);
    Ok(buf)
}

#[test]
fn rfc3711_b2_counter_mode_key_stream() {
    let cipher = Aes128::new_from_slice(&hex("2B7E151628AED2A6ABF7158809CF4F3C")).unwrap();
    let salt: [u8; 14] = hex("F0F1F2F3F4F5F6F7F8F9FAFBFCFD").try_into().unwrap();
    let mut stream = vec![0; 16 * 0xFF02];
    apply_counter_mode(&cipher, salted_iv(&salt, 0, 0), &mut stream);
    for (block, expected) in [
        (0x0000, "E03EAD0935C95E80E166B16DD92B4EB4"),
        (0x0001, "D23513162B02D0F72A43A2FE4A5F97AB"),
        (0x0002, "41E95B3BB0A2E8DD477901E4FCA894C0"),
        (0xFEFF, "EC8CDF7398607CB0F2D21675EA9EA1E4"),
        (0xFF00, "362B7C3C6773516318A077D7FC5073AE"),
        (0xFF01, "6A2CC3787889374FBEB4C81B17BA6C44"),
    ] {
        assert_eq!(stream[block * 16..][..16], hex(expected), "block {block:04x}");
    }
}

const MASTER_KEY: &str = "E1F97A0D3E018BE0D64FA32C06DE4139";
const MASTER_SALT: &str = "0EC675AD498AFEEBB6960B3AABE6";

#[test]
fn rfc3711_b3_key_derivation() {
    let kdf = Kdf::new(&hex(MASTER_KEY), &hex(MASTER_SALT)).unwrap();
    assert_eq!(kdf.derive::<16>(0).to_vec(), hex("C61E7A93744F39EE10734AFE3FF7A087"));
    assert_eq!(kdf.derive::<14>(2).to_vec(), hex("30CBBC08863D8C85D49DB34A9AE1"));
    let auth = "CEBE321F6FF7716B6FD4AB49AF256A15 6D38BAA48F0A0ACF3C34E2359E6CDBCE E049646C43D9327AD175578EF7227098
        6371C10C9A369AC2F94A8C5FBCDDDC25 6D6E919A48B610EF17C2041E47403576 6B68642C59BBFC2F34DB60DBDFB2";
    assert_eq!(kdf.derive::<94>(1).to_vec(), hex(auth));
}

/// The reference packets that libsrtp's own test driver made known, under the keys of RFC 3711 B.3.
#[test]
fn known_packets_of_counter_mode_with_80_bit_tags() {
    let mut context = SrtpContext::new(Profile::Aes128CmSha1_80, &hex(MASTER_KEY), &hex(MASTER_SALT)).unwrap();
    let plain = hex("800f1234 decafbad cafebabe abababab abababab abababab abababab");
    let sealed = hex("800f1234 decafbad cafebabe 4e55dc4c e79978d8 8ca4d215 949d2402 b78d6acc 99ea179b 8dbb");
    assert_eq!(protect(&mut context, &plain), sealed);
    let plain = hex("81c8000b cafebabe abababab abababab abababab abababab");
    let sealed = hex("81c8000b cafebabe 7128035b e487b9bd bef89041 f977a5a8 80000001 993e08cd 54d6c123 0798");
    protect(&mut context, &plain); // index 0; the known packet has index 1
    assert_eq!(protect(&mut context, &plain), sealed);
}

fn gcm128() -> Transform {
    let key: Vec<u8> = (0..16).collect();
    Transform::Gcm128 { cipher: Aes128Gcm::new_from_slice(&key).unwrap(), salt: *b"Quid pro quo" }
}

fn gcm256() -> Transform {
    let key: Vec<u8> = (0..32).collect();
    Transform::Gcm256 { cipher: Aes256Gcm::new_from_slice(&key).unwrap(), salt: *b"Quid pro quo" }
}

/// RFC 7714 gives session keys, so the transform is tested below the key derivation.
#[test]
fn rfc7714_16_srtp_by_gcm() {
    let plain = hex("8040f17b 8041f8d3 5501a0b2 47616c6c 69612065 7374206f 6d6e6973
        20646976 69736120 696e2070 61727465 73207472 6573");
    let table = [
        (
            gcm128(),
            "8040f17b 8041f8d3 5501a0b2 f24de3a3 fb34de6c acba861c 9d7e4bca be633bd5 0d294e6f
             42a5f47a 51c7d19b 36de3adf 8833 899d7f27 beb16a91 52cf765e e4390cce",
        ),
        (
            gcm256(),
            "8040f17b 8041f8d3 5501a0b2 32b1de78 a822fe12 ef9f78fa 332e33aa b1801238 9a58e2f3
             b50b2a02 76ffae0f 1ba63799 b87b7aa3 db36dfff d6b0f9bb 7878d7a7 6c13",
        ),
    ];
    for (transform, expected) in table {
        let header = RtpHeader::read(&plain).unwrap();
        let mut packet = plain.clone();
        packet.resize(plain.len() + GCM_TAG, 0);
        transform.seal_rtp(&mut packet, &header, u64::from(header.sequence));
        assert_eq!(packet, hex(expected));
        transform.open_rtp(&mut packet, &header, u64::from(header.sequence)).unwrap();
        assert_eq!(packet[..plain.len()], plain);
    }
}

#[test]
fn rfc7714_17_srtcp_by_gcm() {
    let plain = hex("81c8000d 4d617273 4e545031 4e545032 52545020 0000042a 0000e930 4c756e61
        deadbeef deadbeef deadbeef deadbeef deadbeef");
    let sealed = hex("81c8000d 4d617273 63e94885 dcdab67c a727d766 2f6b7e99 7ff5c0f7 6c06f32d c676a5f1 730d6fda
        4ce09b46 86303ded 0bb9275b c84aa458 96cf4d2f c5abf872 45d9eade 800005d4");
    let mut packet = plain.clone();
    packet.resize(sealed.len(), 0);
    gcm128().seal_rtcp(&mut packet, 0x4d61_7273, 0x8000_05d4).unwrap();
    assert_eq!(packet, sealed);
    assert_eq!(gcm128().rtcp_index(&packet), Ok(0x8000_05d4));
    gcm128().open_rtcp(&mut packet, 0x4d61_7273, 0x8000_05d4).unwrap();
    assert_eq!(packet[..plain.len()], plain);
}

#[test]
fn every_profile_opens_what_it_protects() {
    for profile in PROFILES {
        let (mut sender, mut receiver) = (context(profile), context(profile));
        for length in [0, 1, 15, 16, 17, 160, 1200] {
            let payload: Vec<u8> = (0..length).map(|n| n as u8).collect();
            let plain = rtp(length as u16, &payload);
            let sealed = protect(&mut sender, &plain);
            assert_eq!(sealed.len(), plain.len() + profile.rtp_overhead(), "{profile:?}");
            assert!(
                length < 16 || !sealed.windows(8).any(|window| window == &payload[..8]),
                "{profile:?} in the clear"
            );
            assert_eq!(open(&mut receiver, &sealed).as_deref(), Ok(&plain[..]), "{profile:?} {length}");
            let plain = rtcp(&payload);
            let sealed = protect(&mut sender, &plain);
            assert_eq!(sealed.len(), plain.len() + profile.rtcp_overhead(), "{profile:?}");
            assert_eq!(open(&mut receiver, &sealed).as_deref(), Ok(&plain[..]), "{profile:?} {length}");
        }
    }
}

#[test]
fn csrcs_and_extensions_stay_in_the_clear() {
    for profile in PROFILES {
        let mut plain = rtp(7, &[]);
        plain[0] = 0x80 | 0x10 | 2;
        plain.extend([1, 1, 1, 1, 2, 2, 2, 2, 0xBE, 0xDE, 0, 1, 0x10, 0xFF, 0, 0]);
        let clear = plain.len();
        plain.extend(b"the payload");
        let sealed = protect(&mut context(profile), &plain);
        assert_eq!(sealed[..clear], plain[..clear]);
        assert_ne!(sealed[clear..plain.len()], plain[clear..]);
        assert_eq!(open(&mut context(profile), &sealed).unwrap(), plain);
    }
}

#[test]
fn a_packet_with_any_byte_changed_is_refused_and_teaches_nothing() {
    for profile in PROFILES {
        for plain in [rtp(100, b"hello, this is audio"), rtcp(b"this is a report")] {
            let sealed = protect(&mut context(profile), &plain);
            let mut receiver = context(profile);
            for at in 0..sealed.len() {
                let mut bad = sealed.clone();
                bad[at] ^= 0x04;
                assert!(open(&mut receiver, &bad).is_err(), "{profile:?} byte {at}");
            }
            assert!(receiver.sources.is_empty(), "{profile:?}");
            assert_eq!(open(&mut receiver, &sealed).unwrap(), plain, "{profile:?}: the true one still opens");
        }
    }
}

#[test]
fn replayed_and_ancient_packets_are_refused() {
    for profile in PROFILES {
        let (mut sender, mut receiver) = (context(profile), context(profile));
        let sealed: Vec<_> = (0..300).map(|n| protect(&mut sender, &rtp(1000 + n, b"audio"))).collect();
        let order = [0, 2, 1, 10, 5, 130];
        for at in order {
            open(&mut receiver, &sealed[at]).unwrap();
        }
        for at in order {
            assert_eq!(open(&mut receiver, &sealed[at]), Err(SrtpError::Replayed), "{profile:?} {at}");
        }
        open(&mut receiver, &sealed[3]).unwrap(); // 127 behind the newest
        open(&mut receiver, &sealed[299]).unwrap();
        assert_eq!(open(&mut receiver, &sealed[171]), Err(SrtpError::Replayed), "128 behind");
        open(&mut receiver, &sealed[172]).unwrap();
        let report = protect(&mut sender, &rtcp(b"report"));
        open(&mut receiver, &report).unwrap();
        assert_eq!(open(&mut receiver, &report), Err(SrtpError::Replayed));
    }
}

#[test]
fn the_rollover_counter_follows_sequence_numbers_round_and_round() {
    for profile in PROFILES {
        let (mut sender, mut receiver) = (context(profile), context(profile));
        let mut late = Vec::new();
        for n in 65_000u32..200_000 {
            if n % 97 != 0 && n % 65_536 > 3 && n % 65_536 < 65_533 {
                continue; // long gaps, and every packet around each rollover
            }
            let sealed = protect(&mut sender, &rtp(n as u16, &n.to_be_bytes()));
            if n % 65_536 == 65_535 {
                late = sealed; // the last one before a rollover comes after it
                continue;
            }
            assert_eq!(open(&mut receiver, &sealed).unwrap()[12..], n.to_be_bytes(), "{profile:?} {n}");
            if n % 65_536 == 2 {
                assert_eq!(open(&mut receiver, &late).unwrap()[12..], (n - 3).to_be_bytes(), "{profile:?} {n}");
            }
        }
        assert_eq!(receiver.sources[0].rtp.next >> 16, 3);
    }
}

#[test]
fn a_packet_from_before_the_session_is_too_old() {
    let (mut sender, mut receiver) = (context(Profile::AeadAes128Gcm), context(Profile::AeadAes128Gcm));
    open(&mut receiver, &protect(&mut sender, &rtp(0, b"first"))).unwrap();
    let other = protect(&mut context(Profile::AeadAes128Gcm), &rtp(65_535, b"earlier"));
    assert_eq!(open(&mut receiver, &other), Err(SrtpError::Replayed));
}

#[test]
fn rtcp_that_is_signed_only_opens_too() {
    for profile in PROFILES {
        let kdf_context = context(profile);
        let plain = rtcp(b"this report stays readable..");
        let mut packet = plain.clone();
        match &kdf_context.rtcp {
            Transform::Cm { mac, .. } => {
                packet.extend(5u32.to_be_bytes());
                let mut mac = mac.clone();
                mac.update(&packet);
                packet.extend(&mac.finalize().into_bytes()[..10]);
            }
            Transform::Gcm128 { cipher, salt } => sign(cipher, salt, &mut packet),
            Transform::Gcm256 { cipher, salt } => sign(cipher, salt, &mut packet),
        }
        let mut receiver = context(profile);
        let mut bad = packet.clone();
        bad[9] ^= 1;
        assert_eq!(open(&mut receiver, &bad), Err(SrtpError::NotAuthentic), "{profile:?}");
        assert_eq!(open(&mut receiver, &packet).unwrap(), plain, "{profile:?}");
    }

    fn sign(cipher: &impl Gcm, salt: &[u8; 12], packet: &mut Vec<u8>) {
        let mut associated = packet.clone();
        associated.extend(5u32.to_be_bytes());
        let mut tag = [0; GCM_TAG];
        seal(cipher, nonce(salt, SSRC, 5), &associated, &mut [], &mut tag);
        packet.extend(tag);
        packet.extend(5u32.to_be_bytes());
    }
}

#[test]
fn sources_are_bounded() {
    let (mut sender, mut receiver) = (context(Profile::AeadAes128Gcm), context(Profile::AeadAes128Gcm));
    for n in 0..MAX_SOURCES as u8 {
        let mut plain = rtp(1, b"audio");
        plain[8] = n;
        open(&mut receiver, &protect(&mut sender, &plain)).unwrap();
    }
    let mut plain = rtp(1, b"audio");
    plain[8] = 0xFF;
    let mut buf = plain.clone();
    buf.resize(100, 0);
    assert_eq!(sender.protect_rtp(&mut buf, plain.len()), Err(SrtpError::TooManySources));
}

#[test]
fn an_exhausted_key_is_not_used() {
    let mut context = context(Profile::AeadAes128Gcm);
    let mut window = Window::default();
    window.insert((1 << 48) - 1);
    context.sources.push(Source { ssrc: SSRC, rtp: window, rtcp: window, used: 0 });
    let mut buf = rtp(0, b"audio");
    let len = buf.len();
    buf.resize(100, 0);
    assert_eq!(context.protect_rtp(&mut buf, len), Err(SrtpError::KeyExhausted));
    let mut buf = rtcp(b"report..");
    let len = buf.len();
    buf.resize(100, 0);
    assert_eq!(context.protect_rtcp(&mut buf, len), Err(SrtpError::KeyExhausted));
}

#[test]
fn wrong_lengths_are_refused() {
    for profile in PROFILES {
        assert!(SrtpContext::new(profile, &[0; 15], &vec![0; profile.salt_len()]).is_err());
        assert!(SrtpContext::new(profile, &vec![0; profile.key_len()], &[0; 13]).is_err());
        let mut context = context(profile);
        let plain = rtp(1, b"audio");
        let mut tight = plain.clone();
        assert_eq!(context.protect_rtp(&mut tight, plain.len()), Err(SrtpError::NoRoom));
        assert_eq!(context.protect_rtp(&mut tight, usize::MAX), Err(SrtpError::NoRoom));
        for len in 0..20 {
            assert!(context.unprotect_rtp(&mut vec![0x80; len]).is_err());
            assert!(context.unprotect_rtcp(&mut vec![0x80; len]).is_err());
        }
    }
}

proptest::proptest! {
    #[test]
    fn noise_never_panics_and_never_opens(mut bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..120)) {
        if let Some(first) = bytes.first_mut() {
            *first = 0x80 | (*first & 0x1F);
        }
        for profile in PROFILES {
            let mut context = context(profile);
            proptest::prop_assert!(context.unprotect_rtp(&mut bytes.clone()).is_err());
            proptest::prop_assert!(context.unprotect_rtcp(&mut bytes.clone()).is_err());
            let mut buf = bytes.clone();
            buf.resize(bytes.len() + 20, 0);
            let _ = context.protect_rtp(&mut buf.clone(), bytes.len());
            let _ = context.protect_rtcp(&mut buf, bytes.len());
        }
    }
}

/// A queue whose announcements each have a source of their own: after sixteen of them the seventeenth was not heard.
#[test]
fn a_peer_that_changes_its_source_all_the_time_is_heard_on() {
    let (mut sender, mut receiver) = (context(Profile::Aes128CmSha1_80), context(Profile::Aes128CmSha1_80));
    let of = |ssrc: u32, sequence: u16| {
        let mut packet = rtp(sequence, b"sound");
        packet[8..12].copy_from_slice(&ssrc.to_be_bytes());
        packet
    };
    // One source stays in use all the time: its rollover counter is not forgotten.
    for sequence in [65_534, 65_535, 0] {
        let sealed = protect(&mut sender, &of(1, sequence));
        assert!(open(&mut receiver, &sealed).is_ok());
    }
    for other in 2..100_u32 {
        let mut fresh = context(Profile::Aes128CmSha1_80);
        let sealed = protect(&mut fresh, &of(other, 5));
        assert_eq!(open(&mut receiver, &sealed), Ok(of(other, 5)), "source {other}");
        assert_eq!(open(&mut receiver, &sealed), Err(SrtpError::Replayed));
        let sealed = protect(&mut sender, &of(1, other as u16));
        assert_eq!(open(&mut receiver, &sealed), Ok(of(1, other as u16)));
    }
}
