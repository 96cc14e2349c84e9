//! What is found in runs of upper-case letters and digits: keys, accounts, cards.

use super::{SHORTEST_RUN, Search, is_upper, is_word};

impl Search<'_> {
    /// Runs of upper-case letters and digits: every run of at least
    /// [`SHORTEST_RUN`] covers one of the probed places.
    pub(super) fn runs(&mut self) {
        let detectors = self.detectors;
        let anchors = &detectors.anchors;
        if anchors.runs.is_empty() && anchors.groups.is_empty() {
            return;
        }
        let text = self.text;
        let mut probe = self.from + SHORTEST_RUN - 1;
        while let Some(&byte) = text.get(probe) {
            if !is_upper(byte) || !self.may_be_run(probe, !anchors.groups.is_empty()) {
                probe += SHORTEST_RUN;
                continue;
            }
            let mut start = probe;
            while start > 0 && is_upper(text[start - 1]) {
                start -= 1;
            }
            let mut end = probe + 1;
            while end < text.len() && is_upper(text[end]) {
                end += 1;
            }
            if end - start >= SHORTEST_RUN {
                self.long_run(start, end);
            } else if !anchors.groups.is_empty() {
                self.grouped(start, end);
            }
            probe = end + SHORTEST_RUN;
        }
    }

    /// A quick look around a probe: in a run of nine there are four more on one
    /// side of it, in groups another group is five away.
    pub(super) fn may_be_run(&self, probe: usize, groups: bool) -> bool {
        let Some(around) = probe.checked_sub(5).and_then(|start| self.text.get(start..start + 11))
        else {
            return true;
        };
        let upper = |at: usize| is_upper(around[at]);
        let run = (upper(1) & upper(2) & upper(3) & upper(4))
            | (upper(6) & upper(7) & upper(8) & upper(9));
        run | (groups & (upper(0) | upper(10)))
    }

    pub(super) fn long_run(&mut self, start: usize, end: usize) {
        let after = self.byte(end);
        if self.byte_before(start, 1).is_some_and(is_word) || after.is_some_and(is_word) {
            return;
        }
        let detectors = self.detectors;
        let digit = self.text[start].is_ascii_digit();
        // At the end of the text the run may go on, so any length is possible.
        let open = after.is_none() && !self.eof;
        for (with_digit, lengths, row) in &detectors.anchors.runs {
            if digit == *with_digit && (open || lengths.contains(&(end - start))) {
                self.attempt(*row, start);
            }
        }
    }

    /// Groups parted by a blank or hyphen, from the first one on.
    pub(super) fn grouped(&mut self, start: usize, end: usize) {
        let is_gap = |b: u8| matches!(b, b' ' | b'-');
        let gap_before = self.byte_before(start, 1).is_some_and(is_gap);
        if !gap_before && !self.may_be(end, is_gap) {
            return;
        }
        let mut first = start;
        let mut starts = [start; 12];
        let mut count = 1;
        while count < starts.len() && self.byte_before(first, 1).is_some_and(is_gap) {
            let gap = first - 1;
            let run = self.run_back(gap, 7, is_upper);
            if !matches!(gap - run, 4..=6) {
                break;
            }
            first = run;
            starts[count] = run;
            count += 1;
        }
        for start in starts[..count].iter().rev() {
            self.group(*start);
        }
    }

    /// A first group of four and a second one; what is shorter at the end of the
    /// text is held by [`Self::hold_groups`].
    pub(super) fn group(&mut self, start: usize) {
        let text = self.text;
        let Some(head) = text.get(start..start + 9) else { return };
        if !matches!(head[4], b' ' | b'-') || !head[5..].iter().all(|b| is_upper(*b)) {
            return;
        }
        let digits = matches!(head[0], b'2'..=b'6') && head[..4].iter().all(u8::is_ascii_digit);
        let iban = head[..2].iter().all(u8::is_ascii_uppercase)
            && head[2..4].iter().all(u8::is_ascii_digit);
        let detectors = self.detectors;
        for (with_digits, row) in &detectors.anchors.groups {
            if if *with_digits { digits } else { iban } {
                self.attempt(*row, start);
            }
        }
    }
}
