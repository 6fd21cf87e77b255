//! Whether every length in a DER encoding is true, asked before it is decoded: the decoder makes room for what a length
//! promises before it looks whether so much is there. Not what the elements mean.

/// Answers are a dozen levels deep.
const DEPTH_MAX: u8 = 32;
const CONSTRUCTED: u8 = 0x20;
const LONG_TAG: u8 = 0x1f;

/// Whether the elements fill the bytes exactly, at every level.
pub(super) fn are_true(der: &[u8]) -> bool {
    fill(der, DEPTH_MAX)
}

fn fill(mut rest: &[u8], depth: u8) -> bool {
    while let Some((tag, content, after)) = element(rest) {
        if tag & CONSTRUCTED != 0 && !depth.checked_sub(1).is_some_and(|depth| fill(content, depth)) {
            return false;
        }
        rest = after;
    }
    rest.is_empty()
}

/// The first element's tag and content, and what follows it. Long tags and open lengths are not DER of ours.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    if tag & LONG_TAG == LONG_TAG {
        return None;
    }
    let length = match first {
        0..=0x7f => usize::from(first),
        0x81..=0x84 => {
            let (digits, after) = rest.split_at_checked(usize::from(first & 0x7f))?;
            rest = after;
            digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit))
        }
        _ => return None,
    };
    let (content, after) = rest.split_at_checked(length)?;
    Some((tag, content, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_beyond_the_element_around_them_are_found() {
        assert!(are_true(&[]));
        assert!(are_true(&[0x30, 3, 0x0a, 1, 6]));
        assert!(are_true(&[0x30, 0x81, 3, 0x0a, 1, 6, 0x05, 0]));
        for wrong in
            [&[0x30][..], &[0x30, 3, 0x0a, 2, 6], &[0x30, 4, 0x0a, 1, 6], &[0x04, 0x84, 2, 0x30, 0x81, 0xfa]]
        {
            assert!(!are_true(wrong), "{wrong:x?}");
        }
        let mut deep = Vec::new();
        for _ in 0..40 {
            deep.splice(0..0, [0x30, u8::try_from(deep.len()).expect("short")]);
        }
        assert!(!are_true(&deep));
    }
}
