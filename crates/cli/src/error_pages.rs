//! The pages of the error codes, built in so that `explain` works offline.

macro_rules! pages {
    ($($code:literal)*) => {
        const PAGES: &[(&str, &str)] = &[$(($code, include_str!(concat!("../../../docs/errors/", $code, ".md"))),)*];
    };
}

pages! {
    "TW0001" "TW0002" "TW0003" "TW0004" "TW0005" "TW0006" "TW0007" "TW0101"
    "TW0102" "TW0103" "TW0104" "TW0105" "TW0106" "TW0107" "TW0108" "TW0109"
    "TW0110" "TW0111" "TW0201" "TW0202" "TW0203" "TW0204" "TW0301" "TW0302"
    "TW0303" "TW0304" "TW0305" "TW0306" "TW0307" "TW0308" "TW0309" "TW0401"
    "TW0402" "TW0501" "TW0502"
}

/// The page of `code`, Markdown.
pub fn page(code: &str) -> Option<&'static str> {
    PAGES.iter().find(|(known, _)| *known == code).map(|(_, page)| *page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_built_in() {
        for info in thalweg_core::CODES {
            assert!(page(info.code.0).is_some(), "add \"{}\" to error_pages.rs", info.code);
        }
        assert_eq!(PAGES.len(), thalweg_core::CODES.len());
    }
}
