//! The join token: any text is a token that reads back the same, or an error.
#![no_main]

use enforcer::approval::token::Token;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(token) = Token::parse(text) {
        assert_eq!(Token::parse(&token.reveal()), Ok(token.clone()));
        assert!(text.to_ascii_lowercase().contains(&token.reveal()));
    }
});
