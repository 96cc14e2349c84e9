//! The approval server as the daemon reaches it.
//!
//! One background task ([`link`]) joins when needed, keeps the certificate
//! renewed and the stream of news open. Requests and claims go straight to the
//! server; when the stream is down they are denied at once.

use super::identity::{Identity, IdentityError, Role};
use super::table::Table;
use super::tls::{self, TlsError};
use super::{ApprovalError, ApprovalId, Ask, Claim, NotGranted, Ticket, View, convert};
use crate::operation::{Digest, OperationId};
use arc_swap::ArcSwapOption;
use enforcer_proto::v1;
use enforcer_proto::v1::approvals_client::ApprovalsClient;
use enforcer_proto::v1::hosts_client::HostsClient;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, mpsc};
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::Channel;
use tonic::{Code, Status};

mod enrol;
mod link;
mod policy;
mod tasks;

/// Time for one call.
const CALL: Duration = Duration::from_secs(5);

/// How often a claim is sent when its answer gets lost. It is the same use each time.
const CLAIM_TRIES: usize = 3;

/// First and longest pause after a renewal that failed.
const RENEWAL_RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// Pause before a policy bundle that was refused is asked for anew.
const POLICY_AGAIN: Duration = Duration::from_secs(30);

/// Withdrawals that may wait to be sent; one more is dropped, and that request runs out by itself.
const WITHDRAWALS: usize = 1024;

/// Why there can be no client at all.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The identity that is there cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The address or the certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Neither an identity nor a token.
    #[error(
        "this host has not joined the approval server: run `enforcer join --dir {0}`, or name a `token_file` under [server]"
    )]
    NotJoined(PathBuf),
    /// The identity is somebody else's.
    #[error("the certificate in {dir} is for {holder}, but this host is daemon/{host}")]
    OtherHost {
        /// The identity's directory.
        dir: PathBuf,
        /// Whom it is for.
        holder: String,
        /// Who we are.
        host: String,
    },
}

/// How the server is reached.
#[derive(Clone, Debug)]
pub struct Options {
    /// `https://host:port`.
    pub url: String,
    /// The identity's directory.
    pub dir: PathBuf,
    /// A file with a join token: for the first start, and after the certificate ran out.
    pub token_file: Option<PathBuf>,
    /// This host's name, as its certificate must have it.
    pub host: String,
    /// How long waiters wait for a lost server to come back.
    pub lost_after: Duration,
    /// Without a word from the server for that long, it is lost. It says something at least
    /// every 10 seconds.
    pub silence: Duration,
    /// First and longest pause after a renewal of the certificate that failed.
    pub renewal_retry: (Duration, Duration),
    /// How long after a policy bundle was refused the server is asked for it anew.
    pub policy_again: Duration,
}

/// How this host's certificate stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// When it ends. Seconds since the Unix epoch.
    pub until: i64,
    /// Why the last try to renew it failed; `None` when none was due, or it worked.
    pub not_renewed: Option<String>,
}

impl Options {
    /// From the daemon's configuration.
    pub fn new(server: &crate::config::Server, data_dir: &Path, host: &str) -> Self {
        let dir = server.identity_dir.clone();
        Self {
            url: server.url.clone(),
            dir: dir.unwrap_or_else(|| data_dir.join("server")),
            token_file: server.token_file.clone(),
            host: host.to_owned(),
            lost_after: Duration::from_secs(5),
            silence: Duration::from_secs(12),
            renewal_retry: RENEWAL_RETRY,
            policy_again: POLICY_AGAIN,
        }
    }
}

/// A handle to the approval server; clones share one connection.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    /// Ended with the last handle.
    _tasks: [AbortOnDropHandle<()>; 2],
}

/// What the handle and the background tasks both hold.
struct Shared {
    options: Options,
    table: Arc<Table>,
    channel: ArcSwapOption<Channel>,
    certificate: ArcSwapOption<Certificate>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("options", &self.0.shared.options).finish_non_exhaustive()
    }
}

impl Client {
    /// Starts the background task and returns at once: until the server was reached, whatever
    /// needs approval is denied. A certificate that ran out and a token that is not there yet
    /// stop nothing: the task waits for one that is good. Must be called inside a runtime.
    ///
    /// # Errors
    /// When no connection could ever be made with this configuration.
    pub fn start(options: Options) -> Result<Self, ClientError> {
        let identity = Identity::load(&options.dir)?;
        if let Some(identity) = &identity {
            own(identity, &options)?;
            tls::channel(&options.url, identity)?;
        }
        if identity.is_none() && options.token_file.is_none() {
            return Err(ClientError::NotJoined(options.dir));
        }
        let (withdraw, withdrawals) = mpsc::channel(WITHDRAWALS);
        let table = Table::new(
            options.lost_after,
            Box::new(move |id, digest| {
                if withdraw.try_send((id, digest)).is_err() {
                    tracing::warn!(approval = %id, "too many requests to withdraw; this one runs out by itself");
                }
            }),
        );
        let shared = Arc::new(Shared {
            options,
            table: Arc::new(table),
            channel: ArcSwapOption::empty(),
            certificate: ArcSwapOption::empty(),
        });
        if let Some(identity) = &identity {
            shared.holds(identity, None);
        }
        let link = tokio::spawn(link::run(Arc::clone(&shared), identity));
        let withdraw = tokio::spawn(withdraw_all(Arc::clone(&shared), withdrawals));
        Ok(Self(Arc::new(Inner {
            shared,
            _tasks: [AbortOnDropHandle::new(link), AbortOnDropHandle::new(withdraw)],
        })))
    }

    /// Waits until the server was reached and the present state is here.
    pub async fn ready(&self) {
        self.0.shared.table.ready().await;
    }

    pub(super) async fn request(&self, ask: Ask) -> Result<Ticket, ApprovalError> {
        let digest = ask.digest;
        let asked = ask.clone();
        let message = convert::request(ask);
        let scopes = message.scopes.clone();
        let answer = self.0.shared.api()?.request(timed(message)).await;
        let answer = answer.map_err(refused)?.into_inner();
        let view = view(&answer)?;
        if view.of_step {
            convert::step_answers(&answer, &asked).map_err(|error| {
                ApprovalError::Protocol(format!("a step that does not fit: {error}"))
            })?;
            return Ok(self.0.shared.table.ticket(view));
        }
        let kept = answer.request.map(|request| request.scopes).unwrap_or_default();
        if !convert::same_scopes(&scopes, &kept) {
            let why = "the approval server does not know a rule of this policy: update it";
            return Err(ApprovalError::Refused(why.to_owned()));
        }
        if view.digest != digest {
            return Err(ApprovalError::Protocol("an approval of another digest".to_owned()));
        }
        Ok(self.0.shared.table.ticket(view))
    }

    pub(super) async fn claim(
        &self,
        (id, digest): (ApprovalId, Digest),
        op: OperationId,
        step: Option<v1::StepUse>,
    ) -> Result<Claim, ApprovalError> {
        let message = v1::ClaimRequest {
            id: id.to_string(),
            digest: digest.to_string(),
            operation: op.to_string(),
            step,
        };
        let mut tries = 1;
        let answer = loop {
            match self.0.shared.api()?.claim(timed(message.clone())).await {
                Ok(answer) => break answer.into_inner(),
                Err(status) => match refused(status) {
                    ApprovalError::NotConnected if tries < CLAIM_TRIES => tries += 1,
                    error => return Err(error),
                },
            }
        };
        if !answer.granted {
            let reason = NotGranted::parse(&answer.reason);
            return Err(match reason {
                Some(reason) => ApprovalError::NotGranted(reason),
                None => ApprovalError::Protocol("a refusal with an unknown reason".to_owned()),
            });
        }
        self.granted(id, digest, answer)
    }

    fn granted(
        &self,
        id: ApprovalId,
        digest: Digest,
        answer: v1::ClaimResponse,
    ) -> Result<Claim, ApprovalError> {
        let missing = || ApprovalError::Protocol("a claim without its approval".to_owned());
        let approval = answer.approval.ok_or_else(missing)?;
        let view = view(&approval)?;
        if view.id != id || view.digest != digest || answer.claim_id.is_empty() {
            return Err(ApprovalError::Protocol("a claim on something else".to_owned()));
        }
        let scopes = approval.request.iter().flat_map(|request| &request.scopes);
        let scopes: Vec<&str> = scopes.map(|scope| scope.name.as_str()).collect();
        let claim = Claim {
            id: answer.claim_id,
            approval: approval.id.clone(),
            decided_by: convert::voters(&approval, true),
            votes: convert::votes(&approval),
            scope: scopes.join(","),
        };
        // Remembered as in use first, so that the news of its end does not drop it.
        self.0.shared.table.claimed(view.clone());
        self.0.shared.table.update(view);
        Ok(claim)
    }

    pub(super) async fn report(&self, report: v1::HostReport) -> Result<(), ApprovalError> {
        let channel = self.0.shared.channel.load_full().ok_or(ApprovalError::NotConnected)?;
        let mut hosts = HostsClient::new(Channel::clone(&channel));
        hosts.report(timed(report)).await.map(drop).map_err(refused)
    }

    pub(super) fn connected(&self) -> bool {
        self.0.shared.table.connected()
    }

    pub(super) fn certificate(&self) -> Option<Arc<Certificate>> {
        self.0.shared.certificate.load_full()
    }

    pub(super) fn revoked(&self) -> broadcast::Receiver<ApprovalId> {
        self.0.shared.table.revoked()
    }

    pub(super) async fn status(&self, id: ApprovalId) -> Result<View, ApprovalError> {
        if !self.connected() {
            return Err(ApprovalError::NotConnected);
        }
        self.0.shared.get(id).await
    }
}

impl Shared {
    fn api(&self) -> Result<ApprovalsClient<Channel>, ApprovalError> {
        if !self.table.connected() {
            return Err(ApprovalError::NotConnected);
        }
        self.api_while_down()
    }

    /// Notes which certificate is used, and why it was not renewed.
    fn holds(&self, identity: &Identity, not_renewed: Option<String>) {
        let until = identity.holder.not_after;
        self.certificate.store(Some(Arc::new(Certificate { until, not_renewed })));
    }

    /// For the task that brings the link up.
    fn api_while_down(&self) -> Result<ApprovalsClient<Channel>, ApprovalError> {
        let channel = self.channel.load_full().ok_or(ApprovalError::NotConnected)?;
        let client = ApprovalsClient::new(Channel::clone(&channel));
        Ok(client.max_decoding_message_size(tls::MAX_ANSWER))
    }

    async fn get(&self, id: ApprovalId) -> Result<View, ApprovalError> {
        let message = v1::GetRequest { id: id.to_string() };
        let answer = self.api_while_down()?.get(timed(message)).await;
        view(&answer.map_err(refused)?.into_inner())
    }
}

fn own(identity: &Identity, options: &Options) -> Result<(), ClientError> {
    let subject = &identity.holder.subject;
    if subject.role() == Role::Daemon && subject.name() == options.host {
        return Ok(());
    }
    Err(ClientError::OtherHost {
        dir: options.dir.clone(),
        holder: subject.to_string(),
        host: options.host.clone(),
    })
}

fn timed<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(CALL);
    request
}

fn view(approval: &v1::Approval) -> Result<View, ApprovalError> {
    convert::view(approval).map_err(|error| ApprovalError::Protocol(error.to_string()))
}

fn refused(status: Status) -> ApprovalError {
    match status.code() {
        Code::NotFound => ApprovalError::Unknown,
        Code::InvalidArgument
        | Code::FailedPrecondition
        | Code::ResourceExhausted
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::OutOfRange => ApprovalError::Refused(status.message().to_owned()),
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown => {
            ApprovalError::NotConnected
        }
        _ => ApprovalError::Protocol(status.message().to_owned()),
    }
}

async fn withdraw_all(shared: Arc<Shared>, mut queue: mpsc::Receiver<(ApprovalId, Digest)>) {
    while let Some((id, digest)) = queue.recv().await {
        let message = v1::CancelRequest { id: id.to_string(), digest: digest.to_string() };
        let Ok(mut api) = shared.api() else { continue };
        if let Err(status) = api.cancel(timed(message)).await {
            tracing::debug!(approval = %id, status = status.message(), "not withdrawn");
        }
    }
}
