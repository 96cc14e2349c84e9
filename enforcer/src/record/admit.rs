//! What may still be recorded: the quota of all, and the share of one agent.

use super::usage::Own;
use super::{RecordError, Shared};
use crate::config::{self, AtQuota};
use enforcer_proto::v1::event::Kind;

impl Shared {
    /// Whether an event may be recorded, and how much of its body. At the quota, and for an
    /// agent at its share, what would go on is refused, and what ends a flow is still recorded.
    pub(super) fn admit(&self, kind: &Kind, own: &Own) -> Result<u64, RecordError> {
        if let Some(failure) = self.counters.failure() {
            return Err(RecordError::Failed(failure));
        }
        let used = self.counters.used();
        let all = self.room_in(used, self.quota);
        let part = own.part(used);
        let agent = self.room_in(part, self.share);
        if all == Room::Free && agent == Room::Free {
            return Ok(self.body_limit);
        }
        let full = || RecordError::Full { used, quota: self.quota };
        match kind {
            // Refusals are folded before they come here, so that they grow slowly; what an agent
            // must not do is recorded also when it is at its share.
            Kind::FlowStart(start) if start.refusal.is_some() => {
                if used >= ceiling(self.quota) {
                    return Err(full());
                }
            }
            Kind::FlowStart(_)
            | Kind::OperationAsked(_)
            | Kind::RequestBody(_)
            | Kind::ResponseBody(_)
            | Kind::Forwarded(_) => {
                if all == Room::Stop {
                    return Err(full());
                }
                if agent == Room::Stop {
                    let agent = own.agent.to_string();
                    return Err(RecordError::Share { agent, used: part, share: self.share });
                }
            }
            Kind::Decision(_)
            | Kind::ResponseHead(_)
            | Kind::OperationEnd(_)
            | Kind::FlowEnd(_) => {}
        }
        Ok(0)
    }

    fn room_in(&self, used: u64, limit: u64) -> Room {
        match self.at_quota {
            _ if used < limit => Room::Free,
            AtQuota::Truncate if used < ceiling(limit) => Room::NoBodies,
            AtQuota::Truncate | AtQuota::Stop => Room::Stop,
        }
    }
}

/// What a limit leaves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Room {
    Free,
    NoBodies,
    Stop,
}

/// Without bodies the store grows slowly, but not without end.
fn ceiling(limit: u64) -> u64 {
    limit.saturating_add(limit / 4)
}

/// Bytes of the quota that one agent may take.
pub(super) fn share_of(cfg: &config::Transcript) -> u64 {
    let share = u128::from(cfg.quota_bytes) * u128::from(cfg.agent_share) / 100;
    u64::try_from(share).unwrap_or(u64::MAX)
}
