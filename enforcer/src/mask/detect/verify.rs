//! Runs one detector's pattern at one place. Owns the automaton of all patterns,
//! built once per process and filled as it is used; knows nothing of candidates.

use super::MAX_MATCH;
use super::table::TABLE;
use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::nfa::thompson;
use regex_automata::util::pool::{Pool, PoolGuard};
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input, MatchKind, PatternID};
use std::sync::LazyLock;

/// Bytes of automaton states that one thread may keep; past it they are remade.
const CACHE: usize = 4 << 20;

static AUTOMATON: LazyLock<Result<DFA, String>> = LazyLock::new(|| {
    let patterns: Vec<_> = TABLE.iter().map(|row| row.pattern).collect();
    let config = DFA::config()
        .match_kind(MatchKind::LeftmostFirst)
        .starts_for_each_pattern(true)
        .skip_cache_capacity_check(true)
        .cache_capacity(CACHE);
    DFA::builder()
        .configure(config)
        .syntax(syntax::Config::new().unicode(false).utf8(false))
        .thompson(thompson::Config::new().utf8(false))
        .build_many(&patterns)
        .map_err(|why| why.to_string())
});

/// Caches are handed from scan to scan instead of living in each body.
static CACHES: LazyLock<Pool<Option<Cache>>> =
    LazyLock::new(|| Pool::new(|| AUTOMATON.as_ref().ok().map(DFA::create_cache)));

/// Whether the table compiles.
pub(super) fn table() -> Result<(), &'static str> {
    AUTOMATON.as_ref().map(|_| ()).map_err(String::as_str)
}

/// A cache while a scan has it.
type Lent = PoolGuard<'static, Option<Cache>, fn() -> Option<Cache>>;

/// What a pattern says of one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    No,
    /// It matches up to here.
    Match(usize),
    /// It may match: the text ends too early.
    More,
    /// It goes on beyond the longest match, up to here at least.
    Long(usize),
}

/// Tries patterns; takes a cache at the first one.
#[derive(Default)]
pub(super) struct Verifier {
    cache: Option<Lent>,
}

impl Verifier {
    /// Tries the pattern of a table row at `start`.
    pub(super) fn run(&mut self, row: usize, text: &[u8], start: usize, eof: bool) -> Outcome {
        // A failure of the automaton cannot be told from a match that goes on;
        // masking too much is the safe side.
        self.walk(row, text, start, eof)
            .unwrap_or_else(|| Outcome::Long((start + MAX_MATCH).min(text.len())))
    }

    fn walk(&mut self, row: usize, text: &[u8], start: usize, eof: bool) -> Option<Outcome> {
        let dfa = AUTOMATON.as_ref().ok()?;
        let cache = self.cache.get_or_insert_with(|| CACHES.get()).as_mut()?;
        let pattern = PatternID::new(row).ok()?;
        let input = Input::new(text).range(start..).anchored(Anchored::Pattern(pattern));
        let limit = text.len().min(start + MAX_MATCH);
        let mut state = dfa.start_state_forward(cache, &input).ok()?;
        let mut last = None;
        for (at, &byte) in text[..limit].iter().enumerate().skip(start) {
            state = dfa.next_state(cache, state, byte).ok()?;
            if state.is_tagged() {
                if state.is_match() {
                    last = Some(at);
                } else if state.is_dead() {
                    return Some(last.map_or(Outcome::No, Outcome::Match));
                } else if state.is_quit() {
                    return None;
                }
            }
        }
        if limit == start + MAX_MATCH {
            return Some(Outcome::Long(limit));
        }
        if !eof {
            return Some(Outcome::More);
        }
        state = dfa.next_eoi_state(cache, state).ok()?;
        if state.is_match() {
            last = Some(limit);
        }
        Some(last.map_or(Outcome::No, Outcome::Match))
    }
}
