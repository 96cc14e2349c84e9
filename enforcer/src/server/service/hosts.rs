//! Hosts as they see themselves: what their daemons report, and what people are shown of it.
//!
//! A report is news for people. Nothing is decided by it: a host that lies about itself gains
//! nothing here.

use crate::approval::identity::Role;
use crate::server::core::{Caller, Core};
use crate::server::store::{Keep, Kind};
use enforcer_proto::v1;
use enforcer_proto::v1::hosts_server::Hosts;
use prost::Message as _;
use std::collections::HashMap;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// Layers or checks of one report, and bytes of one text in it.
const LINES: usize = 64;
const TEXT: usize = 512;

/// The service.
#[derive(Debug)]
pub struct Service(pub Arc<Core>);

#[tonic::async_trait]
impl Hosts for Service {
    async fn report(
        &self,
        request: Request<v1::HostReport>,
    ) -> Result<Response<v1::HostReportResponse>, Status> {
        let caller = self.0.caller(&request, &[Role::Daemon]).await?;
        keep(&self.0, &caller, request.into_inner()).await?;
        Ok(Response::new(v1::HostReportResponse {}))
    }

    async fn list(
        &self,
        request: Request<v1::ListHostsRequest>,
    ) -> Result<Response<v1::ListHostsResponse>, Status> {
        let caller = self.0.caller(&request, &Role::PEOPLE).await?;
        list(&self.0, &caller).await.map(Response::new)
    }
}

async fn keep(core: &Core, caller: &Caller, report: v1::HostReport) -> Result<(), Status> {
    let texts = report.layers.iter().chain(&report.checks).flat_map(|c| [&c.name, &c.detail]);
    let long = texts.chain([&report.version, &report.policy]).any(|text| text.len() > TEXT);
    if long || report.layers.len() > LINES || report.checks.len() > LINES {
        return Err(Status::invalid_argument("the report is too long"));
    }
    let name = caller.subject.name().to_owned();
    let now = core.clock.now();
    let host =
        v1::Host { name: name.clone(), joined_unix_ms: 0, seen_unix_ms: now, report: Some(report) };
    let was = core.store.kept(Kind::Host, &name).await?;
    let next = Some(host.encode_to_vec());
    // Of two at once one is as good as the other.
    core.store.keep(Keep { kind: Kind::Host, key: name, was, next }, None, now).await?;
    Ok(())
}

/// Every host that joined and was not removed, by name, with its last account.
///
/// # Errors
/// With what the caller is told.
pub async fn list(core: &Core, caller: &Caller) -> Result<v1::ListHostsResponse, Status> {
    core.permit(caller, &Role::PEOPLE).await?;
    let kept = core.store.all_kept(Kind::Host).await?;
    let mut known: HashMap<String, v1::Host> = kept
        .into_iter()
        .filter_map(|(name, stored)| Some((name, v1::Host::decode(&stored[..]).ok()?)))
        .collect();
    let members = core.store.members().await?;
    let hosts = members.into_iter().filter(|m| m.role == Role::Daemon && !m.removed).map(|m| {
        let host = known.remove(&m.name).unwrap_or_default();
        v1::Host { joined_unix_ms: m.joined, name: m.name, ..host }
    });
    Ok(v1::ListHostsResponse { hosts: hosts.collect() })
}
