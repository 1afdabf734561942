//! How long an error's text may be, and where it is cut.

/// The most bytes of an error's text that a record keeps.
pub const MAX_ERROR_BYTES: usize = 16 * 1024;

/// The most bytes of an error's text in a message header. Headers of one message must fit into one
/// AMQP frame (128 KiB as a rule); a larger one closes the whole connection.
pub const MAX_HEADER_ERROR_BYTES: usize = 2 * 1024;

/// `text`, cut to at most `max_bytes` on a character boundary; a cut text says so at its end.
pub fn shorten(text: &str, max_bytes: usize) -> std::borrow::Cow<'_, str> {
    if text.len() <= max_bytes {
        return text.into();
    }
    let note = format!("… (cut, {} bytes in all)", text.len());
    if note.len() > max_bytes {
        return text[..text.floor_char_boundary(max_bytes)].into();
    }
    let end = text.floor_char_boundary(max_bytes - note.len());
    format!("{}{note}", &text[..end]).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_text_stays_as_it_is() {
        assert_eq!(shorten("boom", 4), "boom");
    }

    #[test]
    fn a_long_text_keeps_its_head_and_says_that_it_was_cut() {
        let cut = shorten(&"é".repeat(100_000), 2048).into_owned();
        assert!(cut.len() <= 2048 && cut.len() > 2040, "{}", cut.len());
        assert!(cut.starts_with("éé") && cut.ends_with("… (cut, 200000 bytes in all)"));
    }

    #[test]
    fn no_limit_is_too_small_to_keep() {
        for max in 0..40 {
            assert!(shorten(&"中".repeat(50), max).len() <= max);
        }
    }
}
