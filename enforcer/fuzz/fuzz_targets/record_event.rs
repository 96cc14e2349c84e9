//! Any bytes as the events of a flow: checked, put together and printed in every form.
#![no_main]

use enforcer::cli::transcripts::{har, json, show, text};
use enforcer::record::FlowId;
use enforcer::record::verify::flow::FlowCheck;
use enforcer::record::view::{self, Assembler};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some(flow) = enforcer::record::key::parse_flow(&[7; 16]) else {
        return;
    };
    let mut check = FlowCheck::new(flow);
    let mut seen = Assembler::default();
    let mut exchanges = Vec::new();
    let mut rest = data;
    let mut seq = 0;
    // Each event: two bytes of length, and the event.
    while let Some((length, more)) = rest.split_at_checked(2) {
        let length = usize::from(u16::from_be_bytes([length[0], length[1]])).min(more.len());
        let (event, more) = more.split_at(length);
        rest = more;
        check.add(seq, event);
        seq += 1;
        if let Some(event) = view::decode(event) {
            text::json(&json::event(flow, &event));
            exchanges.extend(seen.add(event));
        }
    }
    exchanges.extend(seen.rest());
    check.finish(&Default::default(), None, None);
    print(flow, &seen, &exchanges);
});

fn print(flow: FlowId, seen: &Assembler, exchanges: &[view::Exchange]) {
    assert!(!show::flow(flow, seen, true).contains('\u{1b}'));
    let start = seen.start.as_ref().map(|(_, start)| start);
    for exchange in exchanges {
        assert!(!show::operation(exchange, 100).contains('\u{1b}'));
        text::json(&json::exchange(flow, exchange));
        if let Some(entry) = har::entry(flow, start, exchange) {
            text::json(&entry);
        }
    }
}
