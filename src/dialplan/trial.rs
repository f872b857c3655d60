//! What a plan has to say when an operator tests a trunk: not by which trunk a number goes, but whether it may be called.

use super::caller_id::Shown;
use super::decision::Caller;
use super::plan::Plan;
use super::rules::{ANONYMOUS, OutAction};

impl Plan {
    /// The number that an operator means who tests a trunk, normalised by the plan's own numbering; `present` is how the trunk
    /// is told it.
    ///
    /// # Errors
    /// Why it is not called, in words: it is none, an emergency number of any numbering, or the first rule that matches it at
    /// every hour refuses it. That no rule allows it is no reason: the operator names the trunk.
    pub fn trial(&self, dialled: &str, present: impl Fn(&str) -> String) -> Result<String, String> {
        let number = self.numbering.normalise(dialled)?.text;
        let mut numberings = self.numberings.values().chain([&self.numbering]);
        // Also what is none until the country code is taken off.
        let presented = present(&number);
        let forms = [number.as_str(), dialled.trim(), presented.as_str()];
        if numberings.any(|numbering| forms.iter().any(|form| numbering.is_emergency(form))) {
            return Err(format!("{number} is an emergency number: it is not called for a test"));
        }
        let mut rules = self.out_rules.iter().filter(|rule| rule.when.any.is_empty());
        let first = rules.find(|rule| rule.matchers.iter().any(|matcher| matcher.matches(&number)));
        match first.map(|rule| (&rule.name, &rule.action)) {
            Some((name, OutAction::Reject(reject))) => {
                Err(format!("the dial plan's rule {name:?} refuses {number}: {}", reject.reason))
            }
            _ => Ok(number),
        }
    }

    /// Who such a call is told to come from: the plan's own caller id for somebody without a number, else `anonymous`.
    pub fn trial_caller(&self, number: &str) -> String {
        let caller = Caller { user: ANONYMOUS.to_owned(), ..Caller::default() };
        let shown = Shown { caller: &caller, called: number, numbering: &self.numbering, pools: &self.pools };
        let chosen = self.caller_id.choose(&shown).ok().and_then(|(from, _)| from);
        chosen.unwrap_or_else(|| ANONYMOUS.to_owned())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use crate::dialplan::{Plan, PlanFile};

    fn plan(rules: &str) -> Plan {
        let head = "[plan]\nname = \"p\"\ndefault = \"deny\"\n[numbering]\ncountry = \"44\"\nnational = \"0\"\nemergency = [\"999\"]\n";
        let file = PlanFile { name: "p.toml".into(), text: format!("{head}{rules}") };
        Plan::load(&[file], &["carrier".into()]).unwrap()
    }

    #[test]
    fn a_number_is_normalised_and_needs_no_rule_but_an_emergency_number_and_one_that_is_refused_are_not_called() {
        let plan = plan(
            "[[out]]\nname = \"uk\"\nprefix = \"+4420\"\ntiers = [[\"carrier\"]]\n\
             [[out]]\nname = \"premium\"\nprefix = \"+449\"\nreject = { code = 403, reason = \"Premium\" }\n\
             [[out]]\nname = \"help\"\nnumber = [\"999\"]\ntiers = [[\"carrier\"]]\n",
        );
        assert_eq!(plan.trial("020 7946 0000", str::to_owned).as_deref(), Ok("+442079460000"));
        assert_eq!(plan.trial("+33123456789", str::to_owned).as_deref(), Ok("+33123456789"));
        assert!(plan.trial("999", str::to_owned).unwrap_err().contains("emergency"));
        let national = |number: &str| number.replacen("+44", "", 1);
        assert!(plan.trial("+44999", national).unwrap_err().contains("emergency"), "what the trunk would dial");
        let refused = plan.trial("+449012345678", str::to_owned).unwrap_err();
        assert!(refused.contains("premium") && refused.contains("Premium"), "{refused}");
        assert!(plan.trial("not a number", str::to_owned).is_err());
        assert_eq!(plan.trial_caller("+442079460000"), "anonymous");
    }
}
