//! A SIP peer's own wish to be replaced: REFER ([RFC 3515](https://www.rfc-editor.org/rfc/rfc3515)), judged by the trunk's
//! policy, answered and told of its progress by NOTIFY.

use super::leg::Happened;
use super::transfer::{News, TransferTo, TransferWish};
use super::trunk_leg::TrunkLeg;
use super::{Context, ReferIn};
use crate::call::identity::user_of;
use crate::sip::{ReferId, ReferTo};

impl TrunkLeg {
    /// The peer's REFER. What the trunk's policy refuses is refused here; the rest is the call's to judge, which answers
    /// with the first news.
    pub(super) fn referred(
        &mut self,
        cx: &mut Context,
        refer: ReferId,
        to: ReferTo,
        referred_by: Option<String>,
    ) -> Happened {
        let follow = self.trunk().is_some_and(|trunk| trunk.refer_in != ReferIn::Off);
        let status = match (follow, self.refer) {
            (false, _) => Some(603),
            (true, Some(_)) => Some(491), // one at a time
            (true, None) => None,
        };
        if let Some(status) = status {
            self.answer_refer(cx, refer, Err(status));
            return Happened::Nothing;
        }
        let number = user_of(&to.uri).unwrap_or_default();
        let number = self.trunk().map_or(number.clone(), |trunk| trunk.number_format.normalise(&number));
        let to = match to.replaces {
            Some(replaces) => TransferTo::Dialog { replaces, number },
            None => TransferTo::Number(number),
        };
        // A phone refers as its own user; a trunk has no rights but those of the user whose call it is.
        let rights = self.rights().cloned();
        Happened::Transfers(Box::new(TransferWish { to, rights, refer: Some(refer), referred_by }))
    }

    fn answer_refer(&mut self, cx: &mut Context, refer: ReferId, answer: Result<(), u16>) {
        if let Some(session) = self.session {
            let _ = cx.ua.answer_refer(cx.now.instant, session, refer, answer); // refused only where the session has ended
        }
    }

    /// 202 and the first NOTIFY, or a refusal.
    pub(super) fn take_refer(&mut self, cx: &mut Context, refer: ReferId, answer: Result<(), u16>) {
        self.refer = answer.is_ok().then_some(refer);
        self.answer_refer(cx, refer, answer);
    }

    /// NOTIFY with what there is to say.
    pub(super) fn tell_referrer(&mut self, cx: &mut Context, news: &News) {
        let (Some(session), Some(refer)) = (self.session, self.refer) else { return };
        let (status, last) = match news {
            News::Asked | News::NotNow => return, // said with the 202
            News::Rings => (180, false),
            News::Done => (200, true),
            News::Failed(cause) => (cause.sip.filter(|status| (300..700).contains(status)).unwrap_or(480), true),
        };
        if last {
            self.refer = None;
        }
        let _ = cx.ua.notify_refer(cx.now.instant, session, refer, status, last); // the peer may have given it up
    }
}
