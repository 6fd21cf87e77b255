//! Scopes' templates: permissions with `{{name()}}` and the like become those of one user. Not other limits.

use crate::jwt::{Permission, UserPermissionLimits};
use weir_subject::is_valid_subject;

/// So many subjects may come of one list, as in the reference.
const MAX_EXPANSIONS: usize = 4096;

/// What templates can name.
#[derive(Debug, Clone, Copy)]
pub struct Names<'a> {
    /// `name()`: the name in the user's claims.
    pub user_name: &'a str,
    /// `subject()`: the user's public key.
    pub user_subject: &'a str,
    /// `tag(x)`: the user's tags.
    pub user_tags: &'a [String],
    /// `account-name()`: the name in the account's claims.
    pub account_name: &'a str,
    /// `account-subject()`: the account's public key.
    pub account_subject: &'a str,
    /// `account-tag(x)`: the account's tags.
    pub account_tags: &'a [String],
}

/// The template's limits with subjects for this user.
///
/// # Errors
/// When a template names what does not exist, or a denied subject would come out invalid.
pub fn apply(template: &UserPermissionLimits, names: &Names<'_>) -> Result<UserPermissionLimits, String> {
    let mut limits = template.clone();
    for permission in [&mut limits.subscribe, &mut limits.publish] {
        let had_allowed = !permission.allow.is_empty();
        let allow = expand(&permission.allow, names, false)?;
        let deny = expand(&permission.deny, names, true)?;
        *permission = Permission { allow, deny };
        // Nothing left to allow must not come to mean that everything is.
        if had_allowed && permission.allow.is_empty() && !permission.deny.iter().any(|deny| deny == ">") {
            permission.deny.push(">".to_owned());
        }
    }
    Ok(limits)
}

fn expand(subjects: &[String], names: &Names<'_>, is_deny: bool) -> Result<Vec<String>, String> {
    if !subjects.iter().any(|subject| find_macro(subject, 0).is_some()) {
        return Ok(subjects.to_vec());
    }
    let mut expanded = Vec::with_capacity(subjects.len());
    for subject in subjects {
        expand_one(subject, names, is_deny, &mut expanded)?;
    }
    Ok(expanded)
}

fn expand_one(
    subject: &str,
    names: &Names<'_>,
    is_deny: bool,
    expanded: &mut Vec<String>,
) -> Result<(), String> {
    let mut macros: Vec<(&str, Vec<String>)> = Vec::new();
    let mut has_tags = false;
    let mut from = 0;
    while let Some((start, end)) = find_macro(subject, from) {
        let text = &subject[start..end];
        let (values, is_tag) = values_of(subject, text, names, is_deny)?;
        has_tags |= is_tag;
        macros.push((text, values));
        from = end;
    }
    if has_tags {
        let mut count = 1usize;
        for (_, values) in &macros {
            count = count.saturating_mul(values.len());
        }
        if count.saturating_add(expanded.len()) > MAX_EXPANSIONS {
            return Err(format!("template expansion exceeds limit: {MAX_EXPANSIONS}"));
        }
    }
    // Every combination of values, the last macro's changing fastest.
    let mut results = vec![subject.to_owned()];
    let mut chosen: Vec<Vec<&str>> = vec![Vec::new()];
    for (_, values) in &macros {
        chosen = chosen
            .iter()
            .flat_map(|begun| values.iter().map(|value| [begun.as_slice(), &[value.as_str()]].concat()))
            .collect();
    }
    if !macros.is_empty() {
        results = chosen
            .iter()
            .map(|values| {
                let replaced = macros.iter().zip(values);
                replaced.fold(subject.to_owned(), |text, ((name, _), value)| text.replace(name, value))
            })
            .collect();
    }
    for result in results {
        if is_valid_subject(result.as_bytes()) {
            expanded.push(result);
        } else if is_deny {
            return Err("generated invalid subject".to_owned());
        }
    }
    Ok(())
}

/// The next `{{...}}` at or behind `from`: its start and its end.
fn find_macro(text: &str, from: usize) -> Option<(usize, usize)> {
    let mut at = from;
    while let Some(start) = text.get(at..)?.find("{{").map(|found| at + found) {
        let inner = start + 2;
        let close = text[inner..].find('}').map(|found| inner + found)?;
        if close > inner && text[close..].starts_with("}}") {
            return Some((start, close + 2));
        }
        at = start + 1;
    }
    None
}

/// The values of one macro, and whether it is a tag's.
fn values_of(
    subject: &str,
    text: &str,
    names: &Names<'_>,
    is_deny: bool,
) -> Result<(Vec<String>, bool), String> {
    let operation = text[2..text.len() - 2].trim();
    let one = |value: &str| Ok((vec![value.to_owned()], false));
    match operation.to_ascii_lowercase().as_str() {
        "name()" => return one(names.user_name),
        "subject()" => return one(names.user_subject),
        "account-name()" => return one(names.account_name),
        "account-subject()" => return one(names.account_subject),
        _ => {}
    }
    let Some((tags, tag)) = tag_of(operation, names) else {
        return Err(format!("template operation in {subject:?}: {operation:?} is not defined"));
    };
    let prefix = format!("{}:", tag.to_lowercase());
    let values: Vec<String> =
        tags.iter().filter_map(|tag| tag.strip_prefix(&prefix)).map(str::to_owned).collect();
    if !values.is_empty() {
        Ok((values, true))
    } else if is_deny {
        Err(format!("generated invalid subject {subject:?}: {tag:?} is not defined"))
    } else {
        // No subject has a blank, so nothing comes of it.
        Ok((vec![" ".to_owned()], true))
    }
}

fn tag_of<'a>(operation: &'a str, names: &Names<'a>) -> Option<(&'a [String], &'a str)> {
    for (name, tags) in [("tag(", names.user_tags), ("account-tag(", names.account_tags)] {
        if let (Some(begin), Some(rest)) = (operation.get(..name.len()), operation.get(name.len()..))
            && begin.eq_ignore_ascii_case(name)
            && let Some(tag) = rest.strip_suffix(')')
        {
            return Some((tags, tag));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(allow: &[&str], deny: &[&str]) -> Result<Permission, String> {
        let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let publish = Permission { allow: list(allow), deny: list(deny) };
        let template = UserPermissionLimits { publish, ..UserPermissionLimits::default() };
        let (user_tags, account_tags) =
            (list(&["dept:hr", "dept:it", "x:1", "lone"]), list(&["acc:a", "acc:b"]));
        let names = Names {
            user_name: "bob",
            user_subject: "UBOB",
            user_tags: &user_tags,
            account_name: "acct",
            account_subject: "AACC",
            account_tags: &account_tags,
        };
        apply(&template, &names).map(|limits| limits.publish)
    }

    fn allowed(allow: &[&str]) -> Vec<String> {
        applied(allow, &[]).expect("valid").allow
    }

    #[test]
    fn names_are_put_in() {
        assert_eq!(
            allowed(&["a.{{name()}}.{{Subject()}}", "{{account-name()}}-{{ account-subject() }}.>", "plain"]),
            ["a.bob.UBOB", "acct-AACC.>", "plain"]
        );
    }

    #[test]
    fn tags_give_every_combination() {
        assert_eq!(allowed(&["{{tag(dept)}}.{{account-tag(ACC)}}"]), ["hr.a", "hr.b", "it.a", "it.b"]);
        assert_eq!(allowed(&["{{tag(dept)}}.{{tag(x)}}.{{name()}}"]), ["hr.1.bob", "it.1.bob"]);
    }

    #[test]
    fn nothing_left_to_allow_denies_everything() {
        let permission = applied(&["{{tag(none)}}.a"], &[]).expect("valid");
        assert!(permission.allow.is_empty());
        assert_eq!(permission.deny, [">"]);
        assert_eq!(allowed(&["{{tag(none)}}.a", "b"]), ["b"]);
    }

    #[test]
    fn what_would_deny_must_come_out_valid() {
        assert_eq!(
            applied(&[], &["{{tag(none)}}.a"]),
            Err("generated invalid subject \"{{tag(none)}}.a\": \"none\" is not defined".to_owned())
        );
        assert_eq!(applied(&[], &["a..{{name()}}"]), Err("generated invalid subject".to_owned()));
        assert_eq!(
            applied(&["{{nothing()}}"], &[]),
            Err("template operation in \"{{nothing()}}\": \"nothing()\" is not defined".to_owned())
        );
    }

    #[test]
    fn expansion_is_bounded() {
        let wide = vec!["{{tag(dept)}}"; 13].join(".");
        assert!(applied(&[&wide], &[]).is_err());
        let many: Vec<&str> = vec!["{{tag(dept)}}"; 12];
        assert_eq!(allowed(&[&many.join(".")]).len(), 4096);
    }

    #[test]
    fn half_a_macro_is_a_subject() {
        assert_eq!(allowed(&["{{name()}", "{{}}", "{{name()}}"]), ["{{name()}", "{{}}", "bob"]);
    }
}
