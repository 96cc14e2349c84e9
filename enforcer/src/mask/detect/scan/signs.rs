//! What is found around a sign that it has: an address, a host, a token of three parts.

use super::{Search, is_base64url, is_email_local};
use crate::mask::detect::MAX_MATCH;

impl Search<'_> {
    pub(super) fn sign(&mut self, at: usize) {
        let anchors = &self.detectors.anchors;
        match self.text[at] {
            b'@' => {
                if let Some(row) = anchors.at {
                    self.email(row, at);
                }
            }
            b'_' => {
                if let (Some(row), true) = (anchors.hf, self.text[..at].ends_with(b"hf")) {
                    self.attempt(row, at - 2);
                }
            }
            _ => {
                if let (Some(row), true, Some(start)) =
                    (anchors.tilde, self.text[..at].ends_with(b"Q"), at.checked_sub(5))
                {
                    self.attempt(row, start);
                }
            }
        }
    }

    /// The leftmost place in the local part where a word begins or ends.
    pub(super) fn email(&mut self, row: usize, at: usize) {
        let low = at.saturating_sub(64).max(self.from).max(self.last_end[row]);
        let mut run = at;
        while run > low && is_email_local(self.text[run - 1]) {
            run -= 1;
        }
        if let Some(start) = (run..at).find(|start| self.is_boundary(*start)) {
            self.attempt(row, start);
        }
    }

    pub(super) fn ssn(&mut self, row: usize, at: usize) {
        let area = at.checked_sub(3).map(|start| &self.text[start..at]);
        if area.is_some_and(|area| area.iter().all(u8::is_ascii_digit))
            && self.may_be(at + 3, |b| b == b'-')
            && self.is_boundary(at - 3)
        {
            self.attempt(row, at - 3);
        }
    }

    pub(super) fn dot(&mut self, at: usize) {
        let detectors = self.detectors;
        let anchors = &detectors.anchors;
        let Some(before) = self.byte_before(at, 1) else { return };
        for (want, back, row) in &anchors.dots {
            if before == *want && at >= *back {
                self.attempt(*row, at - back);
            }
        }
        if let Some(row) = anchors.ipv4
            && before.is_ascii_digit()
            && self.may_be(at + 1, |b| b.is_ascii_digit())
        {
            let start = self.run_back(at, 4, |b| b.is_ascii_digit());
            let dot = (at + 2..at + 5).any(|next| self.may_be(next, |b| b == b'.'));
            if dot && at - start < 4 {
                self.attempt(row, start);
            }
        }
        if let Some(row) = anchors.jwt
            && is_base64url(before)
            && self.may_be(at + 1, |b| is_base64url(b) || b == b'/')
        {
            self.jwt(row, at);
        }
    }

    /// Six pairs have a colon in every third place: of three bytes in a row inside
    /// them one is a colon, and another one is three bytes on. Colons are frequent
    /// in JSON, such pairs of them are not.
    pub(super) fn macs(&mut self, row: usize) {
        const STRIDE: usize = 12;
        let text = self.text;
        let mut done = 0;
        for at in (self.from..text.len()).step_by(STRIDE) {
            let colon = |byte: u8| byte == b':';
            if let Some(six) = text.get(at..at + 6)
                && !(colon(six[0]) & colon(six[3])
                    | colon(six[1]) & colon(six[4])
                    | colon(six[2]) & colon(six[5]))
            {
                continue;
            }
            let three = &text[at..text.len().min(at + 3)];
            for colon in (at..at + three.len()).filter(|place| colon(text[*place])) {
                // It may be any of the five; the first pair is two before the first.
                for first in (0..5).rev().filter_map(|pairs| colon.checked_sub(2 + 3 * pairs)) {
                    if first >= done && self.may_be(first + 2, |b| b == b':') {
                        self.attempt(row, first);
                        done = first + 1;
                    }
                }
            }
        }
    }

    pub(super) fn run_back(&self, at: usize, most: usize, test: impl Fn(u8) -> bool) -> usize {
        let mut start = at;
        while start > 0 && at - start < most && test(self.text[start - 1]) {
            start -= 1;
        }
        start
    }

    pub(super) fn jwt(&mut self, row: usize, dot: usize) {
        let run = self.run_back(dot, MAX_MATCH - 1, is_base64url);
        let low = run.max(self.from).max(self.last_end[row]);
        if let Some(start) = self.token_start(low, dot) {
            self.attempt(row, start);
        }
    }

    /// The first `ey` at a word's edge.
    pub(super) fn token_start(&self, from: usize, to: usize) -> Option<usize> {
        (from..to).find(|at| {
            self.text[*at] == b'e' && self.may_be(*at + 1, |b| b == b'y') && self.is_boundary(*at)
        })
    }
}
