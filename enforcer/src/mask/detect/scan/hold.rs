//! How much of the end of a text must wait, because more of it may make a hit.

use super::{MAX_BEFORE_ANCHOR, MAX_GROUPED, Search, is_base64url, is_open, is_upper};
use crate::mask::detect::MAX_MATCH;

impl Search<'_> {
    pub(super) fn hold_from(&mut self, at: usize) {
        self.hold = self.hold.min(at.max(self.from));
    }

    /// The open end: a word that may go on, with a quote before it if that may
    /// be the start of `"type"`.
    pub(super) fn hold_open(&mut self) {
        let end = self.text.len();
        let mut start = self.run_back(end, MAX_BEFORE_ANCHOR, is_open);
        if self.byte_before(start, 1) == Some(b'"')
            && b"\"type\"".starts_with(&self.text[start - 1..])
        {
            start -= 1;
        }
        self.hold_from(start);
    }

    /// A token whose first dot is still to come.
    pub(super) fn hold_token(&mut self) {
        let Some(row) = self.detectors.anchors.jwt else {
            return;
        };
        let end = self.text.len();
        let run = self.run_back(end, MAX_MATCH, is_base64url);
        if end - run <= MAX_BEFORE_ANCHOR {
            return;
        }
        let low = run.max(self.from).max(self.last_end[row]);
        if let Some(start) = self.token_start(low, end) {
            self.hold_from(start);
        }
    }

    /// Groups that may go on.
    pub(super) fn hold_groups(&mut self) {
        if self.detectors.anchors.groups.is_empty() {
            return;
        }
        let end = self.text.len();
        let start = self.run_back(end, MAX_GROUPED, |b| is_upper(b) || matches!(b, b' ' | b'-'));
        // Blanks before the first group belong to no match.
        let blanks = self.text[start..].iter().take_while(|b| matches!(b, b' ' | b'-')).count();
        self.hold_from(start + blanks);
    }
}
