//! Any bytes as a question to the resolver: read or refused, and answered within its size.
#![no_main]

use enforcer::protocol::dns::codec::{self, Answer, ResponseCode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|packet: &[u8]| {
    match codec::read(packet) {
        Ok(question) => {
            let limit = question.udp_limit();
            let reply = question.write(&Answer::empty(ResponseCode::Refused), limit);
            assert!(reply.is_ok_and(|reply| reply.len() <= limit));
        }
        Err(why) => {
            if let Some(reply) = why.reply(packet) {
                assert_eq!(reply.len(), 12);
            }
        }
    }
});
