//! Policy versions: made by policy admins and admins, seen by people, followed by daemons.

use crate::approval::identity::Role;
use crate::server::core::{Caller, Core};
use crate::server::policies;
use enforcer_proto::v1;
use enforcer_proto::v1::policies_server::Policies;
use enforcer_proto::v1::policy_news::News;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{self, Sender};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// Who puts policy in force.
const MAKERS: [Role; 2] = [Role::PolicyAdmin, Role::Admin];

/// How often a host hears that its version is the newest.
const CONFIRM: Duration = Duration::from_secs(5);

/// Versions of one list, and how many when nothing is said.
const LISTED: (usize, usize) = (10_000, 50);

/// News that wait for a slow daemon; each is whole, so few are enough.
const QUEUE: usize = 2;

/// The service.
#[derive(Debug)]
pub struct Service(pub Arc<Core>);

#[tonic::async_trait]
impl Policies for Service {
    async fn push(
        &self,
        request: Request<v1::PushPolicyRequest>,
    ) -> Result<Response<v1::PushPolicyResponse>, Status> {
        let caller = self.0.caller(&request, &MAKERS).await?;
        let actor = caller.subject.to_string();
        Ok(Response::new(policies::push(&self.0, &actor, request.into_inner()).await?))
    }

    async fn roll_back(
        &self,
        request: Request<v1::RollBackPolicyRequest>,
    ) -> Result<Response<v1::PushPolicyResponse>, Status> {
        let caller = self.0.caller(&request, &MAKERS).await?;
        let actor = caller.subject.to_string();
        Ok(Response::new(policies::roll_back(&self.0, &actor, request.into_inner()).await?))
    }

    async fn list(
        &self,
        request: Request<v1::ListPoliciesRequest>,
    ) -> Result<Response<v1::ListPoliciesResponse>, Status> {
        self.0.caller(&request, &Role::PEOPLE).await?;
        let limit = match usize::try_from(request.get_ref().limit) {
            Ok(0) => LISTED.1,
            Ok(limit) => limit.min(LISTED.0),
            Err(_) => LISTED.0,
        };
        let versions = policies::list(&self.0, limit).await?;
        Ok(Response::new(v1::ListPoliciesResponse { versions }))
    }

    async fn show(
        &self,
        request: Request<v1::ShowPolicyRequest>,
    ) -> Result<Response<v1::PolicyBundle>, Status> {
        self.0.caller(&request, &Role::PEOPLE).await?;
        Ok(Response::new(policies::show(&self.0, request.get_ref().number).await?))
    }

    type WatchStream = ReceiverStream<Result<v1::PolicyNews, Status>>;

    async fn watch(
        &self,
        request: Request<v1::WatchPolicyRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let caller = self.0.caller(&request, &[Role::Daemon]).await?;
        let has = request.into_inner().statement_sha256;
        let (news, stream) = mpsc::channel(QUEUE);
        let core = Arc::clone(&self.0);
        tokio::spawn(async move {
            let _open = core.metrics.stream("policy");
            if let Err(Some(status)) = feed(&core, &caller, has, &news).await {
                let _ = news.send(Err(status)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// Ends with the status to send, or with `None` when the daemon is gone.
async fn feed(
    core: &Core,
    caller: &Caller,
    mut has: Vec<u8>,
    news: &Sender<Result<v1::PolicyNews, Status>>,
) -> Result<(), Option<Status>> {
    let mut current = core.policies.watch();
    let mut members = core.hub.watch_member(&caller.subject);
    loop {
        core.still(caller).await.map_err(Some)?;
        let now = core.clock.now();
        if now >= caller.until {
            return Err(Some(Status::unauthenticated("the client certificate ran out")));
        }
        let version = current.borrow_and_update().clone();
        // There is a newer one, so that no word about this one would be true.
        if let Some(why) = core.policies.stuck() {
            return Err(Some(Status::unavailable(why)));
        }
        match version {
            None => send(news, News::None(v1::NoPolicy {})).await?,
            Some(version) => {
                if has != version.hash {
                    send(news, News::Bundle(version.message.clone())).await?;
                    has = version.hash.to_vec();
                }
                // In a time that is in doubt nothing is said about time.
                if let (Some(signed), None) = (&version.message.signed, core.clock.doubt()) {
                    send(news, News::Confirmed(core.policies.key().confirm(signed, now))).await?;
                }
            }
        }
        tokio::select! {
            () = news.closed() => return Err(None),
            () = core.stop.cancelled() => {
                return Err(Some(Status::unavailable("the server stops")));
            }
            changed = current.changed() => changed.map_err(|_| None)?,
            // Once or several times: what counts is what it is now.
            _ = members.recv() => {}
            () = tokio::time::sleep(CONFIRM) => {}
        }
    }
}

async fn send(
    stream: &Sender<Result<v1::PolicyNews, Status>>,
    news: News,
) -> Result<(), Option<Status>> {
    stream.send(Ok(v1::PolicyNews { news: Some(news) })).await.map_err(|_| None)
}
