//! Any text in a column of type `text`, which may hold every character but NUL.

use std::borrow::Cow;

use warren_plugin_api::Text;

/// A backslash is written `\\`, a NUL `\0`; everything else as it is.
pub(crate) fn to_column(text: &str) -> Cow<'_, str> {
    if !text.contains(['\\', '\0']) {
        return Cow::Borrowed(text);
    }
    let mut column = String::with_capacity(text.len() + 8);
    for char in text.chars() {
        match char {
            '\\' => column.push_str("\\\\"),
            '\0' => column.push_str("\\0"),
            other => column.push(other),
        }
    }
    Cow::Owned(column)
}

/// The text that was written so; `None` when nothing is.
pub(crate) fn from_column(column: &str) -> Option<Text> {
    if !column.contains('\\') {
        return Some(column.into());
    }
    let mut text = String::with_capacity(column.len());
    let mut chars = column.chars();
    while let Some(char) = chars.next() {
        match char {
            '\\' => match chars.next()? {
                '\\' => text.push('\\'),
                '0' => text.push('\0'),
                _ => return None,
            },
            other => text.push(other),
        }
    }
    Some(text.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_text_comes_back(text in "[\\\\\\x000a中]{0,12}|\\PC{0,40}") {
            let column = to_column(&text);
            prop_assert!(!column.contains('\0'));
            let back = from_column(&column);
            prop_assert_eq!(back.as_deref(), Some(text.as_str()));
        }
    }

    #[test]
    fn what_was_never_written_is_none() {
        for column in ["\\", "a\\", "\\n", "\\\\\\"] {
            assert_eq!(from_column(column), None, "{column}");
        }
    }

    #[test]
    fn ordinary_text_is_not_copied() {
        assert!(matches!(to_column("orders"), Cow::Borrowed("orders")));
    }
}
