//! What a page or a trunk says of a call beside its numbers: parameters, in SIP the header fields `X-Param-NAME`.

use std::collections::BTreeMap;

use crate::signal::values::MAX_PARAMS;
use crate::signal::{valid_param_name, valid_param_value};
use crate::sip::Headers;

/// What the header fields of parameters begin with.
const PREFIX: &str = "X-Param-";

/// A call's parameters: at most eight, each name and value as [`valid_param_name`] and [`valid_param_value`] say.
pub type Params = BTreeMap<String, String>;

/// The parameters as header fields of an INVITE.
pub(super) fn to_headers(params: &Params) -> impl Iterator<Item = (String, String)> + '_ {
    params.iter().map(|(name, value)| (format!("{PREFIX}{}", capitalised(name)), value.clone()))
}

/// The parameters in the header fields of an INVITE; what breaks a rule is left out, and what comes after the eighth.
pub(super) fn of_headers(headers: &Headers) -> Params {
    let mut params = Params::new();
    for (field, value) in headers.iter() {
        let Some((prefix, name)) = field.split_at_checked(PREFIX.len()) else { continue };
        let (name, value) = (name.to_ascii_lowercase(), value.trim());
        let fits = prefix.eq_ignore_ascii_case(PREFIX) && valid_param_name(&name) && valid_param_value(value);
        if fits && params.len() < MAX_PARAMS {
            params.entry(name).or_insert_with(|| value.to_owned());
        }
    }
    params
}

/// `customer-id` as header fields are written: `Customer-Id`.
fn capitalised(name: &str) -> String {
    let word = |word: &str| {
        let (first, rest) = word.split_at_checked(1).unwrap_or((word, ""));
        format!("{}{rest}", first.to_ascii_uppercase())
    };
    name.split('-').map(word).collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_read_what_they_write_and_nothing_else() {
        let params = Params::from([("customer-id".to_owned(), "4711 é".to_owned()), ("x".to_owned(), String::new())]);
        let mut headers = Headers::new();
        for (name, value) in to_headers(&params) {
            headers.push(name, value);
        }
        assert_eq!(headers.get("X-Param-Customer-Id"), Some("4711 é"));
        assert_eq!(of_headers(&headers), params);
        headers.push("X-Param-", "no name");
        headers.push("X-Param-a_b", "no such name");
        headers.push("X-Param-Long", "x".repeat(257));
        headers.push("X-PARAM-CUSTOMER-ID", "a second one");
        headers.push("X-Para", "é");
        headers.push("X-Paramé", "é");
        assert_eq!(of_headers(&headers), params);
        for n in 0..20 {
            headers.push(format!("x-param-{n}"), "1");
        }
        assert_eq!(of_headers(&headers).len(), MAX_PARAMS);
    }
}
